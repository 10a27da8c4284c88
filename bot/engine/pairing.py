"""Whether a shadow speaks beside its user or after: measured on this machine, with this base, at start.

    paired     the shadow's tokens go through the weights in the same pass as the user's
    deferred   the shadow speaks while no user does

Paired costs the user what a pass of two takes longer than a pass of one; it is chosen where that is little. While a shadow's
prompt is read, for a few passes, more is bearable: the sooner it is read, the sooner both answers are there.
"""

import statistics
import time
from dataclasses import dataclass
from operator import truediv
from typing import Any, Literal

from bot.engine.layers import Segment

Mode = Literal["paired", "deferred"]
BEARABLE = 1.15  # how much longer a user may wait for a token because of a shadow
READING = 1.3  # the same, while the shadow's prompt is read
SIZES = (1, 2, 4, 6, 8)
ROUNDS, READ = 15, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """`ratio`: a pass of two rows over a pass of one. `room`: rows of users and shadows that share a pass; `reach`: tokens
    of such a pass while a shadow's prompt is read.
    """

    mode: Mode
    ratio: float
    room: int
    reach: int


def measured(decoder: Any, wanted: Literal["auto", "paired", "deferred"]) -> Pairing:
    """The mode that was asked for, or the one that fits; passes of each size in turns, each set against that of one row."""
    caches = [decoder.new_cache(READ + 1 + len(SIZES) * (ROUNDS + 1)) for _ in range(max(SIZES))]
    for cache in caches:
        decoder.forward([Segment(ids=[0] * READ, cache=cache, adapter=None)])
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    for lap in range(ROUNDS + 1):
        for size in SIZES:
            begun = time.perf_counter()
            decoder.forward([Segment(ids=[0], cache=cache, adapter=None) for cache in caches[:size]])
            times[size] += [time.perf_counter() - begun] if lap else []
    ratios = {size: statistics.median(map(truediv, found, times[1])) for size, found in times.items()}
    room, reach = (max(size for size in SIZES if ratios[size] <= most) for most in (BEARABLE, READING))
    mode = wanted if wanted != "auto" else "paired" if ratios[2] <= BEARABLE else "deferred"
    return Pairing(mode=mode, ratio=round(ratios[2], 3), room=max(2, room), reach=max(2, reach))
