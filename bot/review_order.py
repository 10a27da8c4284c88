"""Which exchanges a reviewer's ten minutes are best spent on. Pure: same rows in, same order out.

Every third card is one drawn by lot, in the lot's order: the win rate is measured on those alone. The others come by value.
The value of a card: disagreement × frequency × 2 if somebody dislikes the answer. Disagreement is 1 − Dice similarity of
the two answers' word pairs, frequency 1 + how many other recent questions nearly equal this one.
"""

import re
from collections import Counter, deque
from collections.abc import Sequence

from storage.picks import ONE_IN, Candidate, drawn, lot

PERMUTATIONS, BANDS, ROWS = 64, 16, 4  # questions that share about half of their word pairs are found as near
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")  # Chinese and Japanese by the character: they have no spaces
NUMBER = re.compile(r"\d+")


def ranked(candidates: Sequence[Candidate], recent: Sequence[str]) -> tuple[int, ...]:
    """The exchanges in the order of asking. `recent` holds the candidates' questions, too."""
    by_lot = deque(sorted((c.exchange_id for c in candidates if drawn(c.exchange_id)), key=lot))
    by_value = deque(valued([c for c in candidates if not drawn(c.exchange_id)], recent))
    order = list[int]()
    while by_lot or by_value:
        first = by_lot if by_lot and (len(order) % ONE_IN == 0 or not by_value) else by_value
        order.append(first.popleft())
    return tuple(order)


def valued(candidates: Sequence[Candidate], recent: Sequence[str]) -> tuple[int, ...]:
    """The exchanges, the most valuable first; the newer one of equals."""
    often = frequency([c.question for c in candidates], recent)
    worth = {
        c.exchange_id: disagreement(c.tuned, c.base) * count * (2 if c.disliked else 1)
        for c, count in zip(candidates, often, strict=True)
    }
    return tuple(sorted(worth, key=lambda exchange_id: (-worth[exchange_id], -exchange_id)))


def disagreement(one: str, other: str) -> float:
    """1 − Dice similarity of the word pairs, counted with repetition: 0 for equal words, 1 when no pair is shared."""
    first, second = Counter(_pairs(one)), Counter(_pairs(other))
    whole = first.total() + second.total()
    return 1 - 2 * (first & second).total() / whole if whole else 0.0


def frequency(questions: Sequence[str], recent: Sequence[str]) -> tuple[int, ...]:
    """1 + the number of others among `recent` that nearly equal each question. Numbers count as equal.

    Source: MinHash over word pairs with locality-sensitive hashing (datasketch).
    """
    from datasketch import MinHash, MinHashLSH  # it brings scipy: half a second that only the review needs

    shapes = [frozenset(_pairs(NUMBER.sub("0", question))) for question in questions]
    seen = Counter(frozenset(_pairs(NUMBER.sub("0", question))) for question in recent)
    distinct = sorted({*seen, *shapes} - {frozenset()}, key=sorted)
    sketches = MinHash.bulk([[p.encode() for p in sorted(s)] for s in distinct], num_perm=PERMUTATIONS, seed=1)
    index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, ROWS))
    for number, sketch in enumerate(sketches):
        index.insert(number, sketch)
    near = {
        shape: sum(seen[distinct[twin]] for twin in index.query(sketch))
        for shape, sketch in zip(distinct, sketches, strict=True)
    }
    return tuple(max(1, near.get(shape, 1)) for shape in shapes)


def _pairs(text: str) -> list[str]:
    """Neighbouring words; the word itself where there is only one."""
    words = WORD.findall(text.lower())
    return [f"{a} {b}" for a, b in zip(words, words[1:], strict=False)] or words
