"""The scoring step: corrections are looked at for the candidate, and what goes wrong there costs no run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.engine.model import LoadedModel
from eval.benchmark import Answerer
from eval.suite import Plan
from storage.ledger import Ledger
from storage.records import Dataset, Lesson
from storage.settings import Settings, load_settings
from tests.eval.conftest import _adapter
from tests.storage.test_doubt import corrected
from training import steps
from training.dataset import _digest, save_dataset
from training.steps import look_at_corrections, score_step


@pytest.fixture
def settings(ledger: Ledger) -> Settings:
    return load_settings(_env_file=None, data_dir=ledger.path.parent, learn_from_slack=True, max_new_tokens=8)


@pytest.fixture
def job(
    settings: Settings,
    ledger: Ledger,
    tiny_folder: Path,
    tmp_path: Path,
    lessons: Callable[[str, int], tuple[Lesson, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:
    """A scoring job of the support benchmarks alone: base and one candidate."""
    plan = Plan(general=(), missing=(), seed=1, target_items=4, target_generations=4, max_new_tokens=8)
    monkeypatch.setattr(steps, "plan_from", lambda _: plan)
    rows = Dataset(digest="", train=lessons("t", 4), holdout=lessons("h", 8), manifest={})
    folder = save_dataset(replace(rows, digest=_digest(rows.train, rows.holdout)), tmp_path / "datasets")
    digest = _adapter(tiny_folder, settings.weights_dir, 5).name
    run_id = ledger.runs.request(reason="cli", requested_by="test", overrides={})
    return {"settings": settings.model_dump(mode="json"), "dataset": str(folder), "base": str(tiny_folder), "run_id": run_id,
            "subjects": [("base", None), ("candidate", digest)]}  # fmt: skip


def history(ledger: Ledger, job: dict[str, Any]) -> list[str]:
    return [note["text"] for note in ledger.runs.history(job["run_id"])]


def test_scoring_keeps_thresholds_of_base_and_candidate_and_checks_corrections_on_the_candidate(
    ledger: Ledger, job: dict[str, Any]
) -> None:
    corrected(ledger, 1)
    corrected(ledger, 2, author="U0TOM")

    score_step(job, lambda _: None)

    (_, base), (_, candidate) = job["subjects"]
    digest = LoadedModel.load(Path(job["base"]), device="cpu").base_digest
    assert ledger.doubt.of(digest, base) and ledger.doubt.of(digest, candidate)
    checks = list(ledger.connections.db.query("SELECT adapter_digest FROM correction_checks"))
    assert [row["adapter_digest"] for row in checks] == [candidate, candidate]
    assert any(text.startswith("0 of 2 corrections pass") for text in history(ledger, job))


def test_where_slack_teaches_nothing_no_correction_is_looked_at(ledger: Ledger, job: dict[str, Any]) -> None:
    corrected(ledger, 1)

    score_step({**job, "settings": {**job["settings"], "learn_from_slack": False}}, lambda _: None)

    assert not list(ledger.connections.db.query("SELECT * FROM correction_checks"))


def test_corrections_that_cannot_be_checked_are_a_line_of_the_history(
    tiny_model: LoadedModel, settings: Settings, ledger: Ledger, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise MemoryError("too many rows")

    monkeypatch.setattr(steps, "check_corrections", broken)

    look_at_corrections(Answerer(model=tiny_model, adapter="a"), ledger, settings, job["run_id"])

    assert "corrections were not checked: MemoryError: too many rows" in history(ledger, job)
