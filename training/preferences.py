"""What people found better or worse: pairs of answers and single verdicts, as the stage after the lessons learns them.

Promise: a better answer is always one that is a lesson, as the lint left it, so consent, exclusion, holdout, review and caps
are the lessons' own; a worse one went through the checks that concern it. Same verdicts in, same rows out.
Knows lessons and verdicts, not where they are stored, and no model.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from storage.digests import digest_of
from storage.preferences import Verdicts
from storage.records import Lesson, Preference
from training import lint_rows, lint_sets
from training.findings import Context, Notes
from training.lint import Linted
from training.near import overlap, words_of

# Fewer say nothing: of 50 pairs a coin gets up to 64 % right (95 %, binomial), of 20 verdicts up to 72 %. Both are our judgement.
FEWEST_PAIRS = 50
FEWEST_VERDICTS, FEWEST_OF_A_KIND = 100, 20
ALIKE = 0.9  # answers that share more of their words than this differ in nothing that could be learned


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How many pairs there are, and how many good and bad answers, the pairs' own two sides among them."""

    pairs: int
    good: int
    bad: int

    @property
    def method(self) -> Literal["DPO", "KTO", ""]:
        """What there is enough for: pairs say more than single verdicts."""
        if self.pairs >= FEWEST_PAIRS:
            return "DPO"
        enough = self.good + self.bad >= FEWEST_VERDICTS and min(self.good, self.bad) >= FEWEST_OF_A_KIND
        return "KTO" if enough else ""

    def __str__(self) -> str:
        return f"{self.pairs} pairs of answers, {self.good} good and {self.bad} bad ones"

    @property
    def missing(self) -> str:
        """What either way still needs."""
        by_kind = sum(max(0, FEWEST_OF_A_KIND - count) for count in (self.good, self.bad))
        verdicts = max(FEWEST_VERDICTS - self.good - self.bad, by_kind)
        return (
            f"{self}: {FEWEST_PAIRS - self.pairs} pairs are missing for DPO ({FEWEST_PAIRS}),"
            f" {verdicts} verdicts for KTO ({FEWEST_VERDICTS}, {FEWEST_OF_A_KIND} of each kind)"
        )


def counted(preferences: Sequence[Preference]) -> Counted:
    return Counted(
        pairs=sum(bool(x.answer and x.rejected) for x in preferences),
        good=sum(bool(x.answer) for x in preferences),
        bad=sum(bool(x.rejected) for x in preferences),
    )


def outlook(preferences: Sequence[Preference]) -> str:
    """What there is, and what it is enough for; "" where nobody said anything."""
    found = counted(preferences)
    if not preferences:
        return ""
    return f"{found}: enough for {found.method}" if found.method else found.missing


def in_words(outcome: Mapping[str, Any]) -> str:
    """What became of the stage, from an adapter's stats."""
    if not outcome["method"]:
        return f"no preferences were learned: {outcome['missing']}"
    return (
        f"preferences ({outcome['method']}): {outcome['units']} {outcome['unit']} in {outcome['steps']} steps; the better answer is the"
        f" likelier one in {outcome['accuracy_before']:.0%} → {outcome['accuracy_after']:.0%}, mean margin {outcome['margin']:.2f} nats"
        f" ({outcome['seconds']:.0f} s)"
    )


def preferences_of(
    lessons: Sequence[Lesson], disliked: Sequence[Lesson], verdicts: Mapping[str, Verdicts]
) -> tuple[Preference, ...]:
    """One preference an exchange: a pair where there are two answers to set against each other, else the verdict alone."""
    worse = {lesson.origin: lesson for lesson in disliked}
    pairs = [x for lesson in lessons if (x := _pair(lesson, worse, verdicts)) is not None]
    paired = {x.origin for x in pairs}
    liked = [
        _preference(x, how="liked", judges=verdicts[x.origin].liked)
        for x in lessons
        if x.source == "rating" and x.origin not in paired
    ]
    alone = [
        _preference(replace(x, answer=""), how="disliked", rejected=x.answer, judges=verdicts[x.origin].disliked)
        for x in disliked
        if x.origin not in paired
    ]
    return (*pairs, *liked, *alone)


