"""Training on a tiny real model: the loss is what it should be, a killed run goes on as if it had not been killed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

from bot.engine.model import LoadedModel
from storage.clock import utc_now
from storage.errors import EvenkeelError, RecipeError, TooLittleData
from storage.recipe import Recipe
from storage.records import Adapter, Dataset, Lesson
from training import loop as loops
from training.batches import Row
from training.loop import Loop, TrainingProgress
from training.lora import Cancelled, render, tune, with_lora

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
RECIPE = Recipe(lora_rank=4, learning_rate=5e-3, epochs=2, batch_size=4, max_tokens=256, seed=3)


def lessons(count: int) -> tuple[Lesson, ...]:
    return tuple(Lesson(lesson_id=f"l{n}", source="ticket", conversation_id=f"c{n}", answer=f"Answer {n}: press {'x' * (n % 5)}.",
                        messages=({"role": "user", "content": f"Question {n}{'?' * (n % 7)}"},)) for n in range(count))  # fmt: skip


def dataset(count: int = 14) -> Dataset:
    return Dataset(digest=f"d{count}", train=lessons(count), holdout=(), manifest={})


Train = Callable[..., Adapter]


@pytest.fixture
def train(tiny_folder: Path, tmp_path: Path) -> Train:
    def run(
        recipe: Recipe = RECIPE, *, checkpoints: str = "c", stop_after: int | None = None, data: Dataset | None = None
    ) -> Adapter:
        seen: list[TrainingProgress] = []
        return tune(base=tiny_folder, dataset=data or dataset(), recipe=recipe, weights_dir=tmp_path, checkpoints=tmp_path / checkpoints,
                    run_id=1, progress=seen.append, clock=utc_now,
                    cancelled=lambda: stop_after is not None and len(seen) >= stop_after)  # fmt: skip

    return run


def loop(folder: Path, recipe: Recipe = RECIPE) -> Loop:
    rows, _ = render(lessons(9), LoadedModel.load(folder, device="cpu").renderer, 256)
    torch.manual_seed(0)
    return Loop(with_lora(LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32), recipe), rows, recipe, 1e-3)


def test_a_fresh_adapter_speaks_as_the_base(tiny_folder: Path) -> None:
    bare, ids = LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32), torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        wanted = bare(ids).logits
        found = with_lora(bare, RECIPE)(ids).logits

    assert torch.equal(wanted, found)


def test_the_loss_is_the_cross_entropy_of_the_answers_tokens_whatever_the_padding(tiny_folder: Path) -> None:
    made = loop(tiny_folder)
    wanted = torch.tensor(0.0)
    for row in made.rows:
        ids, mask = torch.tensor([row.ids]), torch.tensor(row.mask)
        logits = made.model(ids).logits[0, :-1].float()
        wanted += functional.cross_entropy(logits[mask[1:]], ids[0, 1:][mask[1:]], reduction="sum")

    found = made.objective(made.rows, loops.Sums())

    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)
    assert sum(r.answer_tokens for r in made.rows) == sum(sum(r.mask) for r in made.rows)


def test_micro_batches_add_up_to_the_gradient_of_the_whole_batch(tiny_folder: Path) -> None:
    after = []
    for budget in (10_000, 1):
        made = loop(tiny_folder)
        made.pass_tokens = budget
        made.advance()
        after.append((made.losses[0], [p.detach().clone() for p in made.parameters]))

    assert after[0][0] == pytest.approx(after[1][0], rel=1e-4)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(after[0][1], after[1][1], strict=True))


def test_training_lowers_the_loss_and_what_is_kept_changes_the_engines_answers(train: Train, tiny_folder: Path) -> None:
    adapter = train(Recipe(lora_rank=4, learning_rate=2e-2, epochs=6, batch_size=4, seed=3))

    assert adapter.stats["losses"][-1] < adapter.stats["losses"][0] - 0.2 and adapter.stats["tokens"] > 0
    config = json.loads((Path(adapter.path) / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "evenkeel-base" and str(tiny_folder) not in json.dumps(config)
    model = LoadedModel.load(tiny_folder, device="cpu", dtype=torch.float32)
    digest = model.add_adapter(Path(adapter.path))
    base, tuned = (model.log_probs([[5, 6, 7, 8]], adapter=who)[0] for who in (None, digest))
    assert digest == adapter.digest and not torch.allclose(base, tuned, atol=1e-3)


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(train: Train) -> None:
    first, again, other = (
        train(),
        train(checkpoints="c2"),
        train(Recipe(**{**RECIPE.to_dict(), "seed": 4}), checkpoints="c3"),
    )

    assert first.digest == again.digest != other.digest


def test_a_stopped_run_goes_on_from_its_checkpoint_to_the_same_weights(train: Train) -> None:
    whole = train(checkpoints="whole")
    with pytest.raises(Cancelled, match="step 3 of 7"):
        train(checkpoints="cut", stop_after=3)

    assert train(checkpoints="cut").digest == whole.digest


WATCHED = Recipe(**{**RECIPE.to_dict(), "early_stop": True, "kl_weight": 0.1})


def test_a_stopped_run_that_was_watched_keeps_the_same_best_state(train: Train) -> None:
    many = dataset(60)
    whole = train(WATCHED, checkpoints="whole", data=many)
    with pytest.raises(Cancelled):
        train(WATCHED, checkpoints="cut", stop_after=17, data=many)

    again = train(WATCHED, checkpoints="cut", data=many)

    assert whole.stats["looks"] and again.digest == whole.digest and again.stats["looks"] == whole.stats["looks"]
    assert whole.stats["rows_watched"] == 4 and whole.stats["kept_step"] in [look[0] for look in whole.stats["looks"]]


@pytest.mark.parametrize("lost", ["state.json", "trainer.pt", "adapter.safetensors"])
def test_a_killed_checkpoint_without_one_of_its_files_costs_one_interval_and_never_the_run(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """The best state lies inside a checkpoint, so that there is no path to it that could be gone."""
    monkeypatch.setattr("training.lora.CHECKPOINT_EVERY_S", 0.0)
    many = dataset(60)
    whole = train(WATCHED, checkpoints="whole", data=many)
    with pytest.raises(Cancelled):
        train(WATCHED, checkpoints="cut", stop_after=17, data=many)
    newest_one = sorted((tmp_path / "cut").glob("step-*"))[-1]
    (newest_one / lost).unlink()

    assert newest_one.name == "step-000017"
    assert train(WATCHED, checkpoints="cut", data=many).digest == whole.digest


def test_a_learning_rate_that_would_diverge_is_refused_before_the_first_step(train: Train) -> None:
    with pytest.raises(
        RecipeError, match="lr=0.05 is more than 20 times what a base of width 32 takes.*Next: leave lr empty"
    ):
        train(Recipe(**{**RECIPE.to_dict(), "learning_rate": 0.05}))


DRIVER = """
import sys
import time
from pathlib import Path
from storage.clock import utc_now
from tests.training import test_lora as t
from training import lora

