"""A half-written or foreign checkpoint is never resumed from."""

import shutil
from pathlib import Path

import pytest
import torch

from training.checkpoints import Checkpoint, newest, save, steps


def checkpoint(step: int, identity: str = "run") -> Checkpoint:
    optimiser = {"state": {0: {"step": torch.tensor(float(step))}}, "param_groups": [{"lr": 0.001}]}
    return Checkpoint(
        step=step,
        identity=identity,
        adapter={"a": torch.full((2, 3), float(step))},
        trainer={"optimiser": optimiser, "random": torch.get_rng_state()},
        state={"tokens": 10 * step, "losses": [1.0, 0.5]},
    )


def test_the_newest_comes_back_as_it_was_written_and_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save(tmp_path, checkpoint(step))

    found = newest(tmp_path, "run")

    assert found and (found.step, found.state) == (15, {"tokens": 150, "losses": [1.0, 0.5]})
    assert torch.equal(found.adapter["a"], torch.full((2, 3), 15.0))
    assert float(found.trainer["optimiser"]["state"][0]["step"]) == 15.0
    assert [p.name for p in steps(tmp_path)] == ["step-000010", "step-000015"]


@pytest.mark.parametrize("name", ["adapter.safetensors", "trainer.pt", "state.json", "COMPLETE"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "missing"])
def test_a_checkpoint_with_a_damaged_file_is_skipped_for_the_one_before(tmp_path: Path, name: str, damage: str) -> None:
    save(tmp_path, checkpoint(5))
    victim = save(tmp_path, checkpoint(10)) / name
    if damage == "truncate":
        victim.write_bytes(victim.read_bytes()[:-7])
    elif damage == "flip":
        raw = bytearray(victim.read_bytes())
        raw[len(raw) // 2] ^= 1
        victim.write_bytes(raw)
    elif damage == "empty":
        victim.write_bytes(b"")
    else:
        victim.unlink()

    found = newest(tmp_path, "run")

    assert found and found.step == 5


def test_a_checkpoint_of_another_base_dataset_or_recipe_is_not_ours(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(5, "another"))

    assert newest(tmp_path, "run") is None and newest(tmp_path / "none", "run") is None


def test_a_draft_that_a_kill_left_is_no_checkpoint_and_does_not_stand_in_the_way(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(5))
    draft = tmp_path / ".draft-000010"
    draft.mkdir()
    (draft / "trainer.pt").write_bytes(b"half")

    before = newest(tmp_path, "run")
    save(tmp_path, checkpoint(10))
    after = newest(tmp_path, "run")

    assert before and after and (before.step, after.step) == (5, 10) and not draft.exists()


def test_the_folder_may_vanish_between_two_checkpoints(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    save(folder, checkpoint(5))
    shutil.rmtree(folder)

    assert newest(folder, "run") is None
    save(folder, checkpoint(10))
    found = newest(folder, "run")
    assert found and found.step == 10
