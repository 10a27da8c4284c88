"""A run is worked on by one worker; a worker that is told to stop hands its run to the next one at once."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.errors import Busy
from storage.ledger import Ledger
from storage.records import Run
from storage.settings import Settings, load_settings
from training import cycle, worker
from training.worker import Stopped, run_worker, work_once


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(_env_file=None, data_dir=tmp_path / "data", retrain_cron="", retrain_after_lessons=0)


@pytest.fixture
def own_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def ask(ledger: Ledger) -> int:
    return ledger.runs.request(reason="cli", requested_by="test", overrides={})


def test_two_workers_share_one_run_by_letting_one_of_them_have_it(
    settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked, found, gate = list[int](), list[bool](), threading.Barrier(2)

    def slow(run: Run, **_: Any) -> None:
        worked.append(run.fence)
        time.sleep(0.5)

    def one() -> None:
        own = Ledger(settings.ledger_path)
        gate.wait()
        found.append(work_once(settings, own))
        own.close()

    monkeypatch.setattr(worker, "run_cycle", slow)
    ask(ledger)
    both = [threading.Thread(target=one) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()

    assert worked == [1] and sorted(found) == [False, True]


def test_a_released_run_is_claimed_at_once_and_only_its_holder_may_release_it(ledger: Ledger) -> None:
    ask(ledger)
    first = ledger.runs.claim(owner="one", lease_s=60)
    assert first and ledger.runs.claim(owner="two", lease_s=60) is None

    ledger.runs.release(first)
    second = ledger.runs.claim(owner="two", lease_s=60)
    ledger.runs.release(first)

    assert second and second.fence == first.fence + 1
    assert ledger.runs.claim(owner="three", lease_s=60) is None


@pytest.mark.usefixtures("own_signals")
def test_sigterm_in_the_middle_of_a_run_hands_it_to_the_next_worker(
    settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(run: Run, **_: Any) -> None:
        ledger.runs.advance(run, state="training", lease_s=60)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(worker, "run_cycle", interrupted)
    run_id = ask(ledger)

    run_worker(settings, ledger)

    left = ledger.runs.get(run_id)
    assert left and (left.state, left.finished_at, left.error) == ("training", None, "")
    resumed = ledger.runs.claim(owner="next", lease_s=60)
    assert resumed and (resumed.run_id, resumed.fence) == (run_id, 2)


def test_a_stop_in_the_middle_of_a_run_is_not_swallowed(
    settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise Stopped

    monkeypatch.setattr("training.cycle.Cycle.build", stopped)
    run_id = ask(ledger)
    with pytest.raises(Stopped):
        work_once(settings, ledger)

    run = ledger.runs.get(run_id)
    assert run and run.finished_at is None


@pytest.fixture
def other(ledger: Ledger) -> Iterator[sqlite3.Connection]:
    """Another process at the same file; this one loses its patience soon."""
    connection = sqlite3.connect(ledger.path, isolation_level=None)
    with ledger.connections.patience(0.05):
        yield connection
    connection.close()


@pytest.mark.parametrize("ends", ["lock", "stop"])
def test_a_run_that_meets_a_locked_ledger_or_is_stopped_beside_one_waits_to_be_resumed(
    settings: Settings, ledger: Ledger, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    kept = settings.weights_dir / "checkpoints" / "1"

    def locked(work: cycle.Cycle, _: Any) -> None:
        kept.mkdir(parents=True)
        other.execute("BEGIN IMMEDIATE")
        if ends == "stop":
            raise Stopped
        work.move("building")

    monkeypatch.setattr("training.cycle.Cycle.build", locked)
    run_id = ask(ledger)
    with pytest.raises(Stopped if ends == "stop" else Busy):
        work_once(settings, ledger)
    other.execute("COMMIT")

    left = ledger.runs.get(run_id)
    assert left and (left.finished_at, left.error) == (None, "") and kept.exists()


def test_a_run_that_met_a_lock_which_is_over_is_resumed_at_once(
    settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any) -> None:
        raise Busy("the ledger was locked")

    monkeypatch.setattr("training.cycle.Cycle.build", locked)
    ask(ledger)
    with pytest.raises(Busy):
        work_once(settings, ledger)

    resumed = ledger.runs.claim(owner="next", lease_s=60)
    assert resumed and resumed.fence == 2


def test_a_setting_that_became_impossible_fails_the_run_and_not_the_worker(tmp_path: Path, ledger: Ledger) -> None:
    settings = load_settings(_env_file=None, data_dir=tmp_path / "data", lora_rank=0)
    run_id = ask(ledger)

    assert work_once(settings, ledger)

    run = ledger.runs.get(run_id)
    assert run and run.state == "failed" and "lora_rank=0 is outside 1 to 256" in run.error


def test_an_idle_worker_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    env = {**os.environ, "DATA_DIR": str(tmp_path), "RETRAIN_CRON": "", "LOG_LEVEL": "info"}
    with subprocess.Popen(
        [sys.executable, "-m", "evenkeel", "worker"], env=env, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "worker_ready" in process.stderr.readline()
        asked = time.monotonic()
        process.terminate()
        code = process.wait(timeout=10)
        said = process.stderr.read()

    assert code == 0 and time.monotonic() - asked < 5
    assert "worker_stopped" in said and "Traceback" not in said


def test_the_worker_itself_loads_no_model_library() -> None:
    program = "import sys, evenkeel, training.worker; print({'torch', 'transformers', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
