"""A direction that the base does not have is found and mostly taken out; everything else of the adapter stays."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from bot.engine.model import LoadedModel
from storage.clock import utc_now
from storage.records import Adapter
from storage.weights import ADAPTER_FILES
from tests.training.test_lora import RECIPE, dataset
from training.intruders import TAKEN_OUT, intruders, take_out
from training.lora import tune, with_lora

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
PLANTED = "model.layers.1.self_attn.q_proj"


@pytest.fixture
def model(tiny_folder: Path) -> Any:
    """An adapter that only adds to directions of the base: none of it is new."""
    made = with_lora(LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32), RECIPE)
    for layer in made.modules():
        if hasattr(layer, "lora_B"):
            u, _, v = torch.linalg.svd(layer.get_base_layer().weight.detach(), full_matrices=False)
            layer.lora_A["default"].weight.data = 0.3 * v[:4].clone()
            layer.lora_B["default"].weight.data = 0.3 * u[:, :4].clone()
    return made


def at(model: Any) -> Any:
    return model.get_base_model().get_submodule(PLANTED)


def plant(model: Any) -> torch.Tensor:
    """Give one layer a strong direction that is a bit of all the base's and much of none, in the place of its fourth."""
    layer = at(model)
    u, s, v = torch.linalg.svd(layer.get_base_layer().weight.detach(), full_matrices=False)
    new = u[:, 4:].mean(1) / u[:, 4:].mean(1).norm()
    layer.lora_B["default"].weight.data[:, 3] = new
    layer.lora_A["default"].weight.data[3] = 20 * s[0] * v[4:].mean(0) / v[4:].mean(0).norm()
    return new


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model).items()}


def test_a_planted_intruder_is_found_and_reduced_and_nothing_else_moves(model: Any) -> None:
    new, before = plant(model), state(model)

    found = take_out(model)

    after, moved = state(model), f"base_model.model.{PLANTED}.lora_B.weight"
    assert (found["found"], found["layers"]) == (1, 1) and found["looked"] == 14 * 10
    assert [name for name, tensor in before.items() if not torch.equal(tensor, after[name])] == [moved]
    left, had = after[moved], before[moved]
    assert float(new @ left[:, 3]) == pytest.approx((1 - TAKEN_OUT) * float(new @ had[:, 3]), rel=1e-2)
    aside = torch.eye(len(new)) - torch.outer(new, new)
    assert torch.allclose(aside @ left, aside @ had, atol=2e-2) and left.shape == had.shape


def test_an_adapter_that_only_adds_to_what_the_base_has_stays_bit_for_bit(model: Any) -> None:
    before = state(model)

    assert take_out(model)["found"] == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(model).items())


def test_the_base_is_no_intruder_to_itself() -> None:
    weight = torch.randn(24, 40, generator=torch.Generator().manual_seed(1))

    strangers, looked = intruders(weight, torch.zeros_like(weight))

    assert strangers.shape == (24, 0) and looked == 10


Tune = Callable[[bool], Adapter]


@pytest.fixture
def trained(tiny_folder: Path, tmp_path: Path) -> Tune:
    def run(cut: bool) -> Adapter:
        recipe = replace(RECIPE, learning_rate=2e-2, epochs=6, cut_intruders=cut)
        return tune(base=tiny_folder, dataset=dataset(), recipe=recipe, weights_dir=tmp_path, checkpoints=tmp_path / str(cut),
                    run_id=1, progress=lambda _: None, cancelled=lambda: False, clock=utc_now)  # fmt: skip

    return run


def test_the_switch_makes_a_smaller_adapter_that_the_engine_loads_and_says_how_many_there_were(
    trained: Tune, tiny_folder: Path
) -> None:
    loud, cut = trained(False), trained(True)
    model = LoadedModel.load(tiny_folder, device="cpu", dtype=torch.float32)
    assert model.add_adapter(Path(cut.path)) == cut.digest != loud.digest
    before, after = (load_file(Path(a.path) / ADAPTER_FILES[1]) for a in (loud, cut))

    assert "intruders" not in loud.stats and cut.stats["intruders"]["found"] > 0
    assert cut.stats["losses"] == loud.stats["losses"] and cut.recipe["cut_intruders"] is True
    smaller = {name for name, tensor in after.items() if tensor.norm() < before[name].norm()}
    assert len(smaller) == cut.stats["intruders"]["layers"] and all("lora_B" in name for name in smaller)
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items() if name not in smaller)
