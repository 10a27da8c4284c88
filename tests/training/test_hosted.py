"""A hosted base is tuned over the real protocol, whatever the server does: once, or refused in words."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from storage.errors import EvenkeelError
from storage.recipe import Recipe
from storage.records import Dataset
from storage.weights import hosted_name, verify_adapter
from tests.training.tuning_desk import JOB, START, UPLOAD, Desk, record
from tests.training.tuning_server import BASE
from training.hosted import for_hosting, hyperparameters, preflight, progress_of
from training.hosted_api import _seconds


def test_a_job_becomes_an_adapter_whose_record_has_a_digest(desk: Desk, to_learn: Dataset) -> None:
    adapter = desk.tune(to_learn)

    folder = desk.room / "adapters" / adapter.digest
    assert verify_adapter(folder, base=f"name:{BASE}")["run_id"] == 7
    assert hosted_name(folder) == record(adapter)["model"] and record(adapter)["model"].startswith(
        f"ft:{BASE}:acme:evenkeel-"
    )
    assert (adapter.base_digest, adapter.dataset_digest) == (f"name:{BASE}", "d" * 64)
    assert adapter.stats["tokens"] == 1000 and adapter.stats["tokens_per_s"] == 20.0
    assert adapter.stats["losses"] == [2.0, 1.5, 1.25] and adapter.stats["final_loss"] == 1.25
    assert desk.server.keys == {"Bearer key"}


def test_a_record_that_was_changed_is_refused(desk: Desk, to_learn: Dataset) -> None:
    folder = Path(desk.tune(to_learn).path)
    (folder / "hosted.json").write_text((folder / "hosted.json").read_text().replace("acme:evenkeel", "acme:other"))

    with pytest.raises(EvenkeelError, match="was changed on disk"):
        verify_adapter(folder, base=f"name:{BASE}")


def test_the_files_hold_training_rows_alone_and_are_deleted_when_the_job_has_ended(
    desk: Desk, to_learn: Dataset
) -> None:
    adapter = desk.tune(to_learn)

    train, watched = (
        [json.loads(line)["messages"] for line in data.decode().splitlines()] for data in desk.server.rows.values()
    )
    assert len(train) == 66 and len(watched) == 4
    assert [m["role"] for m in train[0]] == ["system", "user", "assistant"]
    questions = [{row[1]["content"] for row in part} for part in (train, watched)]
    assert not questions[0] & questions[1] and len(questions[0] | questions[1]) == 70
    assert record(adapter)["files"]["train"]["rows"] == 66 and desk.server.files == {}


def test_the_job_is_told_the_recipe_and_shows_its_steps(desk: Desk, to_learn: Dataset) -> None:
    desk.tune(to_learn, profile="gentle", epochs=3.0, batch_size=8, seed=5)

    (job,) = desk.server.jobs.values()
    assert job["hyperparameters"] == {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 0.3}
    assert job["seed"] == 5 and job["metadata"]["evenkeel"] == job["suffix"]
    steps = [p for p in desk.shown if p.get("total")]
    assert (
        steps[0]["done"] == 3 and steps[0]["total"] == 3 and steps[0]["loss"] == 1.25 and "step 3/3" in steps[0]["text"]
    )
    assert "learning_rate_multiplier" not in hyperparameters(Recipe())


def test_the_time_left_is_the_servers_word_or_follows_from_the_pace_and_words_do_where_there_are_no_numbers() -> None:
    def event(step: int, at: int, numbers: Any = None) -> FineTuningJobEvent:
        return FineTuningJobEvent.construct(
            id="e", created_at=at, level="info", message=f"Step {step}/20: training loss=1.50", data=numbers
        )

    job = FineTuningJob.construct(id="j", status="running", estimated_finish=None)
    bare = [event(8, 160), event(4, 80)]
    shown = progress_of(job, bare, now=160.0)
    assert (shown["done"], shown["total"], shown["loss"], shown["eta_s"]) == (8, 20, 1.5, 240)

    told = FineTuningJob.construct(id="j", status="running", estimated_finish=200)
    numbers = event(9, 170, {"step": 9, "total_steps": 20, "train_loss": 1.25})
    assert progress_of(told, [numbers], now=170.0)["eta_s"] == 30
    strange = event(9, 170, {"train_loss": "none"})
    assert progress_of(job, [strange], now=170.0)["text"] == "job j is running at the server"


def test_a_server_of_the_older_form_is_told_its_way(desk: Desk, to_learn: Dataset) -> None:
    desk.server.older = True
    desk.tune(to_learn)

    assert [job["hyperparameters"]["n_epochs"] for job in desk.server.jobs.values()] == [2]


def test_what_a_hosted_job_cannot_do_is_said_and_not_recorded_as_done() -> None:
    asked = Recipe(
        epochs=1.5, kl_weight=0.1, scale=0.7, scale_search=True, learning_rate=1e-3, lora_rank=32, preferences=True,
        own_replay=True, entropy_gate=True, kl_budget=0.1)  # fmt: skip
    followed, said = for_hosting(asked)

    for word in (
        "lr=0.001",
        "rank=32",
        "kl=0.1",
        "budget=0.1",
        "eaft=on",
        "own=on",
        "scale=0.7",
        "search=on",
        "preferences=on",
    ):
        assert any(text.startswith(f"{word} is not followed: ") for text in said), word
    assert said[-1] == "epochs=1.5 are 2: a hosted job makes whole passes."
    assert followed.scales == (1.0,) and followed.epochs == 2 and followed.kl_weight == 0 and not followed.preferences
    assert for_hosting(Recipe())[1] == ()


# What the server does to us


@pytest.mark.parametrize("call", [UPLOAD, START])
@pytest.mark.parametrize("late", [0, 2])
def test_what_was_made_though_nobody_heard_of_it_is_found_and_not_made_again(
    desk: Desk, to_learn: Dataset, call: str, late: int
) -> None:
    desk.server.faults[call], desk.server.shows_late = ["lost"], late
    desk.tune(to_learn)

    assert len(desk.server.rows) == 2 and len(desk.server.jobs) == 1


def test_the_job_is_found_by_its_file_where_the_server_keeps_no_metadata(desk: Desk, to_learn: Dataset) -> None:
    desk.server.faults[START], desk.server.keeps_metadata = ["lost"], False
    desk.tune(to_learn)

    assert len(desk.server.jobs) == 1


@pytest.mark.parametrize(
    "call", ["GET models/ID", UPLOAD, "GET files/ID", START, JOB, f"{JOB}/events", f"{JOB}/checkpoints"]
)
@pytest.mark.parametrize("fault", [(429, 17), (503, 17), 500, "html"])
def test_a_server_that_is_busy_broken_or_hidden_is_asked_again_as_late_as_it_wishes(
    desk: Desk, to_learn: Dataset, call: str, fault: Any
) -> None:
    desk.server.faults[call] = [fault]
    desk.tune(to_learn)

    assert len(desk.server.jobs) == 1 and any("asked again in" in text for text in desk.told)
    assert (17.0 in desk.pauses) == isinstance(fault, tuple)


@pytest.mark.parametrize("call", [START, JOB])
def test_a_server_that_says_nothing_is_asked_again_and_what_it_did_is_found(
    desk: Desk, to_learn: Dataset, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.hosted_api.READ_S", 0.5)
    desk.server.faults[call] = ["hang"]
    desk.tune(to_learn)

    assert len(desk.server.jobs) == 1 and any("timed out" in text for text in desk.told)


@pytest.mark.parametrize(
    ("asked", "seconds"), [("7", 7.0), ("-3", 0.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None)]
)
def test_a_pause_may_be_asked_for_as_seconds_or_as_a_date(asked: str, seconds: float | None) -> None:
    assert _seconds(asked) == seconds and _seconds(None) is None


def test_a_server_that_stays_away_fails_the_run_in_words(desk: Desk, to_learn: Dataset) -> None:
    desk.server.faults[JOB] = [503] * 1_000
    desk.patience_s = 120.0

    with pytest.raises(EvenkeelError, match=r"could not be asked for job ftjob-1 for 2 minutes: it said 503\. Next: "):
        desk.tune(to_learn)


@pytest.mark.parametrize(
    ("status", "said"), [(401, "check BASE_KEY"), (400, "correct what it names"), (302, "correct what")]
)
def test_a_no_is_an_error_with_the_next_step_and_is_not_asked_again(
    desk: Desk, to_learn: Dataset, status: int, said: str
) -> None:
    desk.server.faults[UPLOAD] = [status]

    with pytest.raises(EvenkeelError, match=f"refused the train file: scripted.* Next: {said}"):
        desk.tune(to_learn)
    assert desk.server.count(UPLOAD) == 1 and desk.server.jobs == {}


@pytest.mark.parametrize("status", ["error", "refused"])
def test_a_file_that_is_refused_ends_the_run_with_the_servers_reason(
    desk: Desk, to_learn: Dataset, status: str
) -> None:
    desk.server.file_status, desk.server.file_error = status, "line 3 has no assistant message"

    with pytest.raises(EvenkeelError, match="refused the train file: line 3 has no assistant message"):
        desk.tune(to_learn)
    assert desk.server.jobs == {} and desk.server.files == {}


@pytest.mark.parametrize(
    ("states", "error", "said"),
    [
        (["running", "failed"], {"code": "bad_rows", "message": "row 7 is empty"}, r"failed at the server: row 7 is empty \(bad_rows\)"),
        (["failed"], None, "failed at the server: it gave no reason"),
        (["queued", "cancelled"], None, "was cancelled at the server"),
    ],
)  # fmt: skip
def test_a_job_that_ends_otherwise_says_why_and_leaves_no_file_there(
    desk: Desk, to_learn: Dataset, states: list[str], error: Any, said: str
) -> None:
    desk.server.states, desk.server.job_error = states, error

    with pytest.raises(EvenkeelError, match=f"job ftjob-1 {said}. Next: "):
        desk.tune(to_learn)
    assert desk.server.files == {}


def test_a_job_that_vanishes_is_looked_for_and_then_named(desk: Desk, to_learn: Dataset) -> None:
    desk.server.faults[JOB] = [404, 404]
    desk.tune(to_learn)  # shown late: no harm
    assert desk.pauses[:2] == [5.0, 5.0]

    desk.server.faults[JOB] = [404, 404, 404]
    again = Desk(desk.server, desk.room / "again")
    with pytest.raises(EvenkeelError, match="job ftjob-2 has vanished from .* Next: start the run again"):
        again.tune(to_learn)
    again.opened[0].close()


def test_a_job_that_never_ends_is_cancelled_after_two_days(desk: Desk, to_learn: Dataset) -> None:
    desk.server.states = ["running"]
    moments = iter(datetime.now(UTC) + timedelta(hours=hours) for hours in (0, 0, 0, 47, 47, 49, 49))
    desk.now = lambda: next(moments)

    with pytest.raises(EvenkeelError, match="job ftjob-1 was cancelled: it was running after 48 hours"):
        desk.tune(to_learn)
    assert desk.server.jobs["ftjob-1"]["status"] == "cancelled"


# Checkpoints


def test_with_early_stop_the_checkpoint_that_fits_the_held_back_rows_best_is_kept(
    desk: Desk, to_learn: Dataset
) -> None:
    desk.server.checkpoint_losses = (1.4, 1.1, 1.3)

    plain, stopped = desk.tune(to_learn), Desk(desk.server, desk.room / "two")
    best = stopped.tune(to_learn, early_stop=True)
    stopped.opened[0].close()

    assert record(best)["model"].endswith(":step-2") and best.stats["kept_step"] == 2
    assert not record(plain)["model"].endswith(":step-2")
    assert [point["loss"] for point in record(plain)["checkpoints"]] == [1.4, 1.1, 1.3]


# Preflight


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shutdown": "2026-02-01T00:00:00Z"}, r"ended on 2026-02-01, says its server"),
        ({"tunable": False}, "cannot be tuned"),
        ({"faults": {"GET fine_tuning/jobs": [404]}}, "has no fine-tuning API"),
        ({"faults": {"GET fine_tuning/jobs": [403]}}, "refused the list of jobs"),
        ({"faults": {"GET models/ID": [404], "GET models": [404]}}, "does not know the list of models"),
    ],
)
def test_nothing_is_uploaded_where_the_preflight_fails(
    desk: Desk, to_learn: Dataset, change: dict[str, Any], said: str
) -> None:
    desk.now = lambda: datetime(2026, 3, 1, tzinfo=UTC)
    desk.server.__dict__.update(change)

    with pytest.raises(EvenkeelError, match=said):
        desk.tune(to_learn)
    assert desk.server.rows == {}


def test_a_base_that_is_not_there_is_named_with_those_that_are(desk: Desk) -> None:
    with pytest.raises(EvenkeelError, match=f"has no model acme-maxi; it has {BASE}. Next: correct BASE_NAME"):
        preflight(replace(desk.at(), base="acme-maxi"))


def test_an_end_that_is_near_warns_and_the_setting_overrules_the_server(desk: Desk, to_learn: Dataset) -> None:
    desk.now = lambda: datetime(2026, 3, 1, tzinfo=UTC)
    desk.server.shutdown = "2026-04-01"
    desk.server.states = ["succeeded"]
    assert preflight(desk.at()) == (
        f"{BASE} ends on 2026-04-01, in 31 days, says its server: what is tuned on it ends with it.",
    )

    desk.shutdown = date(2026, 3, 10)
    with pytest.raises(EvenkeelError, match="in 9 days, says BASE_SHUTDOWN.* 14 days are the least"):
        preflight(desk.at())
    desk.shutdown = date(2027, 3, 10)
    assert preflight(desk.at()) == ()
