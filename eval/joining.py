"""Scores over other items: over those of two, of two slices of a hand or of a hand and its sealed items; over a part.

Knows scores of metrics that are means of their items.
"""

from dataclasses import replace

from eval.spread import clustered_stderr, mean
from storage.records import ItemScore, Score


def over(score: Score, items: tuple[ItemScore, ...]) -> Score:
    """The score with these items, and what follows from them."""
    values, clusters = [item.value for item in items], [item.cluster for item in items]
    return replace(score, items=items, n=len(items), value=mean(values), stderr=clustered_stderr(values, clusters))


def joined(one: Score, other: Score, *, key: str, look: int) -> Score:
    """All items of both, which have none in common: the same benchmark, metric and answerer."""
    seconds, chance = one.seconds + other.seconds, _mean_chance(one, other)
    return replace(over(one, (*one.items, *other.items)), key=key, chance=chance, seconds=seconds, look=look)


def _mean_chance(one: Score, other: Score) -> float | None:
    if one.chance is None or other.chance is None:
        return None
    return (one.n * one.chance + other.n * other.chance) / (one.n + other.n)
