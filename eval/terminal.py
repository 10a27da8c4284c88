"""The report card on a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from eval.moved import texts
from eval.quoting import one_line

COLOURS = {
    "PROMOTE": "green",
    "REFUSE": "red",
    "HOLD": "yellow",
    "gained": "green",
    "kept": "default",
    "lost": "red",
    "undecided": "yellow",
    "unknown": "yellow",
    "shown only": "bright_black",
}
QUESTION, ANSWER = 80, 160  # characters of a question, and of an answer
NEWEST = 12  # candidates; the page has all


def show(view: dict[str, Any], console: Console) -> None:
    """Verdict and reasons, the table (base against candidate with the interval and the margin of each), then what else the
    page has, in short lines. A view of an older release shows what it has.
    """
    console.print(verdict(view))
    console.print(figures(view["rows"]))
    _say(console, view.get("doubt"), view.get("unmeasured"), *view.get("budget", ()))
    _say(console, *(course.get("said") for course in view.get("courses", ())))
    _list(console, "What would change the verdict:", [f"• {line}" for line in view.get("would_change", ())])
    if known := [p for p in view.get("points", ()) if "gain_text" in p]:
        console.print(candidates(known))
    _items(console, view.get("items", {}))
    _list(console, "Data:", [f"{name}: {text}" for name, text in view.get("data_card", {}).items()])
    _list(console, "Provenance:", [f"{name}: {text}" for name, text in view.get("provenance", {}).items()])
    if view["training"]:
        _say(console, "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in view["training"].items()))


def verdict(view: dict[str, Any]) -> Panel:
    colour = COLOURS[view["verdict"]]
    reasons = Text("\n".join(f"• {reason}" for reason in view["reasons"]))
    title = f"[bold {colour}]Run {view['run_id']}: {view['verdict']}[/] — {view['meaning']}"
    return Panel(reasons, title=title, border_style=colour)


def figures(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("benchmark", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("n", "before → candidate", "gain", "at least", "tolerated", "n supports"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for row in rows:
        style = COLOURS[row["said"]]
        name = row["name"] + (" vs champion" if row["against"] == "champion" else "")
        table.add_row(
            name,
            str(row["n"]),
            f"{row['reference_text']} → {row['candidate_text']}",
            row["gain_text"],
            row["low_text"],
            row["margin_text"],
            row.get("supports_text", "–"),
            f"[{style}]{row['said']}[/]",
        )
    return table


def candidates(points: Sequence[dict[str, Any]]) -> Table:
    """Gain against loss: the newest candidates and every champion, a row each."""
    table = Table("candidate", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("gained on support", "worst loss elsewhere"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for point in [*(p for p in points[:-NEWEST] if p["version"]), *points[-NEWEST:]]:
        name = f"run {point['run_id']}" + (f" · v{point['version']}" if point["version"] else "")
        said = f"[{COLOURS[point['verdict']]}]{point['verdict']}[/]"
        table.add_row(name, point["gain_text"], point["loss_text"], said, style="bold" if point["now"] else None)
    return table


def _items(console: Console, items: dict[str, Any]) -> None:
    _say(console, items.get("said"))
    for name in ("lost", "gained"):
        for item in items.get(name, ()):
            console.print(Text(item_line(name, item), style=COLOURS[name]))
            _say(console, *(f"    {who}: “{one_line(text, ANSWER)}”" for who, text in texts(item) if who != "asked"))


def item_line(name: str, item: dict[str, Any]) -> str:
    """One item that was lost or gained, and how its question begins; other people's words, so nothing of it is markup."""
    question = one_line(item["question"], QUESTION)
    numbers = f"{name} {item['benchmark']}, {one_line(item['item_id'], QUESTION)}: {item['before']} → {item['after']}"
    return f"{numbers}  {question}" if question else numbers


def _list(console: Console, heading: str, lines: Sequence[str]) -> None:
    """Nothing where there are no lines."""
    _say(console, *([heading, *lines] if lines else ()))


def _say(console: Console, *lines: str | None) -> None:
    """Each line as it is: nothing of it is markup."""
    for line in filter(None, lines):
        console.print(Text(line))
