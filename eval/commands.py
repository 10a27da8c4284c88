"""`evenkeel gate …`: what its decisions rest on, and how many items one needs. evenkeel.py mounts it."""

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from storage.errors import EvenkeelError
from storage.ledger import Ledger
from storage.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="The gate: decisions made again, trials planned.")
Json = Annotated[bool, typer.Option("--json", help="print one JSON value")]


@app.command("replay")
def replay_(decision_id: int, json_: Json = False) -> None:
    """Make a decision again from the stored scores of every item. Exit code 1 and the first difference if it differs.

    Example: evenkeel gate replay 1
    """
    from eval.replay import replay

    ledger = Ledger(load_settings().ledger_path)
    try:
        done = replay(ledger, decision_id)
    finally:
        ledger.close()
    if json_:
        _print(asdict(done))
    if done.difference:
        raise EvenkeelError(f"decision {decision_id} does not come out the same: {done.difference}")
    if not json_:
        Console(stderr=True).print(
            f"Decision {decision_id} came out the same, byte for byte: {done.verdict} from {done.items} items of "
            f"{done.scores} scores.",
            highlight=False,
        )


@app.command("plan")
def plan_(
    margin: Annotated[float, typer.Option(help="largest tolerated loss in per cent points", min=0.1, max=50)] = 2.5,
    discordance: Annotated[
        float, typer.Option(help="per cent of items that flip between base and candidate", min=0.1, max=100)
    ] = 8.0,
    json_: Json = False,
) -> None:
    """How many right-or-wrong items certify a margin, and when a trial over them may end early.

    Example: evenkeel gate plan --margin 2.5 --discordance 8
    """
    from eval.sequential import Trial, boundaries, planned_items
    from eval.statistics import items_for

    share = discordance / 100
    trial = Trial(margin=margin / 100, items=planned_items(margin=margin / 100, discordance=share))
    edges = [round(edge, 3) for edge in boundaries(1 - trial.confidence)]
    one_look = items_for(share**0.5, margin / 100, trial.confidence)
    if json_:
        _print({"one_look": one_look, "items": trial.items, "looks": trial.looks, "boundaries": edges})
        return
    table = Table("look", "items", "standard errors above the margin")
    for number, (items, edge) in enumerate(zip(trial.looks, edges, strict=True), 1):
        table.add_row(str(number), str(items), f"{edge:.2f}")
    Console().print(table)
    Console(stderr=True).print(
        f"One look at {one_look} items certifies a margin of {margin:g} points for nine of ten unchanged candidates.",
        highlight=False,
    )


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
