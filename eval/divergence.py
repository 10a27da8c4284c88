"""How far a tuned model is from its base on live questions, against held-out ones: numbers over answers. Pure, seeded.

Promise: one value an answer, the mean KL(tuned ‖ base) of its tokens in nats; answers are independent of each other (one a
conversation). Knows numbers. Knows no model and no ledger.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SEED, ROUNDS, PERMUTATIONS = 20_261_127, 2_000, 9_999
RARE = 0.001  # chance alone would part live from held-out so seldom: it is asked daily for as long as a champion serves
ABOVE = 1.5  # times the held-out mean: tickets are not written like Slack, so some distance is no news
FEWEST_HELD_OUT = 8  # answers that can be compared with


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The mean over `n` answers with its 95 % interval, in nats a token."""

    mean: float
    low: float
    high: float
    n: int


def divergence(values: Sequence[float]) -> Divergence:
    """The mean of at least one value; percentile bootstrap over answers. Raises ValueError where one is not finite."""
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(
            f"divergence of {len(values)} answers, {sum(map(math.isfinite, values))} of them finite: all are needed"
        )
    found = np.array(values)
    means = found[np.random.default_rng(SEED).integers(len(found), size=(ROUNDS, len(found)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Divergence(mean=float(found.mean()), low=float(low), high=float(high), n=len(found))


def chance_above(live: Sequence[float], held_out: Sequence[float]) -> float:
    """How often chance alone would put the mean of the live answers so far above that of the held-out ones: a
    permutation test, one-sided, the answers as they are counted among the shuffles.
    """
    values = np.array([*live, *held_out])
    sides = np.repeat([1 / len(live), -1 / len(held_out)], [len(live), len(held_out)])
    shuffled = np.random.default_rng(SEED).permuted(np.tile(sides, (PERMUTATIONS, 1)), axis=1) @ values
    return float((1 + (shuffled >= sides @ values - 1e-12).sum()) / (1 + PERMUTATIONS))


def is_clear(live: Sequence[float], held_out: Sequence[float]) -> bool:
    """Whether the live answers are clearly farther from the base than the held-out ones: by much, and not by chance."""
    if len(held_out) < FEWEST_HELD_OUT or divergence(live).mean <= ABOVE * divergence(held_out).mean:
        return False
    return chance_above(live, held_out) <= RARE
