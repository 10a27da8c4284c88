"""Several processes make the steps that one makes: split without overlap, added up, written once, killed and gone on with."""

import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from bot.engine.model import LoadedModel
from storage.clock import utc_now
from storage.errors import EvenkeelError, RecipeError
from storage.records import Adapter
from storage.settings import load_settings
from tests.training.test_lora import RECIPE, dataset, lessons
from tests.training.test_preference_loop import pairs
from training import base as bases
from training import crew as crews
from training import preferences
from training.child import run_child
from training.crew import Crew, crew, processes, start
from training.dataset import digest_of_rows, save_dataset
from training.loop import CLIP, Loop, Sums, schedule
from training.lora import render, tune, with_lora

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(1, 5))
def test_every_row_is_exactly_one_processs_and_their_numbers_differ_by_one_at_most(
    lengths: list[int], size: int
) -> None:
    parts = [Crew(place=place, size=size).mine(range(len(lengths)), lengths) for place in range(size)]

    assert sorted(n for part in parts for n in part) == list(range(len(lengths)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_there_is_one_process_a_gpu_and_no_more_than_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for gpus in (0, 1, 4, 32):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        found.append(processes(16))

    assert found == [1, 1, 4, 16]


def test_alone_nothing_is_launched_and_nothing_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("it became a launcher"))
    monkeypatch.setattr(crews, "PartialState", lambda **_: pytest.fail("it asked for others"))
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")

    start(1, {"file": "job.json"})
    alone = crew()

    assert (alone.place, alone.size, alone.is_first) == (0, 1, True)
    assert alone.add_up([0.1, 2.0]) == [0.1, 2.0] and alone.from_first(lambda: "mine") == "mine"


def test_alone_the_losses_are_bit_for_bit_those_of_a_plain_loop(tiny_folder: Path) -> None:
    rows, _ = render(lessons(9), LoadedModel.load(tiny_folder, device="cpu").renderer, 256)

    def fresh() -> Loop:
        torch.manual_seed(0)
        model = with_lora(LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32), RECIPE)
        return Loop(model, rows, RECIPE, 5e-3)

    ours, plain, losses = fresh(), fresh(), []
    for step, numbers in enumerate(plain.steps):
        ours.advance()
        sums, wanted = Sums(), sum(rows[n].answer_tokens for n in numbers)
        longest_first = sorted(range(len(numbers)), key=lambda n: (-len(rows[numbers[n]].ids), n))
        torch.autograd.backward(plain.objective([rows[numbers[n]] for n in longest_first], sums) / wanted)
        torch.nn.utils.clip_grad_norm_(plain.parameters, CLIP)
        plain.optimiser.param_groups[0]["lr"] = 5e-3 * schedule(step, len(plain.steps))
        plain.optimiser.step()
        plain.optimiser.zero_grad()
        losses.append(round(sums.loss / wanted, 5))

    assert ours.is_done and ours.losses == losses
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters, plain.parameters, strict=True))


# With two processes of the real child

FEW = {"FEWEST_PAIRS": 8, "FEWEST_VERDICTS": 16, "FEWEST_OF_A_KIND": 3}
SITE = f"""
import sys
import torch
torch.cuda.device_count = lambda: 2
from training import base, lora, preferences
base.best_dtype = lambda _: torch.float32
lora.CHECKPOINT_EVERY_S = 0.0
for name, few in {FEW!r}.items():
    setattr(preferences, name, few)
"""
DATA = replace(dataset(60), preferences=tuple(pairs()), digest=digest_of_rows(lessons(60), (), tuple(pairs())))
ALL = replace(RECIPE, preferences=True, kl_weight=0.1, early_stop=True, learning_rate=1e-3)


