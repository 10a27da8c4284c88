"""The commands of the model: train one, see what the gate said, let it go live, go back, watch.

evenkeel.py mounts ALL of them. Reads settings, opens the ledger, calls one function of a room and prints.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from storage.console import Json, configure_logs, err, opened, out, print_json, say
from storage.errors import Busy, EvenkeelError, GateSaidNo, TooLittleData, UsageError
from storage.ledger import Ledger
from storage.recipe import parse_overrides, recipe_from, warnings_for
from storage.records import Promotion, Run
from storage.servers import tuned_server
from storage.settings import Settings
from training.data_commands import printable

UNHELD_S = 3.0


def retrain(
    recipe: Annotated[list[str] | None, typer.Argument(help="lr=1e-3 epochs=2 rank=16 … force dry")] = None,
    json_: Json = False,
) -> None:
    """Train, score, decide, and promote if the gate allows. A running worker takes it, else it runs here; Ctrl-C cancels it.
    A run that was left unfinished goes on.

    Example: evenkeel retrain lr=1e-3 epochs=2
    """
    from training.worker import work_once

    overrides = parse_overrides(" ".join(recipe or []))
    with opened() as (settings, ledger):
        warnings = warnings_for(recipe_from(settings, overrides))
        if warnings and not overrides.keys() & {"force", "dry_run"}:
            raise UsageError("\n".join(warnings) + "\nNext: add the word force to start anyway.")
        run_id = requested(ledger, overrides)
        configure_logs("warning")
        run = follow(run_id, ledger, lambda: work_once(settings, ledger))
        finish(run, ledger, settings, json_)


def requested(ledger: Ledger, overrides: Mapping[str, Any]) -> int:
    """A new run, or the active one when nobody works on it and nothing else is asked for. Raises Busy."""
    try:
        return ledger.runs.request(reason="cli", requested_by="cli", overrides=overrides)
    except Busy as error:
        left = ledger.runs.active()
        if left is None or ledger.runs.is_held(left.run_id):
            raise
        if overrides:
            raise Busy(f"{error} Nobody works on it: evenkeel retrain, without other words, goes on with it.") from None
        say(f"Run {left.run_id} was left unfinished: it goes on.")
        return left.run_id


def follow(run_id: int, ledger: Ledger, start_here: Callable[[], object]) -> Run:
    """Show a live run until it ends; one that nobody holds for three seconds runs in a thread of this process.

    Ctrl-C cancels a run that is not a worker's, and waits for the end of its child.
    """
    helper = Helper(start_here)
    try:
        return _shown(run_id, ledger, helper)
    except KeyboardInterrupt:
        if not helper.is_busy and ledger.runs.is_held(run_id):
            say(f"Run {run_id} goes on: a worker has it.")
        else:
            ledger.runs.cancel(run_id)
            helper.wait()
        raise


class Helper:
    """A thread that works on a run; when the ledger was locked it ends, and may be started again."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work, self._thread = work, threading.Thread()

    @property
    def is_busy(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        if self.is_busy:
            self._thread.join()

    def _run(self) -> None:
        with suppress(Busy):
            self._work()


def _shown(run_id: int, ledger: Ledger, helper: Helper) -> Run:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err) as bars:
        bar, held_at = bars.add_task("queued", total=None, note=""), time.monotonic()
        while True:
            run = ledger.runs.get(run_id)
            assert run is not None
            if run.finished_at is not None:
                return run
            if helper.is_busy or ledger.runs.is_held(run_id):
                held_at = time.monotonic()
            elif time.monotonic() - held_at > UNHELD_S:
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
        say(f"Page: {escape(report['html_path'])}")
    elif found := dry_run_lines(run):
        say(escape("\n".join(line.replace("*", "").strip("_") for line in found)))
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
            *(escape(printable(text)) for text in (recipe, why)),
        )
    out.print(table)


def report(run_id: int, json_: Json = False) -> None:
    """The report card of a run: verdict, table, and where its page lies; one that is gone is made anew."""
    with opened() as (settings, ledger):
        found = ledger.report(run_id)
        if found is not None and not Path(found["html_path"]).is_file():
            from eval.report import publish

            publish(ledger, run_id, settings.reports_dir)
            found = ledger.report(run_id)
    if found is None:
        raise UsageError(f"run {run_id} has no report. Next: evenkeel runs.")
    if json_:
        print_json(found["view"])
        return
    from eval.terminal import show

    show(found["view"], out)
    say(f"Page: {escape(found['html_path'])}")


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
        say(f"{look.at:%Y-%m-%d %H:%M} UTC: {escape(look.said)}")
    if not looks:
        say("Nothing was seen yet: no version was promoted, and there are too few questions to compare weeks.")


ALL = (retrain, runs, report, promote, rollback, watch)
