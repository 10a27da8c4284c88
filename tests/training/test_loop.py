"""The loop's levers: memory that runs out, the pull to the base, the entropy gate, the early stop; all on a tiny real model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model_state_dict
from torch.nn import functional
from transformers import LlamaForCausalLM

from bot.engine.model import LoadedModel
from storage.errors import EvenkeelError
from storage.recipe import Recipe
from storage.records import Lesson
from training.batches import Row
from training.fused import fuse
from training.loop import Loop, Sums
from training.lora import render, with_lora
from training.losses import kl_to_base, top_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
RECIPE = Recipe(lora_rank=4, learning_rate=5e-3, epochs=2, batch_size=4, max_tokens=256, replay_share=0.0, seed=3)
Make = Callable[..., Loop]


@pytest.fixture
def rows(tiny_folder: Path) -> list[Row]:
    lessons = [
        Lesson(lesson_id=f"l{n}", source="replay" if n % 3 == 2 else "ticket", conversation_id=f"c{n}", answer=f"Do {n}{'!' * n}",
               messages=({"role": "user", "content": f"What about {n}?"},))
        for n in range(12)
    ]  # fmt: skip
    return render(lessons, LoadedModel.load(tiny_folder, device="cpu").renderer, 256)[0]


@pytest.fixture
def make(tiny_folder: Path, rows: list[Row]) -> Make:
    def loop(watched: list[Row] | None = None, moved: bool = False, **levers: Any) -> Loop:
        torch.manual_seed(0)
        model = with_lora(LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32), RECIPE)
        for name, weight in model.named_parameters():
            if moved and "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        return Loop(model, rows, replace(RECIPE, **levers), 5e-3, watched or ())

    return loop


def weights(loop: Loop) -> dict[str, torch.Tensor]:
    return {name: w.detach().clone() for name, w in get_peft_model_state_dict(loop.model).items()}


def logits_of(loop: Loop, row: Row) -> tuple[torch.Tensor, torch.Tensor]:
    """What the whole model says before each answer token (N, V), and those tokens (N,)."""
    ids, counts = torch.tensor([row.ids]), torch.tensor(row.mask)[1:]
    return loop.model(ids).logits[0, :-1].float()[counts], ids[0, 1:][counts]


def test_the_lean_layers_give_pefts_own_output_and_gradients(tiny_folder: Path) -> None:
    found = []
    for lean in (False, True):
        torch.manual_seed(0)
        model = with_lora(LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32), RECIPE)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
        if lean:
            fuse(model)
        logits = model(torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])).logits
        torch.autograd.backward(functional.cross_entropy(logits.flatten(0, 1), torch.arange(8) + 20))
        with torch.no_grad(), model.disable_adapter():
            base = model(torch.tensor([[5, 6, 7, 8]])).logits
        found.append([logits, base, *(p.grad for p in model.parameters() if p.grad is not None)])

    assert len(found[0]) == len(found[1]) > 20
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*found, strict=True))


class Scarce:
    """Memory for so many padded tokens of one forward pass; with activations made again, for twice as many."""

    def __init__(self, loop: Loop, tokens: int, error: Callable[[], Exception]) -> None:
        self.loop, self.tokens, self.error, self.refused, self.passes = loop, tokens, error, 0, list[int]()
        self.real = loop.at_answers

    def __call__(self, rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        size = len(rows) * max(len(row.ids) for row in rows)
        if size > self.tokens * (2 if self.loop.checkpointing else 1):
            self.refused += 1
            raise self.error()
        self.passes.append(size)
        return self.real(rows)


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        lambda: RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        MemoryError,
    ],
)
def test_where_memory_runs_out_the_passes_get_smaller_and_the_step_stays_the_same(
    make: Make, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    roomy, tight = make(), make()
    scarce = Scarce(tight, 140, error)
    monkeypatch.setattr(tight, "at_answers", scarce)

    while not roomy.is_done:
        roomy.advance()
        tight.advance()

    assert scarce.refused and max(scarce.passes) <= 140 and tight.pass_tokens < roomy.pass_tokens
    assert not tight.checkpointing and tight.stats()["pass_tokens"] == tight.pass_tokens
    assert tight.losses == pytest.approx(roomy.losses, abs=1e-4) and tight.tokens == roomy.tokens
    assert all(torch.allclose(a, weights(tight)[name], atol=1e-4) for name, a in weights(roomy).items())


def test_where_one_row_is_too_much_activations_are_made_again_and_after_that_it_is_refused_by_name(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make()
    longest = max(loop.lengths[n] for step in loop.steps for n in step)
    monkeypatch.setattr(loop, "at_answers", Scarce(loop, longest - 1, MemoryError))
    while not loop.is_done:
        loop.advance()
    hopeless = make()
    monkeypatch.setattr(hopeless, "at_answers", Scarce(hopeless, 3, MemoryError))

    assert loop.checkpointing and loop.losses == pytest.approx(trained(make).losses, abs=1e-4)
    with pytest.raises(
        EvenkeelError, match=r"one row of \d+ tokens does not fit into memory. Next: a smaller MAX_TOKENS"
    ):
        hopeless.advance()


def trained(make: Make, **levers: Any) -> Loop:
    loop = make(**levers)
    while not loop.is_done:
        loop.advance()
    return loop


def test_an_error_that_is_not_about_memory_is_not_swallowed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = make()
    monkeypatch.setattr(loop, "at_answers", lambda _: (_ for _ in ()).throw(RuntimeError("shapes differ")))

    with pytest.raises(RuntimeError, match="shapes differ"):
        loop.advance()


def test_the_pull_to_the_base_is_its_divergence_at_the_answers_and_the_loss_shown_stays_plain(make: Make) -> None:
    plain, pulled, sums = make(moved=True), make(moved=True, kl_weight=0.5), Sums()
    row = plain.rows[0]
    tuned, _ = logits_of(pulled, row)
    with torch.no_grad(), pulled.model.disable_adapter():
        base, _ = logits_of(pulled, row)
    full = (base.softmax(1) * (base.log_softmax(1) - tuned.log_softmax(1))).sum().item()
    wanted = kl_to_base(tuned, top_of(base)).sum().item()

    found = pulled.objective([row], sums).item()
    alone = plain.objective([row], Sums()).item()

    assert sums.loss == pytest.approx(alone, abs=1e-5) and found == pytest.approx(alone + 0.5 * sums.kl, abs=1e-5)
    assert 0 < sums.kl < full and sums.kl == pytest.approx(wanted, abs=1e-5)


def test_the_base_is_asked_about_a_row_once_in_a_run(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, asked = make(kl_weight=0.1), list[Row]()
    real = loop.at_answers

    def seen(rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        if not torch.is_grad_enabled():
            asked.extend(rows)
        return real(rows)

    monkeypatch.setattr(loop, "at_answers", seen)
    while not loop.is_done:
        loop.advance()

    assert sorted(row.ids for row in asked) == sorted(row.ids for row in {loop.rows[n] for s in loop.steps for n in s})


def test_a_stronger_pull_ends_nearer_to_the_base(make: Make) -> None:
    kls = [trained(make, kl_weight=w, epochs=6).measured(make().rows).kl for w in (0.0, 1.0, 10.0)]

    assert kls[0] > kls[1] > kls[2] > 0


def test_the_entropy_gate_weighs_each_token_by_how_unsure_the_model_is(make: Make) -> None:
    loop, sums = make(moved=True, entropy_gate=True), Sums()
    wanted = plain = 0.0
    for row in loop.rows[:3]:
        logits, targets = logits_of(loop, row)
        top = logits.topk(20).values.softmax(1)
        gate = -(top * top.log()).sum(1) / torch.tensor(20.0).log()
        nll = functional.cross_entropy(logits, targets, reduction="none")
        wanted, plain = wanted + (gate * nll).sum().item(), plain + nll.sum().item()

    found = loop.objective(loop.rows[:3], sums).item()

    assert found == pytest.approx(wanted, abs=1e-4) and sums.loss == pytest.approx(plain, abs=1e-4)


def test_training_stops_when_held_back_lessons_get_no_better_and_keeps_the_best_state(
    make: Make, rows: list[Row]
) -> None:
    strange = [Row(ids=rows[0].ids, mask=rows[0].mask)]
    loop = make(watched=strange, early_stop=True, epochs=20, batch_size=8)
    states = []
    while not loop.is_done:
        # each look finds the held-back row worse than the last: the weights are pushed away from it
        loop.advance()
        states.append(weights(loop))
        with torch.no_grad():
            for p in loop.parameters:
                p.add_(0.05 * torch.randn_like(p))
    loop.keep_best()

    stats = loop.stats()
    assert "held-back lessons got no better" in stats["stopped"] and loop.step < len(loop.steps)
    kept = [s for s in states if all(torch.equal(w, weights(loop)[n]) for n, w in s.items())]
    assert (
        len(kept) == 1
        and stats["kept_step"]
        == [look[0] for look in stats["looks"]][min(range(len(stats["looks"])), key=lambda n: stats["looks"][n][1])]
    )


def test_a_budget_stops_the_run_that_goes_too_far_from_the_base(make: Make, rows: list[Row]) -> None:
    free = trained(make, watched=rows[2::3], epochs=4)
    far = free.watch.looks[-1].kl

    held = trained(make, watched=rows[2::3], epochs=4, kl_budget=far / 2)
    held.keep_best()

    assert "nats a token from its base" in held.stopped and held.step < len(held.steps)
    assert held.measured(rows[2::3]).kl <= far / 2 < far
    assert free.stopped == "" and free.watch.looks[-1].step == len(free.steps)


def test_a_look_at_held_back_rows_is_heard_pass_by_pass(make: Make, rows: list[Row]) -> None:
    loop, heard = make(rows[:4]), list[bool]()
    loop.alive, loop.pass_tokens = lambda: heard.append(True), 1

    loop.look()

    assert len(heard) == 3 + 1  # lessons, then the general row
