"""The statistics of the gate: paired differences, how sure they are, and whether a loss is proven.

Promise: everything here is monotone. Raising one difference never lowers a bound and never makes a loss look better
proven, which neither t intervals nor adaptive bets promise. Knows numbers and clusters, not benchmarks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]
SIGN_FLIPS = 9_999
SEED = 20_261_126
POWER = 0.9  # of an unchanged candidate to be certified, wherever items are planned
FARTHEST = 8.0  # standard errors that are told apart
STEPS = 40  # at most, of Newton's method kept in a bracket
UNSEEN_LOSS, UNSEEN_GAIN = 1.0, 0.5  # items that are added as seen lost and gained
Unseen = tuple[float, float]  # what such an item loses, and gains
FLIP: Unseen = (1.0, 1.0)  # of right or wrong
DIGITS = 9  # another processor may sum in another order: what is kept is rounded, so that a replay gives the same bytes


def unseen_share(mean: float) -> Unseen:
    """Of shares that are `mean` on average: between what an average item holds and a whole one, their geometric mean.

    Found by simulation: with an average item, hands of 60 that lost their margin by one item in eight lost whole are called
    kept too often (6 %); with a whole one, too few unchanged candidates pass. Here nine of ten pass, as planned.
    """
    return math.sqrt(min(max(mean, 0.0), 1.0)), math.sqrt(min(max(1 - mean, 0.0), 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with one-sided bounds: the truth is above `low`, and below `high`, each at the asked confidence.

    `spread`: the standard deviation of one independent item's difference that would give the same standard error.
    """

    mean: float
    low: float
    high: float
    spread: float


def paired_interval(
    differences: Sequence[float], clusters: Sequence[str], *, confidence: float, unseen: Unseen | None = None
) -> Interval:
    """Bounds of the mean of paired differences by the tilting likelihood ratio of whole clusters.

    `differences` (n,), candidate minus reference with better counted positive; `clusters` (n,) names what is not
    independent. A mean is outside the interval when the seen clusters must be reweighted farther than chance would to
    have it. `unseen`, FLIP where items are right or wrong: one lost and half a gained item of this size are added, since
    no flip among n items does not prove that there are none; without any flip the bound is about the rule of three, 3/n.
    Raises ValueError for an empty or non-finite input and for one single cluster: unknown is not zero.
    Source: Duchi, Glynn and Namkoong 2021, Statistics of Robust Optimization (one-sided bounds from a divergence ball,
    here Kullback and Leibler's as in Efron 1981); Miller 2024, arXiv 2411.00640 (paired, clustered); Student's quantile
    for few clusters as in Hesterberg 2015; Chen, Variyath and Abraham 2008 (added observations).
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError("no differences, or some are not finite")
    sums, sizes = by_cluster(values, clusters)
    if len(sums) < 2:
        raise ValueError("one single cluster says nothing about the spread between clusters")
    mean, wanted = float(sums.sum() / sizes.sum()), threshold(confidence, len(sums))
    low = mean - _reach(sums - mean * sizes, sizes, wanted, unseen, mean)
    high = mean + _reach(mean * sizes - sums, sizes, wanted, unseen and (unseen[1], unseen[0]), -mean)
    spread = math.sqrt(len(sums) / (len(sums) - 1) * float(np.square(sums - mean * sizes).sum()) / sizes.sum())
    return Interval(mean=_kept(mean), low=_kept(low), high=_kept(high), spread=_kept(spread))


def _kept(value: float) -> float:
    return round(value, DIGITS) + 0.0  # + 0.0: no minus zero


def by_cluster(values: Floats, clusters: Sequence[str]) -> tuple[Floats, Floats]:
    """Sum and size of each cluster, (C,) each."""
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(index, weights=values, minlength=len(names)).astype(np.float64)
    return sums, np.bincount(index, minlength=len(names)).astype(np.float64)


def threshold(confidence: float, clusters: int) -> float:
    """How large a signed root must be: Student's quantile, wider where clusters are few."""
    return float(stats.t.ppf(confidence, clusters - 1)) * math.sqrt(clusters / (clusters - 1))


def fewest_clusters(confidence: float) -> int:
    """Below so many clusters no bound is as sure as `confidence`: 5 at 95 %.

    All of C clusters lie on one side of the truth once in 2**C, though their spread is small, and no bound without added
    items lies beyond the farthest of them. Measured at an effect of zero: a gain is found 24 times in 100 with 2 clusters,
    12 with 3, 6 with 4.
    """
    return math.ceil(round(-math.log2(1 - confidence), DIGITS))


def _reach(centred: Floats, sizes: Floats, wanted: float, unseen: Unseen | None, mean: float) -> float:
    """How far below the mean the bound lies. `centred` (C,): cluster sums less what the mean gives them."""
    values, all_sizes, weights = _with_unseen(centred, sizes, unseen, mean)
    farthest = float(np.max(-values / all_sizes))
    if farthest <= 0:
        return 0.0

    def short(by: float) -> float:
        return float(signed_root(values + by * all_sizes, weights)) - wanted

    if short(farthest) <= 0:  # as far as the worst cluster, and chance would still do that
        return farthest
    nearest = min(0.0, -float((weights * values).sum() / (weights * all_sizes).sum()))
    return float(optimize.brentq(short, nearest, farthest, xtol=1e-12, rtol=1e-12))


