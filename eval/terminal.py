"""The report card on a terminal."""

from typing import Any

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
    table = Table("benchmark", "against", "n", "before", "candidate", "gain", "95 % bounds", "tolerated", "")
    for row in view["rows"]:
        style = COLOURS[row["said"]]
        table.add_row(
            row["name"],
            row["against"],
            str(row["n"]),
            row["reference_text"],
            row["candidate_text"],
            row["gain_text"],
            row["interval_text"],
            row["margin_text"],
            f"[{style}]{row['said']}[/]",
        )
    console.print(table)
    training = view["training"]
    if training:
        console.print("  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in training.items()))
