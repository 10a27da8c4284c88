"""How like two texts are: word n-grams, MinHash, and an index of what nearly equals what.

Source: MinHash with locality-sensitive hashing (datasketch).
"""

import re

from datasketch import MinHash, MinHashLSH

NEAR = 0.8  # Jaccard similarity of word triples from which two texts count as the same
PERMUTATIONS = 64


class NearIndex:
    """Texts by name; asked which of them nearly equal another."""

    def __init__(self) -> None:
        self._index = MinHashLSH(threshold=NEAR, num_perm=PERMUTATIONS)

    def twins(self, sketch: MinHash) -> list[str]:
        return sorted(self._index.query(sketch))

    def add(self, name: str, sketch: MinHash) -> None:
        self._index.insert(name, sketch)


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def sketch_of(text: str) -> MinHash:
    """The MinHash of a text's word triples; of all its words where there are fewer."""
    words = words_of(text)
    triples = {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}
    sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
    sketch.update_batch([t.encode() for t in sorted(triples)])
    return sketch


def overlap(one: str, other: str) -> float:
    """Shared words over all words (Jaccard); 1 for two texts without any word."""
    first, second = set(words_of(one)), set(words_of(other))
    return len(first & second) / len(first | second) if first | second else 1.0
