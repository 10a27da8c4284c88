"""Dataset in, adapter out: LoRA on the answers' tokens, one flat loop; where it is asked for, a second one for preferences.

Promises: the loss covers exactly the answers' tokens and their end token; the same base, dataset and recipe give the
same batches; a run that was killed goes on from its last checkpoint as if nothing had happened; always trained from the
base, never adapter on adapter; several processes (training/crew.py) make what one would. What comes out is plain LoRA in PEFT's format, which vLLM can load, too.
Knows models and tensors. Knows no ledger, no Slack.
"""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

from bot.engine.render import Renderer
from storage.clock import Clock
from storage.digests import digest_of
from storage.errors import EvenkeelError, TooLittleData
from storage.recipe import Recipe, refuse_divergence
from storage.records import Adapter, Dataset, Lesson
from storage.weights import base_digest, keep_adapter
from training.base import bits_of, load_base
from training.batches import Row
from training.checkpoints import newest, save
from training.crew import crew
from training.intruders import take_out
from training.loop import Loop, TrainingProgress
from training.own_words import in_own_words
from training.preference_loop import PreferenceLoop, material_of
from training.watch import hold_back

CHECKPOINT_EVERY_S = 60.0


class Cancelled(EvenkeelError):
    """Somebody asked to stop; the checkpoints stay."""


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
    alive: Callable[[], None] = lambda: None,
) -> Adapter:
    """Train a LoRA adapter on the dataset and keep it under its digest; its scale is 1, training/scales.py weakens it.

    Raises TooLittleData when no row fits, RecipeError for a learning rate that would diverge, EvenkeelError when the loss
    is no number any more or memory does not suffice, ConfigurationError where 4 bits are needed and cannot be had, Cancelled.
    `alive` is called while rows are read between steps, of which `progress` hears nothing.
    """
    us, lessons = crew(), dataset.train
    torch.manual_seed(recipe.seed)
    renderer = Renderer(AutoTokenizer.from_pretrained(base))
    if recipe.own_replay:
        lessons = us.from_first(lambda: in_own_words(dataset.train, base, weights_dir / "replay", alive=alive))
    rows, dropped = render(lessons, renderer, recipe.max_tokens)
    model = load_base(base, us.device)
    rate = recipe.rate_at(model.config.hidden_size)
    refuse_divergence(rate, model.config.hidden_size)
    watched = list[Row]()
    if recipe.early_stop or recipe.kl_budget:
        rows, watched = hold_back(rows, recipe.seed)
    loop = Loop(with_lora(model, recipe), rows, recipe, rate, watched, us, alive)
    origin = base_digest(base)
    identity = digest_of([origin, dataset.digest, recipe.to_dict()])
    material = material_of(dataset.preferences, renderer, recipe.max_tokens) if recipe.preferences else None
    stage = PreferenceLoop(loop, material) if material and material.counted.method else None
    learn = partial(train, checkpoints=checkpoints, progress=progress, cancelled=cancelled)
    stats = train_both(loop, stage, identity, checkpoints, learn)
    if material and stage is None:
        stats["preferences"] = {"method": "", "missing": material.counted.missing}
    if recipe.cut_intruders:
        stats["intruders"] = us.from_first(lambda: take_out(loop.model))
    settled = recipe.to_dict() | {"learning_rate": rate, "lora_alpha": recipe.lora_alpha, "scale": 1.0}
    stats |= {"rows_dropped": dropped, "rows_watched": len(watched), "base_bits": bits_of(model), "processes": us.size}
    manifest = {
        "base_digest": origin,
        "dataset_digest": dataset.digest,
        "recipe": settled,
        "stats": stats,
        "template_digest": renderer.template_digest,
        "run_id": run_id,
    }
    digest, path = us.from_first(lambda: keep_adapter(weights_dir, lambda folder: write(loop.model, folder), manifest))
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


def train(
    loop: Loop,
    identity: str,
    *,
    checkpoints: Path,
    progress: Callable[[TrainingProgress], None],
    cancelled: Callable[[], bool],
) -> None:
    """Bring a loop to its end from its newest whole checkpoint on, and save one every minute. Raises Cancelled."""
    found = loop.crew.from_first(lambda: newest(checkpoints, identity))
    if found is not None:
        loop.restore(found)
    saved_at = time.monotonic()
    while not loop.is_done:
        if loop.crew.is_any(cancelled()):
            if loop.crew.is_first:
                save(checkpoints, loop.checkpoint(identity))
            raise Cancelled(f"training was cancelled at step {loop.step} of {len(loop.steps)}")
        loop.advance()
        if not loop.crew.is_first:
            continue
        progress(loop.progress())
        if time.monotonic() - saved_at > CHECKPOINT_EVERY_S:
            save(checkpoints, loop.checkpoint(identity))
            saved_at = time.monotonic()


def train_both(
    loop: Loop, stage: PreferenceLoop | None, identity: str, checkpoints: Path, learn: Callable[[Loop, str], None]
) -> dict[str, Any]:
    """Learn the lessons, then what there is in the stage after them; the stats of both. A run that was killed in the second
    does not do the first again.
    """
    second = digest_of([identity, "preferences"])
    begun = stage is not None and loop.crew.from_first(lambda: newest(checkpoints, second) is not None)
    if not begun:
        learn(loop, identity)
        loop.keep_best()
    if stage is None:
        return loop.stats()
    if not begun:
        stage.begin(loop)
        if loop.crew.is_first:
            save(checkpoints, stage.checkpoint(second))
    learn(stage, second)
    return {**stage.lessons, "preferences": stage.outcome()}


def render(lessons: Sequence[Lesson], renderer: Renderer, max_tokens: int) -> tuple[list[Row], int]:
    """The rows that fit, and how many did not: an answer is never cut.

    Raises TooLittleData when none fits, or no lesson does: general rows alone teach nothing.
    """
    pairs = ((lesson, renderer.example(lesson.messages, lesson.answer)) for lesson in lessons)
    rows = [Row(ids=tuple(ids), mask=tuple(mask), replay=lesson.source == "replay") for lesson, (ids, mask) in pairs]
    kept = [row for row in rows if len(row.ids) <= max_tokens and row.answer_tokens > 0]
    if not kept:
        raise TooLittleData(f"none of {len(rows)} rows fits into max_tokens={max_tokens}. Next: raise MAX_TOKENS.")
    lessons_there = sum(not row.replay for row in rows)
    if lessons_there and all(row.replay for row in kept):
        raise TooLittleData(
            f"none of {lessons_there} lessons fits into max_tokens={max_tokens}; general rows do. Next: raise MAX_TOKENS."
        )
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


def write(model: Any, folder: Path) -> None:
    """An adapter's two files."""
    model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    make_anonymous(folder)


def make_anonymous(folder: Path) -> None:
    """Let an adapter's config name no path of this machine."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | {"base_model_name_or_path": "evenkeel-base"}
    path.write_text(json.dumps(config, indent=2, sort_keys=True))
