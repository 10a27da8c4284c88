"""The state of one training: model, optimiser, position. `advance` makes one optimiser step, `look` measures.

Promises: a step's gradient is the same however its rows are split into passes; where memory runs out, the passes get
smaller and the batch stays; several processes make the step that one would; the base that the divergence is measured against is this model with its adapter off.
Knows tensors and rows. Knows no files.
"""

import math
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict

from storage.errors import EvenkeelError
from storage.recipe import Recipe
from training.anchor import Anchor
from training.batches import MICRO_TOKENS, Row, micro_batches, plan_steps
from training.checkpoints import Checkpoint
from training.crew import Crew
from training.fused import fuse
from training.losses import cross_entropy, entropy_gate, in_slices, kl_to_base
from training.watch import LOOKS, Look, best, is_over

WARM_UP = 0.05
CLIP = 1.0
SHORT = 256  # tokens; measured on two cores: at 160 a step takes 12 % less without fused attention, at 320 as long
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
ALONE = Crew()
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """What people see while it trains. `loss` is the mean of the last step in nats per answer token; `stage` is "" for the
    lessons, and names what comes after them.
    """

    step: int
    steps: int
    loss: float
    tokens_per_s: float
    eta_s: float
    stage: str = ""


@dataclass(slots=True, kw_only=True)
class Sums:
    """What one or several passes added up, in nats, over answer tokens."""

    loss: float = 0.0
    kl: float = 0.0


@dataclass(slots=True, kw_only=True)
class Watch:
    """The rows that are looked at, what was seen, and the best state so far (empty: the one at hand)."""

    rows: Sequence[Row] = ()
    looks: list[Look] = field(default_factory=list)
    state: dict[str, torch.Tensor] = field(default_factory=dict)


