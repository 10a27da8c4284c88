"""Random policies and scorecards for the properties of the gate: the tests and benchmarks/gate.py draw the same."""

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from eval.policy import Policy
from storage.records import Score, Scorecard
from tests.eval.cards import BASE, CANDIDATE, score

ITEMS = 12
SHOWN = (("support", "bits_per_byte"), ("text", "bits_per_byte"), ("choice", "p_correct"), ("other", "p_correct"), ("instructions", "pass"))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A base, a candidate that is often good, the same with one item better, and a policy."""

    base: Scorecard
    candidate: Scorecard
    raised: Scorecard
    policy: Policy


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """`which` item of which score is raised, by how much; gains and losses are drawn so that every verdict occurs."""
    policy = Policy(
        margin_points=draw(st.sampled_from([4.0, 7.5, 15.0, 30.0])),
        margin_bits=draw(st.sampled_from([1.0, 2.0, 6.0])),
        pooled_points=draw(st.sampled_from([1.0, 2.5, 10.0])),
        scales=draw(st.sampled_from([1, 1, 3])),
        confidence=draw(st.sampled_from([0.8, 0.9, 0.95])),
    )
    base, candidate = list[Score](), list[Score]()
    shift = draw(st.one_of(st.floats(-0.02, 0.08), st.floats(-0.25, -0.05)))
    noise = draw(st.sampled_from([0.0, 0.01, 0.05]))
    for name, metric in SHOWN:
        if metric == "pass":
            before = draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=ITEMS, max_size=ITEMS))
            after = draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=ITEMS, max_size=ITEMS)) if noise else before
        else:
            before = draw(st.lists(st.floats(0.3, 0.9), min_size=ITEMS, max_size=ITEMS))
            wobble = draw(st.lists(st.floats(-noise, noise), min_size=ITEMS, max_size=ITEMS))
            better = -1.0 if metric == "bits_per_byte" else 1.0
            gain = shift + (0.05 if name == "support" else 0.0)
            after = [b + better * gain + w for b, w in zip(before, wobble, strict=True)]
        base.append(_score(name, metric, before))
        candidate.append(_score(name, metric, after))
    raised = list(candidate)
    at = draw(st.integers(0, len(SHOWN) - 1))
    raised[at] = _raised(candidate[at], draw(st.integers(0, ITEMS - 1)), draw(st.floats(0, 0.6)))
    card = Scorecard(base_digest=BASE, adapter_digest=None, suite_digest="s", scores=tuple(base))
    return Case(
        base=card,
        candidate=replace(card, adapter_digest=CANDIDATE, scores=tuple(candidate)),
        raised=replace(card, adapter_digest=CANDIDATE, scores=tuple(raised)),
        policy=policy,
    )


def _score(name: str, metric: str, values: list[float]) -> Score:
    made = score(name, metric, values, domain="target" if name == "support" else "general")
    return replace(made, chance=0.0 if metric == "p_correct" else None)


def _raised(one: Score, at: int, by: float) -> Score:
    """The score with one item better; a right-or-wrong item becomes right."""
    old = one.items[at]
    value = 1.0 if one.metric == "pass" else old.value + (by if one.direction == "higher" else -by)
    items = (*one.items[:at], replace(old, value=value), *one.items[at + 1 :])
    return replace(one, items=items, value=sum(i.value for i in items) / len(items))


def spoiled(card: Scorecard, at: int, how: str) -> Scorecard:
    """The card with one score unknown, in one of the ways that happen."""
    one = card.scores[at]
    rest = (*card.scores[:at], *card.scores[at + 1 :])
    if how == "missing":
        return replace(card, scores=rest)
    if how == "empty":
        return replace(card, scores=(*rest, replace(one, items=(), n=0)))
    if how == "nan":
        return replace(
            card, scores=(*rest, replace(one, items=(replace(one.items[0], value=float("nan")), *one.items[1:])))
        )
    return replace(card, scores=(*rest, replace(one, items=(replace(one.items[0], item_id="another"), *one.items[1:]))))


UNKNOWN = ("missing", "empty", "nan", "other items")
