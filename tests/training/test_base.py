"""A base too large for half of the memory is trained in 4 bit; what comes out fits the whole base."""

import importlib.util
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from transformers import LlamaForCausalLM

from bot.engine.model import LoadedModel, best_dtype
from storage.clock import utc_now
from storage.errors import ConfigurationError
from storage.weights import base_digest
from tests.training.test_lora import RECIPE, dataset
from training import base as bases
from training.base import bits_of, load_base, memory_of, parameters, wants_four_bits
from training.lora import tune

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def test_weights_that_leave_less_than_half_of_the_memory_are_held_in_four_bits() -> None:
    assert [wants_four_bits(weights, 80) for weights in (0, 40, 41, 100)] == [False, False, True, True]


def test_what_a_base_takes_is_read_from_its_files(tiny_folder: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny_folder)

    assert parameters(tiny_folder) == sum(p.numel() for p in model.parameters())
    assert memory_of("cpu") > 2**28


def test_a_base_that_fits_is_loaded_whole(tiny_folder: Path) -> None:
    model = load_base(tiny_folder, "cpu")

    assert model.dtype is best_dtype() and bits_of(model) == 8 * best_dtype().itemsize


def test_without_the_extra_the_error_names_it_and_the_sizes(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "memory_of", lambda _: 2**10)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(
        ConfigurationError, match=r"0.0 GiB of cpu: .*Next: pip install 'evenkeel\[qlora\]', or a smaller"
    ):
        load_base(tiny_folder, "cpu")


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="the extra qlora is not installed")
def test_an_adapter_trained_on_four_bits_learns_leaves_the_base_alone_and_fits_the_whole_base(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bases, "memory_of", lambda _: 2**10)
    before, frozen = base_digest(tiny_folder), load_base(tiny_folder, "cpu")
    assert bits_of(frozen) == 4 and frozen.model.layers[0].mlp.up_proj.weight.dtype is torch.uint8

    adapter = tune(base=tiny_folder, dataset=dataset(), recipe=RECIPE, weights_dir=tmp_path, checkpoints=tmp_path / "c",
                   run_id=1, progress=lambda _: None, cancelled=lambda: False, clock=utc_now)  # fmt: skip

    assert adapter.stats["base_bits"] == 4 and adapter.stats["losses"][-1] < adapter.stats["losses"][0]
    assert base_digest(tiny_folder) == before and LoraConfig.from_pretrained(adapter.path).r == RECIPE.lora_rank
    model = LoadedModel.load(tiny_folder, device="cpu", dtype=torch.float32)
    digest = model.add_adapter(Path(adapter.path))
    base, tuned = (model.log_probs([[5, 6, 7, 8]], adapter=who)[0] for who in (None, digest))
    assert not torch.allclose(base, tuned, atol=1e-4)
