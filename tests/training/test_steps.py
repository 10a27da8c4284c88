"""The scoring step: corrections are looked at for the candidate, and what goes wrong there costs no run."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bot.engine.model import LoadedModel
from eval.benchmark import Answerer, Benchmark, Measured
from eval.suite import Plan
from storage.ledger import Ledger
from storage.records import Dataset, ItemScore, Lesson
from storage.settings import Settings, load_settings
from tests.eval.conftest import _adapter
from tests.storage.test_doubt import corrected
from training import steps
from training.dataset import digest_of_rows, load_dataset, save_dataset
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
    monkeypatch.setattr(steps, "plan_from", lambda _, **__: plan)
    rows = Dataset(digest="", train=lessons("t", 4), holdout=lessons("h", 8), manifest={})
    folder = save_dataset(replace(rows, digest=digest_of_rows(rows.train, rows.holdout)), tmp_path / "datasets")
    digest = _adapter(tiny_folder, settings.weights_dir, 5).name
    run_id = ledger.runs.request(reason="cli", requested_by="test", overrides={})
    return {"settings": settings.model_dump(mode="json"), "dataset": str(folder), "base": str(tiny_folder), "run_id": run_id,
            "subjects": [("base", None), ("candidate", digest)], "looks": 1}  # fmt: skip


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


def test_what_base_and_candidate_said_is_kept_beside_the_lessons_and_what_a_champion_said_is_not(
    ledger: Ledger, settings: Settings, job: dict[str, Any], tiny_folder: Path
) -> None:
    champion = _adapter(tiny_folder, settings.weights_dir, 6).name
    base, candidate = job["subjects"]

    score_step({**job, "subjects": [base, ("champion", champion), candidate]}, lambda _: None)

    cards = {subject: ledger.scores.card(job["run_id"], subject) for subject in ("base", "champion", "candidate")}
    keys = {subject: score.key for subject, card in cards.items() if card and (score := card.get("support", "rouge_l"))}
    folder = Path(job["dataset"])
    assert {path.stem for path in (folder / "said").iterdir()} == {keys["base"], keys["candidate"]}
    assert len(keys) == 3 and load_dataset(folder).digest == folder.name


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


class Plans:
    """Stands for plan_from: an open and a sealed plan of one toy benchmark, and what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bool, int]] = []

    def __call__(self, settings: Settings, *, turn: int, train: tuple[Lesson, ...], sealed: bool = False) -> Plan:
        self.asked.append((turn, sealed, len(train)))
        names, name = ("s1", "s2", "s3", "s4") if sealed else ("a", "b"), "sealed" if sealed else "open"
        items = tuple(ItemScore(item_id=n, cluster=n, value=0.5) for n in names)
        toy = Benchmark(
            name="x", domain="general", expects=(("x", "acc"),), digest=name, cost=1,
            measure=lambda *_: [Measured(benchmark="x", metric="acc", items=items)])  # fmt: skip
        return Plan(general=(toy,), missing=(), seed=1, target_items=4, target_generations=4, max_new_tokens=8)


@pytest.mark.parametrize(("verdict", "looks", "items"), [("PROMOTE", [False, True], 6), ("HOLD", [False], 2)])
def test_only_a_candidate_that_would_be_promoted_is_looked_at_once_more_on_the_sealed_items(
    verdict: str, looks: list[bool], items: int, ledger: Ledger, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = Plans()
    monkeypatch.setattr(steps, "plan_from", plans)
    monkeypatch.setattr(steps, "decide_on", lambda *_: SimpleNamespace(verdict=verdict))

    score_step(job, lambda _: None)

    assert plans.asked == [(0, sealed, 4) for sealed in looks]
    cards = [ledger.scores.card(job["run_id"], subject) for subject in ("base", "candidate")]
    assert [card and (s := card.get("x", "acc")) and s.n for card in cards] == [items, items]
    assert len({card.suite_digest for card in cards if card}) == 1
    again = ledger.scores.card(job["run_id"], "again")
    assert [s.benchmark for s in again.scores] == ["support"] if again else verdict == "HOLD"


def test_a_candidate_beside_which_the_base_is_another_never_comes_to_the_sealed_items(
    ledger: Ledger, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = Plans()
    monkeypatch.setattr(steps, "plan_from", plans)
    monkeypatch.setattr(
        steps, "decide_on", lambda cards, _: SimpleNamespace(verdict="HOLD" if "again" in cards else "PROMOTE")
    )

    score_step(job, lambda _: None)

    assert [sealed for _, sealed, _ in plans.asked] == [False]
    assert ledger.scores.card(job["run_id"], "again")


def test_a_later_run_has_the_next_turn_and_a_resumed_one_keeps_its_own(
    ledger: Ledger, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = Plans()
    monkeypatch.setattr(steps, "plan_from", plans)
    monkeypatch.setattr(steps, "_would_be_promoted", lambda *_: False)
    monkeypatch.setattr(steps, "look_at_corrections", lambda *_: None)

    later = {**job, "run_id": job["run_id"] + 1}
    for one in (job, job, later, later):
        score_step(one, lambda _: None)
        with ledger.connections.write() as db:
            db.execute("UPDATE runs SET state='decided' WHERE run_id=?", (job["run_id"],))
        if ledger.runs.get(later["run_id"]) is None:
            ledger.runs.request(reason="cli", requested_by="test", overrides={})

    assert [turn for turn, _, _ in plans.asked] == [0, 0, 1, 1]


def test_a_judge_compares_candidate_and_base_and_its_word_is_a_line_of_the_history(
    ledger: Ledger, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, opened, told = list[str](), list[Any](), list[Mapping[str, Any]]()

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "A"

    monkeypatch.setattr(steps, "asker", lambda *how: opened.append(how) or ask)
    monkeypatch.setenv("JUDGE_KEY", "from the environment")

    score_step({**job, "settings": {**job["settings"], "judge_url": "http://judge/v1"}}, told.append)

    assert [line["text"] for line in told][-8:] == [f"pairs that the judge reads: {n}/8" for n in range(1, 9)]
    assert any(line["text"] == "answers for the judge: 8/8" for line in told)
    assert opened == [("http://judge/v1", "from the environment", "judge")]
    (line,) = [text for text in history(ledger, job) if "judge" in text]
    assert "of 8 pairs" in line and "advice only" in line
    assert asked and all("A person approved this answer:" in prompt for prompt in asked)


def test_a_judge_that_cannot_be_asked_fails_no_run(
    ledger: Ledger, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ConnectionError("refused")

    monkeypatch.setattr(steps, "asker", broken)

    score_step({**job, "settings": {**job["settings"], "judge_url": "http://judge/v1"}}, lambda _: None)

    assert "the judge at http://judge/v1 could not be asked: ConnectionError: refused" in history(ledger, job)
