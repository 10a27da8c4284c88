"""The stage after the lessons, on the same adapter: DPO with an SFT term on the better answer, or KTO.

Promises: it is held against the adapter as the lessons left it, asked once; memory, progress and resume are the loop's own,
and a step's gradient is the same however its rows are split. The loss is of whole answers, so their log-probabilities are
taken first, without a gradient; the loss's gradient for each of them is then the weight of that answer's tokens.
Knows tensors and rows. Knows no files.

Sources: DPO, arXiv 2305.18290; beta 0.1 with 0.2 of the better answer's loss a token beside it, which keeps that answer from
getting unlikely, Llama 3, arXiv 2407.21783, section 4.1.4; KTO, arXiv 2402.01306, with weights that make up for the rarer
verdict; a twentieth of the lessons' rate and three passes, LLaMA-Factory's LoRA examples of SFT, DPO and KTO.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from bot.engine.render import Renderer
from storage.records import Message, Preference
from training.batches import Row, micro_batches, plan_steps
from training.checkpoints import Checkpoint
from training.loop import Loop, TrainingProgress
from training.losses import cross_entropy, dpo, drift_of, in_slices, kto
from training.preferences import Counted

BETA, SFT_TERM = 0.1, 0.2
RATE, PASSES = 0.05, 3.0
FEWEST_A_STEP = 4  # verdicts that KTO's drift is estimated on; source: TRL's guide
STAGE = "preferences"


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What there is to learn from, two rows a unit. DPO: the better answer and the worse one. KTO: an answer that was judged,
    and the same question with the answer to another one, on which the drift is measured; `good` is the verdict, a unit.
    """

    counted: Counted
    rows: tuple[Row, ...] = ()
    good: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One answer that was judged."""

    messages: tuple[Message, ...]
    answer: str
    good: bool
    row: Row


def material_of(preferences: Sequence[Preference], renderer: Renderer, max_tokens: int) -> Material:
    """The rows of what fits into `max_tokens`: pairs where there are enough of them, else single verdicts, else none."""
    pairs, sides = list[tuple[Row, Row]](), list[Side]()
    for x in preferences:
        both = [Side(messages=x.messages, answer=text, good=good, row=row_of(x.messages, text, renderer))
                for text, good in ((x.answer, True), (x.rejected, False)) if text]  # fmt: skip
        fitting = [side for side in both if fits(side.row, max_tokens)]
        sides += fitting
        if len(fitting) == 2:
            pairs.append((fitting[0].row, fitting[1].row))
    good = sum(side.good for side in sides)
    found = Counted(pairs=len(pairs), good=good, bad=len(sides) - good)
    if found.method == "DPO":
        return Material(counted=found, rows=tuple(row for pair in pairs for row in pair), good=(True,) * len(pairs))
    if found.method == "KTO":
        rows = [row for n, side in enumerate(sides) for row in (side.row, mismatched(n, sides, renderer, max_tokens))]
        return Material(counted=found, rows=tuple(rows), good=tuple(side.good for side in sides))
    return Material(counted=found)


def row_of(messages: Sequence[Message], answer: str, renderer: Renderer) -> Row:
    ids, mask = renderer.example(messages, answer)
    return Row(ids=tuple(ids), mask=tuple(mask))


def fits(row: Row, max_tokens: int) -> bool:
    return len(row.ids) <= max_tokens and row.answer_tokens > 0


def mismatched(n: int, sides: Sequence[Side], renderer: Renderer, max_tokens: int) -> Row:
    """The question of side `n` with the first answer that fits, from half the way round on; its own where none does."""
    for step in range(len(sides)):
        other = sides[(n + len(sides) // 2 + step) % len(sides)]
        row = row_of(sides[n].messages, other.answer, renderer)
        if fits(row, max_tokens):
            return row
    return sides[n].row


class PreferenceLoop(Loop):
    """The loop over what people preferred, after `loop` has learned the lessons. `lessons`: the stats of that."""

    def __init__(self, loop: Loop, material: Material) -> None:
        recipe = replace(loop.recipe, epochs=PASSES, replay_share=0.0, kl_weight=0.0, kl_budget=0.0, early_stop=False)
        super().__init__(loop.model, material.rows, recipe, RATE * loop.rate, crew=loop.crew, alive=loop.alive)
        self.material, self.before = material, len(loop.steps)
        units = [sum(self.lengths[n : n + 2]) for n in range(0, len(self.lengths), 2)]
        plan = plan_steps(
            units, batch_size=max(FEWEST_A_STEP, recipe.batch_size), epochs=PASSES, seed=recipe.seed)  # fmt: skip
        self.steps = [[row for unit in step for row in (2 * unit, 2 * unit + 1)] for step in plan]
        self.good, self.answer_tokens = torch.tensor(material.good), torch.tensor([r.answer_tokens for r in self.rows])
        self.reference, self.lessons = torch.zeros(0), dict[str, Any]()

    def begin(self, loop: Loop) -> None:
        """Take the model as the lessons left it for what this is held against."""
        self.lessons, self.pass_tokens, self.checkpointing = loop.stats(), loop.pass_tokens, loop.checkpointing
        self.reference = self.said()

    def passes(self, numbers: Sequence[int]) -> float:
        """The mean loss of these rows' units, the gradient of this process's part left on the parameters."""
        weights, loss = self.weights(numbers, self.log_probs(numbers))
        lengths = [self.lengths[n] for n in numbers]
        mine = self.crew.mine([place for place, weight in enumerate(weights.tolist()) if weight], lengths)
        self.fitting([numbers[place] for place in mine], lambda: self.push(numbers, mine, weights))
        return loss

    def push(self, numbers: Sequence[int], places: Sequence[int], weights: torch.Tensor) -> None:
        """Add the gradient of the rows at these places, each times its weight, to the parameters."""
        for group in micro_batches(places, [self.lengths[n] for n in numbers], self.pass_tokens):
            torch.autograd.backward(self.weighted([self.rows[numbers[place]] for place in group], weights[group]))

    def weights(self, numbers: Sequence[int], said: torch.Tensor) -> tuple[torch.Tensor, float]:
        """How much the loss falls with each answer's log-probability `said` (R,), and the loss itself."""
        said.requires_grad_()
        loss = self.loss(torch.tensor(numbers), said).mean()
        (gradient,) = torch.autograd.grad(loss, said)
        return -gradient, float(loss.detach())

    def loss(self, numbers: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        """The loss of each unit from its two answers' log-probabilities: (R,), (R,) → (R / 2,)."""
        (first, second), (first_before, second_before) = (x.view(-1, 2).T for x in (said, self.reference[numbers]))
        if self.material.counted.method == "DPO":
            a_token = first / self.answer_tokens[numbers[::2]]
            return torch.as_tensor(dpo(first, second, first_before, second_before, beta=BETA) - SFT_TERM * a_token)
        liked, share = self.good[numbers[::2] // 2], float(self.good.float().mean())
        drift = drift_of(second, second_before)
        return kto(first, first_before, liked, drift, beta=BETA, weight_liked=max(1.0, 1 / share - 1),
                   weight_disliked=max(1.0, share / (1 - share)))  # fmt: skip

    def weighted(self, rows: Sequence[Row], weights: torch.Tensor) -> torch.Tensor:
        """The cross-entropy of the rows' answer tokens, each times its row's weight, summed."""
        hidden, targets = self.at_answers(rows)
        each = weights.repeat_interleave(torch.tensor([row.answer_tokens for row in rows])).to(self.device)

        def loss(logits: torch.Tensor, where: slice) -> torch.Tensor:
            return (cross_entropy(logits, targets[where]) * each[where]).sum()

        return in_slices(hidden, self.head, self.model.config.vocab_size, loss)

    def log_probs(self, numbers: Sequence[int]) -> torch.Tensor:
        """The log-probability of each row's answer, without a gradient: (R,), on the CPU, the same in every process."""
        lengths = [self.lengths[n] for n in numbers]
        mine = self.crew.mine(range(len(numbers)), lengths)
        found = self.fitting([numbers[place] for place in mine], lambda: self.own_log_probs(numbers, mine))
        return torch.tensor(self.crew.add_up(found.tolist()))

    def own_log_probs(self, numbers: Sequence[int], places: Sequence[int]) -> torch.Tensor:
        """The log-probabilities at these places; 0 at the others."""
        found = torch.zeros(len(numbers))
        for group in micro_batches(places, [self.lengths[n] for n in numbers], self.pass_tokens):
            found[group] = self.log_probs_of([self.rows[numbers[place]] for place in group])
            self.alive()
        return found

    @torch.no_grad()
    def log_probs_of(self, rows: Sequence[Row]) -> torch.Tensor:
        (hidden, targets), said = self.at_answers(rows), list[torch.Tensor]()

        def loss(logits: torch.Tensor, where: slice) -> torch.Tensor:
            said.append(-cross_entropy(logits, targets[where]))
            return said[-1].sum()

        in_slices(hidden, self.head, self.model.config.vocab_size, loss)
        parts = torch.split(torch.cat(said), [row.answer_tokens for row in rows])
        return torch.stack([part.sum() for part in parts]).cpu()

    def said(self) -> torch.Tensor:
        """The log-probability of every row's answer as the model is now."""
        return self.log_probs(range(len(self.rows)))

    def outcome(self) -> dict[str, Any]:
        """What came of it, on the rows that it learned from.

        `accuracy`: DPO, how many better answers are likelier a token than the worse one; KTO, how often a good answer is
        likelier a token than a bad one. `margin`: nats that the better answers gained on the worse ones. `good_gain`: nats a
        token that the better answers gained.
        """
        after, counted = self.said(), self.material.counted
        gains = after - self.reference
        better, worse = self.sides()
        return {
            "method": counted.method,
            "units": len(self.good),
            "unit": "pairs" if counted.method == "DPO" else "verdicts",
            "good": counted.good,
            "bad": counted.bad,
            "steps": self.step,
            "seconds": round(self.seconds, 2),
            "losses": self.losses,
            "accuracy_before": self.accuracy(self.reference),
            "accuracy_after": self.accuracy(after),
            "margin": round(float(gains[better].mean() - gains[worse].mean()), 4),
            "good_gain": round(float((gains / self.answer_tokens)[better].mean()), 4),
        }

    def sides(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The numbers of the rows with a better answer, and of those with a worse one."""
        firsts = 2 * torch.arange(len(self.good))
        if self.material.counted.method == "DPO":
            return firsts, firsts + 1
        return firsts[self.good], firsts[~self.good]

    def accuracy(self, said: torch.Tensor) -> float:
        better, worse = ((said / self.answer_tokens)[rows] for rows in self.sides())
        wins = better > worse if self.material.counted.method == "DPO" else better[:, None] > worse
        return round(float(wins.float().mean()), 4)

    def progress(self) -> TrainingProgress:
        return replace(super().progress(), stage=STAGE)

    def checkpoint(self, identity: str) -> Checkpoint:
        """Numbered on from the lessons' last step, so that it is the newest."""
        plain = super().checkpoint(identity)
        return replace(
            plain,
            step=self.before + self.step,
            trainer={**plain.trainer, "reference": self.reference},
            state={**plain.state, "lessons": self.lessons},
        )

    def restore(self, found: Checkpoint) -> None:
        super().restore(replace(found, step=found.step - self.before))
        self.reference, self.lessons = found.trainer["reference"], found.state["lessons"]
