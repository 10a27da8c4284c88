"""`evenkeel data`: look at lessons before anything is trained on them, keep people and contact details out, hand data on.

Reads settings, opens the ledger, calls one function of this room and prints. Models and datasets are imported by the
command that needs them, so that the command line stays quick.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from storage.consent import known_as
from storage.console import Json, opened, out, print_json, say
from storage.digests import short
from storage.errors import TooLittleData, UsageError
from storage.forgetting import forget
from storage.ledger import Ledger
from storage.records import Lesson
from storage.settings import Settings

data_app = typer.Typer(no_args_is_help=True, help="What can be learned, from whom, and what must not be.")


@data_app.command("lint")
def lint(
    with_base: Annotated[bool, typer.Option("--with-base", help="count tokens and look for unlikely facts")] = False,
    json_: Json = False,
) -> None:
    """What the next run would learn from, and everything that was found in it. Nothing is written.

    Exit code 4 when too little is left to train on. Example: evenkeel data lint --with-base
    """
    from training.collecting import require_enough, summary_of

    with opened() as (settings, ledger):
        built, more = _look(ledger, settings, with_base)
        summary = summary_of(built.dataset, settings.min_lessons)
        findings = [finding.as_json() for finding in (*built.linted.findings, *more)]
    if json_:
        print_json({**summary, "findings": findings})
    else:
        out.print(findings_table(findings))
        sources = ", ".join(f"{count} {name}" for name, count in summary["sources"].items()) or "none"
        say(f"{summary['train']} rows to train on ({sources}), {summary['holdout']} held out.")
        for name, counts in (("Left out", summary["dropped"]), ("Redacted", summary["redacted"])):
            if counts:
                say(f"{name}: {', '.join(f'{count} {kind}' for kind, count in counts.items())}.")
        if summary["preferences"]:
            say(f"Preferences: {summary['preferences']}.")
    require_enough(built.dataset, settings.min_lessons)


def findings_table(findings: Sequence[dict[str, Any]]) -> Table:
    """The findings, one a line, with the first examples."""
    table = Table("found", "lessons", "what was done", "examples", expand=True)
    for x in findings:
        done = x["done"] + (f": {x['note']}" if x["note"] else "")
        table.add_row(
            x["kind"], str(x["count"]), escape(printable(done)), escape(printable(", ".join(x["examples"][:3])))
        )
    return table


def printable(text: str) -> str:
    """What people wrote, without what would steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


@data_app.command("show")
def show(
    lesson_id: Annotated[str, typer.Argument(help="as in lint: ticket-…, correction-…, taught-…, disliked-…")],
    json_: Json = False,
) -> None:
    """One lesson as training sees it: question, answer, the worse answer that people set it against, who and what it came
    from, and what the lint said.

    Example: evenkeel data show ticket-HL-1001
    """
    from training.dataset import is_held
    from training.sources import gather

    with opened() as (settings, ledger):
        built, _ = _look(ledger, settings, with_base=False)
        learnt = {x.lesson_id: x for x in built.dataset.train}
        held_out = {x.lesson_id: x for x in built.dataset.holdout}
        told = {x.lesson_id: x for x in built.dataset.preferences}
        known = {**told, **{x.lesson_id: x for x in gather(ledger, settings).lessons}, **learnt, **held_out}
    lesson = known.get(lesson_id)
    if lesson is None:
        raise UsageError(
            f"no lesson {lesson_id!r} may be learned from. Next: evenkeel data lint names some; without consent none is shown."
        )
    places = {"training": learnt, "holdout": held_out, "preferences": told}
    facts = {
        "place": next((place for place, rows in places.items() if lesson_id in rows), "left out"),
        "worse": told[lesson_id].rejected if lesson_id in told else "",
        "side": "holdout" if lesson.source != "replay" and is_held(lesson, built.dataset.manifest["settings"]["holdout_share"]) else "training",
        "lint": list(built.linted.fates.get(lesson_id, ())),
    }  # fmt: skip
    if json_:
        print_json({**asdict(lesson), **facts})
    else:
        out.print(_lesson_table(lesson, facts))


