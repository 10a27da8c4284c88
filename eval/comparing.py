"""Two scorecards, compared score by score: paired per item, clustered, with what each difference proves.

Promise: what cannot be paired is unknown, with its reason, and never zero. A loss is proven when it is real after Holm's
correction over all gating scores, and past its margin. Knows scores and a policy; the verdict is eval/gate.py's.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from eval.policy import ADVISORY, GENERAL, POOLED, PROVEN_ONLY, RIGHT_OR_WRONG, Margin, Policy, above_chance, margin_of
from eval.statistics import (
    Interval,
    certifiable_loss,
    holm,
    items_that_would_decide,
    loss_p_value,
    paired_interval,
)
from eval.wording import amount
from storage.digests import digest_of
from storage.records import Comparison, ComparisonState, ItemScore, Score, Scorecard


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One score of a reference beside the candidate's, and the champion's where there is one."""

    reference: Score
    candidate: Score | None
    champion: Score | None = None
    against: str = "base"


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


def pairs_of(base: Scorecard, champion: Scorecard | None, candidate: Scorecard) -> Iterator[Pair]:
    theirs, serving = _with_wholes(candidate, base), _with_wholes(champion, base) if champion else None
    for score in _with_wholes(base, base).scores:
        before = serving.get(score.benchmark, score.metric) if serving else None
        yield Pair(reference=score, candidate=theirs.get(score.benchmark, score.metric), champion=before)
    for score in champion.scores if champion else ():
        if score.domain == "target":
            yield Pair(reference=score, candidate=candidate.get(score.benchmark, score.metric), against="champion")


def _with_wholes(card: Scorecard, base: Scorecard) -> Scorecard:
    return replace(card, scores=(*pool(card, base), *wholes(card.scores), *card.scores))


def pool(card: Scorecard, base: Scorecard) -> Iterator[Score]:
    """All general shares as one score in which every benchmark weighs the same: many items prove what few cannot.

    Left out: what is shown only, at chance for the base, or right or wrong in generated text. Nothing where fewer than two
    benchmarks are left, or where the card lacks one of them.
    """
    asked = [
        s
        for s in base.scores
        if s.domain == "general" and s.unit == "share" and s.metric not in ADVISORY | PROVEN_ONLY and above_chance(s)
    ]
    scores = [card.get(s.benchmark, s.metric) for s in asked]
    parts = [s for s in scores if s is not None and s.items]
    if len(parts) < 2 or len(parts) < len(asked):
        return
    families = {_family(part): 0 for part in parts}
    for part in parts:
        families[_family(part)] += part.n
    total = sum(families.values())
    weights = [total / (len(families) * families[_family(part)]) for part in parts]
    values = [weight * item.value for part, weight in zip(parts, weights, strict=True) for item in part.items]
    items = tuple(replace(item, value=v) for item, v in zip(_renamed(parts), values, strict=True))
    yield replace(
        parts[0],
        key=digest_of([part.key for part in parts]),
        benchmark=GENERAL,
        metric=POOLED,
        value=math.fsum(values) / total,
        stderr=math.sqrt(sum((w * p.n * p.stderr) ** 2 for p, w in zip(parts, weights, strict=True))) / total,
        n=total,
        items=items,
        chance=None,
    )


def _family(score: Score) -> str:
    return score.benchmark.partition(".")[0]


def _renamed(parts: Iterable[Score]) -> Iterator[ItemScore]:
    """The items of several scores under names that cannot meet."""
    for part in parts:
        for item in part.items:
            name, cluster = f"{part.benchmark}/{item.item_id}", f"{part.benchmark}/{item.cluster}"
            yield ItemScore(item_id=name, cluster=cluster, value=item.value)


def wholes(scores: tuple[Score, ...]) -> Iterator[Score]:
    """One score over all items of each benchmark that is measured in parts."""
    families: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        if "." in score.benchmark and score.metric not in ADVISORY:
            families.setdefault((_family(score), score.metric), []).append(score)
    for (family, _), parts in families.items():
        if len(parts) > 1:
            n = sum(p.n for p in parts)
            value, variance = (sum(p.n * p.value for p in parts) / n, sum((p.n * p.stderr) ** 2 for p in parts) / n**2)
            yield replace(
                parts[0],
                key=digest_of([p.key for p in parts]),
                benchmark=family,
                value=value,
                stderr=math.sqrt(variance),
                n=n,
                items=tuple(_renamed(parts)),
            )


