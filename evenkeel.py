"""The command line and the composition root: every process starts here, and nothing is built at import.

Reads settings, opens the ledger, hands both to one room, and turns every deliberate error into one line and an
exit code: 0 done, 1 error, 2 usage, 3 the gate said no, 4 too little data, 5 busy, 6 configuration.
stdout carries data (`--json`: exactly one JSON value), stderr carries messages.
"""

import logging
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from eval.commands import app as gate_app
from storage.console import Json, err, opened, out, print_json, say
from storage.digests import short
from storage.errors import ConfigurationError, EvenkeelError, GateSaidNo, TooLittleData, UsageError
from storage.ledger import Ledger
from storage.processes import Actor, running
from storage.recipe import parse_overrides, recipe_from, warnings_for
from storage.records import Answer, Promotion, Run
from storage.servers import base_server, needs_engine, tuned_server
from storage.settings import Settings, load_settings
from training.data_commands import data_app

# Engine, training and scoring share the cores. OpenMP's threads spin while they wait, which made answers four times slower
# beside a run (docs/log.md, 2026-11-23); read by the library when torch loads it, inherited by every child.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def wait_awake() -> None:
    """For the engine's process, before torch is loaded: its threads look about a tenth of a millisecond for work before they
    sleep. To sleep between two layers costs as much as the layers (docs/decisions/0007).
    """
    os.environ.update({"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "10000")})


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="A Slack support bot whose tuned model may only go live when nothing that matters got worse.",
)
db_app = typer.Typer(no_args_is_help=True, help="The ledger file: where it is, whether it is sound, a copy of it.")
suite_app = typer.Typer(no_args_is_help=True, help="The general benchmarks.")
app.add_typer(db_app, name="db", rich_help_panel="Maintenance")
app.add_typer(suite_app, name="suite", rich_help_panel="Maintenance")
app.add_typer(data_app, name="data", rich_help_panel="Every day")
app.add_typer(gate_app, name="gate", rich_help_panel="Model")

TRY, EVERY_DAY, MODEL, PROCESSES, CARE = "Try it", "Every day", "Model", "Processes", "Maintenance"


def configure_logs(level: str) -> None:
    """One event a line on stderr: readable on a terminal, JSON elsewhere. The SDKs speak from warning up."""
    renderer: Any = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    for name in ("slack_bolt", "slack_sdk", "httpx", "httpx2", "openai", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)


# Try it


@app.command(rich_help_panel=TRY)
def demo(port: Annotated[int, typer.Option(help="port of the page")] = 8600) -> None:
    """Local Slack workspace, engine, bot and worker on this machine, with the demo company's tickets."""
    from training.demo.stage import play

    play(load_settings(), port=port, say=say)


@app.command(rich_help_panel=TRY)
def ask(
    question: str,
    both: Annotated[bool, typer.Option("--both", help="the base's answer too")] = False,
    json_: Json = False,
) -> None:
    """Ask the tuned model, and with --both the base, the same question. The exchange is kept in the ledger.

    Example: evenkeel ask "How do I reset my password?" --both
    """
    from bot.terminal import ask_once

    with opened() as (settings, ledger), an_engine(settings) as via:
        exchange = ask_once(question, both=both, settings=settings, ledger=ledger)
    answers = {a.role: a for a in (exchange.tuned, exchange.base) if a is not None}
    if json_:
        print_json({role: asdict(answer) for role, answer in answers.items()} | {"exchange_id": exchange.exchange_id})
    else:
        _print_answers(list(answers.values()), via)
    failed = [a for a in answers.values() if a.status != "ok"]
    if failed:
        raise EvenkeelError("; ".join(f"{a.role}: {a.reason}" for a in failed))


@contextmanager
def an_engine(settings: Settings) -> Iterator[str]:
    """The running engine, or one that lives as long as the block; where the models are elsewhere, their server."""
    if not needs_engine(settings):
        yield f"the model server at {tuned_server(settings).url}"
        return
    health = settings.engine_url.removesuffix("/v1") + "/healthz"
    try:
        with urllib.request.urlopen(health, timeout=2):
            pass
    except OSError:
        say("No engine is running: starting one for this question …")
        log = settings.data_dir / "logs" / "engine.log"
        with running(
            (Actor(name="engine", command=(sys.executable, "-m", "evenkeel", "engine"), ready_url=health, log=log),), {}
        ):
            yield "an engine that was started for this question"
    else:
        yield f"the engine at {settings.engine_url}"


def _print_answers(answers: list[Answer], via: str) -> None:
    table = Table(show_lines=True, expand=True)
    for answer in answers:
        speaker = "base" if answer.adapter_digest is None else f"adapter {short(answer.adapter_digest)}"
        table.add_column(f"{answer.role}  ·  {speaker}", ratio=1, overflow="fold")
    table.add_row(*[a.text or f"({a.status}: {a.reason})" for a in answers])
    table.add_row(*[f"{a.tokens_out} tokens in {a.latency_s or 0:.1f} s" for a in answers])
    out.print(table)
    if all(a.adapter_digest is None for a in answers):
        say("No adapter was promoted yet: the base speaks for both. Next: evenkeel import, then evenkeel retrain.")
    say(f"Answered by {via}.")


# Every day


@app.command("import", rich_help_panel=EVERY_DAY)
def import_(
    file: Path,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="field=column, repeatable; fields: "
            "question, answer, conversation_id, category, language, ticket_id, approved, created_at, customer, agent",
        ),
    ] = None,
    format: Annotated[str | None, typer.Option(help="csv, jsonl, zendesk or intercom; else recognised")] = None,
    json_: Json = False,
) -> None:
    """Import tickets from CSV, JSONL or an export of Zendesk or Intercom: all or nothing, faulty rows named one by one.

    Example: evenkeel import tickets.csv --map question=Description --map answer=Resolution
    """
    from training.tickets import import_file

    with opened() as (_, ledger):
        done = import_file(file, mapping(column or []), ledger=ledger, actor="cli", format=format)
    if json_:
        print_json({"file": str(file), **asdict(done)})
        return
    say(f"{done.added} tickets added, {done.known} were known (read as {done.format}). Next: evenkeel data lint.")
    if done.unusable:
        say(f"{done.unusable} conversations or turns have no public reply of a person, or are too long.")
    if done.forgotten:
        say(f"{done.forgotten} stay out: they are of people who asked to be forgotten.")


