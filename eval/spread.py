"""How far a score could be off: standard errors that know which items belong together.

Knows numbers and clusters. The paired comparison of two answerers is eval/statistics.py.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def clustered_stderr(values: Sequence[float], clusters: Sequence[str]) -> float:
    """Standard error of the mean when items of one cluster rise and fall together.

    Every item its own cluster gives the usual s/√n. One single cluster says nothing about the spread between
    clusters; then the items are taken as independent. Raises ValueError below two items: one number has no spread.
    Source: Miller 2024, arXiv 2411.00640, section 2.2; the factor G/(G-1) is the usual small-sample correction.
    """
    if len(values) < 2:
        raise ValueError(f"a standard error needs at least 2 items, not {len(values)}")
    centre, sums = mean(values), defaultdict[str, float](float)
    names = clusters if len(set(clusters)) > 1 else [str(i) for i in range(len(values))]
    for name, value in zip(names, values, strict=True):
        sums[name] += value - centre
    groups = len(sums)
    return math.sqrt(groups / (groups - 1) * math.fsum(s * s for s in sums.values())) / len(values)


def jackknife_stderr(measure: Callable[[Sequence[int]], float], clusters: Sequence[str]) -> float:
    """Standard error of a number that is no mean (corpus BLEU, macro-F1): `measure` sees the items' positions.

    Leaves out one cluster at a time; deterministic, so that equal inputs give equal records. Raises ValueError below
    two items. Source: Tukey 1958; Efron and Stein 1981, The Jackknife Estimate of Variance.
    """
    if len(clusters) < 2:
        raise ValueError(f"a standard error needs at least 2 items, not {len(clusters)}")
    names = clusters if len(set(clusters)) > 1 else [str(i) for i in range(len(clusters))]
    left = [measure([i for i, name in enumerate(names) if name != out]) for out in sorted(set(names))]
    centre, groups = mean(left), len(left)
    return math.sqrt((groups - 1) / groups * math.fsum((value - centre) ** 2 for value in left))
