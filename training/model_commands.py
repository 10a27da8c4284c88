"""The commands of the model: train one, see what the gate said, let it go live, go back, watch.

evenkeel.py mounts ALL of them. Reads settings, opens the ledger, calls one function of a room and prints.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from storage.console import Json, configure_logs, err, opened, out, print_json, say
from storage.errors import EvenkeelError, GateSaidNo, TooLittleData, UsageError
from storage.ledger import Ledger
from storage.recipe import parse_overrides, recipe_from, warnings_for
from storage.records import Promotion, Run
from storage.servers import tuned_server
from storage.settings import Settings


def retrain(
    recipe: Annotated[list[str] | None, typer.Argument(help="lr=1e-3 epochs=2 rank=16 … force dry")] = None,
    json_: Json = False,
) -> None:
    """Train, score, decide, and promote if the gate allows. A running worker takes it, else it runs here.

    Example: evenkeel retrain lr=1e-3 epochs=2
    """
    from training.worker import work_once

    overrides = parse_overrides(" ".join(recipe or []))
    with opened() as (settings, ledger):
        warnings = warnings_for(recipe_from(settings, overrides))
        if warnings and not overrides.keys() & {"force", "dry_run"}:
            raise UsageError("\n".join(warnings) + "\nNext: add the word force to start anyway.")
        run_id = ledger.runs.request(reason="cli", requested_by="cli", overrides=overrides)
        configure_logs("warning")
        run = follow(run_id, ledger, lambda: work_once(settings, ledger))
        finish(run, ledger, settings, json_)


def follow(run_id: int, ledger: Ledger, start_here: Callable[[], object]) -> Run:
    """Show a live run until it ends. Nobody claimed it after three seconds: it runs in this process' own thread."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Progress(*columns, console=err) as bars:
        bar, asked, helper = bars.add_task("queued", total=None, note=""), time.monotonic(), None
        while True:
            run = ledger.runs.get(run_id)
            assert run is not None
            if run.finished_at is not None:
                return run
            if run.state == "requested" and run.fence == 0 and helper is None and time.monotonic() - asked > 3:
                helper = threading.Thread(target=start_here, daemon=True)
                helper.start()
            p = run.progress
            bars.update(
                bar,
                description=str(p.get("stage", run.state)),
                total=p.get("total"),
                completed=p.get("done", 0),
                note=str(p.get("text", "")),
            )
            time.sleep(0.5)


def finish(run: Run, ledger: Ledger, settings: Settings, json_: bool) -> None:
    """Print how the run ended and leave with the exit code that says so."""
    from bot.outlook import dry_run_lines

    report = ledger.report(run.run_id)
    decision = ledger.promotions.decision(run.decision_id) if run.decision_id else None
    if json_:
        print_json({"run": asdict(run), "decision": asdict(decision) if decision else None})
    elif report:
        from eval.terminal import show

        show(report["view"], out)
        say(f"Page: {report['html_path']}")
    elif found := dry_run_lines(run):
        say("\n".join(line.replace("*", "").strip("_") for line in found))
    if run.state == "failed":
        raise (TooLittleData if run.error.startswith("Too little data") else EvenkeelError)(run.error)
    if run.state == "cancelled":
        raise EvenkeelError(f"run {run.run_id} was cancelled.")
    if decision and decision.verdict != "PROMOTE":
        raise GateSaidNo(f"run {run.run_id}: {decision.verdict}. {'; '.join(decision.reasons)}")
    if decision and not settings.auto_promote:
        say(f"Not live yet (AUTO_PROMOTE is off). Next: evenkeel promote {run.run_id}")


