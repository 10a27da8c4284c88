"""Passes of few tokens on a CPU: each layer is four products and, between them, four compiled calls.

Promise: what the decoder's own pass gives, but for rounding; an interrupted pass leaves every row as it was.
Knows the decoder's layout and the kernels' table of places.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import embedding

from bot.engine import kernels as k
from bot.engine.layers import GROUPS, Interrupt, Layer, Segment, Update, go_on

if TYPE_CHECKING:
    from bot.engine.decoder import Decoder

MOST = 8  # tokens of a pass: with more, the framework's own operations are as fast
FULL = (
    6  # rows that a packed product is given at least: measured, six take less time than one or two, and a row's numbers
)
# are then the same whoever shares the pass
FARTHEST = 4_096  # tokens that all of them may look back at together: more wants more than one core
KINDS = (torch.bfloat16, torch.float32)


class Few:
    """The buffers of such passes, made once, and the addresses of what does not move."""

    def __init__(self, decoder: "Decoder") -> None:
        self.decoder = decoder
        self.kernels = k.compiled(half=decoder.dtype == torch.bfloat16)
        hidden, inner = decoder.embeddings.shape[1], decoder.layers[0].projections["down"].inputs
        heads, width = decoder.heads * decoder.width, decoder.width
        size = heads + 2 * decoder.groups * width
        self.residual = torch.empty(MOST, hidden)
        self.read, self.attended, self.gated = (self._buffers(n) for n in (hidden, heads, inner))
        self.scratch = torch.empty(max(hidden, 2 * inner, size + width) + max(hidden, heads, inner, FARTHEST))
        self.norms = np.array(
            [_norms(layer) for layer in decoder.layers] + [(decoder.norm.data_ptr(), 0, 0, 0)], np.int64
        )
        self.positions, self.keys, self.values, self.capacities, self.updates = (
            np.zeros(MOST, np.int64) for _ in range(5)
        )
        self.tables: dict[str, np.ndarray] = {}
        self.places = np.zeros(k.PLACES, np.int64)
        self.places[k.HIDDEN], self.places[k.INNER] = hidden, inner
        self.places[k.HEADS], self.places[k.GROUPS], self.places[k.WIDTH] = decoder.heads, decoder.groups, width
        for place, tensor in ((k.RESIDUAL, self.residual), (k.READ, self.read[MOST]), (k.ATTENDED, self.attended[MOST]),
                              (k.GATED, self.gated[MOST]), (k.SCRATCH, self.scratch), (k.COS, decoder.cos), (k.SIN, decoder.sin)):  # fmt: skip
            self.places[place] = tensor.data_ptr()
        for place, array in ((k.POSITIONS, self.positions), (k.KEYS, self.keys), (k.VALUES, self.values), (k.NORMS, self.norms),
                             (k.CAPACITIES, self.capacities), (k.UPDATES, self.updates)):  # fmt: skip
            self.places[place] = array.ctypes.data

    def _buffers(self, size: int) -> list[torch.Tensor]:
        """One buffer, seen as so many rows."""
        whole = torch.zeros(MOST, size, dtype=self.decoder.dtype)
        return [whole[:count] for count in range(MOST + 1)]

    def attach(self, digest: str, updates: Mapping[tuple[int, str], Update]) -> None:
        """Note where an adapter's updates lie; the decoder keeps them."""
        table = np.zeros((len(self.decoder.layers), 4, k.UPDATE), np.int64)
        for (number, group), found in updates.items():
            table[number, list(GROUPS).index(group)] = (
                found.a.data_ptr(), found.b.data_ptr(), found.columns.data_ptr(), len(found.a))  # fmt: skip
        self.tables[digest] = table

    def remove(self, digest: str) -> None:
        self.tables.pop(digest, None)

    def takes(self, segments: Sequence[Segment]) -> bool:
        """Whether this pass is one of few tokens."""
        count = sum(len(row.ids) for row in segments)
        return count <= MOST and sum((len(row.cache.tokens) + MOST) * len(row.ids) for row in segments) <= FARTHEST

    def forward(self, segments: Sequence[Segment], interrupt: Interrupt) -> torch.Tensor:
        """As the decoder's. Raises Interrupted."""
        decoder, call, places, epsilon = self.decoder, self.kernels, self.places.ctypes.data, self.decoder.epsilon
        rows = max(self._place(segments), FULL if decoder.head.packed else 0)
        read, attended, gated = self.read[rows], self.attended[rows], self.gated[rows]
        ids = torch.tensor([i for row in segments for i in row.ids])
        x: Any = embedding(ids, decoder.embeddings)
        call.begin(places, -1, x.data_ptr(), epsilon)
        for number, layer in enumerate(decoder.layers):
            go_on(interrupt)
            products = layer.projections
            y = products["qkv"].product(read)
            call.attend(places, number, y.data_ptr(), epsilon)
            y = products["out"].product(attended)
            call.between(places, number, y.data_ptr(), epsilon)
            y = products["gate_up"].product(read)
            call.gate(places, number, y.data_ptr(), epsilon)
            y = products["down"].product(gated)
            call.settle(places, number, y.data_ptr(), epsilon)
        go_on(interrupt)
        return self._spoken(segments, read)

    def _place(self, segments: Sequence[Segment]) -> int:
        """Tell the kernels where each token stands and whose it is; how many there are."""
        place = 0
        for row in segments:
            table = 0 if row.adapter is None else self.tables[row.adapter].ctypes.data
            cache, start = row.cache, len(row.cache.tokens)
            keys, values, capacity = cache.keys.data_ptr(), cache.values.data_ptr(), cache.keys.shape[2]
            for n in range(len(row.ids)):
                self.positions[place], self.updates[place] = start + n, table
                self.keys[place], self.values[place], self.capacities[place] = keys, values, capacity
                place += 1
        self.places[k.COUNT] = place
        return place

    def _spoken(self, segments: Sequence[Segment], read: torch.Tensor) -> torch.Tensor:
        ends = np.cumsum([len(row.ids) for row in segments]) - 1
        last = [int(end) for row, end in zip(segments, ends, strict=True) if row.speaks]
        if not last:
            return torch.empty((0, len(self.decoder.embeddings)))
        return self.decoder.head.product(read)[last].float()


def _norms(layer: Layer) -> tuple[int, int, int, int]:
    each = (layer.before, layer.between, layer.each_query, layer.each_key)
    first, second, third, fourth = (0 if norm is None else norm.data_ptr() for norm in each)
    return first, second, third, fourth
