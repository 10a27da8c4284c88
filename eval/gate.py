"""The gate: may this candidate go live? A pure function from scorecards to a decision with its reasons.

Promises: it promotes only what is proven better on target and proven no worse, within the margin, on everything general,
and only after it has shown on this very suite that it lets the unchanged base pass and refuses a planted loss, and the
base measured again is what it was; the reference is always the original base, so that small losses cannot add up; unknown is not zero: a missing benchmark, a NaN, an empty suite, a champion that could not
be measured or too few clusters never promote. Raising a candidate's score never turns PROMOTE into anything else.
Knows scores. Does not know where they come from, nor how a champion is switched.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from eval.comparing import GROWN, UNMEASURED, compare_all
from eval.policy import Policy, above_chance, is_overspent, needs_proof, policy_from
from eval.selftest import planted, unchanged, unlike
from eval.wording import amount, figure, in_words, score_name
from storage.digests import short
from storage.records import Comparison, Decision, Scorecard, Verdict
from storage.scores import evidence_of

RULE = 5  # grows when equal scores would get another verdict
__all__ = ["Policy", "above_chance", "amount", "decide", "figure", "in_words", "judge", "policy_from"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The rule's outcome for one candidate, before the rule itself is tested."""

    verdict: Verdict
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]


def decide(
    *,
    base: Scorecard,
    champion: Scorecard | None,
    candidate: Scorecard,
    policy: Policy,
    again: Scorecard | None = None,
) -> Decision:
    """PROMOTE, REFUSE (something is proven lost) or HOLD (unproven or unknown), with a reason for each.

    `again`: the base measured once more beside the candidate; None: it was not (so in decisions of older releases).
    Equal inputs give equal decisions, byte for byte as JSON: eval/replay.py makes them again from the ledger.
    """
    found = judge(base, champion, candidate, policy)
    verdict, reasons = found.verdict, found.reasons
    if verdict == "PROMOTE" and (blind := self_test(base, policy, again)):
        verdict, reasons = "HOLD", blind
    cards = {"base": base, "champion": champion, "candidate": candidate, "again": again}
    return Decision(
        verdict=verdict,
        reasons=reasons,
        comparisons=found.comparisons,
        base_digest=base.base_digest,
        champion_digest=champion.adapter_digest if champion else None,
        candidate_digest=candidate.adapter_digest or "",
        policy=policy_body(policy) | {"suite_digest": base.suite_digest},
        evidence={subject: evidence_of(card) for subject, card in cards.items() if card is not None},
    )


def decide_on(cards: Mapping[Any, Scorecard], policy: Policy) -> Decision:
    """The decision on a run's cards by their subjects. Raises KeyError without a base or a candidate."""
    return decide(
        base=cards["base"], champion=cards.get("champion"), candidate=cards["candidate"], policy=policy,
        again=cards.get("again"))  # fmt: skip


def weaker_may_pass(decision: Decision) -> bool:
    """Whether a weaker copy of the candidate could be promoted where it was not: something general was lost or is undecided,
    and the target is not what it failed on."""
    must_gain = {(benchmark, metric) for benchmark, metric in decision.policy["must_gain"]}
    gating = [c for c in decision.comparisons if c.gates]
    missed = any((c.benchmark, c.metric) in must_gain and _failed(c) for c in gating)
    over = any(c.domain == "general" and (c.state in ("lost", "undecided") or -c.gain > c.margin) for c in gating)
    return decision.verdict != "PROMOTE" and over and not missed


def _failed(c: Comparison) -> bool:
    """Whether a target is not what it must be: better than the base, no worse than the champion. One that a suite which
    ended early never came to did not fail."""
    wanted = ("gain",) if c.against == "base" else ("gain", "kept")
    return c.state not in wanted and c.note != UNMEASURED


def policy_body(policy: Policy) -> dict[str, Any]:
    """The policy as JSON holds it."""
    return asdict(policy) | {"must_gain": [list(pair) for pair in policy.must_gain]}


def policy_of(body: dict[str, Any]) -> Policy:
    """The policy that a decision kept. Raises TypeError for one of another version."""
    fields = {name: value for name, value in body.items() if name != "suite_digest"}
    return Policy(**{**fields, "must_gain": tuple((b, m) for b, m in fields["must_gain"])})


