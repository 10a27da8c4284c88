"""Weaker copies of an adapter: how much of a training is kept is chosen after it, by the gate, not guessed before it.

A copy at scale s is the point between base (0) and tuned (1) on the straight line of their weights. Source: WiSE-FT,
arXiv 2109.01903; PEFT's `rescale_adapter_scale` does the same in memory, here it is a file that every server loads.
Knows adapter files. Knows no gate: who asks says what passes.
"""

from dataclasses import replace
from pathlib import Path
from shutil import copyfile

from safetensors.torch import load_file, save_file

from storage.records import Adapter
from storage.weights import ADAPTER_FILES, adapter_path, keep_adapter, verify_adapter


def scaled(adapter: Adapter, weights_dir: Path, scale: float) -> Adapter:
    """The adapter with its update times `scale`, written beside it; at 1 itself.

    A copy names where it came from in its recipe (`scale`, `scaled_from`). Raises WeightsError for a damaged adapter.
    """
    source = adapter_path(weights_dir, adapter.digest)
    verify_adapter(source, base=adapter.base_digest)
    if scale == 1:
        return adapter

    def write(folder: Path) -> None:
        config, weights = ADAPTER_FILES
        copyfile(source / config, folder / config)
        tensors = load_file(source / weights)
        save_file({name: t * scale if "lora_B" in name else t for name, t in tensors.items()}, folder / weights)

    recipe = {**adapter.recipe, "scale": scale, "scaled_from": adapter.digest}
    manifest = {
        "base_digest": adapter.base_digest,
        "dataset_digest": adapter.dataset_digest,
        "recipe": recipe,
        "stats": dict(adapter.stats),
        "run_id": adapter.run_id,
    }
    digest, path = keep_adapter(weights_dir, write, manifest)
    return replace(adapter, digest=digest, path=str(path), recipe=recipe)
