"""What a pass is made of: what each row reads, and the base's linear layers with the updates of any number of adapters.

Knows tensors; knows no order in which they are used.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import linear

from bot.engine.cache import Cache

ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
MANY = 128  # rows from which on oneDNN's products in float32 were 0.93 to 1.6 times as fast as torch's own choice (docs/log.md)
GROUPS = {"qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "out": ("self_attn.o_proj",),
          "gate_up": ("mlp.gate_proj", "mlp.up_proj"), "down": ("mlp.down_proj",)}  # fmt: skip
Slices = Sequence[tuple[int, int, str]]
Interrupt = Callable[[], bool] | None


class Interrupted(Exception):
    """The pass was given up; nothing has changed."""


def go_on(interrupt: Interrupt) -> None:
    """Raises Interrupted when somebody wants the pass to be given up."""
    if interrupt is not None and interrupt():
        raise Interrupted


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What one row reads in a pass: its next tokens, who speaks, and whether the next token is wanted."""

    ids: Sequence[int]
    cache: Cache
    adapter: str | None
    speaks: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """An adapter's part of a projection: A (R, in) and B transposed (R, out), R the sum of its layers' ranks.

    `columns` (R, 2): from where to where a row of B is filled; the rest is zero.
    """

    a: torch.Tensor
    b: torch.Tensor
    columns: torch.Tensor


def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x (…, in) to (…, out), as torch's `linear` gives it but for rounding; no gradient goes through it.

    Many rows in float32 on a CPU are multiplied by oneDNN, which takes 0.6 to 0.9 of the time there (docs/log.md).
    """
    many = x.numel() >= MANY * x.shape[-1]
    if ONEDNN and many and x.device.type == "cpu" and x.dtype == torch.float32:
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return y
    return linear(x, weight, bias)


class Projection:
    """One or several linear layers that read the same input, as one matrix, with the updates of any number of adapters."""

    def __init__(self, linears: Sequence[nn.Linear], *, pack: bool) -> None:
        weight = torch.cat([each.weight.detach() for each in linears])
        biases = [each.bias for each in linears]
        self.bias = None if biases[0] is None else torch.cat([b.detach() for b in biases])
        self.sizes, self.inputs = tuple(each.out_features for each in linears), linears[0].in_features
        self.packed = pack
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 1) if pack else weight
        self.updates: dict[str, Update] = {}

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in) to (N, out), without any adapter."""
        if self.packed:
            y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
            return y
        return linear(x, self.weight, self.bias)

    def __call__(self, x: torch.Tensor, slices: Slices) -> torch.Tensor:
        """(N, in) to (N, out)."""
        y = self.product(x)
        for start, stop, adapter in slices:
            if update := self.updates.get(adapter):
                y[start:stop].addmm_(linear(x[start:stop], update.a), update.b)
        return y

    def fused(self, parts: Sequence[tuple[torch.Tensor, torch.Tensor] | None]) -> Update | None:
        """The updates (A, B) of its layers as one, block by block; None where it has none."""
        known = [part for part in parts if part is not None]
        if not known:
            return None
        a = torch.cat([each[0] for each in known])
        b, columns = a.new_zeros(len(a), sum(self.sizes)), torch.zeros((len(a), 2), dtype=torch.int64)
        row = column = 0
        for size, part in zip(self.sizes, parts, strict=True):
            if part is not None:
                rank = len(part[0])
                b[row : row + rank, column : column + size] = part[1].T
                columns[row : row + rank] = torch.tensor([column, column + size])
                row += rank
            column += size
        return Update(a=a, b=b, columns=columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    before: torch.Tensor  # weights of the norm before attention
    between: torch.Tensor
    each_query: torch.Tensor | None  # norms of single heads, where the base has them
    each_key: torch.Tensor | None
    projections: Mapping[str, Projection]


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this processor reads packed weights faster."""
    return device.type == "cpu" and dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
