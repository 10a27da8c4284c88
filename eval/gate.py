"""The gate: may this candidate go live? A pure function from scorecards to a decision with its reasons.

Promises: it promotes only what is proven better on target and proven no worse, within the margin, on everything general;
the reference is always the original base, so that small losses cannot add up; unknown is not zero: a missing
benchmark, a NaN or an empty suite is a HOLD with its reason. Raising a candidate's score never turns PROMOTE into HOLD.
Knows scores. Does not know where they come from, nor how a champion is switched.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from eval.statistics import Interval, items_that_would_decide, paired_interval
from storage.digests import digest_of, short
from storage.records import Comparison, ComparisonState, Decision, Score, Scorecard, Verdict
from storage.settings import Settings

ADVISORY = frozenset({"acc", "acc_norm", "bleu", "chrf", "f1", "macro_f1", "topic_acc"})
RIGHT_OR_WRONG = frozenset({"acc", "acc_norm", "pass", "topic_acc"})
GENERATED = frozenset({"pass", "rouge_l"})
PROVEN_ONLY = frozenset({"pass"})
CHANCE_SLACK = 0.02
Z = 1.645


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the gate tolerates. `margin_points` in per cent points of a share, `margin_bits` in per cent of the base's
    bits per byte. Two kinds of scores are noisier and have a wider margin: text that is generated in full
    (`generated_factor`), and the parts of a benchmark ("open_text.news"), whose whole ("open_text") is held to the plain
    margin (`part_factor`). `confidence` is one-sided. Instructions followed (`pass`) are right or wrong and few: they
    refuse when a loss is proven, but need not be certified, for which bits per byte of instruction answers stands.
    """

    margin_points: float = 7.5
    margin_bits: float = 2.0
    generated_factor: float = 2.0
    part_factor: float = 2.0
    confidence: float = 0.95
    must_gain: tuple[tuple[str, str], ...] = (("support", "bits_per_byte"),)


def policy_from(settings: Settings) -> Policy:
    return Policy(margin_points=settings.margin_points, margin_bits=settings.margin_bits)


def decide(*, base: Scorecard, champion: Scorecard | None, candidate: Scorecard, policy: Policy) -> Decision:
    """PROMOTE, REFUSE (something is proven lost) or HOLD (unproven or unknown), with a reason for each."""
    comparisons = tuple(_compare_all(base, champion, candidate, policy))
    faults = tuple(_faults(base, champion, candidate, comparisons, policy))
    verdict, reasons = _verdict(faults, comparisons, policy)
    return Decision(
        verdict=verdict,
        reasons=reasons,
        comparisons=comparisons,
        base_digest=base.base_digest,
        champion_digest=champion.adapter_digest if champion else None,
        candidate_digest=candidate.adapter_digest or "",
        policy=asdict(policy)
        | {"must_gain": [list(pair) for pair in policy.must_gain], "suite_digest": base.suite_digest},
    )


def _compare_all(
    base: Scorecard, champion: Scorecard | None, candidate: Scorecard, policy: Policy
) -> Iterator[Comparison]:
    """Every base score against the candidate's; then the target against the champion, which must not be lost again."""
    theirs = replace(candidate, scores=(*wholes(candidate.scores), *candidate.scores))
    for score in (*wholes(base.scores), *base.scores):
        yield compare(score, theirs.get(score.benchmark, score.metric), against="base", policy=policy)
    if champion is not None:
        for score in champion.scores:
            if score.domain == "target":
                yield compare(score, candidate.get(score.benchmark, score.metric), against="champion", policy=policy)