def mapping(pairs: list[str]) -> dict[str, str]:
    faulty = [pair for pair in pairs if "=" not in pair]
    if faulty:
        raise UsageError(f"--map {faulty[0]!r} is not field=column. Example: --map question=Description")
    return dict(pair.split("=", 1) for pair in pairs)


@app.command(rich_help_panel=EVERY_DAY)
def status(json_: Json = False) -> None:
    """Who serves, what people think, what is waiting."""
    with opened() as (settings, ledger):
        champion, active = ledger.promotions.champion(), ledger.runs.active()
        covered, answered = ledger.exchanges.shadow_coverage()
        facts = {
            "champion": _champion_line(champion),
            "answered": answered,
            "with_base_answer": covered,
            "ratings": ledger.ratings.counts(),
            "new_lessons": ledger.lessons.count_since_last_run(),
            "retrain_after_lessons": settings.retrain_after_lessons,
            "retrain_cron": settings.retrain_cron,
            "active_run": f"run {active.run_id}: {active.state}" if active else None,
            "inbox": ledger.inbox.depth(),
        }
    if json_:
        print_json(facts)
        return
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), str(value))
    out.print(table)


def _champion_line(champion: Promotion | None) -> str:
    if champion is None or champion.adapter_digest is None:
        return "none: the base serves"
    return f"v{champion.version} (adapter {short(champion.adapter_digest)}) since {champion.at:%Y-%m-%d %H:%M} UTC"


# Model


@app.command(rich_help_panel=MODEL)
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


def follow(run_id: int, ledger: Ledger, start_here: Any) -> Run:
    """Show a live run until it ends. Nobody claimed it after three seconds: it runs in this process' own thread."""
    import threading

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


@app.command(rich_help_panel=MODEL)
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


@app.command(rich_help_panel=MODEL)
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


@app.command(rich_help_panel=MODEL)
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


@app.command(rich_help_panel=MODEL)
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


