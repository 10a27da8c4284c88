"""Whether the rows that a run trained on hold an item of a benchmark: such an item measures memory, not ability.

Pure functions over words. Knows lessons and rows, no model.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from eval.benchmark import Row
from eval.metrics import words
from storage.records import Lesson

GRAM = 13  # words in a row that two texts do not share by accident
SHORTEST = 6  # words of a text that can be recognised at all
ALIKE = 0.8  # share of common pairs of words from which two short texts are the same one
NOT_TEXT = ("id", "cluster", "language", "register")


class Seen:
    """What training saw. Sources: Brown et al. 2020 (GPT-3), arXiv 2005.14165, appendix C (13-grams)."""

    def __init__(self, train: Iterable[Lesson]) -> None:
        texts = [words(text) for lesson in train for text in _taught(lesson)]
        self._grams = {gram for text in texts for gram in _grams(text, GRAM)}
        self._sizes = [len(set(_grams(text, 2))) for text in texts]
        self._with = defaultdict[tuple[str, ...], list[int]](list)
        for number, text in enumerate(texts):
            for pair in set(_grams(text, 2)):
                self._with[pair].append(number)

    def holds(self, row: Row) -> bool:
        """Whether a text of the row shares GRAM words in a row with a training text, or is nearly one of them.

        Texts under SHORTEST words are never recognised: "the blue one" is in every corpus.
        """
        return any(self._knows(words(text)) for text in texts_of(row))

    def _knows(self, text: Sequence[str]) -> bool:
        if len(text) < SHORTEST:
            return False
        if not self._grams.isdisjoint(_grams(text, GRAM)):
            return True
        pairs = set(_grams(text, 2))
        common = Counter(number for pair in pairs for number in self._with.get(pair, ()))
        return any(n >= ALIKE * (len(pairs) + self._sizes[number] - n) for number, n in common.items())


def _taught(lesson: Lesson) -> Iterator[str]:
    """What the model saw of a lesson, without the system prompt, which every prompt has."""
    yield from (message["content"] for message in lesson.messages if message["role"] != "system")
    yield lesson.answer


def texts_of(row: Row) -> Iterator[str]:
    """Every text of a benchmark's row, the choices one by one."""
    for name, value in row.items():
        if name not in NOT_TEXT:
            yield from (part for part in (value if isinstance(value, list) else [value]) if isinstance(part, str))


def _grams(text: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(text[start:] for start in range(size)), strict=False)