def _lesson_table(lesson: Lesson, facts: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    row = asdict(lesson)
    row["history"] = "\n".join(f"{m['role']}: {m['content']}" for m in lesson.messages[:-1] if m["role"] != "system")
    row |= {"question": lesson.question, **facts, "lint": "\n".join(facts["lint"])}
    names = ("lesson_id", "place", "lint", "source", "author", "customer", "origin", "consent", "at", "began",
             "conversation_id", "side", "language", "category", "history", "question", "answer", "worse")  # fmt: skip
    for name in names:
        if row[name]:
            table.add_row(name.replace("_", " "), escape(printable(str(row[name]))))
    return table


@data_app.command("build")
def build(json_: Json = False) -> None:
    """Write the dataset that a run would train on into a folder under DATA_DIR/datasets, and print its digest."""
    from training.collecting import keep_collected

    with opened() as (settings, ledger):
        dataset, folder = keep_collected(
            ledger, settings, lambda: _something(_look(ledger, settings, with_base=False)[0].dataset)
        )
    if json_:
        print_json({"digest": dataset.digest, "folder": str(folder), "manifest": dataset.manifest})
    else:
        out.print(dataset.digest)
        say(f"{len(dataset.train)} rows to train on, {len(dataset.holdout)} held out: {escape(str(folder))}")


@data_app.command("export")
def export(file: Path, json_: Json = False) -> None:
    """Write the training rows as chat messages (JSONL), as fine-tuning services take them, and their lineage beside it.

    Example: evenkeel data export lessons.jsonl
    """
    from training.export import export_dataset

    with opened() as (settings, ledger):
        built, _ = _look(ledger, settings, with_base=False)
        beside = export_dataset(_something(built.dataset), file)
        ledger.audit("cli", "export", {"dataset": built.dataset.digest, "rows": len(built.dataset.train)})
    if json_:
        print_json(
            {
                "file": str(file),
                "lineage": str(beside),
                "rows": len(built.dataset.train),
                "digest": built.dataset.digest,
            }
        )
    else:
        say(
            f"{len(built.dataset.train)} rows of dataset {short(built.dataset.digest)} in {escape(str(file))}; "
            f"whose they are: {escape(str(beside))}"
        )


@data_app.command("exclude")
def exclude(
    person: Annotated[str | None, typer.Argument(help="Slack id, customer id or e-mail address; none: list")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="let them teach again")] = False,
    json_: Json = False,
) -> None:
    """Keep a person's words and verdicts out of every dataset from now on.

    Example: evenkeel data exclude U0ASHA
    """
    with opened() as (_, ledger):
        if person is not None:
            _exclude(ledger, person, undo)
        standing = ledger.consent.exclusions()
    if json_:
        print_json([asdict(x) for x in standing])
        return
    table = Table("excluded", "by", "since")
    for x in standing:
        table.add_row(escape(printable(x.person)), x.actor, f"{x.at:%Y-%m-%d %H:%M} UTC")
    out.print(table if standing else "Nobody is excluded.")


def _exclude(ledger: Ledger, person: str, undo: bool) -> None:
    if not person.strip():
        raise UsageError("a person's id is empty. Example: evenkeel data exclude U0ASHA")
    done = ledger.consent.include(person, actor="cli") if undo else ledger.consent.exclude(person, actor="cli")
    name = known_as(person)
    if not done:
        raise UsageError(f"{name} is not excluded." if undo else f"{name} is excluded already.")
    ledger.audit("cli", "include" if undo else "exclude", {"person": name})
    say(
        f"{escape(printable(name))} {'may teach again' if undo else 'teaches nothing from now on'}. Next: evenkeel retrain."
    )