def wholes(scores: tuple[Score, ...]) -> Iterator[Score]:
    """One score over all items of each benchmark that is measured in parts: many items prove what few cannot."""
    families: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        family, dot, _ = score.benchmark.partition(".")
        if dot and score.metric not in ADVISORY:
            families.setdefault((family, score.metric), []).append(score)
    for (family, _), parts in families.items():
        if len(parts) > 1:
            items = tuple(
                replace(i, item_id=f"{p.benchmark}/{i.item_id}", cluster=f"{p.benchmark}/{i.cluster}")
                for p in parts
                for i in p.items
            )
            n = sum(p.n for p in parts)
            value, variance = (sum(p.n * p.value for p in parts) / n, sum((p.n * p.stderr) ** 2 for p in parts) / n**2)
            yield replace(
                parts[0],
                key=digest_of([p.key for p in parts]),
                benchmark=family,
                value=value,
                stderr=math.sqrt(variance),
                n=n,
                items=items,
            )


def compare(reference: Score, candidate: Score | None, *, against: str, policy: Policy) -> Comparison:
    """One benchmark, paired per item, as a record that says what is proven against its margin."""
    must_gain = against == "base" and (reference.benchmark, reference.metric) in policy.must_gain
    margin = 0.0 if must_gain else margin_of(reference, policy)
    blank = Comparison(
        benchmark=reference.benchmark,
        metric=reference.metric,
        domain=reference.domain,
        against=against,
        reference=_finite(reference.value),
        candidate=_finite(candidate.value if candidate else math.nan),
        gain=0.0,
        low=0.0,
        high=0.0,
        margin=margin,
        n=reference.n,
        unit=reference.unit,
        confidence=policy.confidence,
        gates=reference.metric not in ADVISORY,
        state="unknown",
    )
    fault = _pairing_fault(reference, candidate)
    if fault or candidate is None:
        return replace(blank, note=fault)
    interval = _interval(reference, candidate, policy.confidence)
    compared = replace(
        blank, gain=interval.mean, low=interval.low, high=interval.high, state=_state(interval, margin, must_gain)
    )
    return _with_note(compared, reference, interval, must_gain)


def margin_of(score: Score, policy: Policy) -> float:
    """The tolerated loss in the score's own unit."""
    factor = (
        policy.generated_factor if score.metric in GENERATED else policy.part_factor if "." in score.benchmark else 1.0
    )
    plain = policy.margin_bits * score.value if score.metric == "bits_per_byte" else policy.margin_points
    return factor * plain / 100


def _finite(value: float) -> float:
    """A number that JSON can hold: what is not finite is shown as −1 and is `unknown` anyway."""
    return value if math.isfinite(value) else -1.0


def _pairing_fault(reference: Score, candidate: Score | None) -> str:
    """Why two scores cannot be paired, or nothing."""
    if candidate is None:
        return "not measured on the candidate"
    if not reference.items:
        return "no items"
    if {i.item_id for i in reference.items} != {i.item_id for i in candidate.items}:
        return "measured on different items"
    values = [reference.value, candidate.value, *(i.value for s in (reference, candidate) for i in s.items)]
    return "" if all(map(math.isfinite, values)) else "some values are not numbers"


def _interval(reference: Score, candidate: Score, confidence: float) -> Interval:
    theirs = {item.item_id: item.value for item in candidate.items}
    sign = 1.0 if reference.direction == "higher" else -1.0
    differences = [sign * (theirs[item.item_id] - item.value) for item in reference.items]
    clusters = [item.cluster for item in reference.items]
    return paired_interval(differences, clusters, confidence=confidence, binary=reference.metric in RIGHT_OR_WRONG)


def _state(interval: Interval, margin: float, must_gain: bool) -> ComparisonState:
    """What the interval proves. A loss is proven when it is real (the upper bound is below 0) and past the margin."""
    if interval.low > 0:
        return "gain"
    if not must_gain and interval.low > -margin:
        return "kept"
    if interval.high < 0 and interval.mean < -margin:
        return "lost"
    return "undecided"


