"""The report card on a terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

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
QUESTION = 80  # characters of a question


def show(view: dict[str, Any], console: Console) -> None:
    """Verdict and reasons, then the table: base against candidate with the interval and the margin of each."""
    colour = COLOURS[view["verdict"]]
    reasons = "\n".join(f"• {reason}" for reason in view["reasons"])
    console.print(
        Panel(
            reasons,
            title=f"[bold {colour}]Run {view['run_id']}: {view['verdict']}[/] — {view['meaning']}",
            border_style=colour,
        )
    )
    table = Table("benchmark", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("n", "before → candidate", "gain", "at least", "tolerated", "n supports"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for row in view["rows"]:
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
    console.print(table)
    for name in ("lost", "gained"):
        for item in view.get("items", {}).get(name, ()):
            console.print(Text(item_line(name, item), style=COLOURS[name]))
    if view.get("unmeasured"):
        console.print(view["unmeasured"], highlight=False)
    for line in view.get("budget", []):
        console.print(line, highlight=False)
    if view.get("would_change"):
        console.print(Text("What would change the verdict:"))
    for line in view.get("would_change", ()):
        console.print(Text(f"• {line}"))
    training = view["training"]
    if training:
        console.print("  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in training.items()))


def item_line(name: str, item: dict[str, Any]) -> str:
    """One item that was lost or gained, and how its question begins; other people's words, so nothing of it is markup."""
    question = one_line(item["question"], QUESTION)
    numbers = f"{name} {item['benchmark']}, {one_line(item['item_id'], QUESTION)}: {item['before']} → {item['after']}"
    return f"{numbers}  {question}" if question else numbers
