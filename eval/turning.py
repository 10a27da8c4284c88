"""What would change a verdict: said from the decision alone, so that people know what to do next.

Knows comparisons and how they are said; decides nothing.
"""

import re
from collections.abc import Iterator, Sequence

from eval.comparing import UNMEASURED
from eval.policy import is_overspent, needs_proof
from eval.selftest import AGAIN
from eval.wording import amount, in_words, named
from storage.records import Comparison, Decision

NEEDED = re.compile(r"about (\d+) items would decide")


def what_would_change(decision: Decision) -> list[str]:
    """Of a promotion, what came nearest to its margin; of any other verdict, what is in the way of one: what was lost and how
    far, what is unknown and the next step, what is undecided and how many items would decide."""
    gating = [c for c in decision.comparisons if c.gates]
    if decision.verdict == "PROMOTE":
        return _nearest(gating)
    unknown = [c for c in gating if c.state == "unknown" and (decision.verdict == "HOLD" or c.note != UNMEASURED)]
    return [
        *_faults(decision),
        *(_too_much(c) for c in sorted(filter(_is_lost, gating), key=_slack)),
        *(_unknown(c) for c in unknown),
        *(_undecided(c) for c in gating if c.state == "undecided" and not needs_proof(c)),
    ]


def _nearest(gating: Sequence[Comparison]) -> list[str]:
    held = [c for c in gating if c.margin and c.state != "unknown" and not c.at_chance]
    if not held:
        return []
    c = min(held, key=_slack)
    left = _slack(c) * c.margin
    worst = left - c.margin  # of what is certified the bound, of what only a proven loss refuses the estimate
    said = f"a loss of {amount(-worst, c)}" if worst < 0 else "no loss"
    how = "as measured" if needs_proof(c) else "at worst"
    return [
        f"Nearest to its margin: {named(c)}, {how} {said}; the margin is {amount(c.margin, c)}. "
        f"{amount(left, c)} more would have changed the verdict."
    ]


def _slack(c: Comparison) -> float:
    """What is left of the margin, as a share of it."""
    return ((c.gain if c.state == "lost" or needs_proof(c) else c.low) + c.margin) / (c.margin or 1.0)


def _is_lost(c: Comparison) -> bool:
    """Proven lost, or over the budget of what only a proven loss refuses."""
    return c.state == "lost" or (needs_proof(c) and is_overspent(c) and c.state != "unknown")


def _faults(decision: Decision) -> Iterator[str]:
    """The reasons that no single comparison gives: what makes all of them worthless."""
    if decision.verdict == "HOLD":
        said = [in_words(c) for c in decision.comparisons]
        for reason in decision.reasons:
            if not any(words in reason for words in said):
                yield f"Before any score counts: {reason}. Next: {_step(reason)}."


def _step(reason: str) -> str:
    if reason.startswith(AGAIN):
        return "start the worker anew, and retrain; if it stays, evenkeel doctor and the newest change of torch, driver or device"
    return "a larger SUITE_ITEMS" if reason.startswith("self-test") else "put that right and retrain"


def _too_much(c: Comparison) -> str:
    return (
        f"{named(c)}: its loss of {amount(-c.gain, c)} is {amount(-c.gain - c.margin, c)} past its margin of "
        f"{amount(c.margin, c)}; a candidate that loses less would pass."
    )


def _unknown(c: Comparison) -> str:
    if "Next:" in c.note:
        return f"{named(c)} is unknown: {c.note}."
    step = "start the run again; its history says what went wrong"
    if "are needed" in c.note:
        step = (
            "more conversations to hold out" if c.domain == "target" else "a benchmark of more subjects, or more items"
        )
    return f"{named(c)} is unknown: {c.note}. Next: {step}."


def _undecided(c: Comparison) -> str:
    if needed := NEEDED.search(c.note):
        return f"{named(c)}: about {needed[1]} items would decide, it had {c.n}."
    if not c.margin:
        return f"{named(c)}: it gained nothing, and more items would not help; a better candidate would."
    return (
        f"{named(c)}: its loss of {amount(-c.gain, c)} is not under the {amount(c.margin, c)} that are tolerated, and more "
        "items would not help; a candidate that loses less would."
    )
