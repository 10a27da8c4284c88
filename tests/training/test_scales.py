"""Weaker copies of an adapter lie on the straight line between base and tuned, and are adapters like any other."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from bot.engine.model import LoadedModel
from storage.clock import utc_now
from storage.errors import WeightsError
from storage.recipe import SCALES, Recipe
from storage.records import Adapter
from storage.weights import base_digest, verify_adapter
from tests.eval.conftest import _adapter
from training.scales import scaled

IDS = [[5, 6, 7, 8, 9]]


@pytest.fixture
def adapter(tiny_folder: Path, tmp_path: Path) -> Adapter:
    path = _adapter(tiny_folder, tmp_path, 7)
    return Adapter(digest=path.name, base_digest=base_digest(tiny_folder), dataset_digest="d", path=str(path),
                   recipe={"lora_rank": 4}, run_id=3, stats={"tokens": 1}, created_at=utc_now())  # fmt: skip


def test_each_copy_is_whole_names_its_origin_and_serves(adapter: Adapter, tiny_folder: Path, tmp_path: Path) -> None:
    copies = [scaled(adapter, tmp_path, scale) for scale in SCALES]

    assert copies[0] is adapter and [c.recipe.get("scale", 1.0) for c in copies] == list(SCALES)
    assert len({c.digest for c in copies}) == len(SCALES)
    for copy in copies[1:]:
        manifest = verify_adapter(Path(copy.path), base=adapter.base_digest)
        assert manifest["recipe"]["scaled_from"] == adapter.digest and manifest["run_id"] == 3
    assert [scaled(adapter, tmp_path, scale) for scale in SCALES] == copies


def test_a_copy_says_what_the_weights_between_base_and_tuned_say(
    adapter: Adapter, tiny_folder: Path, tmp_path: Path
) -> None:
    half, nothing = (scaled(adapter, tmp_path, scale) for scale in (0.5, 0.0))
    model = LoadedModel.load(tiny_folder, device="cpu", dtype=torch.float32)
    merged, moved = LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32), update_of(adapter)
    with torch.no_grad():
        for name, weight in merged.named_parameters():
            weight += 0.5 * moved.get(name.removesuffix(".weight"), torch.zeros(()))
        said = merged(torch.tensor(IDS)).logits[0, :-1].log_softmax(1).gather(1, torch.tensor(IDS).T[1:])[:, 0]

    found = {c.digest: model.log_probs(IDS, adapter=model.add_adapter(Path(c.path)))[0] for c in (half, nothing)}

    assert torch.allclose(found[half.digest], said, atol=1e-4)
    assert torch.allclose(found[nothing.digest], model.log_probs(IDS, adapter=None)[0], atol=1e-6)
    tuned = model.log_probs(IDS, adapter=model.add_adapter(Path(adapter.path)))[0]
    assert not torch.allclose(found[half.digest], tuned, atol=1e-2)


def update_of(adapter: Adapter) -> dict[str, torch.Tensor]:
    """By layer, what the adapter adds to its weight at scale 1."""
    from peft import LoraConfig
    from safetensors.torch import load_file

    config, tensors = (
        LoraConfig.from_pretrained(adapter.path),
        load_file(Path(adapter.path) / "adapter_model.safetensors"),
    )
    return {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"):
            config.lora_alpha / config.r * tensors[name.replace("lora_A", "lora_B")] @ a
        for name, a in tensors.items() if "lora_A" in name
    }  # fmt: skip


def test_a_damaged_adapter_gives_no_copies(adapter: Adapter, tmp_path: Path) -> None:
    (Path(adapter.path) / "COMPLETE").unlink()

    with pytest.raises(WeightsError, match="no COMPLETE marker"):
        scaled(adapter, tmp_path, 1.0)


def test_a_search_tries_the_recipes_own_scale_and_then_only_weaker_ones() -> None:
    assert Recipe(scale=0.7).scales == (0.7,)
    assert Recipe(scale=0.7, scale_search=True).scales == (0.7, 0.55, 0.4)
    assert Recipe(scale=1.0, scale_search=True).scales == SCALES
    assert Recipe(scale=0.2, scale_search=True).scales == (0.2,)
