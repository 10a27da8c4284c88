"""Whether questions have changed, and how far two speakers are apart: numbers over texts, each with its uncertainty. Pure.

Promise: seeded, so that the same texts give the same numbers; the tests are exact permutation tests. Knows texts and their
languages; knows no ledger.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.metrics import token_f1
from storage.grams import Floats, vectors

PERMUTATIONS, SEED = 999, 20_261_126
FEATURES = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """`p_language`, `p_wording`: how often chance alone would part the questions so far. `shares`: of each language (before,
    now), the most changed first."""

    p_language: float
    p_wording: float
    shares: tuple[tuple[str, float, float], ...]


def drift(before: Sequence[tuple[str, str]], now: Sequence[tuple[str, str]]) -> Drift:
    """Questions as (text, language) against those before.

    Wording (topics and all): the maximum mean discrepancy of hashed character n-grams, which know every script, under a
    Gaussian kernel of median width. Languages: the total variation of their shares. Both against the same shuffles.
    Source: Gretton et al. 2012, A Kernel Two-Sample Test, JMLR 13. Raises ValueError for fewer than two questions a side.
    """
    if min(len(before), len(now)) < 2:
        raise ValueError(f"{len(before)} questions before and {len(now)} now: two a side are needed")
    labels = _shuffled(len(before), len(now))
    kernel = _kernel(vectors([text for text, _ in (*before, *now)], FEATURES))
    names = sorted({language for _, language in (*before, *now)})
    spoken = np.array([[language == name for name in names] for _, language in (*before, *now)], dtype=np.float64)
    apart = np.abs(labels @ spoken)  # (1 + PERMUTATIONS, languages)
    old, new = (Counter(language for _, language in side) for side in (before, now))
    shares = [(name, old[name] / len(before), new[name] / len(now)) for name in names]
    return Drift(
        p_language=_p(apart.sum(1)),
        p_wording=_p(np.einsum("ij,jk,ik->i", labels, kernel, labels, optimize=True)),
        shares=tuple(sorted(shares, key=lambda row: -abs(row[2] - row[1]))),
    )


def distance(questions: Sequence[str], training: Sequence[str]) -> float:
    """The median distance of the questions to the nearest training question, 0 (the same n-grams) to 1 (none in common)."""
    return float(np.median(1 - (vectors(questions, FEATURES) @ vectors(training, FEATURES).T).max(1)))


def _kernel(rows: Floats) -> Floats:
    distance = np.clip(2 - 2 * rows @ rows.T, 0, None)
    width = float(np.median(distance[np.triu_indices(len(rows), 1)])) or 1.0
    return np.asarray(np.exp(-distance / width))


def _shuffled(before: int, now: int) -> Floats:
    """Weights of the sides as they are, then of PERMUTATIONS shuffles: (1 + PERMUTATIONS, questions)."""
    sides = np.repeat([-1 / before, 1 / now], [before, now])
    draw = np.random.default_rng(SEED)
    return np.vstack([sides, *(draw.permutation(sides) for _ in range(PERMUTATIONS))])


def _p(statistics: Floats) -> float:
    """Of the first among all."""
    return float((statistics >= statistics[0] - 1e-12).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """How far two speakers' answers to the same questions differ, 0 (the same words) to 1 (none in common)."""

    mean: float
    stderr: float
    n: int


def apart(pairs: Sequence[tuple[str, str]]) -> Apart | None:
    """One minus the F1 of the words that both said, of every script; None for fewer than two pairs."""
    if len(pairs) < 2:
        return None
    values = np.array([1 - token_f1(ours, theirs) for ours, theirs in pairs])
    return Apart(mean=float(values.mean()), stderr=float(values.std(ddof=1)) / math.sqrt(len(values)), n=len(values))