def _measured(pair: Pair, policy: Policy) -> tuple[Comparison, Interval | None]:
    """The comparison with its figures and, where it can gate, the raw p-value of a loss; without an interval: unknown."""
    reference, candidate = pair.reference, pair.candidate
    gates = reference.metric not in ADVISORY and above_chance(reference)
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
        margin=0.0 if _must_gain(pair, policy) else _margin(reference, policy).value,
        n=reference.n,
        unit=reference.unit,
        confidence=policy.level,
        gates=gates,
        state="unknown",
    )
    fault = _pairing_fault(reference, candidate)
    if fault or candidate is None:
        return replace(blank, note=fault), None
    differences, clusters = _paired(reference, candidate)
    binary = reference.metric in RIGHT_OR_WRONG
    interval = paired_interval(differences, clusters, confidence=policy.level, binary=binary)
    champion = pair.champion
    known = champion is not None and not _pairing_fault(reference, champion)
    before = math.fsum(_paired(reference, champion)[0]) / reference.n if champion is not None and known else None
    return replace(
        blank,
        gain=interval.mean,
        low=interval.low,
        high=interval.high,
        p_loss=loss_p_value(differences, clusters, binary=binary) if gates else None,
        supports=round(certifiable_loss(interval.spread, reference.n, policy.level), 9),
        before=None if before is None else round(before, 9),
    ), interval


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
    """Why two scores cannot be paired, or nothing."""
    if candidate is None:
        return "not measured on the candidate"
    if not reference.items:
        return "no items"
    ours, theirs = [i.item_id for i in reference.items], [i.item_id for i in candidate.items]
    if len(set(ours)) != len(ours) or len(set(theirs)) != len(theirs):
        return "an item is measured twice"
    if set(ours) != set(theirs):
        return "measured on different items"
    if len({i.cluster for i in reference.items}) < 2:
        return "all items are of one cluster"
    values = [reference.value, candidate.value, *(i.value for s in (reference, candidate) for i in s.items)]
    return "" if all(map(math.isfinite, values)) else "some values are not numbers"


def _paired(reference: Score, candidate: Score) -> tuple[list[float], list[str]]:
    """Differences, better counted positive, and their clusters, item by item."""
    theirs = {item.item_id: item.value for item in candidate.items}
    sign = 1.0 if reference.direction == "higher" else -1.0
    return [sign * (theirs[i.item_id] - i.value) for i in reference.items], [i.cluster for i in reference.items]


def _judged(c: Comparison, interval: Interval, adjusted: float | None, pair: Pair, policy: Policy) -> Comparison:
    must_gain = _must_gain(pair, policy)
    proven = adjusted is not None and adjusted < 1 - policy.confidence
    judged = replace(c, p_loss=adjusted, state=_state(interval, c.margin, must_gain, proven))
    return replace(judged, note=_note(judged, interval, pair, policy, must_gain))


def _state(interval: Interval, margin: float, must_gain: bool, proven: bool) -> ComparisonState:
    """What is proven. A loss is proven when it is real and past the margin."""
    if interval.low > 0:
        return "gain"
    if not must_gain and interval.low > -margin:
        return "kept"
    return "lost" if proven and interval.mean < -margin else "undecided"


def _note(c: Comparison, interval: Interval, pair: Pair, policy: Policy, must_gain: bool) -> str:
    """At chance a benchmark is no evidence; undecided, how many items would decide; a margin that grew says so."""
    if not above_chance(pair.reference):
        return "the base is at chance here: no evidence"
    said = []
    if c.state == "undecided":
        needed = items_that_would_decide(interval, 0.0 if must_gain else c.margin, c.n)
        said.append(f"about {needed} items would decide" if needed else "more items would not help")
    margin = _margin(pair.reference, policy)
    if c.gates and not must_gain and margin.value > margin.stated:
        said.append(
            f"{c.n} items support no margin under {amount(c.margin, c)}, {margin.enough} would support "
            f"{amount(margin.stated, c)}"
        )
    return "; ".join(said)
