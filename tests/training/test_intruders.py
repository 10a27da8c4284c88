"""Taking intruders out leaves an adapter like any other, and leaves alone one that has none."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bot.engine.model import LoadedModel
from storage.clock import utc_now
from storage.errors import WeightsError
from storage.records import Adapter
from storage.weights import ADAPTER_FILES, base_digest, keep_adapter, verify_adapter
from tests.eval.conftest import _adapter
from training.intruders import without_intruders

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
IDS = [[5, 6, 7, 8, 9]]


def adapter_at(path: Path, base: Path) -> Adapter:
    return Adapter(digest=path.name, base_digest=base_digest(base), dataset_digest="d", path=str(path), recipe={"lora_rank": 4},
                   run_id=3, stats={}, created_at=utc_now())  # fmt: skip


@pytest.fixture
def loud(tiny_folder: Path, tmp_path: Path) -> Adapter:
    """An adapter whose update is larger than what it updates: all of its directions are new to the base."""
    return adapter_at(_adapter(tiny_folder, tmp_path, 7), tiny_folder)


@pytest.fixture
def still(loud: Adapter, tiny_folder: Path, tmp_path: Path) -> Adapter:
    """One that changes next to nothing."""

    def write(folder: Path) -> None:
        config, weights = ADAPTER_FILES
        (folder / config).write_bytes((Path(loud.path) / config).read_bytes())
        tensors = load_file(Path(loud.path) / weights)
        save_file({name: t * 1e-6 if "lora_B" in name else t for name, t in tensors.items()}, folder / weights)

    return adapter_at(keep_adapter(tmp_path, write, {"base_digest": loud.base_digest})[1], tiny_folder)


def drift(adapter: Adapter, base: Path) -> float:
    """How far the adapter moves the log-probabilities of a text."""
    model = LoadedModel.load(base, device="cpu", dtype=torch.float32)
    said = model.log_probs(IDS, adapter=model.add_adapter(Path(adapter.path)))[0]
    return float((said - model.log_probs(IDS, adapter=None)[0]).abs().mean())


def test_what_remains_is_a_whole_adapter_that_is_nearer_to_the_base(
    loud: Adapter, tiny_folder: Path, tmp_path: Path
) -> None:
    made = without_intruders(loud, tiny_folder, tmp_path)

    manifest = verify_adapter(Path(made.path), base=loud.base_digest)
    config = json.loads((Path(made.path) / "adapter_config.json").read_text())
    assert made.digest != loud.digest and manifest["recipe"] == made.recipe == {
        "lora_rank": 4,
        "intruders_of": loud.digest,
    }
    assert config["base_model_name_or_path"] == "evenkeel-base" and config["r"] == 4
    assert 0 < drift(made, tiny_folder) < drift(loud, tiny_folder)


def test_an_adapter_without_intruders_speaks_as_before(still: Adapter, tiny_folder: Path, tmp_path: Path) -> None:
    made = without_intruders(still, tiny_folder, tmp_path)

    before, after = (load_file(Path(a.path) / ADAPTER_FILES[1]) for a in (still, made))
    assert before.keys() == after.keys() and all(torch.equal(t, after[name]) for name, t in before.items())


def test_a_damaged_adapter_is_refused(loud: Adapter, tiny_folder: Path, tmp_path: Path) -> None:
    (Path(loud.path) / "COMPLETE").unlink()

    with pytest.raises(WeightsError, match="no COMPLETE marker"):
        without_intruders(loud, tiny_folder, tmp_path)
