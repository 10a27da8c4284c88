"""LoRA for serving: adapters beside the frozen base, chosen by contiguous slices of the batch's rows.

Promises: a row without an adapter gets what the bare base gives, exactly but for many rows in float32 (layers.product);
a row with one gets what PEFT gives; adapters come and go without touching the base. No hooks: what is active is one list that the model's owner sets before a pass.
Reads what vLLM can serve, too: plain LoRA on linear layers. Source: Hu et al. 2021, arXiv 2106.09685.
"""

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from bot.engine.layers import product
from storage.digests import short
from storage.errors import WeightsError

NOT_PLAIN = (
    "use_dora",
    "modules_to_save",
    "lora_bias",
    "alora_invocation_tokens",
    "layer_replication",
    "rank_pattern",
    "alpha_pattern",
)
PREFIX = "base_model.model."
REST_S = 0.002  # behind each layer, while somebody is answered
T = TypeVar("T")


@dataclass(slots=True)
class Route:
    """Which rows of the next pass belong to which adapter: (start, stop, digest), disjoint; the rest is base."""

    slices: list[tuple[int, int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Shape:
    """What an adapter must know of a linear layer."""

    in_features: int
    out_features: int
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, linear: nn.Linear) -> "Shape":
        return cls(linear.in_features, linear.out_features, linear.weight.device, linear.weight.dtype)


class RowLoRA(nn.Module):
    """A linear layer with the low-rank updates of any number of adapters. `updates[digest]` is (A (r, in), B (out, r))."""

    def __init__(self, linear: nn.Linear, route: Route) -> None:
        super().__init__()
        self.linear, self.route = linear, route
        self.updates: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = product(x, self.linear.weight, self.linear.bias)
        for start, stop, digest in self.route.slices:
            update = self.updates.get(digest)
            if update is not None:
                a, b = update
                y[start:stop] += nn.functional.linear(nn.functional.linear(x[start:stop], a), b)
        return y


def wrap(model: nn.Module, route: Route) -> dict[str, RowLoRA]:
    """Put a RowLoRA around every linear layer but the output head; returns them by module name."""
    wrapped: dict[str, RowLoRA] = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and not name.endswith("lm_head"):
            parent, _, leaf = name.rpartition(".")
            wrapped[name] = RowLoRA(module, route)
            setattr(model.get_submodule(parent), leaf, wrapped[name])
    return wrapped


def add(layers: Mapping[str, RowLoRA], digest: str, folder: Path) -> None:
    """Read an adapter and put its updates into the layers; either all of it fits or nothing changes. Raises WeightsError."""
    for name, update in updates(folder, {name: Shape.of(layer.linear) for name, layer in layers.items()}).items():
        layers[name].updates[digest] = update


def updates(
    folder: Path, linears: Mapping[str, Shape], *, rest_s: float = 0.0
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """{layer: (A (r, in), B (out, r))} of an adapter, its scale in B, on the layers' device and in their type.

    `rest_s`: seconds of rest behind each layer, for a thread beside one that answers; see `gently`.
    Raises WeightsError naming what does not fit: kind of adapter, missing or foreign module, shape, NaN.
    """
    config, tensors = read(folder, rest_s)
    scale = float(config["lora_alpha"]) / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    pairs = paired(tensors, folder)
    strangers = sorted(set(pairs) - set(linears))
    if strangers:
        raise WeightsError(f"adapter {short(folder.name)} was made for another model: it has no layer {strangers[0]}.")
    return {
        name: fitted(name, pair, linears[name], int(config["r"]), scale) for name, pair in gently(pairs.items(), rest_s)
    }


def gently(each: Iterable[T], rest_s: float) -> Iterator[T]:
    """One after the other with a rest behind each: a thread that computes without one keeps the interpreter from the thread
    that is answering (2.6 steps of an answer in 60 ms, docs/log.md).
    """
    for one in each:
        yield one
        if rest_s:
            time.sleep(rest_s)


def remove(layers: Mapping[str, RowLoRA], digest: str) -> None:
    for layer in layers.values():
        layer.updates.pop(digest, None)


def read(folder: Path, rest_s: float = 0.0) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        with safe_open(folder / "adapter_model.safetensors", "pt") as file:
            tensors = {name: file.get_tensor(name) for name in gently(file.keys(), rest_s)}
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(
            f"adapter {short(folder.name)} cannot be read: {error}. Next: train again or roll back."
        ) from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise WeightsError(f"adapter {short(folder.name)} is no LoRA adapter.")
    odd = [name for name in NOT_PLAIN if config.get(name)] + (
        ["bias"] if config.get("bias") not in (None, "none") else []
    )
    if odd or not isinstance(config.get("r"), int) or config["r"] < 1:
        raise WeightsError(
            f"adapter {short(folder.name)} is not plain LoRA ({', '.join(odd) or 'no rank'}): it cannot be served."
        )
    return config, tensors


def paired(tensors: Mapping[str, torch.Tensor], folder: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """{module name: (A, B)} of a PEFT state."""
    sides: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, side = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".lora_")
        if side not in ("A", "B") or not name:
            raise WeightsError(f"adapter {short(folder.name)} has a tensor that is no LoRA weight: {key[:80]}.")
        sides.setdefault(name, {})[side] = tensor
    lonely = [name for name, found in sides.items() if set(found) != {"A", "B"}]
    if lonely or not sides:
        raise WeightsError(
            f"adapter {short(folder.name)} is incomplete: {lonely[0] if lonely else 'it has no tensors'}."
        )
    return {name: (found["A"], found["B"]) for name, found in sides.items()}


def fitted(
    name: str, pair: tuple[torch.Tensor, torch.Tensor], linear: Shape, rank: int, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The pair on the layer's device and in its type, the scale folded into B in float32."""
    a, b = pair
    wanted = ((rank, linear.in_features), (linear.out_features, rank))
    if (tuple(a.shape), tuple(b.shape)) != wanted:
        raise WeightsError(
            f"layer {name} has LoRA shapes {tuple(a.shape)} and {tuple(b.shape)}, {wanted[0]} and {wanted[1]} fit."
        )
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise WeightsError(f"layer {name} has weights that are not finite: this adapter is broken.")
    return a.to(linear.device, linear.dtype), (b.float() * scale).to(linear.device, linear.dtype)
