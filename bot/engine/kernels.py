"""What stands between the linear layers of a pass with few tokens, compiled for this processor at first use.

Promise: the numbers of the decoder's own passes but for rounding: sums are float32, and only what a linear layer reads and what
a cache keeps is rounded to the model's type. Knows addresses and sizes; knows no rows and no adapters by name.

Why: for two tokens the four products of a layer take half a millisecond, and the sixty small operations around them took as
long again, each of them a call through the framework. Here they are four calls. Sources: Su et al. 2021, arXiv 2104.09864
(rotary positions); Milakov and Gimelshein 2018, arXiv 1805.02867 (softmax); Hu et al. 2021, arXiv 2106.09685 (LoRA); Muller
et al., Handbook of Floating-Point Arithmetic, 2018 (the exponential as a polynomial and a power of two).
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic, overload

# Places in the table of sizes and addresses that every call gets. Addresses are of arrays: of float32 (RESIDUAL, SCRATCH), of
# the model's type (READ, ATTENDED, GATED, COS, SIN), or of int64, an entry for each token (POSITIONS to UPDATES; KEYS and
# VALUES are addresses of its row's cache, UPDATES of its adapter's table or 0) or for each layer (NORMS).
(COUNT, HIDDEN, INNER, HEADS, GROUPS, WIDTH, RESIDUAL, READ, ATTENDED, GATED, SCRATCH, COS, SIN, POSITIONS, KEYS, VALUES,
 CAPACITIES, UPDATES, NORMS, PLACES) = range(20)  # fmt: skip
BEFORE, BETWEEN, EACH_QUERY, EACH_KEY, LAYER_NORMS = range(5)  # addresses of a layer's norms; 0 where the base has none
QKV, OUT, GATE_UP, DOWN, LAYER_UPDATES = range(5)  # an adapter's updates of a layer
A, B, COLUMNS, RANK, UPDATE = range(
    5
)  # of an update: addresses (COLUMNS: from where to where a row of B is filled), rank
EMBEDDED = -1  # instead of OUT or DOWN: the residual begins

HALF, FULL = np.uint16(0), np.float32(0)  # bfloat16, held as its 16 bits, and float32
SUMS = {"reassoc", "contract", "nsz", "arcp"}  # sums may be reordered; what is not a number stays none
Call = Callable[[int, int, int, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """Each is called with the address of the table of places, the layer, the address of what a linear layer gave, and the
    epsilon of the norms.

    begin     the embeddings are the residual; their norm is what `qkv` of layer 0 reads (the layer is −1)
    attend    query, key and value of `qkv`: positions, the cache, attention over all that a row has read
    between   the residual with what `out` gave; its norm is what `gate_up` reads
    gate      silu(gate) × up
    settle    the residual with what `down` gave; its norm is what the next layer or the head reads
    """

    begin: Call
    attend: Call
    between: Call
    gate: Call
    settle: Call


@cache
def compiled(*, half: bool) -> Kernels:
    """The kernels for bfloat16 (`half`) or float32. Takes seconds where this processor runs this version for the first time."""
    first = 5 * (not half)
    calls = [ctypes.PYFUNCTYPE(None, *[ctypes.c_int64] * 3, ctypes.c_double)(_built(n).address)
             for n in range(first, first + 5)]  # fmt: skip
    return Kernels(**dict(zip(("begin", "attend", "between", "gate", "settle"), calls, strict=True)))


@cache
def _built(number: int) -> Any:
    """One entry, kept on disk where a place for it can be written."""
    signature = "void(int64, int64, int64, float64)"
    try:
        return cfunc(signature, cache=True)(ENTRIES[number])
    except RuntimeError:  # numba: no locator available
        return cfunc(signature)(ENTRIES[number])


# Numbers


@intrinsic
def _at(context: Any, address: Any) -> Any:
    """An address as a pointer."""

    def build(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), build


@intrinsic
def _as_float(context: Any, bits: Any) -> Any:
    """32 bits as a float32."""

    def build(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), build


@intrinsic
def _as_bits(context: Any, number: Any) -> Any:
    """A float32 as its 32 bits."""

    def build(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), build


def load(number: Any) -> Any:
    """A number of the model's type as a float32."""


