"""The commands of the model: a run that is followed ends, goes on or is left to its worker, and all that is written is shown."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import evenkeel
from storage.errors import Busy
from storage.ledger import Ledger
from storage.records import Answer
from training import model_commands
from training.model_commands import follow, requested


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_commands, "UNHELD_S", 0.0)


def work_until_cancelled(ledger: Ledger) -> None:
    """What a run does in its thread: hold the lease, and end when an admin cancels."""
    run = ledger.runs.claim(owner="here", lease_s=60)
    assert run
    while not ledger.runs.report_progress(run, {"text": "training"}, lease_s=60):
        time.sleep(0.02)
    time.sleep(0.2)  # the child ends
    ledger.runs.advance(run, state="cancelled", lease_s=60)


def interrupted_when(monkeypatch: pytest.MonkeyPatch, is_time: Any) -> None:
    """Ctrl-C, once it is time."""
    pause = time.sleep

    def sleep(seconds: float) -> None:
        if threading.current_thread() is threading.main_thread() and is_time():
            raise KeyboardInterrupt
        pause(min(seconds, 0.02))

    monkeypatch.setattr(model_commands.time, "sleep", sleep)


def test_ctrl_c_cancels_a_run_that_runs_here_and_waits_for_its_end(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = requested(ledger, {})
    interrupted_when(monkeypatch, lambda: ledger.runs.is_held(run_id))

    with pytest.raises(KeyboardInterrupt):
        follow(run_id, ledger, lambda: work_until_cancelled(ledger))

    run = ledger.runs.get(run_id)
    assert run and run.state == "cancelled" and ledger.runs.active() is None


def test_ctrl_c_leaves_a_workers_run_to_the_worker(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = requested(ledger, {})
    assert ledger.runs.claim(owner="a worker", lease_s=60)
    interrupted_when(monkeypatch, lambda: True)

    with pytest.raises(KeyboardInterrupt):
        follow(run_id, ledger, lambda: pytest.fail("it was started here, too"))

    run = ledger.runs.get(run_id)
    assert run and not run.cancel_requested


def test_a_run_whose_thread_met_a_locked_ledger_is_begun_again(ledger: Ledger) -> None:
    run_id, tries = requested(ledger, {}), list[int]()

    def work() -> None:
        tries.append(1)
        run = ledger.runs.claim(owner="here", lease_s=60)
        assert run
        if len(tries) == 1:
            ledger.runs.release(run)
            raise Busy("the ledger was locked")
        ledger.runs.advance(run, state="decided", lease_s=60)

    assert follow(run_id, ledger, work).state == "decided" and len(tries) == 2


def test_a_run_that_was_left_unfinished_goes_on_unless_something_else_is_asked_for(ledger: Ledger) -> None:
    run_id = requested(ledger, {})
    held = ledger.runs.claim(owner="one", lease_s=60)
    assert held
    with pytest.raises(Busy, match="one run at a time"):
        requested(ledger, {})
    ledger.runs.advance(held, state="training", lease_s=-1)  # whoever held it was killed

    assert requested(ledger, {}) == run_id
    with pytest.raises(Busy, match="without other words, goes on with it"):
        requested(ledger, {"epochs": 2.0})


def test_brackets_in_an_answer_and_in_an_error_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    ledger = Ledger(tmp_path / "evenkeel.db")
    requested(ledger, {})
    run = ledger.runs.claim(owner="one", lease_s=60)
    assert run
    ledger.runs.advance(run, state="failed", lease_s=60, error="use [/a]")
    ledger.close()

    evenkeel._print_answers([Answer(role="tuned", status="ok", text="Write to [email], use [/path].")], "it")
    listed = CliRunner().invoke(evenkeel.app, ["runs"], env={"COLUMNS": "200"})

    assert "Write to [email], use [/path]." in capsys.readouterr().out
    assert listed.exit_code == 0, listed.exception