@pytest.fixture
def job(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A training that finds two devices, which are this machine's processor."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{Path.cwd()}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = load_settings(_env_file=None, data_dir=tmp_path / "var")
    return {
        "settings": settings.model_dump(mode="json"), "base": str(tiny_folder), "run_id": 1, "recipe": ALL.to_dict(),
        "dataset": str(save_dataset(DATA, settings.datasets_dir)), "checkpoints": str(tmp_path / "checkpoints"),
    }  # fmt: skip


@pytest.fixture
def alone(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Adapter]:
    for name, few in FEW.items():
        monkeypatch.setattr(preferences, name, few)
    monkeypatch.setattr(bases, "best_dtype", lambda _: torch.float32)

    def run() -> Adapter:
        return tune(base=tiny_folder, dataset=DATA, recipe=ALL, weights_dir=tmp_path / "alone", checkpoints=tmp_path / "c1", run_id=1,
                    progress=lambda _: None, cancelled=lambda: False, clock=utc_now)  # fmt: skip

    return run


def curve(stats: Mapping[str, Any]) -> list[float]:
    return [*stats["losses"], *stats["preferences"]["losses"]]


@pytest.mark.model  # no model is fetched, but processes that load torch: too slow for `make check`
def test_two_processes_have_the_losses_of_one_and_only_one_of_them_tells(
    job: dict[str, Any], alone: Callable[[], Adapter], tmp_path: Path
) -> None:
    seen: list[tuple[str, int]] = []
    wanted = alone()

    made = run_child("tune", job, lambda p: seen.append((p["text"][:5], p["done"])) if p else None)

    assert made["stats"]["processes"] == 2 and wanted.stats["processes"] == 1
    assert curve(made["stats"]) == pytest.approx(curve(wanted.stats), abs=1.01e-5)
    assert made["stats"]["looks"] and made["stats"]["tokens"] == wanted.stats["tokens"]
    assert len(seen) == len(set(seen)) == len(curve(wanted.stats))
    assert [path.name for path in (tmp_path / "var" / "weights" / "adapters").iterdir()] == [made["digest"]]


def environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def crew_of(checkpoints: str) -> dict[bytes, int]:
    """The processes of the launcher that this test started, by rank."""
    mine = f"PYTHONPATH={Path(checkpoints).parent / 'site'}".encode()
    found = ((process, environment(process).split(b"\0")) for process in Path("/proc").glob("[0-9]*"))
    return {
        next(line for line in lines if line.startswith(b"RANK=")): int(process.name)
        for process, lines in found
        if any(line.startswith(mine) for line in lines) and any(line.startswith(b"RANK=") for line in lines)
    }


@pytest.mark.model
def test_when_one_process_is_killed_all_end_and_the_next_run_goes_on_from_the_checkpoint(
    job: dict[str, Any], alone: Callable[[], Adapter]
) -> None:
    def kill(progress: Mapping[str, Any] | None) -> None:
        if progress and progress["done"] == 5:
            os.kill(crew_of(job["checkpoints"])[b"RANK=1"], signal.SIGKILL)

    with pytest.raises(EvenkeelError, match="tune ended with code 1: (?s:.*)Signal 9"):
        run_child("tune", job, kill)
    assert not crew_of(job["checkpoints"])
    seen: list[int] = []

    made = run_child("tune", job, lambda p: seen.append(p["done"]) if p else None)

    assert seen[0] >= 5 and curve(made["stats"]) == pytest.approx(curve(alone().stats), abs=1.01e-5)


@pytest.mark.model
def test_a_cancelled_run_saves_a_checkpoint_of_all_and_leaves_no_process(job: dict[str, Any]) -> None:
    def cancel(progress: Mapping[str, Any] | None) -> None:
        if progress and progress["done"] >= 3:
            raise InterruptedError("cancelled")

    with pytest.raises(InterruptedError):
        run_child("tune", job | {"recipe": replace(ALL, epochs=20.0).to_dict()}, cancel)

    newest = sorted(Path(job["checkpoints"]).glob("step-*"))[-1]
    assert not crew_of(job["checkpoints"]) and json.loads((newest / "state.json").read_text())["step"] >= 3


@pytest.mark.model
def test_what_one_process_says_on_purpose_comes_back_as_it_said_it(job: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="more than 20 times what a base of width 32 takes"):
        run_child("tune", job | {"recipe": replace(ALL, learning_rate=0.05).to_dict()}, lambda _: None)
