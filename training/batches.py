"""Rows into batches without padding waste, the same for the same seed.

Knows token counts. Knows no model.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

MICRO_TOKENS = 1_024  # tokens of one forward pass, padding included


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One rendered lesson: token ids (T,) and, per token, whether it belongs to the answer."""

    ids: tuple[int, ...]
    mask: tuple[bool, ...]

    @property
    def answer_tokens(self) -> int:
        """Tokens that are predicted: an answer token at position 0 has nothing before it."""
        return sum(self.mask[1:])


def plan_steps(lengths: Sequence[int], *, batch_size: int, epochs: float, seed: int) -> list[list[int]]:
    """Row numbers of each optimiser step. Every epoch sees every row once, in a new order; a fraction of an epoch is
    its first steps. Rows of similar length share a step: shuffled, sorted within four steps' worth, shuffled again.
    """
    draw, steps = random.Random(seed), list[list[int]]()
    while len(steps) < total_steps(len(lengths), batch_size=batch_size, epochs=epochs):
        order = list(range(len(lengths)))
        draw.shuffle(order)
        pools = [
            sorted(order[i : i + 4 * batch_size], key=lambda n: lengths[n])
            for i in range(0, len(order), 4 * batch_size)
        ]
        epoch = [pool[i : i + batch_size] for pool in pools for i in range(0, len(pool), batch_size)]
        draw.shuffle(epoch)
        steps += epoch
    return steps[: total_steps(len(lengths), batch_size=batch_size, epochs=epochs)]


def total_steps(rows: int, *, batch_size: int, epochs: float) -> int:
    per_epoch = -(-rows // batch_size)
    return max(1, round(per_epoch * epochs))


def micro_batches(step: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """A step's rows in forward passes of at most MICRO_TOKENS tokens (one row at least), longest first."""
    passes: list[list[int]] = []
    for number in sorted(step, key=lambda n: (-lengths[n], n)):
        if passes and (len(passes[-1]) + 1) * lengths[passes[-1][0]] <= MICRO_TOKENS:
            passes[-1].append(number)
        else:
            passes.append([number])
    return passes
