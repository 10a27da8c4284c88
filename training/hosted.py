"""Dataset in, adapter out, where the weights are at a server that tunes them: preflight, two files, one job, its best model.

Promises: nothing is uploaded before the preflight has passed; a run that was killed at any point goes on with the same files
and the same job; what the recipe asks and a hosted job cannot do is said; the uploaded files are deleted when the job has
ended. What comes out is a folder as every adapter's, with a record in place of weights.
Knows a tuning server. Knows no ledger, no Slack and no tensors.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import structlog
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from storage.clock import Clock
from storage.digests import NAMED
from storage.errors import EvenkeelError
from storage.recipe import PROFILES, Recipe
from storage.records import Adapter, Dataset
from storage.weights import HOSTED_RECORD, keep_adapter
from training.hosted_api import Notebook, TuningApi
from training.hosted_rows import Files, files_of
from training.shutdown import ending, time_left

log = structlog.get_logger()
NOTEBOOK = "hosted.json"  # in the run's folder of checkpoints
POLL_S = 10.0
LONGEST_S = 48 * 3_600.0  # of a job, its place in the queue included
ENDED = ("succeeded", "failed", "cancelled")
STEP = re.compile(r"step (\d+)(?:/(\d+))?\b.*?loss\D{0,3}(\d+(?:\.\d+)?)", re.IGNORECASE)
Show = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Where a hosted base is and how long; `shutdown` overrules what its server says."""

    api: TuningApi
    base: str
    shutdown: date | None
    clock: Clock


