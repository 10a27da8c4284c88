"""The base as a training holds it: whole, or in 4 bit where its weights would fill more than half of the device's memory.

The adapter is trained in float32 either way and fits the whole base, which serves and is scored. Source: QLoRA, arXiv
2305.14314 (nf4, its constants quantised, too). Knows folders of weights and devices. Knows no rows.
"""

import importlib.util
import math
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from bot.engine.model import best_dtype
from storage.errors import ConfigurationError

GIB = 2**30


def load_base(folder: Path, device: str) -> Any:
    """Raises ConfigurationError where it must be held in 4 bit and the extra for that is not installed."""
    dtype = best_dtype(device)
    weights, memory = parameters(folder) * dtype.itemsize, memory_of(device)
    if not wants_four_bits(weights, memory):
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigurationError(
            f"the base's weights take {weights / GIB:.1f} GiB, more than half of the {memory / GIB:.1f} GiB of {device}:"
            " training holds them in 4 bit, and bitsandbytes is not installed."
            " Next: pip install 'evenkeel[qlora]', or a smaller BASE_MODEL."
        )
    form = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, quantization_config=form, device_map=device)  # fmt: skip


def wants_four_bits(weights: int, memory: int) -> bool:
    """Whether so many bytes of weights leave too little of so many of memory: activations want the other half."""
    return weights > memory / 2


def parameters(folder: Path) -> int:
    """How many numbers a base's files hold; only their headers are read."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return count


def memory_of(device: str) -> int:
    """Bytes of a GPU, or of the machine where the processor trains."""
    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def bits_of(model: Any) -> int:
    """In how many bits a loaded base holds its weights."""
    return 4 if getattr(model, "is_loaded_in_4bit", False) else 8 * model.dtype.itemsize
