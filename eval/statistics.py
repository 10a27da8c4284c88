"""The statistics of the gate: paired differences and how sure they are.

Pure numpy. Knows numbers and clusters, not benchmarks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ROUNDS = 4_000
SEED = 20_261_123


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with one-sided bounds: the truth is above `low`, and below `high`, each at the asked confidence."""

    mean: float
    low: float
    high: float


def paired_interval(
    differences: Sequence[float], clusters: Sequence[str], *, confidence: float, binary: bool = False
) -> Interval:
    """Bounds of the mean of paired differences by a cluster bootstrap (percentile, fixed seed).

    `differences` (n,), candidate minus reference with better counted positive; `clusters` (n,) names what is not
    independent. Percentiles of resampled means are monotone: raising a difference never lowers a bound, which a t
    interval does not promise. Where no right-or-wrong (`binary`) item flipped, the bound is the rule of three: no flip
    among n items does not prove that there are none.
    Raises ValueError for an empty or non-finite input: unknown is not zero.
    Source: Miller 2024, arXiv 2411.00640 (paired, clustered); Hanley 1983 (rule of three). We differ in using the
    bootstrap instead of the normal approximation, for the monotonicity.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError("no differences, or some are not finite")
    sums, sizes = _by_cluster(values, clusters)
    mean = float(values.mean())
    if binary and not np.any(values):
        floor = min(1.0, 3.0 / len(sums))
        return Interval(mean=0.0, low=-floor, high=floor)
    means = _resampled_means(sums, sizes)
    low, high = np.quantile(means, [1 - confidence, confidence], method="lower")
    return Interval(mean=mean, low=float(low), high=float(high))


def _by_cluster(values: np.ndarray, clusters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and size of each cluster, (C,) each."""
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(index, weights=values, minlength=len(names)), np.bincount(index, minlength=len(names))


def _resampled_means(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Means of ROUNDS bootstrap samples of whole clusters, (ROUNDS,)."""
    draws = np.random.default_rng(SEED).integers(0, len(sums), size=(ROUNDS, len(sums)))
    return np.asarray(sums[draws].sum(axis=1) / sizes[draws].sum(axis=1))


def items_that_would_decide(interval: Interval, margin: float, n: int) -> int | None:
    """About how many items would put the lower bound above −margin, if the mean stays; None if no number would."""
    slack, half = interval.mean + margin, interval.mean - interval.low
    if slack <= 0:
        return None
    return max(n, int(np.ceil(n * (half / slack) ** 2)))
