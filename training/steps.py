"""The two heavy steps of a run as a child process does them: tune and score.

Knows models. Runs where torch may be loaded; the worker itself never does that.
"""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bot.engine.model import LoadedModel
from eval.benchmark import Answerer
from eval.learned import check_corrections
from eval.policy import policy_from
from eval.suite import plan_from, score
from eval.watch import Watch
from storage.clock import to_text, utc_now
from storage.ledger import Ledger
from storage.recipe import Recipe
from storage.records import Scorecard
from storage.settings import Settings, load_settings
from storage.weights import adapter_path
from training.dataset import load_dataset
from training.loop import TrainingProgress
from training.lora import tune

Tell = Callable[[Mapping[str, Any]], None]


def tune_step(job: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Train an adapter; the result is the Adapter record as JSON. SIGTERM saves a checkpoint and stops."""
    settings, asked = load_settings(**job["settings"], _env_file=None), []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))

    def show(p: TrainingProgress) -> None:
        text = f"step {p.step}/{p.steps}, loss {p.loss:.3f}, {p.tokens_per_s:.0f} tokens/s, {p.eta_s:.0f} s left"
        tell(
            {
                "done": p.step,
                "total": p.steps,
                "unit": "steps",
                "loss": round(p.loss, 4),
                "tokens_per_s": round(p.tokens_per_s, 1),
                "eta_s": round(p.eta_s),
                "text": text,
            }
        )

    adapter = tune(
        base=Path(job["base"]), dataset=load_dataset(Path(job["dataset"])), recipe=Recipe(**job["recipe"]),
        weights_dir=settings.weights_dir, checkpoints=Path(job["checkpoints"]), run_id=job["run_id"], progress=show,
        cancelled=lambda: bool(asked), clock=utc_now)  # fmt: skip
    return asdict(adapter) | {"created_at": to_text(adapter.created_at)}


def score_step(job: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Score base, champion and candidate; cards and scores go to the ledger, the result names their sizes.

    The candidate's suite ends early once its refusal is certain.
    """
    settings = load_settings(**job["settings"], _env_file=None)
    plan, dataset = plan_from(settings), load_dataset(Path(job["dataset"]))
    ledger, model = Ledger(settings.ledger_path), LoadedModel.load(Path(job["base"]))
    cards: dict[str, Scorecard] = {}
    try:
        for number, (subject, digest) in enumerate(job["subjects"]):
            if digest is not None:
                model.add_adapter(adapter_path(settings.weights_dir, digest))

            def show(done: int, total: int, text: str, subject: str = subject, number: int = number) -> None:
                tell(
                    {
                        "done": number * total + done,
                        "total": len(job["subjects"]) * total,
                        "unit": "items",
                        "text": f"{subject}: {text}",
                    }
                )

            on_trial = subject == "candidate" and "base" in cards
            cards[subject] = score(
                model,
                digest,
                plan=plan,
                holdout=dataset.holdout,
                train=dataset.train,
                ledger=ledger,
                progress=show,
                run_id=job["run_id"],
                watch=Watch(base=cards["base"], champion=cards.get("champion"), policy=policy_from(settings))
                if on_trial
                else None,
            )
            ledger.scores.add_card(cards[subject], run_id=job["run_id"], subject=subject)
            if subject == "candidate" and settings.learn_from_slack:
                look_at_corrections(Answerer(model=model, adapter=digest), ledger, settings, job["run_id"])
            if digest is not None:
                model.remove_adapter(digest)
    finally:
        ledger.close()
    return {"scores": {subject: len(card.scores) for subject, card in cards.items()}}


def look_at_corrections(answerer: Answerer, ledger: Ledger, settings: Settings, run_id: int) -> None:
    """Which corrections the candidate passes, for those who wrote them; it decides nothing and so never fails a run."""
    began = time.monotonic()
    try:
        passed, checked = check_corrections(answerer, ledger, max_new_tokens=settings.max_new_tokens)
    except Exception as error:  # the named place: what went wrong is a line of the run's history
        ledger.runs.note(run_id, "scoring", f"corrections were not checked: {type(error).__name__}: {error}")
        return
    if checked:
        seconds = time.monotonic() - began
        ledger.runs.note(run_id, "scoring", f"{passed} of {checked} corrections pass ({seconds:.0f} s)")


STEPS: Mapping[str, Callable[[Mapping[str, Any], Tell], dict[str, Any]]] = {"tune": tune_step, "score": score_step}