lora.CHECKPOINT_EVERY_S = 0.0
base, room = Path(sys.argv[1]), Path(sys.argv[2])

def show(progress):
    if progress.step == 5:
        print("five", flush=True)
        time.sleep(60)

lora.tune(base=base, dataset=t.dataset(), recipe=t.RECIPE, weights_dir=room, checkpoints=room / "c", run_id=1,
          progress=show, cancelled=lambda: False, clock=utc_now)
"""


@pytest.mark.model  # no model is fetched, but a process that loads torch: too slow for `make check`
def test_a_run_that_is_killed_goes_on_to_the_same_weights(train: Train, tiny_folder: Path, tmp_path: Path) -> None:
    wanted = train(checkpoints="whole").digest
    shutil.rmtree(tmp_path / "adapters")
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tiny_folder), str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "five\n"
        driver.kill()

    assert driver.returncode == -9 and not (tmp_path / "adapters").exists()
    seen: list[TrainingProgress] = []
    adapter = tune(base=tiny_folder, dataset=dataset(), recipe=RECIPE, weights_dir=tmp_path, checkpoints=tmp_path / "c", run_id=1,
                   progress=seen.append, clock=utc_now, cancelled=lambda: False)  # fmt: skip
    assert adapter.digest == wanted and seen[0].step == 5


def test_a_checkpoint_of_another_recipe_is_ignored(train: Train) -> None:
    other = Recipe(**{**RECIPE.to_dict(), "seed": 4})
    fresh = train(other, checkpoints="fresh")
    with pytest.raises(Cancelled):
        train(checkpoints="shared", stop_after=2)

    assert train(other, checkpoints="shared").digest == fresh.digest


def test_rows_that_do_not_fit_are_dropped_and_counted_never_cut(train: Train, tiny_folder: Path) -> None:
    renderer = LoadedModel.load(tiny_folder, device="cpu").renderer
    sizes = sorted(len(renderer.example(x.messages, x.answer)[0]) for x in lessons(14))
    limit = max(64, sizes[6])

    kept, dropped = render(lessons(14), renderer, limit)

    assert dropped == sum(s > limit for s in sizes) and len(kept) + dropped == 14
    assert all(isinstance(row, Row) and len(row.ids) <= limit for row in kept)
    with pytest.raises(TooLittleData, match="none of 14 rows fits into max_tokens=5"):
        render(lessons(14), renderer, 5)


def test_general_rows_alone_are_not_trained_on_when_every_lesson_is_too_long(tiny_folder: Path) -> None:
    renderer = LoadedModel.load(tiny_folder, device="cpu").renderer
    long, short = lessons(2)
    long = replace(long, source="ticket", answer="Open the menu. " * 200)
    short = replace(short, source="replay", answer="Yes.")

    with pytest.raises(TooLittleData, match="none of 1 lessons fits into max_tokens=256; general rows do"):
        render([long, short], renderer, 256)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_learning_rate(tiny_folder: Path) -> None:
    made = loop(tiny_folder)
    with torch.no_grad():
        made.parameters[0].fill_(float("nan"))

    with pytest.raises(EvenkeelError, match="diverged. Next: a lower lr .it was 0.001"):
        made.advance()


def test_a_gradient_that_is_no_number_never_reaches_the_weights(tiny_folder: Path) -> None:
    made = loop(tiny_folder)
    made.parameters[0].register_hook(lambda gradient: gradient * float("inf"))

    with pytest.raises(EvenkeelError, match="its gradient (nan|inf) at step 1: training diverged"):
        made.advance()
    assert all(torch.isfinite(p).all() for p in made.parameters)
