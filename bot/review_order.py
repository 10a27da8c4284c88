"""Which pair of answers a reviewer should look at first. Pure: texts in, an order out.

Knows no ledger and no Slack. All measures are of words or characters, so they hold in every language.
"""

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

from datasketch import MinHash, MinHashLSH

from storage.records import Pair, Role

NEAR = 0.6  # share of common character triples from which two questions are the same one
PERMUTATIONS = 32
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_BLANK = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=zlib.crc32)


def ranked(pairs: Sequence[Pair], questions: Iterable[str]) -> tuple[Pair, ...]:
    """The same pairs, most worth a look first; equal ones newest first.

    Worth is disagreement × frequency × 2 if disliked. `questions` is all that was asked lately, the pairs' own included.
    """
    often = frequencies((*questions, *(p.question for p in pairs)))
    return tuple(sorted(pairs, key=lambda p: (-worth(p, often[normal(p.question)]), -p.exchange_id)))


def worth(pair: Pair, frequency: int) -> float:
    return (1 - similarity(pair.tuned, pair.base)) * frequency * (2 if pair.disliked else 1)


def first_of(exchange_id: int, reviewer: str) -> Role:
    """The answer that this reviewer sees as A: a coin that falls the same way whenever it is thrown."""
    coin = hashlib.sha256(f"{exchange_id} {reviewer}".encode()).digest()[0]
    return "tuned" if coin % 2 else "base"


def similarity(one: str, other: str) -> float:
    """From 0 (no two words in a row in common) to 1 (the same words). Source: Dice's coefficient over word pairs."""
    a, b = word_pairs(one), word_pairs(other)
    both = a.total() + b.total()
    return 2 * (a & b).total() / both if both else 1.0


def word_pairs(text: str) -> Counter[tuple[str, str]]:
    """Each word with the one before it, the first with nothing before it, so that one word is a text, too."""
    words = WORD.findall(text.casefold())
    return Counter(zip(("", *words), words, strict=False))


def normal(question: str) -> str:
    """The question's words alone: what two people who ask the same have in common."""
    return " ".join(WORD.findall(question.casefold()))


def frequencies(questions: Iterable[str]) -> dict[str, int]:
    """How many of the questions say (nearly) the same, for each of them, by its `normal` form.

    Each joins the first group whose leader it nearly equals, or leads a new one: linear in the number of questions,
    however alike they are. Source: MinHash with locality-sensitive hashing (datasketch), checked by exact Jaccard.
    """
    counted = Counter(map(normal, questions))
    index = MinHashLSH(threshold=NEAR, num_perm=PERMUTATIONS)
    leaders: dict[str, set[str]] = {}
    leader_of: dict[str, str] = {}
    for text in counted:
        triples = {text[i : i + 3] for i in range(max(1, len(text) - 2))}
        sketch = _BLANK.copy()
        sketch.update_batch([triple.encode() for triple in triples])
        near = sorted(leader for leader in index.query(sketch) if _jaccard(triples, leaders[leader]) >= NEAR)
        leader_of[text] = near[0] if near else text
        if not near:
            leaders[text] = triples
            index.insert(text, sketch)
    sizes = Counter[str]()
    for text, leader in leader_of.items():
        sizes[leader] += counted[text]
    return {text: sizes[leader] for text, leader in leader_of.items()}


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)
