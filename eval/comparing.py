"""Two scorecards, compared score by score: paired per item, clustered, with what each difference proves.

Promise: what cannot be paired is unknown, with its reason, and never zero. A loss is proven when it is real after Holm's
correction over all gating scores, and past its margin. Nothing is proven kept or gained by fewer clusters than the
confidence needs, however they turn out. Of a trial that ended early it is proven by bets that hold at any
time, and enough is kept by the boundary of that look; the margin stays that of the whole hand.
Knows pairs of scores and a policy; the verdict is eval/gate.py's.
"""

import math
from dataclasses import replace

from eval.pairing import Pair, pairs_of
from eval.policy import RIGHT_OR_WRONG, SAFETY, Margin, Policy, above_chance, is_asked, margin_of, needs_proof
from eval.sequential import LOOKS, Trial
from eval.statistics import (
    DIGITS,
    FLIP,
    Interval,
    Unseen,
    certifiable_loss,
    fewest_clusters,
    holm,
    items_that_would_decide,
    loss_p_value,
    paired_interval,
    standard_errors_above,
    unseen_share,
)
from eval.wording import amount
from storage.records import Comparison, ComparisonState, Score, Scorecard

UNMEASURED = "not measured on the candidate"
GROWN = "items support no margin under"  # how a note says that a margin grew


def compare_all(
    base: Scorecard, champion: Scorecard | None, candidate: Scorecard, policy: Policy
) -> tuple[Comparison, ...]:
    """Every base score, wholes and the pool first, then the target against the champion, which must not be lost again."""
    pairs = tuple(pairs_of(base, champion, candidate))
    measured = [_measured(pair, policy) for pair in pairs]
    gating = [i for i, (c, _) in enumerate(measured) if c.gates]
    found = [measured[i][0].p_loss for i in gating]
    adjusted = dict(zip(gating, holm([1.0 if p is None else p for p in found]), strict=True))
    return tuple(
        compared if interval is None else _judged(compared, interval, adjusted.get(i), pair, policy)
        for i, ((compared, interval), pair) in enumerate(zip(measured, pairs, strict=True))
    )


def _measured(pair: Pair, policy: Policy) -> tuple[Comparison, Interval | None]:
    """The comparison with its figures and, where it can gate, the raw p-value of a loss; without an interval: unknown."""
    reference, candidate = pair.reference, pair.candidate
    confidence = policy.level_at(pair.look)
    blank = Comparison(
        benchmark=reference.benchmark,
        metric=reference.metric,
        domain=reference.domain,
        against=pair.against,
        reference=_finite(reference.value),
        candidate=_finite(candidate.value if candidate else math.nan),
        gain=0.0,
        low=0.0,
        high=0.0,
        margin=0.0 if _must_gain(pair, policy) else _margin(pair.whole, policy).value,
        n=reference.n,
        unit=reference.unit,
        confidence=confidence,
        gates=gates(pair),
        state="unknown",
        at_chance=gates(pair) and not above_chance(pair.whole),
    )
    fault = _pairing_fault(reference, candidate) or _too_few(pair, blank, policy)
    if fault or candidate is None:
        return replace(blank, note=fault), None
    differences, clusters = _paired(reference, candidate)
    interval = paired_interval(differences, clusters, confidence=confidence, unseen=_unseen(pair))
    champion = pair.champion
    known = champion is not None and not _pairing_fault(reference, champion)
    before = math.fsum(_paired(reference, champion)[0]) / reference.n if champion is not None and known else None
    return replace(
        blank,
        gain=interval.mean,
        low=interval.low,
        high=interval.high,
        p_loss=_p_loss(pair, differences, clusters, blank.margin) if blank.gates else None,
        supports=round(certifiable_loss(interval.spread, reference.n, confidence), DIGITS),
        before=None if before is None else round(before, DIGITS),
    ), interval


def gates(pair: Pair) -> bool:
    """Whether the pair decides anything, and is not only shown. What is preferred, refusing or not, is no guess: safety
    can be lost by a base that is at chance, too."""
    return is_asked(pair.whole) and (above_chance(pair.whole) or pair.whole.benchmark in SAFETY)


def height(pair: Pair, policy: Policy) -> float | None:
    """How many standard errors above −margin the candidate of a trial stands; None for what cannot be paired."""
    if _pairing_fault(pair.reference, pair.candidate) or pair.candidate is None:
        return None
    differences, clusters = _paired(pair.reference, pair.candidate)
    return standard_errors_above(-_margin(pair.whole, policy).value, differences, clusters, _unseen(pair))


def _unseen(pair: Pair) -> Unseen | None:
    """What an item that was not seen may lose and gain: few items may all have stayed by luck. Bits per byte have no bound."""
    if pair.whole.metric in RIGHT_OR_WRONG:
        return FLIP
    return unseen_share(pair.whole.value) if pair.whole.unit == "share" else None


