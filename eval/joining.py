"""One score over the items of two: of two slices of a hand, or of a hand and its sealed items.

Knows scores of metrics that are means of their items.
"""

from dataclasses import replace

from eval.spread import clustered_stderr, mean
from storage.records import Score


def joined(one: Score, other: Score, *, key: str, look: int) -> Score:
    """All items of both, which have none in common: the same benchmark, metric and answerer."""
    items = (*one.items, *other.items)
    values = [item.value for item in items]
    return replace(
        one,
        key=key,
        items=items,
        n=len(items),
        value=mean(values),
        stderr=clustered_stderr(values, [item.cluster for item in items]),
        chance=_mean_chance(one, other),
        seconds=one.seconds + other.seconds,
        look=look,
    )


def _mean_chance(one: Score, other: Score) -> float | None:
    if one.chance is None or other.chance is None:
        return None
    return (one.n * one.chance + other.n * other.chance) / (one.n + other.n)