def judge(base: Scorecard, champion: Scorecard | None, candidate: Scorecard, policy: Policy) -> Judgement:
    """The rule without its self-test."""
    comparisons = compare_all(base, champion, candidate, policy)
    faults = tuple(_faults(base, champion, candidate, comparisons, policy))
    verdict, reasons = _verdict(faults, comparisons, policy)
    return Judgement(verdict=verdict, reasons=reasons, comparisons=comparisons)


def self_test(base: Scorecard, policy: Policy, again: Scorecard | None = None) -> tuple[str, ...]:
    """Why these scores cannot be trusted to judge, or nothing.

    The base against itself must be certified on everything general, a copy of it that loses twice each margin must be
    refused, and what was measured again must be what it was. Depends on the base alone, so that no candidate is held for
    another's noise.
    """
    same = judge(base, None, unchanged(base), policy).comparisons
    uncertain = [c for c in same if _certifies(c) and c.state not in ("kept", "gain")]
    faults = [f"self-test: the unchanged base is not certified on {in_words(c)}" for c in uncertain]
    if judge(base, None, planted(base, policy), policy).verdict != "REFUSE":
        faults.append("self-test: a planted loss of twice every margin was not refused; more items are needed")
    if again is not None:
        faults += unlike(base, again, policy)
    return tuple(faults)


def _certifies(c: Comparison) -> bool:
    return c.gates and c.domain == "general" and not needs_proof(c)


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
    if len({card.template_digest for card in cards}) != 1:
        yield "the scores are of different chat templates"
    if champion is not None and champion.adapter_digest == candidate.adapter_digest:
        yield f"the candidate is the champion ({short(candidate.adapter_digest)})"
    measured = {(c.benchmark, c.metric) for c in comparisons}
    yield from (f"{b} ({m}) was not measured" for b, m in policy.must_gain if (b, m) not in measured)
    if not any(c.domain == "general" and c.gates for c in comparisons):
        yield "no general benchmark can be judged"


def _verdict(
    faults: tuple[str, ...], comparisons: tuple[Comparison, ...], policy: Policy
) -> tuple[Verdict, tuple[str, ...]]:
    """What is proven lost refuses, whatever else is unknown; a comparison that is worthless proves nothing."""
    gating = [c for c in comparisons if c.gates]
    lost, unknown = (tuple(in_words(c) for c in gating if c.state == state) for state in ("lost", "unknown"))
    if faults:
        return "HOLD", (*faults, *unknown, *lost)
    if lost:
        return "REFUSE", (*lost, *_named([c for c in gating if c.state == "unknown"]))
    undecided = tuple(in_words(c) for c in gating if c.state == "undecided" and not needs_proof(c))
    if unknown or undecided:
        return "HOLD", (*unknown, *undecided)
    if broken := tuple(_over_budget(gating)):
        return "HOLD", broken
    gained = [in_words(c) for c in gating if (c.benchmark, c.metric) in policy.must_gain]
    kept = sum(c.domain == "general" and c.state in ("gain", "kept") for c in gating)
    unproven = [in_words(c) for c in gating if c.state == "undecided"]
    return "PROMOTE", (*gained, f"{kept} general scores stay within their margins", *_widened(gating), *unproven)


def _widened(gating: list[Comparison]) -> Iterator[str]:
    """Which margins grew for lack of items, in one sentence; each comparison's note has the numbers."""
    grown = [c for c in gating if c.state in ("kept", "gain") and GROWN in c.note]
    names = [f"{c.benchmark.replace('_', ' ')} {amount(c.margin, c)}" for c in grown]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    if names:
        yield f"margins that are wider than stated, since the items are few: {', '.join(names[:3])}{more}"


def _named(unknown: list[Comparison]) -> Iterator[str]:
    """What a refusal was made without, in one sentence."""
    names = [score_name(c.benchmark, c.metric) for c in unknown]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    if names:
        yield f"not measured: {', '.join(names[:3])}{more}"


def _over_budget(gating: list[Comparison]) -> Iterator[str]:
    """The forgetting budget: whatever was lost in which promotion, all of it together stays within the margin.

    Where a margin is certified this holds anyway; where a proven loss is needed to refuse, the estimate has to do.
    """
    yield from (f"the forgetting budget is overspent: {in_words(c)}" for c in gating if is_overspent(c))
