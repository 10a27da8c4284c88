"""What people read about the next run: how long it may take, what speaks against it, what a dry run found. Pure."""

from collections.abc import Mapping
from typing import Any

from bot.safe_text import escape, who
from storage.digests import short
from storage.outlook import Facts
from storage.recipe import Recipe
from storage.records import Run
from storage.runs import Pace
from storage.settings import Settings

HOLDOUT_SHARE = 0.25  # about a quarter of the conversations are kept for judging
SOURCES = {"ticket": "tickets", "rating": "likes", "correction": "corrections", "pick": "picks", "replay": "general"}
FEW_CORRECTIONS = 5  # below so many, it says nothing that one person wrote most of them


def lessons_text(facts: Facts, settings: Settings) -> str:
    """The lessons by source, and how many are missing."""
    rows = [f"• {source}: *{facts.new[source]}* new, {total} in all" for source, total in facts.total.items()]
    enough = usable(facts, settings)
    missing = settings.min_lessons - enough
    word = f"about {missing} are missing" if missing > 0 else "enough"
    need = f"About {enough} can be trained on; {settings.min_lessons} are needed (MIN_LESSONS): {word}."
    return "\n".join(["*Lessons, new since the last run*", *rows, need])


def usable(facts: Facts, settings: Settings) -> int:
    """About how many lessons a run would train on: what is allowed, less what is held out."""
    allowed = facts.total["tickets"] + (facts.from_slack if settings.learn_from_slack else 0)
    return round(allowed * (1 - HOLDOUT_SHARE))


def estimate_text(facts: Facts, settings: Settings, recipe: Recipe, pace: Pace | None) -> str:
    """About how long a run takes with the settings' recipe."""
    if pace is None:
        return "*Time:* no history: the first run is the estimate."
    rows = usable(facts, settings) / (1 - recipe.replay_share)
    seconds = pace.seconds(rows=rows, epochs=recipe.epochs)
    runs = "the last run" if pace.runs == 1 else f"the median of the last {pace.runs} runs"
    return f"*Time:* {about(seconds)} for {recipe.epochs:g} epochs, going by {runs}."


def about(seconds: float) -> str:
    return "less than a minute" if seconds < 60 else f"about {round(seconds / 60)} min"


def data_warnings(facts: Facts, settings: Settings) -> list[str]:
    """What the ledger says against a run now, one line each."""
    found = []
    if facts.from_slack and not settings.learn_from_slack:
        found.append(f"LEARN_FROM_SLACK is off: {facts.from_slack} lessons from Slack wait and are not used.")
    busiest, count = facts.busiest
    if facts.corrections >= FEW_CORRECTIONS and 2 * count > facts.corrections:
        found.append(f"{who(busiest)} wrote {count} of {facts.corrections} corrections: the model learns one voice.")
    if facts.disputed:
        found.append(f"Agents disagree about {facts.disputed} answers (👍 and 👎): those are not used.")
    if usable(facts, settings) < settings.min_lessons:
        found.append("Too few lessons: the run will stop and say so. Import tickets, or rate and correct answers.")
    if facts.champion_base and facts.spoken_base and facts.champion_base != facts.spoken_base:
        found.append(
            f"The champion was made for base {short(facts.champion_base)}, but {short(facts.spoken_base)} speaks:"
            " the candidate is compared with the base alone."
        )
    return found


def dry_run_lines(run: Run) -> list[str]:
    """What a finished dry run found, line by line; empty for any other run. Reads `run.progress`."""
    found = run.progress.get("dry_run")
    if not isinstance(found, dict):
        return []
    sources = {SOURCES.get(name, name): count for name, count in found["sources"].items()}
    lines = [f"*Dry run:* {found['train']} rows to train on ({_counts(sources)}), {found['holdout']} held out."]
    named = (("Left out", _counts(found["dropped"])), ("Redacted", _counts(found["redacted"])))
    lines += [f"{name}: {counts}." for name, counts in named if counts]
    if found.get("preferences"):  # older runs have none
        lines.append(f"Preferences: {escape(found['preferences'])}.")
    lines += [f"⚠️ {_warning(finding)}" for finding in found.get("findings", ())]  # nor those
    lines.append(f"It would take {about(found['seconds'])}." if found["seconds"] else "No history to estimate from.")
    lines += [f"⚠️ {escape(warning)}" for warning in found.get("warnings", ())]
    if found["refusal"]:
        lines.append(f"⚠️ A run would stop: {escape(found['refusal'])}")
    return [*lines, "_Nothing was trained; the model that serves stays as it was._"]


def _warning(finding: Mapping[str, Any]) -> str:
    """A finding of the lint that somebody should look at, with its first examples."""
    shown = f"{finding['kind']}: {finding['count']} ({', '.join(finding['examples'][:2])})"
    return escape(f"{shown}; {finding['note']}." if finding["note"] else f"{shown}.")


def _counts(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {escape(str(name))}" for name, count in counts.items() if count)
