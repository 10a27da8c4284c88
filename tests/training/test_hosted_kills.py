"""A hosted run that is killed or cancelled: nothing is made twice, and nothing goes on that nobody wants."""

from typing import Any

import pytest

from storage.records import Dataset
from tests.training.tuning_desk import JOB, START, UPLOAD, Desk, record
from training.hosted import cancel_hosted
from training.hosted_api import TuningApi


class Killed(BaseException):
    """What kill -9 looks like from here."""


@pytest.mark.parametrize(
    "call",
    ["GET models/ID", UPLOAD, "GET files/ID", START, JOB, f"{JOB}/events", f"{JOB}/checkpoints", "DELETE files/ID"],
)
def test_a_run_that_was_killed_at_any_call_goes_on_with_the_same_files_and_job(
    desk: Desk, to_learn: Dataset, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.server.faults[call] = ["lost"]

    def die(self: TuningApi, *_: Any) -> float:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(TuningApi, "_pause", die)  # the process ends while the request is under way
        with pytest.raises(Killed):
            desk.tune(to_learn)
    adapter = desk.tune(to_learn)

    assert len(desk.server.rows) == 2 and len(desk.server.jobs) == 1
    assert record(adapter)["job"] == "ftjob-1" and desk.server.files == {}


def test_cancelling_ends_the_job_and_its_files_even_if_nobody_heard_of_its_start(
    desk: Desk, to_learn: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.server.faults[START] = ["lost"]

    def die(self: TuningApi, *_: Any) -> float:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(TuningApi, "_pause", die)
        with pytest.raises(Killed):
            desk.tune(to_learn)
    said = cancel_hosted(desk.api(), desk.notes)

    assert said == f"job ftjob-1 at {desk.server.url} was cancelled"
    assert desk.server.jobs["ftjob-1"]["status"] == "cancelled" and desk.server.files == {}


def test_cancelling_before_anything_was_begun_asks_nobody(desk: Desk) -> None:
    assert cancel_hosted(desk.api(), desk.notes) == "" and desk.server.calls == []


def test_cancelling_leaves_a_job_alone_that_has_ended(desk: Desk, to_learn: Dataset) -> None:
    desk.tune(to_learn)

    assert cancel_hosted(desk.api(), desk.notes) == "" and desk.server.jobs["ftjob-1"]["status"] == "succeeded"
