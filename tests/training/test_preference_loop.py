"""The stage after the lessons on a tiny real model: its gradient is that of the loss of whole answers, it goes on after a kill."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

from bot.engine.model import LoadedModel
from bot.engine.render import Renderer
from storage.clock import utc_now
from storage.recipe import Recipe
from storage.records import Adapter, Dataset, Preference
from tests.training.test_loop import Scarce
from tests.training.test_lora import RECIPE, lessons
from training import preferences
from training.batches import Row
from training.loop import Loop, TrainingProgress
from training.lora import Cancelled, render, tune, with_lora
from training.preference_loop import BETA, SFT_TERM, PreferenceLoop, material_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
ON = replace(RECIPE, preferences=True, learning_rate=1.5e-2)
Make = Callable[..., PreferenceLoop]
Tune = Callable[..., Adapter]


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in {"FEWEST_PAIRS": 8, "FEWEST_VERDICTS": 16, "FEWEST_OF_A_KIND": 3}.items():
        monkeypatch.setattr(preferences, name, few)


def preference(n: int, answer: str, rejected: str) -> Preference:
    return Preference(lesson_id=f"p{n:02}", source="correction", conversation_id=f"c{n}", how="corrected", answer=answer,
                      rejected=rejected, messages=({"role": "user", "content": f"Where is {n}?"},))  # fmt: skip


def pairs(count: int = 9) -> list[Preference]:
    return [preference(n, f"Here: {n}{'.' * (n % 4)}", f"No idea{'!' * (n % 3)}") for n in range(count)]


def verdicts(good: int = 12, bad: int = 6) -> list[Preference]:
    """So many answers that were liked, so many that were not, none of them in a pair."""
    return [preference(n, *((f"Here: {n}", "") if n < good else ("", f"No idea {n}"))) for n in range(good + bad)]


@pytest.fixture
def renderer(tiny_folder: Path) -> Renderer:
    return LoadedModel.load(tiny_folder, device="cpu").renderer


def move(loop: Loop, std: float) -> None:
    for name, weight in loop.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=std)


@pytest.fixture
def make(tiny_folder: Path, renderer: Renderer) -> Make:
    """A stage that has begun on a moved adapter, and then moved on from there."""

    def stage(told: list[Preference], **levers: Any) -> PreferenceLoop:
        torch.manual_seed(0)
        recipe = replace(ON, **levers)
        model = with_lora(LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32), recipe)
        loop = Loop(model, render(lessons(9), renderer, 256)[0], recipe, 1e-2)
        loop.advance()
        move(loop, 0.05)
        made = PreferenceLoop(loop, material_of(told, renderer, 256))
        made.begin(loop)
        move(made, 0.1)
        return made

    return stage


def said(stage: PreferenceLoop, row: Row) -> torch.Tensor:
    """The log-probability of a row's answer by the whole model, with its gradient."""
    ids, wanted = torch.tensor([row.ids]), torch.tensor(row.mask)[1:]
    logits = stage.model(ids).logits[0, :-1].float()
    return -functional.cross_entropy(logits[wanted], ids[0, 1:][wanted], reduction="sum")


def gradients(stage: PreferenceLoop) -> list[torch.Tensor]:
    found = [p.grad.clone() for p in stage.parameters if p.grad is not None]
    stage.optimiser.zero_grad(set_to_none=True)
    return found


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    scale = max(float(x.abs().max()) for x in one)
    return len(one) == len(other) > 10 and all(
        torch.allclose(a, b, atol=1e-4 * scale, rtol=1e-3) for a, b in zip(one, other, strict=True)
    )


def test_a_step_of_pairs_has_the_gradient_of_dpo_with_its_sft_term(make: Make) -> None:
    stage = make(pairs())
    numbers, wanted = stage.steps[0], torch.tensor(0.0)
    for first, second in zip(numbers[::2], numbers[1::2], strict=True):
        better, worse = (said(stage, stage.rows[n]) for n in (first, second))
        margin = (better - stage.reference[first]) - (worse - stage.reference[second])
        wanted = wanted - functional.logsigmoid(BETA * margin) - SFT_TERM * better / stage.rows[first].answer_tokens
    wanted = wanted / (len(numbers) / 2)
    torch.autograd.backward(wanted)
    by_hand = gradients(stage)

    found = stage.passes(numbers)

    assert found == pytest.approx(wanted.item(), rel=1e-4) and same(by_hand, gradients(stage))