def store(number: Any, like: Any) -> Any:
    """A float32 in the type of `like`: the nearest bfloat16, ties to even; what is no number stays none."""


def numbers(address: Any, count: Any, like: Any) -> Any:
    """An array of the type of `like`."""


def size_of(like: Any) -> Any:
    """Bytes of one number."""


@overload(load)
def _load(number: Any) -> Any:
    def half(number: Any) -> Any:
        return _as_float(np.uint32(number) << np.uint32(16))

    def full(number: Any) -> Any:
        return number

    return half if number == types.uint16 else full


@overload(store)
def _store(number: Any, like: Any) -> Any:
    def half(number: Any, like: Any) -> Any:
        bits = _as_bits(number)
        up = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        return np.uint16(up) if number == number else np.uint16(0x7FC0)

    def full(number: Any, like: Any) -> Any:
        return number

    return half if like == types.uint16 else full


@overload(numbers)
def _numbers(address: Any, count: Any, like: Any) -> Any:
    def half(address: Any, count: Any, like: Any) -> Any:
        return carray(_at(address), count, np.uint16)

    def full(address: Any, count: Any, like: Any) -> Any:
        return carray(_at(address), count, np.float32)

    return half if like == types.uint16 else full


@overload(size_of)
def _size_of(like: Any) -> Any:
    def half(like: Any) -> Any:
        return 2

    def full(like: Any) -> Any:
        return 4

    return half if like == types.uint16 else full


@njit
def ints(address: Any, count: Any) -> Any:
    return carray(_at(address), count, np.int64)


@njit
def floats(address: Any, count: Any) -> Any:
    return carray(_at(address), count, np.float32)


@njit
def part(array: Any, number: Any, size: Any) -> Any:
    """The `number`-th piece of so many numbers."""
    return array[number * size : (number + 1) * size]


@njit(fastmath=SUMS)
def exp(x: Any) -> Any:
    """e to the x for x ≤ 88 in float32, relative error below 3e-7; below −87 what it is there."""
    x = np.float32(-87.0) if x < np.float32(-87.0) else x
    power = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
    r = x - power * np.float32(0.693359375) + power * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    return (p * r * r + r + np.float32(1.0)) * _as_float(np.uint32(np.int32(power) + np.int32(127)) << np.uint32(23))


# Steps


@njit(fastmath=SUMS)
def add_update(table: Any, which: Any, read: Any, y: Any, scratch: Any, like: Any) -> None:
    """Add an adapter's part of a layer's linear layer to y (out,): B (A read)."""
    entry = part(ints(table, (which + 1) * UPDATE), which, UPDATE)
    rank, size, width = entry[RANK], len(read), len(y)
    if rank == 0:
        return
    a, b = numbers(entry[A], rank * size, like), numbers(entry[B], rank * width, like)
    columns = ints(entry[COLUMNS], rank * 2)
    for i in range(size):
        scratch[i] = load(read[i])
    for r in range(rank):
        inner, row = np.float32(0), part(a, r, size)
        for i in range(size):
            inner += load(row[i]) * scratch[i]
        first, after = columns[2 * r], columns[2 * r + 1]
        out, filled = b[r * width + first : r * width + after], y[first:after]
        for i in range(len(filled)):
            filled[i] += inner * load(out[i])


@njit(fastmath=SUMS)
def norm_of(x: Any, epsilon: Any) -> Any:
    """What x (n,) is multiplied by, so that its mean square is 1."""
    total = np.float32(0)
    for i in range(len(x)):
        total += x[i] * x[i]
    return np.float32(1) / np.sqrt(total / np.float32(len(x)) + np.float32(epsilon))