def _p_loss(pair: Pair, differences: list[float], clusters: list[str], margin: float) -> float:
    if 0 < pair.look < LOOKS:
        scaled = [difference / pair.most for difference in differences]
        return Trial(margin=margin / pair.most, items=pair.whole.n).p_loss(scaled, clusters)
    return loss_p_value(differences, clusters, binary=pair.reference.metric in RIGHT_OR_WRONG)


def _must_gain(pair: Pair, policy: Policy) -> bool:
    return pair.against == "base" and (pair.reference.benchmark, pair.reference.metric) in policy.must_gain


def _margin(reference: Score, policy: Policy) -> Margin:
    if math.isfinite(reference.value):
        return margin_of(reference, policy)
    return Margin(value=0.0, stated=0.0, enough=0)


def _finite(value: float) -> float:
    """A number that JSON can hold: what is not finite is shown as −1 and is `unknown` anyway."""
    return value if math.isfinite(value) else -1.0


def _pairing_fault(reference: Score, candidate: Score | None) -> str:
    """Why two scores cannot be paired, or nothing. A reference without items says itself why it has none."""
    if not reference.items:
        return reference.signature or "no items"
    if candidate is None:
        return UNMEASURED
    ours, theirs = [i.item_id for i in reference.items], [i.item_id for i in candidate.items]
    if len(set(ours)) != len(ours) or len(set(theirs)) != len(theirs):
        return "an item is measured twice"
    if set(ours) != set(theirs):
        return "measured on different items"
    if _clusters(reference) < 2:
        return "all items are of one cluster"
    values = [reference.value, candidate.value, *(i.value for s in (reference, candidate) for i in s.items)]
    return "" if all(map(math.isfinite, values)) else "some values are not numbers"


def _too_few(pair: Pair, c: Comparison, policy: Policy) -> str:
    """Why no bound on the whole of these items can be trusted, or nothing. Follows from the reference alone, and is not
    asked of what is shown only, nor of what only a proven loss decides."""
    have, wanted = _clusters(pair.whole), fewest_clusters(policy.level)
    if have >= wanted or not c.gates or needs_proof(c):
        return ""
    return f"its {pair.whole.n} items are of {have} clusters, such as conversations or subtasks; at least {wanted} are needed"


def _clusters(score: Score) -> int:
    return len({item.cluster for item in score.items})


def _paired(reference: Score, candidate: Score) -> tuple[list[float], list[str]]:
    """Differences, better counted positive, and their clusters, item by item."""
    theirs = {item.item_id: item.value for item in candidate.items}
    sign = 1.0 if reference.direction == "higher" else -1.0
    return [sign * (theirs[i.item_id] - i.value) for i in reference.items], [i.cluster for i in reference.items]


def _judged(c: Comparison, interval: Interval, adjusted: float | None, pair: Pair, policy: Policy) -> Comparison:
    must_gain = _must_gain(pair, policy)
    proven = adjusted is not None and adjusted < 1 - policy.confidence
    enough = _clusters(pair.reference) >= fewest_clusters(c.confidence)
    judged = replace(c, p_loss=adjusted, state=_state(interval, c.margin, must_gain, proven, enough))
    return replace(judged, note=_note(judged, interval, pair, policy, must_gain))


def _state(interval: Interval, margin: float, must_gain: bool, proven: bool, enough: bool) -> ComparisonState:
    """What is proven. A loss is proven when it is real and past the margin; nothing else by too few clusters."""
    if enough and interval.low > 0:
        return "gain"
    if enough and not must_gain and interval.low > -margin:
        return "kept"
    return "lost" if proven and interval.mean < -margin else "undecided"


def _note(c: Comparison, interval: Interval, pair: Pair, policy: Policy, must_gain: bool) -> str:
    """At chance a benchmark is no evidence; undecided, how many items would decide; a margin that grew says so."""
    if not above_chance(pair.whole):
        return "the base is at chance here: " + ("only a proven loss counts" if c.gates else "no evidence")
    said = []
    if c.state == "undecided":
        needed = items_that_would_decide(interval, 0.0 if must_gain else c.margin, c.n)
        said.append(f"about {needed} items would decide" if needed else "more items would not help")
    margin = _margin(pair.whole, policy)
    if c.gates and not must_gain and margin.value > margin.stated:
        said.append(
            f"{pair.whole.n} {GROWN} {amount(c.margin, c)}, {margin.enough} would support {amount(margin.stated, c)}"
        )
    if 0 < pair.look < LOOKS:
        said.append(f"ended at look {pair.look} of {LOOKS}, {c.n} of {pair.whole.n} items")
    elif c.n < pair.whole.n:
        said.append(f"ended early and looked at once more, {c.n} of {pair.whole.n} items")
    return "; ".join(said)
