"""Texts as hashed character n-grams, which know every script. Pure.

Promise: the same text gives the same numbers on every machine and in every process.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LENGTHS = (2, 3, 4)
PRIME, MIXER = np.uint64(1_099_511_628_211), np.uint64(0x9E37_79B9_7F4A_7C15)  # FNV's; 2^64 by the golden ratio


def grams(text: str, features: int) -> tuple[NDArray[np.int64], Floats]:
    """The features (0 to `features` − 1, ascending) that a text has, and their weights, together of length 1.

    Case and spacing do not count. Never empty.
    """
    line = f" {' '.join(text.casefold().split())} "
    letters = np.frombuffer(line.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    hashed = np.concatenate([_hashes(letters, length) for length in LENGTHS])
    found, counts = np.unique(hashed % np.uint64(features), return_counts=True)
    return found.astype(np.int64), counts / np.linalg.norm(counts)


def vectors(texts: Sequence[str], features: int) -> Floats:
    """(n, features), each of length 1."""
    rows = np.zeros((len(texts), features))
    for row, text in zip(rows, texts, strict=True):
        found, weights = grams(text, features)
        row[found] = weights
    return rows


def _hashes(letters: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """One of each n-gram, in order; multiplication wraps around."""
    count = max(0, len(letters) - length + 1)
    made = np.full(count, length, dtype=np.uint64)
    for at in range(length):
        made = (made ^ letters[at : at + count]) * PRIME
    return (made * MIXER) >> np.uint64(32)