def schedule(step: int, steps: int) -> float:
    """Factor of the learning rate: linear warm-up, then a cosine to zero."""
    warm = max(1, math.ceil(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class Loop:
    """One training of a PEFT model on rows. `watched`: rows held back, looked at LOOKS times an epoch.

    `alive` hears of each pass of a look.
    """

    def __init__(
        self,
        model: Any,
        rows: Sequence[Row],
        recipe: Recipe,
        rate: float,
        watched: Sequence[Row] = (),
        crew: Crew = ALONE,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        fuse(model)
        self.model, self.rows, self.recipe, self.rate = model.train(), rows, recipe, rate
        self.lengths = [len(row.ids) for row in rows]
        self.steps = plan_steps(
            self.lengths, batch_size=recipe.batch_size, epochs=recipe.epochs, seed=recipe.seed,
            replay=[n for n, row in enumerate(rows) if row.replay], share=recipe.replay_share)  # fmt: skip
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.crew, self.alive = crew, alive
        crew.take_from_first(self.parameters)
        self.optimiser = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=0.0)
        self.device = self.parameters[0].device
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.losses: list[float] = []
        self.pass_tokens, self.checkpointing = MICRO_TOKENS, False
        self.anchor = Anchor(model, self.head)
        self.watch, self.stopped = Watch(rows=watched), ""

    @property
    def is_done(self) -> bool:
        return bool(self.stopped) or self.step >= len(self.steps)

    def advance(self) -> None:
        """One optimiser step: the mean loss of the answer tokens of all its rows, however they are split."""
        began, numbers = time.perf_counter(), self.steps[self.step]
        loss = self.passes(numbers)
        self.crew.add_up_gradients(self.parameters)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, CLIP))
        if not math.isfinite(loss + norm):
            raise EvenkeelError(
                f"the loss is {loss:g} and its gradient {norm:g} at step {self.step + 1}: training diverged."
                f" Next: a lower lr (it was {self.rate:g})."
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * schedule(self.step, len(self.steps))
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step, self.losses = self.step + 1, [*self.losses, round(loss, 5)]
        self.tokens += sum(self.lengths[n] for n in numbers)
        self.seconds += time.perf_counter() - began
        if self.watch.rows and (self.step % self.look_every == 0 or self.step == len(self.steps)):
            self.look()

    @property
    def look_every(self) -> int:
        return max(1, round(len(self.steps) / self.recipe.epochs / LOOKS))

    def passes(self, numbers: Sequence[int]) -> float:
        """The mean loss of these rows' answer tokens, the gradient of this process's part left on the parameters."""
        mine, wanted = self.crew.mine(numbers, self.lengths), sum(self.rows[n].answer_tokens for n in numbers)
        (loss,) = self.crew.add_up([self.fitting(mine, lambda: self.part(mine, wanted))])
        return loss / wanted

    def part(self, numbers: Sequence[int], wanted: int) -> float:
        """The summed loss of rows; the gradient of its share of `wanted` tokens is added to the parameters."""
        rows, sums = [self.rows[n] for n in numbers], Sums()
        for group in micro_batches(range(len(rows)), [len(row.ids) for row in rows], self.pass_tokens):
            torch.autograd.backward(self.objective([rows[n] for n in group], sums) / wanted)
        return sums.loss

    def fitting(self, numbers: Sequence[int], work: Callable[[], Found]) -> Found:
        """What `work` with these rows comes to. Where memory runs out: passes of half the tokens, then activations made
        twice instead of kept. Raises EvenkeelError when one row alone does not fit even so.
        """
        while True:
            try:
                return work()
            except (MemoryError, RuntimeError) as error:
                if not isinstance(error, MemoryError) and not any(word in str(error).lower() for word in NO_MEMORY):
                    raise
                self.make_room([self.lengths[n] for n in numbers])

    def make_room(self, lengths: Sequence[int]) -> None:
        """Forget the half-made step and need less memory for the next try. Raises EvenkeelError when nothing is left."""
        self.optimiser.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if any(len(group) > 1 for group in micro_batches(range(len(lengths)), lengths, self.pass_tokens)):
            self.pass_tokens //= 2
        elif not self.checkpointing:
            self.save_memory()
        else:
            raise EvenkeelError(
                f"one row of {max(lengths)} tokens does not fit into memory. Next: a smaller MAX_TOKENS or LORA_RANK, or a smaller base."
            )

    def save_memory(self) -> None:
        """Activations are made again in the backward pass instead of kept: slower, and far smaller."""
        self.model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
        self.checkpointing = True

    def objective(self, rows: Sequence[Row], sums: Sums) -> torch.Tensor:
        """What is minimised, summed over the rows' answer tokens; `sums` gains their plain loss and divergence."""
        hidden, targets = self.at_answers(rows)
        base = self.anchor.at(rows, self.at_answers) if self.recipe.kl_weight else None

        def loss(logits: torch.Tensor, where: slice) -> torch.Tensor:
            nll = cross_entropy(logits, targets[where])
            sums.loss += float(nll.detach().sum())
            total = (nll * entropy_gate(logits)).sum() if self.recipe.entropy_gate else nll.sum()
            if base is not None:
                kl = kl_to_base(logits, base.part(where)).sum()
                sums.kl += float(kl.detach())
                total = total + self.recipe.kl_weight * kl
            return total

        return in_slices(hidden, self.head, self.model.config.vocab_size, loss)

    def at_answers(self, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states (N, H) before the rows' answer tokens, in the rows' order, and those tokens (N,).

        Rows are padded on the right without a mask: attention is causal, so padding is never seen by what counts.
        """
        width = max(len(row.ids) for row in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        wanted = torch.zeros((len(rows), width), dtype=torch.bool)
        for n, row in enumerate(rows):
            ids[n, : len(row.ids)] = torch.tensor(row.ids)
            wanted[n, : len(row.ids)] = torch.tensor(row.mask)
        ids, wanted = ids.to(self.device), wanted[:, 1:].to(self.device)
        self.attend(width)
        hidden = self.model.get_base_model().model(input_ids=ids, use_cache=False).last_hidden_state
        return hidden[:, :-1][wanted], ids[:, 1:][wanted]

    def attend(self, width: int) -> None:
        """On CPUs, torch's fused attention is slower than plain matrices for short rows, and only saves memory for long ones."""
        way = "eager" if self.device.type == "cpu" and width <= SHORT else "sdpa"
        if self.model.config._attn_implementation != way:
            self.model.get_base_model().set_attn_implementation(way)

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.model.get_base_model().lm_head(hidden))

    # What is seen on the way

    def look(self) -> None:
        """Measure the held-back rows, keep the state if it is the best yet, and stop where that is due."""
        lessons = [row for row in self.watch.rows if not row.replay]
        general = [row for row in self.watch.rows if row.replay] or lessons
        seen = Look(step=self.step, loss=self.measured(lessons or general).loss, kl=self.measured(general).kl)
        self.watch.looks.append(seen)
        budget = self.recipe.kl_budget
        if best(self.watch.looks, budget) is seen:
            self.watch.state = {k: v.detach().clone() for k, v in get_peft_model_state_dict(self.model).items()}
        self.stopped = is_over(self.watch.looks, budget, early_stop=self.recipe.early_stop)

    def measured(self, rows: Sequence[Row]) -> Sums:
        """Loss and divergence per answer token of rows, without a gradient."""
        sums, tokens = Sums(), sum(row.answer_tokens for row in rows)
        lengths = [len(row.ids) for row in rows]
        with torch.no_grad():
            for group in micro_batches(self.crew.mine(range(len(rows)), lengths), lengths, self.pass_tokens):
                self.add_up([rows[n] for n in group], sums)
                self.alive()
        loss, kl = self.crew.add_up([sums.loss, sums.kl])
        return Sums(loss=loss / tokens, kl=kl / tokens)

    def add_up(self, rows: Sequence[Row], sums: Sums) -> None:
        (hidden, targets), base = self.at_answers(rows), self.anchor.at(rows, self.at_answers)

        def loss(logits: torch.Tensor, where: slice) -> torch.Tensor:
            nll, kl = cross_entropy(logits, targets[where]).sum(), kl_to_base(logits, base.part(where)).sum()
            sums.loss, sums.kl = sums.loss + float(nll), sums.kl + float(kl)
            return nll

        in_slices(hidden, self.head, self.model.config.vocab_size, loss)

    def keep_best(self) -> None:
        """Go back to the best state that was looked at, where rows were held back."""
        if self.watch.state:
            set_peft_model_state_dict(self.model, self.watch.state)

    def progress(self) -> TrainingProgress:
        speed = self.tokens / max(self.seconds, 1e-9)
        left = sum(self.lengths[n] for step in self.steps[self.step :] for n in step)
        return TrainingProgress(
            step=self.step, steps=len(self.steps), loss=self.losses[-1], tokens_per_s=speed, eta_s=left / speed
        )

    def stats(self) -> dict[str, Any]:
        looks = self.watch.looks
        return {
            "tokens": self.tokens,
            "seconds": round(self.seconds, 2),
            "tokens_per_s": round(self.tokens / self.seconds, 1),
            "steps": self.step,
            "losses": self.losses,
            "final_loss": self.losses[-1],
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "pass_tokens": self.pass_tokens,
            "looks": [[look.step, round(look.loss, 5), round(look.kl, 5)] for look in looks],
            "kept_step": best(looks, self.recipe.kl_budget).step if looks else self.step,
            "stopped": self.stopped,
        }

    # How it survives a kill

    def checkpoint(self, identity: str) -> Checkpoint:
        looks = [[look.step, look.loss, look.kl] for look in self.watch.looks]
        return Checkpoint(
            step=self.step,
            identity=identity,
            adapter=dict(get_peft_model_state_dict(self.model)),
            trainer={
                "optimiser": self.optimiser.state_dict(),
                "random": torch.get_rng_state(),
                "best": self.watch.state,
            },
            state={
                "tokens": self.tokens,
                "seconds": self.seconds,
                "losses": self.losses,
                "looks": looks,
                "stopped": self.stopped,
                "pass_tokens": self.pass_tokens,
                "checkpointing": self.checkpointing,
            },
        )

    def restore(self, found: Checkpoint) -> None:
        set_peft_model_state_dict(self.model, found.adapter)
        self.optimiser.load_state_dict(found.trainer["optimiser"])
        torch.set_rng_state(found.trainer["random"])
        self.step, self.tokens, self.seconds = found.step, found.state["tokens"], found.state["seconds"]
        self.losses, self.pass_tokens = list(found.state["losses"]), found.state["pass_tokens"]
        self.watch.looks = [Look(step=step, loss=loss, kl=kl) for step, loss, kl in found.state["looks"]]
        self.watch.state, self.stopped = found.trainer["best"], found.state["stopped"]
        if found.state["checkpointing"]:
            self.save_memory()