def _with_unseen(centred: Floats, sizes: Floats, unseen: Unseen | None, centre: float) -> tuple[Floats, Floats, Floats]:
    """Values, sizes and weights of the clusters and of the added items, each as large as a cluster that moves together a
    little. `centred` (C,): cluster sums less what `centre` gives them."""
    if unseen is None:
        return centred, sizes, np.ones_like(sizes)
    size, (loss, gain) = math.sqrt(float(sizes.mean())), unseen
    return (
        np.concatenate([centred, [-size * (loss + centre), size * (gain - centre)]]),
        np.concatenate([sizes, [size, size]]),
        np.concatenate([np.ones_like(sizes), [UNSEEN_LOSS, UNSEEN_GAIN]]),
    )


def standard_errors_above(
    bound: float, differences: Sequence[float], clusters: Sequence[str], unseen: Unseen | None = None
) -> float:
    """How far above `bound` the mean is proven to lie, in standard errors of a normal score, within ±FARTHEST.

    Above the normal quantile of a confidence exactly where `paired_interval` at that confidence has its `low` above it.
    """
    sums, sizes = by_cluster(np.asarray(differences, dtype=np.float64), clusters)
    values, _, weights = _with_unseen(sums - bound * sizes, sizes, unseen, bound)
    few = math.sqrt(len(sums) / (len(sums) - 1))
    tail = stats.t.sf(float(signed_root(values, weights)) / few, len(sums) - 1)
    return float(np.clip(stats.norm.isf(tail), -FARTHEST, FARTHEST))


def signed_root(values: ArrayLike, weights: ArrayLike) -> Floats:
    """How many standard errors the mean of `values` lies above 0, as a signed root of a likelihood ratio: (…,).

    `values` and `weights` (…, K) are broadcast; a weight counts how often its value was seen. The ratio is that of the
    exponential tilt which moves the mean to 0; for many small values it is mean/standard error. Where nothing lies on
    the other side of 0 it is as large as the tilt can make it. Monotone in every value.
    """
    seen, counts = np.broadcast_arrays(np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64))
    total, mean = counts.sum(-1), (counts * seen).sum(-1) / counts.sum(-1)
    sign = np.where(mean >= 0, 1.0, -1.0)
    up = seen * sign[..., None]
    lowest = np.where(counts > 0, up, np.inf).min(-1)

    def tilted(by: Floats) -> tuple[Floats, Floats, Floats]:
        """Weight, mean and variance under the tilt exp(−by·value)."""
        shares = counts * np.exp(-np.minimum(by[..., None] * np.maximum(up - lowest[..., None], 0.0), 700.0))
        weight = shares.sum(-1)
        centre = (shares * up).sum(-1) / weight
        return weight, centre, (shares * up**2).sum(-1) / weight - centre**2

    variance = (counts * up**2).sum(-1) / total - mean**2
    most = np.abs(mean) / np.maximum(variance, 1e-18) + 1e-9
    for _ in range(60):
        too_little = tilted(most)[1] > 0
        if not too_little.any():
            break
        most = np.where(too_little, 2 * most, most)
    least, by = np.zeros_like(most), most
    for _ in range(STEPS):
        _, centre, variance = tilted(by)
        if np.all(np.abs(centre) <= 1e-13 * np.abs(up).max()):
            break
        least, most = np.where(centre > 0, by, least), np.where(centre > 0, most, by)
        newton = by + centre / np.maximum(variance, 1e-300)
        by = np.where((newton > least) & (newton < most), newton, (least + most) / 2)
    information = by * lowest - np.log(tilted(by)[0] / total)
    return np.asarray(sign * np.sqrt(np.maximum(0.0, 2 * total * information)))


def loss_p_value(differences: Sequence[float], clusters: Sequence[str], *, binary: bool = False) -> float:
    """How likely such a loss is if the candidate lost nothing: small means proven.

    Right-or-wrong items, each its own cluster: the exact McNemar test. Otherwise the signs of whole clusters are
    flipped, 9,999 times with a fixed seed. Source: McNemar 1947; Kübler et al. 2026, arXiv 2602.10144 (permutation for
    what is not binary); Phipson and Smyth 2010 (the added one).
    """
    values = np.asarray(differences, dtype=np.float64)
    sums, sizes = by_cluster(values, clusters)
    if binary and sizes.max() == 1:
        lost, gained = int((values < 0).sum()), int((values > 0).sum())
        return float(stats.binomtest(lost, lost + gained, alternative="greater").pvalue) if lost + gained else 1.0
    draw, as_bad = np.random.default_rng(SEED), 0
    for _ in range(9):  # in parts, for the memory's sake
        flips = draw.integers(0, 2, size=(SIGN_FLIPS // 9, len(sums)), dtype=np.int8).astype(np.float64)
        as_bad += int((flips @ sums >= -1e-12).sum())  # flipping these clusters makes the sum no larger
    return (1 + as_bad) / (1 + SIGN_FLIPS)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values: rejecting those below α errs in any of them with probability α at most.

    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return tuple(adjusted)


def items_that_would_decide(interval: Interval, margin: float, n: int) -> int | None:
    """About how many items would put the lower bound above −margin, if the mean stays; None if no number would."""
    slack, half = interval.mean + margin, interval.mean - interval.low
    if slack <= 0:
        return None
    return max(n, math.ceil(n * (half / slack) ** 2))


def certifiable_loss(spread: float, n: int, confidence: float) -> float:
    """The smallest margin that `n` items certify for nine of ten unchanged candidates; `spread` is that of one item.

    Source: Miller 2024, arXiv 2411.00640, section 5 (power of a paired comparison).
    """
    return float(stats.norm.ppf(confidence) + stats.norm.ppf(POWER)) * spread / math.sqrt(n)


def items_for(spread: float, margin: float, confidence: float) -> int:
    """How many independent items certify `margin` for nine of ten unchanged candidates."""
    return math.ceil((certifiable_loss(spread, 1, confidence) / margin) ** 2)
