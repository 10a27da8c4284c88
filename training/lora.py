"""Dataset in, adapter out: LoRA on the answers' tokens, one flat loop.

Promises: the loss covers exactly the answers' tokens and their end token; the same base, dataset and recipe give the
same batches; a run that was killed goes on from its last checkpoint as if nothing had happened; always trained from the
base, never adapter on adapter. What comes out is plain LoRA in PEFT's format, which vLLM can load, too.
Knows models and tensors. Knows no ledger, no Slack.
"""

import json
import math
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from bot.engine.model import best_dtype
from bot.engine.render import Renderer
from storage.clock import Clock
from storage.digests import digest_of
from storage.errors import EvenkeelError, TooLittleData
from storage.recipe import Recipe, default_learning_rate
from storage.records import Adapter, Dataset, Lesson
from storage.weights import base_digest, keep_adapter
from training.batches import Row, micro_batches, plan_steps
from training.checkpoints import Checkpoint, newest, save

CHECKPOINT_EVERY_S = 60.0
WARM_UP = 0.05
CLIP = 1.0


class Cancelled(EvenkeelError):
    """Somebody asked to stop; the checkpoints stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """What people see while it trains. `loss` is the mean of the last step in nats per answer token."""

    step: int
    steps: int
    loss: float
    tokens_per_s: float
    eta_s: float


def tune(
    *,
    base: Path,
    dataset: Dataset,
    recipe: Recipe,
    weights_dir: Path,
    checkpoints: Path,
    run_id: int | None,
    progress: Callable[[TrainingProgress], None],
    cancelled: Callable[[], bool],
    clock: Clock,
) -> Adapter:
    """Train a LoRA adapter on the dataset and keep it under its digest.

    Raises TooLittleData when no row fits, EvenkeelError when the loss is no number any more, Cancelled.
    """
    torch.manual_seed(recipe.seed)
    renderer = Renderer(AutoTokenizer.from_pretrained(base))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=best_dtype()).to(
        "cuda" if torch.cuda.is_available() else "cpu"
    )
    rate = recipe.learning_rate or default_learning_rate(model.config.hidden_size)
    rows, dropped = render(dataset.train, renderer, recipe.max_tokens)
    loop = Loop(with_lora(model, recipe), rows, recipe, rate)
    origin = base_digest(base)
    identity = digest_of([origin, dataset.digest, recipe.to_dict()])
    found = newest(checkpoints, identity)
    if found is not None:
        loop.restore(found)
    saved_at = time.monotonic()
    while loop.step < len(loop.steps):
        if cancelled():
            save(checkpoints, loop.checkpoint(identity))
            raise Cancelled(f"training was cancelled at step {loop.step} of {len(loop.steps)}")
        loop.advance()
        progress(loop.progress())
        if time.monotonic() - saved_at > CHECKPOINT_EVERY_S:
            save(checkpoints, loop.checkpoint(identity))
            saved_at = time.monotonic()
    settled = recipe.to_dict() | {"learning_rate": rate, "lora_alpha": recipe.lora_alpha}
    stats = loop.stats() | {"rows_dropped": dropped}
    manifest = {
        "base_digest": origin,
        "dataset_digest": dataset.digest,
        "recipe": settled,
        "stats": stats,
        "template_digest": renderer.template_digest,
        "run_id": run_id,
    }
    digest, path = keep_adapter(weights_dir, loop.write, manifest)
    return Adapter(
        digest=digest,
        base_digest=origin,
        dataset_digest=dataset.digest,
        path=str(path),
        recipe=settled,
        run_id=run_id,
        stats=stats,
        created_at=clock(),
    )


def render(lessons: Sequence[Lesson], renderer: Renderer, max_tokens: int) -> tuple[list[Row], int]:
    """The rows that fit, and how many did not: an answer is never cut. Raises TooLittleData when none fits."""
    pairs = (renderer.example(lesson.messages, lesson.answer) for lesson in lessons)
    rows = [Row(ids=tuple(ids), mask=tuple(mask)) for ids, mask in pairs]
    kept = [row for row in rows if len(row.ids) <= max_tokens and row.answer_tokens > 0]
    if not kept:
        raise TooLittleData(f"none of {len(rows)} rows fits into max_tokens={max_tokens}. Next: raise MAX_TOKENS.")
    return kept, len(rows) - len(kept)


def with_lora(model: Any, recipe: Recipe) -> Any:
    """The model with a fresh adapter on every linear layer: it speaks as the base until it is trained."""
    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def schedule(step: int, steps: int) -> float:
    """Factor of the learning rate: linear warm-up, then a cosine to zero."""
    warm = max(1, math.ceil(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class Loop:
    """The state of one training: model, optimiser, position. `advance` makes one optimiser step."""

    def __init__(self, model: Any, rows: Sequence[Row], recipe: Recipe, rate: float) -> None:
        self.model, self.rows, self.rate = model.train(), rows, rate
        self.lengths = [len(row.ids) for row in rows]
        self.steps = plan_steps(self.lengths, batch_size=recipe.batch_size, epochs=recipe.epochs, seed=recipe.seed)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=0.0)
        self.device = self.parameters[0].device
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.losses: list[float] = []

    def advance(self) -> None:
        """One optimiser step: the mean loss of the answer tokens of all its rows, however they are split."""
        began, numbers = time.perf_counter(), self.steps[self.step]
        wanted, loss = sum(self.rows[n].answer_tokens for n in numbers), 0.0
        for group in micro_batches(numbers, self.lengths):
            part = self.summed_loss([self.rows[n] for n in group]) / wanted
            torch.autograd.backward(part)
            loss += part.item()
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, CLIP))
        if not math.isfinite(loss + norm):
            raise EvenkeelError(
                f"the loss is {loss:g} and its gradient {norm:g} at step {self.step + 1}: training diverged."
                f" Next: a lower lr (it was {self.rate:g})."
            )
        for group_of_parameters in self.optimiser.param_groups:
            group_of_parameters["lr"] = self.rate * schedule(self.step, len(self.steps))
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step, self.losses = self.step + 1, [*self.losses, round(loss, 5)]
        self.tokens += sum(self.lengths[n] for n in numbers)
        self.seconds += time.perf_counter() - began

    def summed_loss(self, rows: Sequence[Row]) -> torch.Tensor:
        """Summed cross-entropy of the answers' tokens, in float32.

        Rows are padded on the right without a mask: attention is causal, so padding is never seen by what counts.
        Logits are made at the positions before answer tokens only.
        """
        width = max(len(row.ids) for row in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        wanted = torch.zeros((len(rows), width), dtype=torch.bool)
        for n, row in enumerate(rows):
            ids[n, : len(row.ids)] = torch.tensor(row.ids)
            wanted[n, : len(row.ids)] = torch.tensor(row.mask)
        ids, wanted = ids.to(self.device), wanted.to(self.device)
        causal = self.model.get_base_model()
        hidden = causal.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = causal.lm_head(hidden[:, :-1][wanted[:, 1:]]).float()
        return functional.cross_entropy(logits, ids[:, 1:][wanted[:, 1:]], reduction="sum")

    def progress(self) -> TrainingProgress:
        speed = self.tokens / max(self.seconds, 1e-9)
        left = sum(self.lengths[n] for step in self.steps[self.step :] for n in step)
        return TrainingProgress(
            step=self.step, steps=len(self.steps), loss=self.losses[-1], tokens_per_s=speed, eta_s=left / speed
        )

    def stats(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "seconds": round(self.seconds, 2),
            "tokens_per_s": round(self.tokens / self.seconds, 1),
            "steps": self.step,
            "losses": self.losses,
            "final_loss": self.losses[-1],
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }

    def checkpoint(self, identity: str) -> Checkpoint:
        return Checkpoint(
            step=self.step,
            identity=identity,
            adapter=dict(get_peft_model_state_dict(self.model)),
            trainer={"optimiser": self.optimiser.state_dict(), "random": torch.get_rng_state()},
            state={"tokens": self.tokens, "seconds": self.seconds, "losses": self.losses},
        )

    def restore(self, found: Checkpoint) -> None:
        set_peft_model_state_dict(self.model, found.adapter)
        self.optimiser.load_state_dict(found.trainer["optimiser"])
        torch.set_rng_state(found.trainer["random"])
        self.step, self.tokens, self.seconds = found.step, found.state["tokens"], found.state["seconds"]
        self.losses = list(found.state["losses"])

    def write(self, folder: Path) -> None:
        """The adapter's two files; the config names no path of this machine."""
        self.model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text()) | {"base_model_name_or_path": "evenkeel-base"}
        path.write_text(json.dumps(config, indent=2, sort_keys=True))