@njit(fastmath=SUMS)
def settle(places: Any, layer: Any, which: Any, address: Any, epsilon: Any, like: Any) -> None:
    """Add what `out` or `down` gave to the residual, or begin it with the embeddings; leave the norm of it to be read."""
    place = ints(places, PLACES)
    count, hidden = place[COUNT], place[HIDDEN]
    size = place[HEADS] * place[WIDTH] if which == OUT else place[INNER]
    source = numbers(place[ATTENDED] if which == OUT else place[GATED], count * size, like)
    residual, read = floats(place[RESIDUAL], count * hidden), numbers(place[READ], count * hidden, like)
    given, tables = numbers(address, count * hidden, like), ints(place[UPDATES], count)
    norms = ints(place[NORMS], (layer + 2) * LAYER_NORMS)
    at = layer * LAYER_NORMS + BETWEEN if which == OUT else (layer + 1) * LAYER_NORMS + BEFORE
    weight = numbers(norms[at], hidden, like)
    y, scratch = floats(place[SCRATCH], hidden), floats(place[SCRATCH] + hidden * 4, size)
    for t in range(count):
        x, given_here, read_here = part(residual, t, hidden), part(given, t, hidden), part(read, t, hidden)
        for i in range(hidden):
            y[i] = load(given_here[i])
        if which != EMBEDDED and tables[t] != 0:
            add_update(tables[t], layer * LAYER_UPDATES + which, part(source, t, size), y, scratch, like)
        for i in range(hidden):
            x[i] = y[i] if which == EMBEDDED else x[i] + y[i]
        scale = norm_of(x, epsilon)
        for i in range(hidden):
            read_here[i] = store(x[i] * scale * load(weight[i]), like)


@njit(fastmath=SUMS)
def turn(x: Any, cos: Any, sin: Any, norm: Any, epsilon: Any, scratch: Any, like: Any) -> None:
    """One head (width,) in place: its norm, where the base has one, and its position. The first half of `sin` is negative."""
    width, half = len(x), len(x) // 2
    if norm != 0:
        weight, scale = numbers(norm, width, like), norm_of(x, epsilon)
        for i in range(width):
            x[i] = x[i] * scale * load(weight[i])
    for i in range(half):
        scratch[i] = x[i] * load(cos[i]) + x[i + half] * load(sin[i])
        scratch[i + half] = x[i + half] * load(cos[i + half]) + x[i] * load(sin[i + half])
    for i in range(width):
        x[i] = scratch[i]


@njit(fastmath=SUMS)
def soften(scores: Any) -> None:
    """Scores (L,) into weights that sum to 1; none of them a number where one of the scores is none."""
    highest, total, sound = scores[0], np.float32(0), np.float32(0)
    for j in range(len(scores)):
        highest = max(highest, scores[j])
        sound += scores[j] * np.float32(0)
    for j in range(len(scores)):
        scores[j] = exp(scores[j] - highest)
    for j in range(len(scores)):
        total += scores[j]
    scale = np.float32(1) / total + sound
    for j in range(len(scores)):
        scores[j] *= scale


@njit(fastmath=SUMS)
def look(query: Any, keys: Any, values: Any, scores: Any, out: Any) -> None:
    """One head's query (width,) over keys and values (L × width); `scores` (L,) is room for as many weights."""
    width = len(query)
    for j in range(len(scores)):
        key, score = part(keys, j, width), np.float32(0)
        for i in range(width):
            score += query[i] * load(key[i])
        scores[j] = score
    soften(scores)
    for i in range(width):
        out[i] = np.float32(0)
    for j in range(len(scores)):
        value, weight = part(values, j, width), scores[j]
        for i in range(width):
            out[i] += weight * load(value[i])