@app.command(rich_help_panel=MODEL)
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


# Processes


@app.command(rich_help_panel=PROCESSES)
def bot() -> None:
    """The Slack bot (Socket Mode; HTTP by setting)."""
    from bot.run import run_bot

    with opened() as (settings, ledger):
        configure_logs(settings.log_level)
        run_bot(settings, ledger)


@app.command(rich_help_panel=PROCESSES)
def engine() -> None:
    """The model server: base and adapters, OpenAI protocol."""
    wait_awake()
    from bot.engine.base import prepare_base
    from bot.engine.server import serve

    settings = load_settings()
    configure_logs(settings.log_level)
    if not needs_engine(settings):
        tuned, base = tuned_server(settings), base_server(settings)
        raise ConfigurationError(
            f"nobody asks an engine here: tuned is {tuned.name} at {tuned.url}, base is {base.name} at {base.url}. "
            "Next: start only bot and worker."
        )
    prepare_base(settings, say)
    serve(settings)


@app.command(rich_help_panel=PROCESSES)
def worker() -> None:
    """The clock and the runs."""
    from training.worker import run_worker

    with opened() as (settings, ledger):
        configure_logs(settings.log_level)
        run_worker(settings, ledger)


@app.command(rich_help_panel=PROCESSES)
def workspace(port: int = 8600) -> None:
    """The local Slack workspace alone: Web API, Socket Mode and a page, on loopback."""
    from bot.workspace.server import serve

    settings = load_settings()
    configure_logs(settings.log_level)
    serve("127.0.0.1", port, save_to=settings.data_dir / "workspace.json")


# Maintenance


@app.command(rich_help_panel=CARE)
def setup() -> None:
    """Migrate the ledger and prepare the base model: instant when done before."""
    from bot.engine.base import prepare_base

    with opened() as (settings, ledger):
        say(f"ledger {ledger.path} is up to date")
        where = f"{settings.base_name} at {settings.base_url}" if settings.is_hosted else prepare_base(settings, say)
        say(f"base model {where} is ready")


@app.command(rich_help_panel=CARE)
def doctor(json_: Json = False) -> None:
    """Check tokens, ledger, weights, engine and data; every fault with its next step."""
    from storage.doctor import examine

    checks = examine(load_settings())
    if json_:
        print_json([asdict(check) for check in checks])
    else:
        table = Table("", "what", "found", "next step")
        for check in checks:
            table.add_row({"ok": "✓", "warn": "!", "fail": "✗"}[check.state], check.what, check.found, check.next_step)
        out.print(table)
    if any(check.state == "fail" for check in checks):
        raise typer.Exit(6)


@db_app.command("path")
def db_path() -> None:
    """Where the ledger is."""
    sys.stdout.write(f"{load_settings().ledger_path}\n")


@db_app.command("migrate")
def db_migrate() -> None:
    """Bring the ledger's schema up to date (every process does so at start, too)."""
    with opened() as (_, ledger):
        say(f"{ledger.path} is up to date")


@db_app.command("verify")
def db_verify(json_: Json = False) -> None:
    """Re-derive digests and invariants; exit code 1 and one line for each fault."""
    with opened() as (_, ledger):
        faults = ledger.verify()
    if json_:
        print_json(list(faults))
    if faults:
        raise EvenkeelError("\n".join(faults))
    say("The ledger is sound.")


@db_app.command("backup")
def db_backup(target: Path) -> None:
    """A whole copy in one file, taken while the bot runs."""
    with opened() as (_, ledger):
        ledger.backup(target)
    say(f"{target} holds the whole ledger.")


@suite_app.command("fetch")
def suite_fetch() -> None:
    """Fetch the real benchmarks (HellaSwag, ARC, PIQA, …) once: 86 MB, digest checked, converted under DATA_DIR/suite."""
    from eval.suite_fetch import fetch_suite

    say(f"{fetch_suite(load_settings(), say)} is ready")


def main() -> None:
    """Run a command; a deliberate error becomes its message and its exit code, never a traceback."""
    try:
        app()
    except EvenkeelError as error:
        say(f"[red]Error:[/red] {str(error).replace('[', chr(92) + '[')}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
