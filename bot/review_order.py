"""Which pairs of answers are worth an agent's time most: disagreement × how often it is asked × whether it was disliked.

Pure. Source of the near-duplicates: MinHash with locality-sensitive hashing (datasketch).
"""

import re
from collections import Counter
from collections.abc import Sequence

from datasketch import MinHash, MinHashLSH

from storage.picks import Pair

NEAR = 0.6  # Jaccard similarity of words from which two questions count as the same
PERMUTATIONS = 32
DISLIKED = 2.0


def ranked(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """The pairs, most valuable first; equal ones keep their order."""
    often = _frequencies([pair.question for pair in pairs])
    value = {
        pair.exchange_id: disagreement(pair.tuned, pair.base) * often[n] * (DISLIKED if pair.disliked else 1.0)
        for n, pair in enumerate(pairs)
    }
    return tuple(sorted(pairs, key=lambda pair: -value[pair.exchange_id]))


def disagreement(one: str, other: str) -> float:
    """0 for the same words in the same order, 1 for nothing in common: one minus Dice over word pairs."""
    left, right = _word_pairs(one), _word_pairs(other)
    shared, total = sum((left & right).values()), sum(left.values()) + sum(right.values())
    return 1.0 - 2 * shared / total if total else 0.0


def _word_pairs(text: str) -> Counter[tuple[str, str]]:
    words = ["", *_words(text), ""]
    return Counter(zip(words, words[1:], strict=False))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _frequencies(questions: Sequence[str]) -> list[int]:
    """How many of the questions are nearly this one, itself included."""
    index, sketches = MinHashLSH(threshold=NEAR, num_perm=PERMUTATIONS), []
    for number, question in enumerate(questions):
        sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([word.encode() for word in sorted(set(_words(question)))])
        index.insert(number, sketch)
        sketches.append(sketch)
    return [max(1, len(index.query(sketch))) for sketch in sketches]