@njit(fastmath=SUMS)
def attend(places: Any, layer: Any, address: Any, epsilon: Any, like: Any) -> None:
    """Query, key and value of each token, in order: a row's later tokens see its earlier ones."""
    place = ints(places, PLACES)
    count, hidden, heads, groups, width = place[COUNT], place[HIDDEN], place[HEADS], place[GROUPS], place[WIDTH]
    size, share, scale = (heads + 2 * groups) * width, heads // groups, np.float32(1) / np.sqrt(np.float32(width))
    given, read = numbers(address, count * size, like), numbers(place[READ], count * hidden, like)
    attended, tables = numbers(place[ATTENDED], count * heads * width, like), ints(place[UPDATES], count)
    positions, capacities = ints(place[POSITIONS], count), ints(place[CAPACITIES], count)
    norms = part(ints(place[NORMS], (layer + 1) * LAYER_NORMS), layer, LAYER_NORMS)
    y, out = floats(place[SCRATCH], size), floats(place[SCRATCH] + size * 4, width)
    rest = place[SCRATCH] + (size + width) * 4
    for t in range(count):
        position, capacity, given_here = positions[t], capacities[t], part(given, t, size)
        for i in range(size):
            y[i] = load(given_here[i])
        if tables[t] != 0:
            scratch = floats(rest, hidden)
            add_update(tables[t], layer * LAYER_UPDATES + QKV, part(read, t, hidden), y, scratch, like)
        cos = numbers(place[COS] + position * width * size_of(like), width, like)
        sin = numbers(place[SIN] + position * width * size_of(like), width, like)
        for head in range(heads + groups):
            norm = norms[EACH_QUERY] if head < heads else norms[EACH_KEY]
            turn(part(y, head, width), cos, sin, norm, epsilon, out, like)
        for i in range(heads * width):
            y[i] *= scale
        scores, seen = floats(rest, position + 1), (position + 1) * width
        for group in range(groups):
            start = (layer * groups + group) * capacity * width * size_of(like)
            keys = numbers(ints(place[KEYS], count)[t] + start, seen, like)
            values = numbers(ints(place[VALUES], count)[t] + start, seen, like)
            key, value = part(y, heads + group, width), part(y, heads + groups + group, width)
            key_here, value_here = part(keys, position, width), part(values, position, width)
            for i in range(width):
                key_here[i], value_here[i] = store(key[i], like), store(value[i], like)
            for head in range(group * share, (group + 1) * share):
                look(part(y, head, width), keys, values, scores, out)
                found = part(attended, t * heads + head, width)
                for i in range(width):
                    found[i] = store(out[i], like)


@njit(fastmath=SUMS)
def gate(places: Any, layer: Any, address: Any, like: Any) -> None:
    place = ints(places, PLACES)
    count, hidden, inner = place[COUNT], place[HIDDEN], place[INNER]
    given, read = numbers(address, count * 2 * inner, like), numbers(place[READ], count * hidden, like)
    gated, tables = numbers(place[GATED], count * inner, like), ints(place[UPDATES], count)
    y, scratch = floats(place[SCRATCH], 2 * inner), floats(place[SCRATCH] + 2 * inner * 4, hidden)
    for t in range(count):
        given_here, gated_here = part(given, t, 2 * inner), part(gated, t, inner)
        for i in range(2 * inner):
            y[i] = load(given_here[i])
        if tables[t] != 0:
            add_update(tables[t], layer * LAYER_UPDATES + GATE_UP, part(read, t, hidden), y, scratch, like)
        opened, up = part(y, 0, inner), part(y, 1, inner)
        for i in range(inner):
            slope = np.float32(1) / (np.float32(1) + exp(min(-opened[i], np.float32(88.0))))
            gated_here[i] = store(opened[i] * slope * up[i], like)


# Entries: a function of its own each, so that what is compiled can be found again on disk


def begin_half(places: Any, layer: Any, y: Any, epsilon: Any) -> None:
    settle(places, layer, EMBEDDED, y, epsilon, HALF)


def attend_half(places: Any, layer: Any, y: Any, epsilon: Any) -> None:
    attend(places, layer, y, epsilon, HALF)


def between_half(places: Any, layer: Any, y: Any, epsilon: Any) -> None:
    settle(places, layer, OUT, y, epsilon, HALF)


def gate_half(places: Any, layer: Any, y: Any, epsilon: Any) -> None:
    gate(places, layer, y, HALF)


def settle_half(places: Any, layer: Any, y: Any, epsilon: Any) -> None:
    settle(places, layer, DOWN, y, epsilon, HALF)


def begin_full(places: Any, layer: Any, y: Any, epsilon: Any) -> None:
    settle(places, layer, EMBEDDED, y, epsilon, FULL)


def attend_full(places: Any, layer: Any, y: Any, epsilon: Any) -> None:
    attend(places, layer, y, epsilon, FULL)


def between_full(places: Any, layer: Any, y: Any, epsilon: Any) -> None:
    settle(places, layer, OUT, y, epsilon, FULL)


def gate_full(places: Any, layer: Any, y: Any, epsilon: Any) -> None:
    gate(places, layer, y, FULL)


def settle_full(places: Any, layer: Any, y: Any, epsilon: Any) -> None:
    settle(places, layer, DOWN, y, epsilon, FULL)


ENTRIES = (begin_half, attend_half, between_half, gate_half, settle_half,
           begin_full, attend_full, between_full, gate_full, settle_full)  # fmt: skip
