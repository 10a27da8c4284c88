"""Keys and values of one row, and those of earlier rows that a new one may begin with.

Promise: what is reused was made by the same adapter from the same tokens, and for the same kind of asker.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

Owner = tuple[str, str | None]  # role and adapter: neither may change what the other reads
SHORTEST = 16  # tokens that are worth a copy


@dataclass(slots=True)
class Cache:
    """Keys and values (layers, heads, capacity, width) of the tokens read so far; what lies behind them is void."""

    keys: torch.Tensor
    values: torch.Tensor
    tokens: list[int] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    def begin_with(self, other: "Cache", count: int) -> None:
        """Take over the first `count` tokens of another row."""
        self.keys[:, :, :count] = other.keys[:, :, :count]
        self.values[:, :, :count] = other.values[:, :, :count]
        self.tokens = other.tokens[:count]

    def trimmed(self) -> "Cache":
        """The same without the room that was never used."""
        used = len(self.tokens)
        return Cache(self.keys[:, :, :used].clone(), self.values[:, :, :used].clone(), self.tokens)


class Prefixes:
    """What ended rows have read, the last used last, at most `room` bytes for each kind of asker."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._kept: dict[str, OrderedDict[int, tuple[Owner, Cache]]] = {}
        self._next = 0

    def keep(self, owner: Owner, cache: Cache) -> None:
        """Remember a row that has ended; shorter ones that it begins with are forgotten."""
        if len(cache.tokens) < SHORTEST:
            return
        kept = self._kept.setdefault(owner[0], OrderedDict())
        for number, (whose, old) in list(kept.items()):
            if whose == owner and common(old.tokens, cache.tokens) == len(old.tokens):
                del kept[number]
        self._next += 1
        kept[self._next] = (owner, cache.trimmed())
        while kept and sum(each.nbytes for _, each in kept.values()) > self.room:
            kept.popitem(last=False)

    def begin(self, owner: Owner, prompt: Sequence[int], fresh: Cache) -> None:
        """Fill a fresh cache with the longest beginning of the prompt that is known; its last token is always left to read."""
        kept = self._kept.get(owner[0], OrderedDict())
        known = {n: common(old.tokens, prompt[:-1]) for n, (whose, old) in kept.items() if whose == owner}
        best = max(known, key=lambda n: known[n], default=None)
        if best is not None and known[best] >= SHORTEST:
            fresh.begin_with(kept[best][1], known[best])
            kept.move_to_end(best)

    def forget(self, adapter: str | None) -> None:
        """Drop all that an adapter has made."""
        for kept in self._kept.values():
            for number in [n for n, (whose, _) in kept.items() if whose[1] == adapter]:
                del kept[number]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two rows begin with alike."""
    most = min(len(one), len(other))
    if list(one[:most]) == list(other[:most]):
        return most
    return next(n for n in range(most) if one[n] != other[n])
