"""A trial that may end early: six looks at whether enough is kept, and at any time whether too much is lost.

Promises: a candidate that loses the margin is called safe at any of the looks with probability α at most, and one that
loses no more than the margin is called hopeless, however often one looks, with probability α at most. Pure: the words
follow from the differences so far. Both rules are monotone, too: a raised difference never makes the word worse.
Knows paired differences of right-or-wrong items and their clusters. Base scores are kept, so only the candidate costs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from eval.statistics import DIGITS, UNSEEN_GAIN, UNSEEN_LOSS, Floats, by_cluster, items_for, signed_root

Word = Literal["continue", "safe", "hopeless", "undecided"]
LOOKS = 6
SPENDING = 2.0
SPENT = 0.94  # of α: the bound is an approximation, and benchmarks/gate.py shows what remains
INFLATION = 1.115  # items that six looks need for the power of one: 1.083 by the boundaries, more where flips are few
BETS = (0.06, 0.12, 0.25, 0.5, 0.9)  # stakes of an item; the mean of their fortunes is the evidence
ALL_IN = 0.95  # of what would be lost for certain
GRID = 601


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A comparison of right-or-wrong items that is planned for `items` of them and tolerates a loss of `margin`.

    Its words are those of `paired_interval` with FLIP at the level of each look, and of `p_loss`, by which eval/comparing.py
    judges; from counts, so that thousands of trials can be simulated at once. A test holds the two together.
    """

    margin: float
    items: int
    confidence: float = 0.95

    @property
    def looks(self) -> tuple[int, ...]:
        """After how many items it is asked whether enough is kept."""
        return tuple(math.ceil(self.items * look / LOOKS) for look in range(1, LOOKS + 1))

    def step(self, differences: Sequence[float], clusters: Sequence[str]) -> Word:
        """What the differences so far prove. Whole clusters only; whether enough is kept is asked at a look.

        Call it after each batch and stop at the first word that is not "continue".
        """
        sums, sizes = by_cluster(np.asarray(differences, dtype=np.float64), clusters)
        weights = np.ones_like(sums)
        if self.is_hopeless(sums, sizes, weights):
            return "hopeless"
        if len(differences) not in self.looks:
            return "continue"
        look = self.looks.index(len(differences)) + 1
        if self.is_safe(sums, sizes, weights, look):
            return "safe"
        return "undecided" if look == LOOKS else "continue"

    def is_safe(self, sums: ArrayLike, sizes: ArrayLike, weights: ArrayLike, look: int) -> np.ndarray:
        """Whether more than −margin is proven at this look, (…,) from cluster sums, sizes and counts (…, K)."""
        total = np.asarray(weights, dtype=np.float64).sum(-1)
        tail = stats.norm.sf(boundaries(1 - self.confidence)[look - 1])
        return np.asarray(self.root(sums, sizes, weights) > stats.t.isf(tail, total - 1) * np.sqrt(total / (total - 1)))

    def root(self, sums: ArrayLike, sizes: ArrayLike, weights: ArrayLike) -> Floats:
        """How many standard errors the mean lies above −margin: (…,) from (…, K), the added items counted."""
        counts = np.asarray(weights, dtype=np.float64)
        size = (counts * np.asarray(sizes)).sum(-1) / counts.sum(-1)
        unseen = np.sqrt(size)[..., None] * (np.array([-1.0, 1.0]) + self.margin)
        above = np.broadcast_to(np.asarray(sums, dtype=np.float64) + self.margin * np.asarray(sizes), np.shape(weights))
        added = np.broadcast_to([UNSEEN_LOSS, UNSEEN_GAIN], unseen.shape)
        return signed_root(np.concatenate([above, unseen], -1), np.concatenate([counts, added], -1))

    def is_hopeless(self, sums: ArrayLike, sizes: ArrayLike, weights: ArrayLike) -> np.ndarray:
        """Whether a loss past the margin is proven, at whatever moment one asks: (…,) from (…, K)."""
        return np.asarray(self.evidence(sums, sizes, weights) >= math.log(1 / (1 - self.confidence)))

    def evidence(self, sums: ArrayLike, sizes: ArrayLike, weights: ArrayLike) -> Floats:
        """The natural logarithm of the e-value against "the loss is within the margin": (…,) from (…, K).

        What one unit would have become by betting on a larger loss, cluster after cluster. The stakes are fixed, so
        that the order does not matter and a raised difference never adds evidence; no bet can end below nothing.
        Source: Waudby-Smith and Ramdas 2024, Estimating Means of Bounded Random Variables by Betting; Ville 1939. We
        differ in the fixed stakes, for monotonicity.
        """
        size = np.asarray(sizes, dtype=np.float64)
        excess = (np.asarray(sums, dtype=np.float64) + self.margin * size) / size
        stakes = np.minimum(np.multiply.outer(size, BETS), ALL_IN / (1 + self.margin))
        fortunes = np.asarray(weights) @ np.log1p(-stakes * excess[..., None])
        best = fortunes.max(-1)
        return np.asarray(best + np.log(np.exp(fortunes - best[..., None]).mean(-1)))

    def p_loss(self, differences: Sequence[float], clusters: Sequence[str]) -> float:
        """How likely such evidence would ever be if no more than the margin were lost, at whatever moment one asks.

        Differences within ±1. Source: Ville 1939.
        """
        sums, sizes = by_cluster(np.asarray(differences, dtype=np.float64), clusters)
        return round(math.exp(-max(0.0, float(self.evidence(sums, sizes, np.ones_like(sums))))), DIGITS)


def planned_items(*, margin: float, discordance: float, confidence: float = 0.95, design: float = 1.0) -> int:
    """Items with which nine of ten unchanged candidates are called safe. `discordance`: the share of items that flip.

    `design`: the design effect of clusters, 1 + (size − 1) · correlation. The second term pays for the items that
    `paired_interval` adds. Source: Miller 2024, arXiv 2411.00640, section 5; the formula for one look, inflated.
    """
    one_look = items_for(math.sqrt(discordance * design), margin, confidence)
    return math.ceil(INFLATION * one_look + 2 * design / margin)


@cache
def boundaries(alpha: float) -> tuple[float, ...]:
    """How many standard errors above −margin the mean must be at each of the equally spaced looks.

    Of the risk SPENT·α, share**SPENDING is spent by each look. The density of the score among those who go on is carried from
    look to look on a grid. O'Brien and Fleming's spending asks for more at the first looks: with it an unchanged
    candidate costs 72.5 % of the items of one look instead of 68.5 %, which leaves no room for an honest risk.
    Source: Armitage, McPherson and Rowe 1969 (the recursion); Kim and DeMets 1987 (spending α·t²).
    """
    step = math.sqrt(1 / LOOKS)
    found: list[float] = []
    grid, mass = np.zeros(1), np.ones(1)
    for look in range(1, LOOKS + 1):
        risk = SPENT * alpha * ((look / LOOKS) ** SPENDING - ((look - 1) / LOOKS) ** SPENDING)

        def left(edge: float, grid: Floats = grid, mass: Floats = mass, risk: float = risk) -> float:
            return float(mass @ stats.norm.sf((edge - grid) / step)) - risk

        edge = float(optimize.brentq(left, -8, 8, xtol=1e-10))
        finer = np.linspace(-8.0, edge, GRID)
        weight = np.full(GRID, finer[1] - finer[0])
        weight[[0, -1]] /= 2
        mass = weight * (stats.norm.pdf((finer[:, None] - grid) / step) / step @ mass)
        grid = finer
        found.append(edge / math.sqrt(look / LOOKS))
    return tuple(found)
