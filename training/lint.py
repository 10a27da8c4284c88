"""The lint before each run: lessons in, what may be learned and what was found out. Pure: same in, same out.

Promise: nothing is dropped without a finding that counts it and names examples; what it leaves of the training side
nearly equals nothing in the holdout and shares no long passage with a benchmark.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from storage.records import Lesson
from training import lint_rows, lint_sets
from training.contacts import sift
from training.findings import Context, Finding, Held, Notes

FAR = 3.0  # robust standard deviations below the median from which an answer is very unlikely
FEWEST = 20  # answers that a median needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Linted:
    """What may be learned and what may judge, and how it came to that."""

    train: tuple[Lesson, ...]
    holdout: tuple[Lesson, ...]
    findings: tuple[Finding, ...]
    redacted: dict[str, int]
    held: tuple[Held, ...]
    contacts: tuple[str, ...]  # names of all contact details that passed
    fates: dict[str, tuple[str, ...]]  # by lesson, what was found in it and done


def lint(train: Sequence[Lesson], holdout: Sequence[Lesson], context: Context) -> Linted:
    """Check both sides of the holdout line, which was drawn before; the caps are for the training side."""
    notes = Notes()
    sides = {lesson.lesson_id for lesson in holdout}
    kept, held, contacts = sift(lint_sets.by_rank([*train, *holdout]), context, notes)
    kept = lint_rows.redacted(kept, context, notes)
    kept = lint_rows.defused(kept, notes)
    kept = lint_rows.with_content(kept, notes)
    kept = lint_rows.in_its_language(kept, notes)
    judges = [lesson for lesson in kept if lesson.lesson_id in sides]
    judges = lint_sets.distinct(lint_sets.referees(judges, notes), (), notes)
    learnt = [lesson for lesson in kept if lesson.lesson_id not in sides]
    learnt = lint_sets.apart_from_benchmarks(learnt, context, notes)
    learnt = lint_sets.distinct(learnt, judges, notes)
    learnt = lint_sets.without_contradictions(learnt, notes)
    learnt = lint_sets.capped(learnt, notes)
    learnt = lint_sets.without_refrains(learnt, notes)
    lint_sets.look_at_mix(learnt, context, notes)
    lint_sets.look_at_length(learnt, context, notes)
    lint_sets.look_at_persons(learnt, notes)
    return Linted(
        train=tuple(sorted(learnt, key=lambda x: x.lesson_id)),
        holdout=tuple(sorted(judges, key=lambda x: x.lesson_id)),
        findings=notes.findings(),
        redacted=dict(sorted(notes.redacted.items())),
        held=tuple(held),
        contacts=tuple(sorted(contacts)),
        fates=notes.fates(),
    )


def unlikely(log_probs: dict[str, Sequence[float]]) -> Finding | None:
    """Answers that the base finds very unlikely, by lesson: the log-probability (nats) of each answer token under the base.

    What a model has never heard of is learned slowly and makes it invent more (Gekhman et al. 2024, arXiv 2405.05904): such
    facts belong where they can be looked up. Unlikely is an answer whose mean lies more than 3 robust standard deviations
    below the median of all; None where none is, or where there are fewer than 20 answers to compare.
    """
    means = {name: sum(values) / len(values) for name, values in log_probs.items() if values}
    if len(means) < FEWEST:
        return None
    middle = median(means.values())
    spread = 1.4826 * median(abs(value - middle) for value in means.values())
    far = sorted((value, name) for name, value in means.items() if value < middle - FAR * spread)
    if not far:
        return None
    return Finding(
        kind="very unlikely to the base", done="warned", count=len(far), examples=tuple(f"{n} ({v:.1f} nats a token)" for v, n in far[:5]),
        note=f"the median answer has {middle:.1f} nats a token",
    )  # fmt: skip
