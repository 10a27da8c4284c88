"""The steps of a child process that trains a hosted base, and of one that ends its job. No model is loaded for them.

Promise: the key of the server is read from the environment here: a job file carries no secret.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage.clock import to_text, utc_now
from storage.ledger import Ledger
from storage.recipe import Recipe
from storage.servers import base_server
from storage.settings import load_settings
from training.dataset import load_dataset
from training.hosted import NOTEBOOK, Tuning, cancel_hosted, tune_hosted
from training.hosted_api import PATIENCE_S, Notebook, TuningApi

Tell = Callable[[Mapping[str, Any]], None]
CANCEL_PATIENCE_S = 60.0  # somebody waits


def tune_step(job: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Tune a hosted base; the result is the Adapter record as JSON. It may be killed at any point and begun again."""
    settings = load_settings(**job["settings"], _env_file=None)
    ledger = Ledger(settings.ledger_path)
    api = _api(job, lambda text: tell({"text": text}), PATIENCE_S)
    at = Tuning(api=api, base=settings.base_name, shutdown=settings.base_shutdown, clock=utc_now)
    try:
        adapter = tune_hosted(
            at, dataset=load_dataset(Path(job["dataset"])), recipe=Recipe(**job["recipe"]), weights_dir=settings.weights_dir,
            notes=_notes(job), run_id=job["run_id"], show=tell,
            warn=lambda text: ledger.runs.note(job["run_id"], "training", f"warning: {text}"))  # fmt: skip
    finally:
        api.close()
        ledger.close()
    return asdict(adapter) | {"created_at": to_text(adapter.created_at)}


def cancel_step(job: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """End the job of a run that was cancelled; the result says how that went."""
    api = _api(job, lambda text: tell({"text": text}), CANCEL_PATIENCE_S)
    try:
        return {"said": cancel_hosted(api, _notes(job))}
    finally:
        api.close()


def _api(job: Mapping[str, Any], tell: Callable[[str], None], patience_s: float) -> TuningApi:
    server = base_server(load_settings(**job["settings"], _env_file=None))
    return TuningApi(server.url, load_settings().base_key.get_secret_value(), tell=tell, patience_s=patience_s)


def _notes(job: Mapping[str, Any]) -> Notebook:
    return Notebook(Path(job["checkpoints"]) / NOTEBOOK)


STEPS: Mapping[str, Callable[[Mapping[str, Any], Tell], dict[str, Any]]] = {
    "tune_hosted": tune_step,
    "cancel_hosted": cancel_step,
}
