"""A heavy step lives in a child: it reports, it may fail, be killed or be stopped, and it never outlives its parent.

The children are real processes of training/child.py; only their steps are light ones, put in by a sitecustomize.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from eval.deadline import STALL_S
from storage.errors import EvenkeelError, TooLittleData
from training import child
from training.child import follow, read_progress, run_child

STEPS = """
import os, signal, sys, time, types
from pathlib import Path
from storage.errors import EvenkeelError, TooLittleData

def count(job, tell):
    for number in range(job["to"]):
        tell({"done": number})
    print("a library speaks {here}")
    return {"sum": sum(range(job["to"]))}

def refuse(job, tell):
    raise TooLittleData("3 rows are missing")

class Private(EvenkeelError):
    pass

def private(job, tell):
    raise Private("said on purpose")

def crash(job, tell):
    return {}["nothing"]

def wait(job, tell):
    def save(*_):
        Path(job["note"]).write_text("saved")
        sys.exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if job.get("deaf") else save)
    tell({"pid": os.getpid()})
    time.sleep(60)

steps = types.ModuleType("training.steps")
steps.STEPS = {f.__name__: f for f in (count, refuse, private, crash, wait)}
sys.modules["training.steps"] = steps
"""


@pytest.fixture(autouse=True)
def _light_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(STEPS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{Path.cwd()}")


def ignore(_: Mapping[str, Any] | None) -> None:
    pass


class Pids(list[int]):
    """A heartbeat that does something to the child as soon as it has said its pid."""

    def __init__(self, then: Any) -> None:
        super().__init__()
        self.then = then

    def __call__(self, progress: Mapping[str, Any] | None) -> None:
        if progress:
            self.append(progress["pid"])
            self.then(progress["pid"])


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_progress_arrives_in_order_and_the_result_comes_back() -> None:
    seen: list[Mapping[str, Any]] = []

    result = run_child("count", {"to": 5}, lambda p: seen.append(p) if p else None)

    assert [p["done"] for p in seen] == [0, 1, 2, 3, 4] and result == {"sum": 10}


def test_a_line_of_a_library_is_no_progress() -> None:
    assert [read_progress(line) for line in ("{half", "12", "", '{"done": 1}')] == [None, None, None, {"done": 1}]


def test_a_deliberate_error_comes_back_as_its_class() -> None:
    with pytest.raises(TooLittleData, match="3 rows are missing"):
        run_child("refuse", {}, ignore)
    with pytest.raises(EvenkeelError, match="said on purpose"):
        run_child("private", {}, ignore)


def test_a_crash_names_the_step_and_the_surprise() -> None:
    with pytest.raises(EvenkeelError, match=r"(?s)crash ended with code 1: .*KeyError: 'nothing'"):
        run_child("crash", {}, ignore)


def test_a_killed_child_names_its_step_and_signal(tmp_path: Path) -> None:
    with pytest.raises(EvenkeelError, match="wait ended with code -9"):
        run_child("wait", {"note": str(tmp_path / "n")}, Pids(lambda pid: os.kill(pid, signal.SIGKILL)))


def stop(_: int) -> None:
    raise InterruptedError("stop, please")


def test_a_heartbeat_that_raises_stops_the_child_which_may_save_first(tmp_path: Path) -> None:
    pids = Pids(stop)
    with pytest.raises(InterruptedError, match="stop, please"):
        run_child("wait", {"note": str(tmp_path / "note")}, pids)

    assert (tmp_path / "note").read_text() == "saved" and gone(pids[0])


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "POLITE_S", 0.3)
    pids = Pids(stop)
    with pytest.raises(InterruptedError):
        run_child("wait", {"note": str(tmp_path / "note"), "deaf": True}, pids)

    assert gone(pids[0]) and not (tmp_path / "note").exists()


def test_a_child_that_falls_silent_is_ended_and_the_error_names_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = Pids(lambda _: monkeypatch.setattr(child, "SILENCE_S", 0.5))

    with pytest.raises(EvenkeelError, match=r"^wait said nothing for 0 minutes and was ended\. Next: .* start the run"):
        run_child("wait", {"note": str(tmp_path / "note")}, pids)

    assert gone(pids[0]) and (tmp_path / "note").read_text() == "saved"


def test_a_silent_child_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "POLITE_S", 0.3)
    pids = Pids(lambda _: monkeypatch.setattr(child, "SILENCE_S", 0.5))

    with pytest.raises(EvenkeelError, match="wait said nothing"):
        run_child("wait", {"note": str(tmp_path / "note"), "deaf": True}, pids)

    assert gone(pids[0]) and not (tmp_path / "note").exists()


def test_a_child_that_says_something_now_and_then_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "SILENCE_S", 1.5)
    code = "import time\nfor n in range(8):\n    print('{}', flush=True)\n    time.sleep(0.3)"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, text=True) as process:
        heard: list[Mapping[str, Any] | None] = []
        follow("mumble", process, heard.append)

    assert process.returncode == 0 and heard.count({}) == 8


def test_silence_is_twice_what_a_benchmark_may_stand_still() -> None:
    assert child.SILENCE_S == 2 * STALL_S


def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "from training.child import run_child\n"
        f"run_child('wait', {{'note': {str(tmp_path / 'n')!r}}}, lambda p: p and print(p['pid'], flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()

    until = time.monotonic() + 5
    while not gone(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert gone(pid)


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="only Linux knows work that runs when nobody else wants to")
def test_training_runs_only_where_nobody_else_wants_to() -> None:
    code = "import os; from training.child import _step_back; _step_back(); print(os.sched_getscheduler(0) == os.SCHED_IDLE)"
    group = Path("/proc/self/autogroup")  # where Linux shares the cores between sessions
    code += f"; print(open('{group}').read().split()[-1])" if group.exists() else "; print(19)"

    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, start_new_session=True
    ).stdout

    assert said == "True\n19\n"