def _with_note(compared: Comparison, reference: Score, interval: Interval, must_gain: bool) -> Comparison:
    """At chance a benchmark is no evidence; undecided, it says how many items would decide."""
    if reference.chance is not None and not above_chance(reference):
        return replace(compared, gates=False, note="the base is at chance here: no evidence")
    if compared.state == "undecided":
        needed = items_that_would_decide(interval, 0.0 if must_gain else compared.margin, compared.n)
        return replace(compared, note=f"about {needed} items would decide" if needed else "more items would not help")
    return compared


def above_chance(score: Score) -> bool:
    """Whether the lower 95 % bound of the base's score is above what guessing gives."""
    return score.chance is None or score.value - Z * score.stderr > score.chance + CHANCE_SLACK


def _faults(
    base: Scorecard,
    champion: Scorecard | None,
    candidate: Scorecard,
    comparisons: tuple[Comparison, ...],
    policy: Policy,
) -> Iterator[str]:
    """What makes the comparison itself worthless."""
    cards = [card for card in (base, champion, candidate) if card is not None]
    if base.adapter_digest is not None:
        yield "the reference is not the base alone"
    if candidate.adapter_digest is None:
        yield "the candidate has no adapter"
    if len({card.base_digest for card in cards}) != 1:
        yield "the scores are of different base models"
    if len({card.suite_digest for card in cards}) != 1:
        yield "the scores are of different suites"
    if champion is not None and champion.adapter_digest == candidate.adapter_digest:
        yield f"the candidate is the champion ({short(candidate.adapter_digest)})"
    measured = {(c.benchmark, c.metric) for c in comparisons}
    yield from (f"{b} ({m}) was not measured" for b, m in policy.must_gain if (b, m) not in measured)
    if not any(c.domain == "general" and c.gates for c in comparisons):
        yield "no general benchmark can be judged"


def _verdict(
    faults: tuple[str, ...], comparisons: tuple[Comparison, ...], policy: Policy
) -> tuple[Verdict, tuple[str, ...]]:
    gating = [c for c in comparisons if c.gates]
    lost = [in_words(c) for c in gating if c.state == "lost"]
    unknown = [in_words(c) for c in gating if c.state == "unknown"]
    undecided = [in_words(c) for c in gating if c.state == "undecided" and c.metric not in PROVEN_ONLY]
    if faults or unknown:
        return "HOLD", (*faults, *unknown, *lost)
    if lost:
        return "REFUSE", tuple(lost)
    if undecided:
        return "HOLD", tuple(undecided)
    gained = [in_words(c) for c in gating if (c.benchmark, c.metric) in policy.must_gain]
    kept = sum(c.domain == "general" and c.state in ("gain", "kept") for c in gating)
    unproven = [in_words(c) for c in gating if c.state == "undecided"]
    return "PROMOTE", (*gained, f"{kept} general scores stay within their margins", *unproven)


def in_words(c: Comparison) -> str:
    """One comparison as a sentence for people."""
    name = f"{c.benchmark.replace('_', ' ')} ({c.metric.replace('_', ' ')})" + (
        " against the champion" if c.against == "champion" else ""
    )
    if c.state == "unknown":
        return f"{name}: unknown, {c.note}"
    move = f"{name}: {figure(c.reference, c)} → {figure(c.candidate, c)}"
    if c.state == "gain":
        return f"{move}, better by at least {amount(c.low, c)}"
    if c.state == "lost":
        return f"{move}, worse by {amount(-c.gain, c)}; tolerated is {amount(c.margin, c)}"
    if c.state == "undecided":
        wanted = "a gain" if c.margin == 0 else f"a loss under {amount(c.margin, c)}"
        return f"{move}: {wanted} is not proven (n={c.n}, {c.note})"
    return f"{move}, within {amount(c.margin, c)}"


def figure(value: float, c: Comparison) -> str:
    return f"{100 * value:.1f} %" if c.unit == "share" else f"{value:.3f}"


def amount(value: float, c: Comparison) -> str:
    if c.unit == "share":
        return f"{100 * value:.1f} points"
    return f"{100 * value / c.reference:.1f} %" if c.reference else f"{value:.3f}"