@data_app.command("forget")
def forget_person(
    person: Annotated[str, typer.Argument(help="Slack id, customer id or e-mail address")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    json_: Json = False,
) -> None:
    """Delete a person's questions, ratings and tickets, and the datasets that hold them. It cannot be undone.

    Example: evenkeel data forget jo@customer.example
    """
    if not person.strip():
        raise UsageError("a person's id is empty. Example: evenkeel data forget U0ASHA")
    if not yes:
        typer.confirm(f"Delete everything of {printable(person)}?", abort=True, err=True)
    with opened() as (settings, ledger):
        receipt = forget(ledger, settings.datasets_dir, known_as(person), actor="cli")
    if json_:
        print_json(asdict(receipt))
        return
    say(
        f"Deleted: {receipt.questions} questions, {receipt.ratings} ratings, {receipt.taught} taught replies, {receipt.tickets} "
        f"tickets, {receipt.datasets} datasets. A file that brings them back is left out. Next: evenkeel retrain."
    )


@data_app.command("review")
def review(
    verdict: Annotated[str | None, typer.Argument(help="allow or deny; none: list")] = None,
    contact: Annotated[str | None, typer.Argument(help="a link, a host (all below it, too) or a phone number")] = None,
    json_: Json = False,
) -> None:
    """Links and phone numbers that only new lessons carry: until one is allowed, nobody learns it.

    Example: evenkeel data review allow help.acme.example
    """
    with opened() as (settings, ledger):
        if verdict is not None:
            _judge(ledger, verdict, contact)
        built, _ = _look(ledger, settings, with_base=False)
        judged = ledger.consent.verdicts()
    waiting = [{"contact": x.contact, "lessons": [y.lesson_id for y in x.lessons], "authors": sorted({y.author or "unknown" for y in x.lessons})}
               for x in built.linted.held]  # fmt: skip
    if json_:
        print_json({"waiting": waiting, "judged": dict(judged)})
        return
    table = Table("link or phone number", "lessons", "by", "for example")
    for x in waiting:
        table.add_row(
            *(
                escape(printable(str(v)))
                for v in (x["contact"], len(x["lessons"]), ", ".join(x["authors"]), x["lessons"][0])
            )
        )
    out.print(table if waiting else "Nothing waits for review.")


def _judge(ledger: Ledger, verdict: str, contact: str | None) -> None:
    from training.contacts import contacts_in

    if verdict not in ("allow", "deny"):
        raise UsageError(f"{verdict!r} is no verdict. Allowed: allow, deny.")
    found = contacts_in(contact or "")
    if len(found) != 1:
        raise UsageError(
            f"{contact!r} is no link and no phone number. Example: evenkeel data review {verdict} help.acme.example"
        )
    ledger.consent.judge(found[0], "allow" if verdict == "allow" else "deny", actor="cli")
    ledger.audit("cli", f"{verdict} contact", {"contact": found[0]})
    say(f"{escape(found[0])}: {verdict}.")


def _look(ledger: Ledger, settings: Settings, with_base: bool) -> tuple[Any, list[Any]]:
    """(the dataset and its lint, what the base adds to the findings)."""
    from storage.recipe import recipe_from
    from training.collecting import collect

    recipe = recipe_from(settings, {})
    if not with_base:
        return collect(ledger, settings, recipe), []
    from functools import partial

    from bot.engine.base import prepare_base
    from bot.engine.model import LoadedModel
    from training.lint import unlikely
    from training.with_base import answer_log_probs, tokens_of

    model = LoadedModel.load(prepare_base(settings, say))
    built = collect(ledger, settings, recipe, partial(tokens_of, model))
    lessons = [x for x in built.dataset.train if x.source != "replay"]
    found = unlikely(
        answer_log_probs(model, lessons, lambda done, total: say(f"the base has read {done} of {total} answers"))
    )
    return built, [found] if found else []


def _something(dataset: Any) -> Any:
    if not any(row.source != "replay" for row in dataset.train):
        raise TooLittleData(
            "no lesson is left to train on. Next: evenkeel data lint says why, evenkeel import adds some."
        )
    return dataset
