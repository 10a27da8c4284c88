"""Choices that can be asked in rounds, for tests: whose numbers a test chooses, and cards as they stand at a look."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from eval.benchmark import Benchmark, Measure, Measured
from eval.sequential import LOOKS
from eval.slices import slices
from eval.spread import clustered_stderr
from storage.records import ItemScore, Score, Scorecard
from tests.eval.cards import BASE, noisy, score

ITEMS = 60


def sure(seed: int, n: int = ITEMS) -> list[float]:
    """How likely the base finds the right choice of each item."""
    draw = random.Random(seed)
    return [draw.uniform(0.3, 0.9) for _ in range(n)]


def moved(values: Sequence[float], by: float, noise: float, seed: int) -> list[float]:
    """The same of an adapter that changes them by so much, give or take."""
    draw = random.Random(seed)
    return [min(1.0, max(0.0, value + by + draw.gauss(0, noise))) for value in values]


def choices(
    name: str, before: Sequence[float], after: Sequence[float], asked: list[tuple[str, int]], *, cost: int = 60
) -> Benchmark:
    """A benchmark of `before` for the base and `after` for any adapter; `asked` is told what was measured, in items."""

    def of(places: Sequence[int]) -> Measure:
        def measure(answerer: Any, tell: Any) -> list[Measured]:
            asked.append((name, len(places)))
            tell(1, 1)
            values = after if answerer.adapter else before
            items = tuple(ItemScore(item_id=f"i{at}", cluster=f"i{at}", value=values[at]) for at in places)
            return [Measured(benchmark=name, metric="p_correct", items=items, chance=0.25)]

        return measure

    cut = slices(name, [f"i{at}" for at in range(len(before))])
    rounds = tuple(of([at for at, number in enumerate(cut) if number == look]) for look in range(LOOKS))
    return Benchmark(
        name=name, domain="general", expects=((name, "p_correct"),), digest=name, cost=cost, measure=of(range(len(before))),
        rounds=rounds)  # fmt: skip


def shares(adapter: str | None, values: dict[str, Sequence[float]]) -> Scorecard:
    """A card of the probability of the right choice on these benchmarks, each item for itself."""
    scores = tuple(_share(adapter, name, numbers) for name, numbers in values.items())
    return Scorecard(base_digest=BASE, adapter_digest=adapter, suite_digest="s", scores=scores)


def _share(adapter: str | None, name: str, values: Sequence[float]) -> Score:
    items = tuple(ItemScore(item_id=f"i{at}", cluster=f"i{at}", value=value) for at, value in enumerate(values))
    whole = Score(
        key=f"{adapter}/{name}", benchmark=name, metric="p_correct", domain="general", direction="higher", unit="share",
        value=0.0, stderr=0.0, n=0, items=(), chance=0.25)  # fmt: skip
    return _with_items(whole, items)


def with_support(card: Scorecard, mean: float) -> Scorecard:
    """The card with a target that everybody measures whole."""
    return replace(card, scores=(score("support", "bits_per_byte", noisy(mean, 0.1, 1), domain="target"), *card.scores))


def at_look(card: Scorecard, look: int) -> Scorecard:
    """The card with each share as it stood at this look."""
    return replace(card, scores=tuple(_at(s, look) if s.unit == "share" else s for s in card.scores))


def _at(score: Score, look: int) -> Score:
    cut = slices(score.benchmark, [item.cluster for item in score.items])
    items = tuple(item for item, number in zip(score.items, cut, strict=True) if number < look)
    return replace(_with_items(score, items), look=look, key=f"{score.key}@{look}")


def _with_items(score: Score, items: tuple[ItemScore, ...]) -> Score:
    values = [item.value for item in items]
    stderr = clustered_stderr(values, [item.cluster for item in items])
    return replace(score, items=items, n=len(items), value=sum(values) / len(values), stderr=stderr)
