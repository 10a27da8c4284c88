"""The command line and the composition root: every process starts here, and nothing is built at import.

Reads settings, opens the ledger, hands both to one room, and turns every deliberate error into one line and an
exit code: 0 done, 1 error, 2 usage, 3 the gate said no, 4 too little data, 5 busy, 6 configuration.
stdout carries data (`--json`: exactly one JSON value), stderr carries messages.
"""

import os
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from eval.commands import app as gate_app
from storage.console import Json, configure_logs, opened, out, print_json, say
from storage.digests import short
from storage.errors import ConfigurationError, EvenkeelError, UsageError
from storage.processes import Actor, running
from storage.records import Answer, Promotion
from storage.servers import base_server, needs_engine, tuned_server
from storage.settings import Settings, load_settings
from training.data_commands import data_app, printable
from training.model_commands import ALL

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
    table.add_row(*[escape(printable(a.text or f"({a.status}: {a.reason})")) for a in answers])
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
    news = f", {done.changed} of them with changes" if done.changed else ""
    say(f"{done.added} tickets added, {done.known} were known{news} (read as {done.format}). Next: evenkeel data lint.")
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
            "new_lessons": ledger.lessons.count_since_last_run(with_slack=settings.learn_from_slack),
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
        table.add_row(name.replace("_", " "), escape(str(value)))
    out.print(table)


def _champion_line(champion: Promotion | None) -> str:
    if champion is None or champion.adapter_digest is None:
        return "none: the base serves"
    return f"v{champion.version} (adapter {short(champion.adapter_digest)}) since {champion.at:%Y-%m-%d %H:%M} UTC"


# Model

for command in ALL:
    app.command(rich_help_panel=MODEL)(command)

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
            mark = {"ok": "✓", "warn": "!", "fail": "✗"}[check.state]
            table.add_row(mark, *(escape(text) for text in (check.what, check.found, check.next_step)))
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
    say(f"{escape(str(target))} holds the whole ledger.")


@suite_app.command("fetch")
def suite_fetch() -> None:
    """Fetch the real benchmarks (HellaSwag, ARC, PIQA, …) once: 86 MB, digest checked, converted under CACHE_DIR/suite."""
    from eval.suite_fetch import fetch_suite

    say(f"{fetch_suite(load_settings(), say)} is ready")


def main() -> None:
    """Run a command; a deliberate error becomes its message and its exit code, never a traceback. What it writes is ours alone."""
    os.umask(0o077)
    try:
        app()
    except EvenkeelError as error:
        say(f"[red]Error:[/red] {str(error).replace('[', chr(92) + '[')}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