def for_hosting(recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe as a hosted job can follow it, and a sentence for each thing that it cannot do."""
    whole = max(1, round(recipe.epochs))
    asks = {
        f"lr={recipe.learning_rate or 0:g}": recipe.learning_rate is not None,
        f"rank={recipe.lora_rank}": recipe.lora_rank != Recipe().lora_rank,
        f"kl={recipe.kl_weight:g}": recipe.kl_weight > 0,
        f"budget={recipe.kl_budget:g}": recipe.kl_budget > 0,
        "eaft=on": recipe.entropy_gate,
        "own=on": recipe.own_replay,
        f"scale={recipe.scale:g}": recipe.scale < 1,
        "search=on": recipe.scale_search,
        "cut_intruders=on": recipe.cut_intruders,
        "preferences=on": recipe.preferences,
    }
    why = {
        "lr": f"the server knows multiples of its own rate alone; that of the profile is {PROFILES[recipe.profile].rate_factor:g}",
        "rank": "the server chooses it",
        "kl": "a hosted job has no pull to the base; replay alone stands against forgetting",
        "budget": "a hosted job cannot be held against its base while it trains",
        "eaft": "the loss is the server's",
        "own": "general rows are replayed in the words that they have",
        "scale": "the weights are the server's: nothing of them can be taken back",
        "search": "the weights are the server's: there are no weaker copies to look at",
        "cut_intruders": "the weights are the server's: nobody can look into them",
        "preferences": "they are not sent",
    }
    said = [f"{ask} is not followed: {why[ask.partition('=')[0]]}." for ask, wanted in asks.items() if wanted]
    if whole != recipe.epochs:
        said.append(f"epochs={recipe.epochs:g} are {whole}: a hosted job makes whole passes.")
    followed = replace(
        recipe, epochs=float(whole), learning_rate=None, kl_weight=0.0, kl_budget=0.0, entropy_gate=False, own_replay=False,
        scale=1.0, scale_search=False, cut_intruders=False, preferences=False)  # fmt: skip
    return followed, tuple(said)


def hyperparameters(recipe: Recipe) -> dict[str, Any]:
    """What a job is told. The server's own learning rate, unless the profile wants more or less of it."""
    factor = PROFILES[recipe.profile].rate_factor
    rate = {} if factor == 1 else {"learning_rate_multiplier": factor}
    return {"n_epochs": int(recipe.epochs), "batch_size": recipe.batch_size, **rate}


def settled(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe a job was given, for the record."""
    kept = ("profile", "epochs", "max_tokens", "replay_share", "early_stop", "seed", "scale")
    return {name: value for name, value in recipe.to_dict().items() if name in kept} | hyperparameters(recipe)


def preflight(at: Tuning) -> tuple[str, ...]:
    """Warnings about the base, before anything is uploaded.

    Raises EvenkeelError: no answer, no such model, one that cannot be tuned, or one that ends too soon.
    """
    model = at.api.model(at.base)
    at.api.require_tuning()
    extra = model.model_extra or {}
    able = extra.get("capabilities")
    if isinstance(able, dict) and able.get("fine_tune") is False:
        raise EvenkeelError(f"{at.base} cannot be tuned, says {at.api.url}. Next: another BASE_NAME.")
    ends = ending(url=at.api.url, model=at.base, told=model.shutdown_date, set_to=at.shutdown)
    warning = time_left(at.base, ends, url=at.api.url, today=at.clock().date())
    return (warning,) if warning else ()


def tune_hosted(
    at: Tuning, *, dataset: Dataset, recipe: Recipe, weights_dir: Path, notes: Notebook, run_id: int | None, show: Show,
    warn: Callable[[str], None],
) -> Adapter:  # fmt: skip
    """Tune the base on the dataset and keep the record of what came out under its digest.

    Raises EvenkeelError, TooLittleData: a preflight that fails, a file or a job that the server refuses, fails or cancels.
    """
    files = files_of(dataset, recipe)
    if not notes.get("mark"):
        show({"text": f"asking {at.api.url} for {at.base}"})
        for warning in preflight(at):
            warn(warning)
        notes.keep("mark", f"evenkeel-{secrets.token_hex(6)}")
    if not notes.get("job"):
        hand_over(at.api, files, notes, show)
    job_id = at.api.start(notes, model=at.base, hyperparameters=hyperparameters(recipe), seed=recipe.seed)
    job = followed(at, job_id, show)
    tidy(at.api, notes)
    if job.status != "succeeded":
        raise EvenkeelError(f"{_why(job)}. Next: see it at {at.api.url}, then start the run again.")
    return kept(at, job, files, dataset=dataset, recipe=recipe, weights_dir=weights_dir, run_id=run_id)


def cancel_hosted(api: TuningApi, notes: Notebook) -> str:
    """End what a run has begun at the server; how that went, in words. Raises EvenkeelError when nobody answers."""
    job_id = api.find_job(notes)
    goes_on = bool(job_id) and api.job(job_id).status not in ENDED
    if goes_on:
        api.cancel(job_id)
    tidy(api, notes)
    return f"job {job_id} at {api.url} was cancelled" if goes_on else ""


def hand_over(api: TuningApi, files: Files, notes: Notebook, show: Show) -> None:
    """Both files at the server, each uploaded once. Raises EvenkeelError with its reason for one that it refuses."""
    for which, file in files.parts:
        show({"text": f"uploading the {which} file, {file.rows} rows"})
        if fault := api.file_fault(api.upload(notes, which, file.data)):
            tidy(api, notes)
            raise EvenkeelError(
                f"{api.url} refused the {which} file: {fault}. Next: evenkeel data export shows the rows."
            )


def followed(at: Tuning, job_id: str, show: Show) -> FineTuningJob:
    """The job once it has ended. Raises EvenkeelError when it never does: then it was cancelled."""
    while (job := at.api.job(job_id)).status not in ENDED:
        if at.clock().timestamp() - job.created_at > LONGEST_S:
            at.api.cancel(job_id)
            raise EvenkeelError(f"job {job_id} was cancelled: it was {job.status} after {LONGEST_S / 3600:.0f} hours.")
        show(progress_of(job, at.api.events(job_id, newest=20), now=at.clock().timestamp()))
        at.api.wait(POLL_S)
    return job


def _why(job: FineTuningJob) -> str:
    if job.status == "cancelled":
        return f"job {job.id} was cancelled at the server"
    reason = f"{job.error.message} ({job.error.code})" if job.error and job.error.message else "it gave no reason"
    return f"job {job.id} failed at the server: {reason}"


def progress_of(job: FineTuningJob, events: Sequence[FineTuningJobEvent], *, now: float) -> dict[str, Any]:
    """A job as a live message shows it; `events` newest first. Pure."""
    steps = [(found, event.created_at) for event in events if (found := step_of(event))]
    if not steps:
        return {"text": f"job {job.id} is {job.status.replace('_', ' ')} at the server"}
    (step, total, loss), _ = steps[0]
    seconds = job.estimated_finish - now if job.estimated_finish else _seconds_left(steps)
    left = {"eta_s": round(seconds)} if seconds and seconds > 0 else {}
    text = f"step {step}/{total or '?'}, loss {loss:.3f}" + (f", {left['eta_s']} s left" if left else "")
    return {
        "done": step,
        "total": total,
        "unit": "steps",
        "loss": round(loss, 4),
        "text": f"{text}, job {job.id}",
        **left,
    }


def _seconds_left(steps: Sequence[tuple[tuple[int, int | None, float], int]]) -> float | None:
    """By the pace of the newest steps; None where that is not known."""
    ((last, total, _), at), ((first, _, _), began) = steps[0], steps[-1]
    return (at - began) / (last - first) * (total - last) if total and last > first else None


def step_of(event: FineTuningJobEvent) -> tuple[int, int | None, float] | None:
    """(step, steps, training loss) of an event, by its numbers, else by its words; None for another event."""
    data = event.data if isinstance(event.data, dict) else {}
    try:
        if "train_loss" in data:
            total = data.get("total_steps")
            return int(data["step"]), int(total) if total else None, float(data["train_loss"])
    except (KeyError, TypeError, ValueError):
        return None
    found = STEP.search(event.message or "")
    return (int(found[1]), int(found[2]) if found[2] else None, float(found[3])) if found else None


def kept(
    at: Tuning,
    job: FineTuningJob,
    files: Files,
    *,
    dataset: Dataset,
    recipe: Recipe,
    weights_dir: Path,
    run_id: int | None,
) -> Adapter:
    """The record of a job that succeeded, as an adapter. Raises EvenkeelError when the job names no model."""
    points: list[dict[str, Any]] = [
        {"step": p.step_number, "model": p.fine_tuned_model_checkpoint,
         "loss": p.metrics.full_valid_loss if p.metrics.full_valid_loss is not None else p.metrics.valid_loss}
        for p in at.api.checkpoints(job.id)
    ]  # fmt: skip
    model, step = chosen(job, points, recipe)
    record = {
        "server": at.api.url,
        "base": at.base,
        "model": model,
        "job": job.id,
        "checkpoints": sorted(points, key=lambda point: point["step"]),
        "hyperparameters": hyperparameters(recipe),
        "seed": recipe.seed,
        "dataset": dataset.digest,
        "files": {which: {"rows": file.rows, "sha256": file.digest} for which, file in files.parts},
    }
    numbers = stats_of(job, at.api.events(job.id), kept_step=step, dropped=files.dropped)
    origin: dict[str, Any] = {
        "base_digest": NAMED + at.base,
        "dataset_digest": dataset.digest,
        "recipe": settled(recipe),
        "stats": numbers,
        "run_id": run_id,
    }
    digest, path = keep_adapter(weights_dir, lambda folder: _write(folder, record), origin)
    return Adapter(digest=digest, path=str(path), created_at=at.clock(), **origin)


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    (folder / HOSTED_RECORD).write_text(json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def chosen(job: FineTuningJob, points: Sequence[Mapping[str, Any]], recipe: Recipe) -> tuple[str, int | None]:
    """(model, step of its checkpoint): with early stop the checkpoint that fits the held-back rows best, else the last state."""
    if recipe.early_stop and (measured := [point for point in points if point["loss"] is not None]):
        best = min(measured, key=lambda point: (point["loss"], point["step"]))
        return str(best["model"]), int(best["step"])
    if not job.fine_tuned_model:
        raise EvenkeelError(f"job {job.id} succeeded, but names no model. Next: see it at the server.")
    return job.fine_tuned_model, None


def stats_of(
    job: FineTuningJob, events: Sequence[FineTuningJobEvent], *, kept_step: int | None, dropped: int
) -> dict[str, Any]:
    """What is known of a training elsewhere, in the words of one here; what is not known is not there."""
    steps = {step: loss for step, _, loss in filter(None, (step_of(event) for event in reversed(events)))}
    losses = [round(steps[step], 5) for step in sorted(steps)]
    seconds = float(job.finished_at - job.created_at) if job.finished_at else None
    known = {
        "tokens": job.trained_tokens,
        "seconds": seconds,
        "tokens_per_s": round(job.trained_tokens / seconds, 1) if job.trained_tokens and seconds else None,
        "steps": max(steps, default=None),
        "final_loss": losses[-1] if losses else None,
        "kept_step": kept_step,
    }
    return {name: value for name, value in known.items() if value is not None} | {
        "losses": losses,
        "rows_dropped": dropped,
    }


def tidy(api: TuningApi, notes: Notebook) -> None:
    """Delete the uploaded files there; a server that will not is a line in the log, no failure."""
    for file_id in filter(None, (notes.get("train"), notes.get("validation"))):
        try:
            api.delete(file_id)
        except EvenkeelError as error:
            log.warning("file_not_deleted", file=file_id, reason=str(error))
