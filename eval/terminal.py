"""The report card on a terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

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
    if view.get("unmeasured"):
        console.print(view["unmeasured"], highlight=False)
    for line in view.get("budget", []):
        console.print(line, highlight=False)
    training = view["training"]
    if training:
        console.print("  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in training.items()))
