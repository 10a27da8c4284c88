"""PEFT's linear layers with a leaner forward and backward pass: the same function, less memory and less copying.

PEFT runs an adapter's two small matrices in float32, and so copies every input and output of every layer to float32 and
back. Here they are cast instead, once a pass: the inputs stay as they are and are kept once for the gradient of all.
The weights that learn stay float32. Knows PEFT's layers as `with_lora` makes them: one adapter, no dropout, no bias.
"""

from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch.nn import functional


def fuse(model: Any) -> None:
    """Give every LoRA layer of a model the lean pass. Switching the adapter off still gives the base's own layer."""
    for layer in model.modules():
        if isinstance(layer, Linear):
            layer.forward = partial(forward, layer)  # type: ignore[method-assign]


def forward(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """x (…, in) to (…, out): base layer plus adapter, or the base layer alone where the adapter is off."""
    base = layer.base_layer
    if layer.disable_adapters:
        return torch.as_tensor(base(x))
    (name,) = layer.active_adapters
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    out = _LoraLinear.apply(x, base.weight, base.bias, a, b, layer.scaling[name])  # type: ignore[no-untyped-call]
    return torch.as_tensor(out)


class _LoraLinear(torch.autograd.Function):
    """x W' + s·(x A') B' with A (r, in), B (out, r); the gradient of W is not made: it is frozen."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:  # fmt: skip
        flat, a, b = x.reshape(-1, x.shape[-1]), a.to(x.dtype), b.to(x.dtype)
        low = flat @ a.T
        out = functional.linear(flat, weight, bias).addmm_(low, b.T, alpha=scale)
        ctx.save_for_backward(flat, low, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flat, low, weight, a, b = ctx.saved_tensors
        gradient = outer[0].reshape(-1, weight.shape[0])
        below = (gradient @ b) * ctx.scale
        of_a, of_b = (below.T @ flat).float(), (gradient.T @ low).float() * ctx.scale
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ weight).addmm_(below, a).view(ctx.shape)
        return of_x, None, None, of_a, of_b, None
