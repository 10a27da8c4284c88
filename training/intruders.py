"""Intruders: directions that a training made strong and that no direction of the base's weights resembles.

They are where forgetting sits. A direction is a left singular vector; of the strongest of W + BA, those with no singular
vector of W near them are intruders. Source: arXiv 2410.21228, its count and threshold; where we differ: it takes a share
of the whole direction away, of the base's weights, too; here only of what the adapter adds along it, so that rank and
format of the adapter stay and nothing is cut off. Knows models. Knows no files.
"""

from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer
from peft.utils.integrations import dequantize_module_weight

STRONGEST = 10  # directions of each layer that are looked at
ALIKE = 0.5  # cosine from which on a direction of the base resembles one
TAKEN_OUT = 0.75  # share of what the adapter adds along an intruder that goes


@torch.no_grad()
def take_out(model: Any) -> dict[str, int]:
    """Take most of a PEFT model's adapter out along its intruders; how many there were, in how many layers, of how many
    directions looked at. Costs two decompositions of every adapted layer: a minute or more for a small base on a CPU.
    """
    found, layers, looked = 0, 0, 0
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            (name,) = layer.active_adapters
            a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
            base = dequantize_module_weight(layer.get_base_layer()).float()
            strangers, seen = intruders(base, layer.scaling[name] * (b @ a).float())
            b -= (TAKEN_OUT * strangers @ (strangers.T @ b.float())).to(b.dtype)
            found, layers, looked = found + strangers.shape[1], layers + (strangers.shape[1] > 0), looked + seen
    return {"found": found, "layers": layers, "looked": looked}


def intruders(base: torch.Tensor, update: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The intruders of W (out, in) with its update (out, in), orthonormal columns (out, n); and how many directions were
    looked at.
    """
    known = torch.linalg.svd(base, full_matrices=False).U
    strongest = torch.linalg.svd(base + update, full_matrices=False).U[:, :STRONGEST]
    alike = (strongest.T @ known).abs().amax(1)
    return strongest[:, alike < ALIKE], strongest.shape[1]