def runs(json_: Json = False) -> None:
    """The last runs with their outcome."""
    with opened() as (_, ledger):
        found = [
            (r, ledger.promotions.decision(r.decision_id) if r.decision_id else None) for r in ledger.runs.recent()
        ]
    if json_:
        print_json([asdict(run) | {"verdict": d.verdict if d else None} for run, d in found])
        return
    table = Table("run", "asked", "by", "state", "verdict", "recipe", "why")
    for run, decision in found:
        recipe = " ".join(f"{k}={v}" for k, v in run.overrides.items()) or "settings"
        why = run.error or ("; ".join(decision.reasons) if decision else "")
        table.add_row(
            str(run.run_id),
            f"{run.requested_at:%Y-%m-%d %H:%M}",
            run.requested_by,
            run.state,
            decision.verdict if decision else "",
            recipe,
            why,
        )
    out.print(table)


def report(run_id: int, json_: Json = False) -> None:
    """The report card of a run: verdict, table, and where its page lies."""
    with opened() as (_, ledger):
        found = ledger.report(run_id)
    if found is None:
        raise UsageError(f"run {run_id} has no report. Next: evenkeel runs.")
    if json_:
        print_json(found["view"])
        return
    from eval.terminal import show

    show(found["view"], out)
    say(f"Page: {found['html_path']}")


def promote(run_id: int, json_: Json = False) -> None:
    """Let the candidate of a run go live, if its decision was PROMOTE and still holds."""
    with opened() as (settings, ledger):
        run = ledger.runs.get(run_id)
        if run is None or run.decision_id is None:
            raise UsageError(f"run {run_id} has no decision. Next: evenkeel runs.")
        promotion = ledger.promotions.promote(
            run.decision_id, actor="cli", reason="promoted on the command line", percent=settings.canary_percent
        )
        confirmed = await_engine(ledger, promotion)
    _print_promotion(confirmed, settings, json_)


def rollback(
    to: Annotated[int | None, typer.Option(help="version; 0 is the base; default: the one before")] = None,
    reason: str = "rolled back on the command line",
    json_: Json = False,
) -> None:
    """Let an earlier champion serve again, at once and without a restart."""
    with opened() as (settings, ledger):
        confirmed = await_engine(ledger, ledger.promotions.rollback(actor="cli", reason=reason, to_version=to))
    _print_promotion(confirmed, settings, json_)


def await_engine(ledger: Ledger, promotion: Promotion, *, seconds: float = 10) -> Promotion:
    """The promotion with the word on it of who follows (our engine, else the bot), or as it is when nobody does."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = next(p for p in ledger.promotions.history() if p.promotion_id == promotion.promotion_id)
        if found.confirmed:
            return found
        time.sleep(0.2)
    return promotion


def _print_promotion(promotion: Promotion, settings: Settings, json_: bool) -> None:
    who, start = ("engine", "evenkeel engine") if tuned_server(settings).ours else ("bot", "evenkeel bot")
    if json_:
        print_json(asdict(promotion))
    elif promotion.confirmed == "ok":
        say(f"v{promotion.version} serves now; the {who}'s canary answered with it.")
    elif not promotion.confirmed:
        say(f"v{promotion.version} is the champion; no {who} has confirmed it yet. Next: {start}, if none runs.")
    if promotion.confirmed not in ("", "ok"):
        raise EvenkeelError(f"the {who} refused v{promotion.version}: {promotion.confirmed}. Next: evenkeel rollback.")


def watch(json_: Json = False) -> None:
    """What was seen since the last promotion: the votes and their evidence, and other signs."""
    from training.after import look_after
    from training.signs import look_at_signs

    with opened() as (settings, ledger):
        look_after(settings, ledger)
        look_at_signs(settings, ledger)
        looks = ledger.watches.of(ledger.promotions.champion())
    if json_:
        print_json([asdict(look) for look in looks])
        return
    for look in looks:
        say(f"{look.at:%Y-%m-%d %H:%M} UTC: {look.said}")
    if not looks:
        say("Nothing was seen yet: no version was promoted, and there are too few questions to compare weeks.")


ALL = (retrain, runs, report, promote, rollback, watch)
