"""Rows into batches without padding waste, the same for the same seed.

Knows token counts. Knows no model.
"""

import math
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice, pairwise

MICRO_TOKENS = 1_024  # tokens of one forward pass, padding included
POOL = 4  # steps whose rows are sorted by length together


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One rendered lesson: token ids (T,), per token whether it belongs to the answer, and whether it is a general row."""

    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    replay: bool = False

    @property
    def answer_tokens(self) -> int:
        """Tokens that are predicted: an answer token at position 0 has nothing before it."""
        return sum(self.mask[1:])


def plan_steps(
    lengths: Sequence[int],
    *,
    batch_size: int,
    epochs: float,
    seed: int,
    replay: Collection[int] = (),
    share: float = 0.0,
) -> list[list[int]]:
    """Row numbers of each optimiser step: every epoch sees every lesson once, in a new order.

    `replay` names the general rows, `share` what part of all rows seen they are: exact to one row in every step and over
    the run, however many there are (they come again, or not all come; each as often as the others, give or take one).
    Rows of similar length share a step: shuffled, sorted within four steps' worth, shuffled again.
    """
    draw, known = random.Random(seed), set(replay)
    lessons = [n for n in range(len(lengths)) if n not in known]
    if not known or not lessons:
        lessons, share = list(range(len(lengths))), 0.0
    sizes = step_sizes(len(lessons), batch_size=batch_size, epochs=epochs, share=share)
    ours, general = endless(lessons, draw), endless(sorted(known), draw)
    steps: list[list[int]] = []
    for start in range(0, len(sizes), POOL):
        pool = sizes[start : start + POOL]
        parts = [dealt(source, [size[kind] for size in pool], lengths) for kind, source in enumerate((ours, general))]
        mixed = [lesson + replayed for lesson, replayed in zip(*parts, strict=True)]
        draw.shuffle(mixed)
        steps += mixed
    return steps


def step_sizes(lessons: int, *, batch_size: int, epochs: float, share: float) -> list[tuple[int, int]]:
    """(lessons, replay rows) of each step: `epochs` passes over the lessons, `share` of all rows replay."""
    rows = max(1, round(lessons * epochs / (1 - share)))
    ends = [min(rows, start + batch_size) for start in range(0, rows, batch_size)]
    general = [0, *(math.floor(share * end + 0.5) for end in ends)]
    counts = [after - before for before, after in pairwise(general)]
    return [
        (end - start - count, count) for start, end, count in zip(range(0, rows, batch_size), ends, counts, strict=True)
    ]


def endless(numbers: Sequence[int], draw: random.Random) -> Iterator[tuple[int, int]]:
    """(pass, number): the numbers in a new order, again and again."""
    for again in count():
        order = list(numbers)
        draw.shuffle(order)
        yield from ((again, n) for n in order)


def dealt(source: Iterator[tuple[int, int]], counts: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """The next numbers of a source in lots of these sizes, each of similar lengths; a pass is dealt before the next one."""
    lot = iter(sorted(islice(source, sum(counts)), key=lambda found: (found[0], lengths[found[1]])))
    return [[n for _, n in islice(lot, size)] for size in counts]


def micro_batches(step: Sequence[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """A step's rows in forward passes of at most `tokens` tokens (one row at least), longest first."""
    passes: list[list[int]] = []
    for number in sorted(step, key=lambda n: (-lengths[n], n)):
        if passes and (len(passes[-1]) + 1) * lengths[passes[-1][0]] <= tokens:
            passes[-1].append(number)
        else:
            passes.append([number])
    return passes