def _pair(lesson: Lesson, worse: Mapping[str, Lesson], verdicts: Mapping[str, Verdicts]) -> Preference | None:
    """The correction of a disliked answer with that answer, the picked answer with the other one."""
    if lesson.source == "correction" and lesson.origin in worse:
        judges = verdicts[lesson.origin].disliked
        return _preference(lesson, how="corrected", rejected=worse[lesson.origin].answer, judges=judges)
    if lesson.source == "pick":
        of = verdicts[lesson.origin]
        how, other = ("tuned", of.base) if lesson.answer == of.tuned else ("base", of.tuned)
        return _preference(lesson, how=how, rejected=other, judges=of.picked) if other else None
    return None


def _preference(lesson: Lesson, **more: Any) -> Preference:
    return Preference(**{f.name: getattr(lesson, f.name) for f in fields(lesson)}, **more)


def lint_preferences(
    preferences: Sequence[Preference], linted: Linted, context: Context
) -> tuple[tuple[Preference, ...], dict[str, int]]:
    """(what may be learned from, what was left out and why), from those on the training side of the holdout line."""
    notes = Notes()
    kept = _with_clean_rejected(_with_a_lesson(preferences, linted, notes), linted, context, notes)
    told = list[Preference]()
    for preference in kept:
        if preference.answer and overlap(preference.answer, preference.rejected) > ALIKE:
            notes.add("answers are alike", "removed", preference)
        else:
            told.append(preference)
    pairs = [x for x in told if x.answer and x.rejected]
    alone = [x for x in told if not (x.answer and x.rejected)]
    within = {x.lesson_id for group in (pairs, alone) for x in lint_sets.capped(group, notes)}
    dropped = {finding.kind: finding.count for finding in notes.findings() if finding.leaves_out}
    return tuple(sorted((x for x in told if x.lesson_id in within), key=lambda x: x.lesson_id)), dropped


def _with_a_lesson(preferences: Sequence[Preference], linted: Linted, notes: Notes) -> list[Preference]:
    """Those whose better answer is learned as a lesson, with the words that the lint left of it."""
    learnt = {lesson.lesson_id: lesson for lesson in linted.train}
    kept = list[Preference]()
    for preference in preferences:
        lesson = learnt.get(preference.lesson_id)
        if not preference.answer:
            kept.append(preference)
        elif lesson is None:
            notes.add("the better answer is no lesson", "removed", preference)
        else:
            kept.append(replace(preference, messages=lesson.messages, answer=lesson.answer))
    return kept


def _with_clean_rejected(
    preferences: Sequence[Preference], linted: Linted, context: Context, notes: Notes
) -> list[Preference]:
    """Those whose worse answer says something that is in no benchmark and not in the holdout, redacted. A worse answer may be
    short, a refrain or in another language: that may be what is wrong with it.
    """
    worse: list[Lesson] = [replace(x, answer=x.rejected) for x in preferences if x.rejected]
    worse = lint_rows.defused(lint_rows.redacted(worse, context, notes), notes)
    for lesson in worse:
        if not words_of(lesson.answer):
            notes.add("the worse answer says nothing", "removed", lesson)
    worse = [lesson for lesson in worse if words_of(lesson.answer)]
    worse = lint_sets.apart_from_benchmarks(worse, context, notes)
    clean = {lesson.lesson_id: lesson for lesson in lint_sets.distinct(worse, linted.holdout, notes)}
    return [
        replace(x, messages=clean[x.lesson_id].messages, rejected=clean[x.lesson_id].answer) if x.rejected else x
        for x in preferences
        if not x.rejected or x.lesson_id in clean
    ]


def manifest_of(preferences: Sequence[Preference], dropped: Mapping[str, int]) -> dict[str, Any]:
    """A dataset's preferences in numbers."""
    return {
        **asdict(counted(preferences)),
        "by": dict(sorted(Counter(x.how for x in preferences).items())),
        "dropped": dict(sorted(dropped.items())),
        "digest": digest_of([asdict(x) for x in preferences]),
    }
