"""When to stop early, and which state to keep: a few rows are held back from training and looked at as it goes. Pure.

Knows numbers and row counts. Who takes the look is training/loop.py.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from training.batches import Row

SHARE, MOST, FEWEST = 0.08, 24, 4  # of the rows of each kind that are held back
LOOKS = 4  # an epoch
PATIENCE = 3  # looks without a better one until it stops
BETTER = 1e-3  # nats a token that count as better


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """`loss`: nats per answer token of the held-back lessons. `kl`: nats per token that the model is from its base on the
    held-back general rows (on the lessons where there are none)."""

    step: int
    loss: float
    kl: float


def hold_back(rows: Sequence[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """(rows to train on, rows to look at), drawn by the seed from lessons and general rows alike; none of a kind with
    too few to spare any."""
    draw, chosen = random.Random(seed), set[int]()
    for kind in (False, True):
        numbers = [n for n, row in enumerate(rows) if row.replay is kind]
        count = min(MOST, int(SHARE * len(numbers)))
        if count >= FEWEST:
            chosen |= set(draw.sample(numbers, count))
    kept = [row for n, row in enumerate(rows) if n not in chosen]
    return kept, [rows[n] for n in sorted(chosen)]


def best(looks: Sequence[Look], budget: float) -> Look:
    """The look whose state is kept: the lowest loss within the budget (0: there is none), else the nearest to the base."""
    allowed = [look for look in looks if not budget or look.kl <= budget]
    return min(allowed, key=lambda look: look.loss) if allowed else min(looks, key=lambda look: look.kl)


def is_over(looks: Sequence[Look], budget: float, *, early_stop: bool) -> str:
    """Why training stops after these looks; empty while it goes on."""
    last = looks[-1]
    if budget and last.kl > budget:
        return f"the model is {last.kl:.3f} nats a token from its base on rows held back; the budget is {budget:g}"
    if early_stop and len(looks) > PATIENCE:
        before = min(look.loss for look in looks[:-PATIENCE])
        if min(look.loss for look in looks[-PATIENCE:]) > before - BETTER:
            return f"held-back lessons got no better in {PATIENCE} looks"
    return ""