def test_what_is_read_before_and_after_the_stage_is_heard_pass_by_pass(make: Make) -> None:
    stage, heard = make(pairs()), list[bool]()
    stage.alive, stage.pass_tokens = lambda: heard.append(True), 1

    stage.said()

    assert len(heard) == len(stage.rows)


def test_a_step_of_verdicts_has_the_gradient_of_kto_with_the_rarer_verdict_made_up_for(make: Make) -> None:
    stage = make(verdicts(good=12, bad=6))
    numbers = stage.steps[0]
    with torch.no_grad():
        gained = [float(said(stage, stage.rows[n]) - stage.reference[n]) for n in numbers[1::2]]
    drift, losses = max(0.0, sum(gained) / len(gained)), []
    for n in numbers[::2]:
        gain = BETA * (said(stage, stage.rows[n]) - stage.reference[n] - drift)
        losses.append(1 - gain.sigmoid() if stage.good[n // 2] else 2.0 * (1 - (-gain).sigmoid()))
    wanted = torch.stack(losses).mean()
    torch.autograd.backward(wanted)
    by_hand = gradients(stage)

    found = stage.passes(numbers)

    assert found == pytest.approx(wanted.item(), rel=1e-4) and same(by_hand, gradients(stage))


@pytest.mark.parametrize("told", [pairs(), verdicts()])
def test_a_step_is_the_same_however_its_rows_are_split(make: Make, told: list[Preference]) -> None:
    stage = make(told)
    whole, at_once = stage.passes(stage.steps[0]), gradients(stage)

    stage.pass_tokens = 1

    assert stage.passes(stage.steps[0]) == pytest.approx(whole, rel=1e-4) and same(at_once, gradients(stage))


def test_where_memory_runs_out_the_passes_get_smaller_from_the_first_look_on(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy, tight = make(pairs()), make(pairs())
    scarce = Scarce(tight, 100, MemoryError)
    monkeypatch.setattr(tight, "at_answers", scarce)
    assert torch.allclose(tight.said(), roomy.said(), atol=1e-3) and scarce.refused

    while not roomy.is_done:
        roomy.advance()
        tight.advance()

    assert max(scarce.passes) <= 100 and tight.losses == pytest.approx(roomy.losses, abs=1e-3)


@pytest.mark.parametrize("told", [pairs(), verdicts()])
def test_where_only_the_gradient_is_too_much_the_step_stays_the_same(
    make: Make, monkeypatch: pytest.MonkeyPatch, told: list[Preference]
) -> None:
    roomy, tight = make(told), make(told)
    scarce, real = Scarce(tight, 100, MemoryError), tight.at_answers
    monkeypatch.setattr(tight, "at_answers", lambda rows: (scarce if torch.is_grad_enabled() else real)(rows))

    loss, wanted = roomy.passes(roomy.steps[0]), gradients(roomy)

    assert tight.passes(tight.steps[0]) == pytest.approx(loss, rel=1e-4) and same(wanted, gradients(tight))
    assert scarce.refused and tight.pass_tokens < roomy.pass_tokens


def parts(row: Row) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A row's prompt and its answer."""
    start = row.mask.index(True)
    return row.ids[:start], row.ids[start:]


def test_verdicts_measure_the_drift_on_answers_to_other_questions(renderer: Renderer) -> None:
    told = [*verdicts(), preference(99, "Here it is.", "No idea at all.")]
    found = material_of(told, renderer, 256)

    assert found.counted.method == "KTO" and len(found.rows) == 2 * len(found.good) == 40
    asked, answers = zip(*(parts(row) for row in found.rows), strict=True)
    assert all(asked[n] == asked[n + 1] for n in range(0, 40, 2))
    own = {question: {answers[n] for n in range(0, 40, 2) if asked[n] == question} for question in asked}
    assert len(own[asked[-1]]) == 2 and not any(answers[n + 1] in own[asked[n]] for n in range(0, 40, 2))


def test_what_does_not_fit_is_left_out_and_may_leave_too_little(renderer: Renderer) -> None:
    long = preference(98, "Here: " + "x" * 300, "No.")

    assert material_of([*pairs(8), long], renderer, 128).counted.pairs == 8
    few = material_of([*pairs(7), long], renderer, 128)
    assert few.rows == () and few.counted.method == "" and "1 pairs are missing" in few.counted.missing


@pytest.fixture
def run(tiny_folder: Path, tmp_path: Path) -> Tune:
    def tuned(
        told: list[Preference], recipe: Recipe = ON, *, checkpoints: str = "c", stop_after: int | None = None,
        seen: list[TrainingProgress] | None = None,
    ) -> Adapter:  # fmt: skip
        shown: list[TrainingProgress] = [] if seen is None else seen
        data = Dataset(digest="d", train=lessons(14), holdout=(), manifest={}, preferences=tuple(told))
        return tune(base=tiny_folder, dataset=data, recipe=recipe, weights_dir=tmp_path, checkpoints=tmp_path / checkpoints, run_id=1,
                    progress=shown.append, cancelled=lambda: stop_after is not None and len(shown) >= stop_after, clock=utc_now)  # fmt: skip

    return tuned


@pytest.mark.parametrize(("told", "method", "units"), [(pairs(), "DPO", "pairs"), (verdicts(), "KTO", "verdicts")])
def test_the_stage_raises_the_better_answers_over_the_worse_ones(
    run: Tune, told: list[Preference], method: str, units: str
) -> None:
    seen: list[TrainingProgress] = []
    plain, adapter = run(told, replace(ON, preferences=False)), run(told, checkpoints="2", seen=seen)

    found = adapter.stats["preferences"]
    assert (found["method"], found["unit"], found["units"]) == (method, units, len(told))
    assert (
        found["margin"] > 0
        and found["accuracy_after"] >= found["accuracy_before"]
        and len(found["losses"]) == found["steps"] > 0
    )
    assert plain.digest != adapter.digest and adapter.stats["losses"] == plain.stats["losses"]
    assert (
        {p.stage for p in seen} == {"", "preferences"}
        and adapter.recipe["preferences"]
        and "preferences" not in plain.stats
    )


def test_below_the_counts_the_run_goes_on_without_it_and_says_what_is_missing(run: Tune) -> None:
    plain, adapter = run(pairs(3), replace(ON, preferences=False)), run(pairs(3), checkpoints="2")

    assert adapter.digest == plain.digest
    assert (
        adapter.stats["preferences"]["method"] == ""
        and "5 pairs are missing for DPO (8)" in adapter.stats["preferences"]["missing"]
    )


@pytest.mark.parametrize("told", [pairs(), verdicts()])
def test_a_run_that_was_stopped_in_the_stage_goes_on_to_the_same_weights_without_the_lessons_again(
    run: Tune, told: list[Preference]
) -> None:
    whole, seen = run(told, checkpoints="whole"), list[TrainingProgress]()
    lessons_steps = len(whole.stats["losses"])
    with pytest.raises(Cancelled, match=r"at step 3 of \d+"):
        run(told, checkpoints="cut", stop_after=lessons_steps + 3)

    again = run(told, checkpoints="cut", seen=seen)

    assert again.digest == whole.digest and {p.stage for p in seen} == {"preferences"} and seen[0].step == 4
    assert again.stats["losses"] == whole.stats["losses"]
    assert again.stats["preferences"] | {"seconds": 0} == whole.stats["preferences"] | {"seconds": 0}


def test_a_run_that_was_stopped_in_the_lessons_or_between_them_and_the_stage_comes_to_the_same_weights(
    run: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(pairs(), checkpoints="whole")
    for name, after in (("lessons", 3), ("between", len(whole.stats["losses"]))):
        with pytest.raises(Cancelled):
            run(pairs(), checkpoints=name, stop_after=after)

        assert run(pairs(), checkpoints=name).digest == whole.digest


def test_a_damaged_checkpoint_of_the_stage_costs_one_interval(
    run: Tune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.lora.CHECKPOINT_EVERY_S", 0.0)
    whole, seen = run(pairs(), checkpoints="whole"), list[TrainingProgress]()
    with pytest.raises(Cancelled):
        run(pairs(), checkpoints="cut", stop_after=len(whole.stats["losses"]) + 3)
    (sorted((tmp_path / "cut").glob("step-*"))[-1] / "trainer.pt").unlink()

    assert run(pairs(), checkpoints="cut", seen=seen).digest == whole.digest
    assert seen[0].stage == "preferences" and seen[0].step == 3


def test_the_stage_is_held_against_the_adapter_as_the_lessons_left_it_whatever_moves_later(make: Make) -> None:
    stage = make(pairs())
    held, now = stage.reference.clone(), stage.said()

    while not stage.is_done:
        stage.advance()

    assert torch.equal(stage.reference, held) and not torch.allclose(held, now, atol=1e-2)
    before, after = (x[0::2] - x[1::2] for x in (held, stage.said()))
    assert stage.outcome()["margin"] == pytest.approx(float((after - before).mean()), abs=1e-3)
