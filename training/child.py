"""Heavy steps in a child process: the worker stays light, a crash stays apart, memory goes back when it ends.

Protocol: a job file in, JSON lines of progress on the child's stdout, a result file out; the child ends when its stdin
closes, so it never outlives the worker. Knows processes. What a step does is in training/steps.py.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from storage import errors
from storage.errors import EvenkeelError

POLITE_S = 20.0
SILENCE_S = 7_200.0  # twice what a benchmark may stand still (eval/deadline.py): then no signal reaches the child
Step = Callable[[Mapping[str, Any], Callable[[Mapping[str, Any]], None]], dict[str, Any]]  # (job, tell) → result
Heartbeat = Callable[[Mapping[str, Any] | None], None]  # progress or None, several times a second; raises to stop it


def run_child(step: str, job: Mapping[str, Any], heartbeat: Heartbeat) -> dict[str, Any]:
    """The result of a step that ran in a child process.

    Raises what the child raised on purpose (by its class of storage/errors.py), EvenkeelError with the end of its
    stderr when it died or when it said nothing for SILENCE_S, and whatever `heartbeat` raises; whichever way it ends, the
    child is gone, and one that was stopped had POLITE_S to save its checkpoint.
    """
    with tempfile.TemporaryDirectory(prefix="evenkeel-") as room:
        job_file, result_file, said = Path(room, "job.json"), Path(room, "result.json"), Path(room, "stderr.txt")
        job_file.write_text(json.dumps({"step": step, "file": str(job_file), "result": str(result_file), **job}))
        with said.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "training.child", str(job_file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=stderr, text=True, start_new_session=True)  # fmt: skip
            try:
                follow(step, process, heartbeat)
            finally:
                end(process)
        if not result_file.exists():
            tail = "\n".join(said.read_text(errors="replace").splitlines()[-3:]) or "it said nothing"
            raise EvenkeelError(
                f"{step} ended with code {process.returncode}: {tail}. Next: free memory if it was killed, then start the run again."
            )
        return unwrap(json.loads(result_file.read_text()))


def follow(step: str, process: subprocess.Popen[str], heartbeat: Heartbeat) -> None:
    """Pass the child's progress on until it ends. Raises EvenkeelError once it has sent no line for SILENCE_S."""
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    heard = time.monotonic()
    while process.poll() is None or not lines.empty():
        try:
            line, heard = lines.get(timeout=0.2), time.monotonic()
        except queue.Empty:
            line = ""
            require_words(step, time.monotonic() - heard)
        heartbeat(read_progress(line))
    reader.join(timeout=5)


def require_words(step: str, silent_s: float) -> None:
    if silent_s > SILENCE_S:
        raise EvenkeelError(
            f"{step} said nothing for {silent_s / 60:.0f} minutes and was ended. Next: look whether its GPU and disk still "
            "answer, then start the run again."
        )


def _read(stream: Any, lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)


def read_progress(line: str) -> dict[str, Any] | None:
    """The progress in a line of the child, or None: a library may print there, too."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def end(process: subprocess.Popen[str]) -> None:
    """Leave no child: SIGTERM first, so that a training saves its checkpoint, then SIGKILL."""
    try:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=POLITE_S)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def unwrap(result: dict[str, Any]) -> dict[str, Any]:
    """The child's value, or its deliberate error raised anew."""
    if "error" not in result:
        return result
    kind = getattr(errors, result["error"], EvenkeelError)
    raise (kind if isinstance(kind, type) and issubclass(kind, EvenkeelError) else EvenkeelError)(result["text"])


# The child's side


def main(job_file: Path) -> None:
    """Run one step, write its result. A deliberate error is a result, too; anything else is a traceback on stderr.

    Of several processes that do a step together, the first result counts, and one that failed has the others ended.
    """
    job = json.loads(job_file.read_text())
    _step_back()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        result = _step(job["step"])(job, _tell)
    except EvenkeelError as error:
        result = {"error": type(error).__name__, "text": str(error)}
    target = Path(job["result"])
    draft = target.with_suffix(f".draft-{os.getpid()}")
    draft.write_text(json.dumps(result))
    if not target.exists():
        draft.replace(target)
    sys.exit("error" in result)


def _step(name: str) -> Step:
    """The step of this name; torch is loaded only where it is needed."""
    from training.hosted_steps import STEPS as hosted

    if name in hosted:
        return hosted[name]
    from training.steps import STEPS as here

    return here[name]


def _step_back() -> None:
    """Run only where nobody else wants to: answering comes first on a machine that does both.

    Linux may share the cores between sessions before it looks at what runs in them; so the session steps back, too.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # not Linux, or not allowed
        os.nice(10)
    if os.getsid(0) == os.getpid():  # this child's own, as run_child starts it
        with contextlib.suppress(OSError):  # not Linux, or no such groups
            Path("/proc/self/autogroup").write_text("19")


def _tell(progress: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(progress) + "\n")
    sys.stdout.flush()


def _die_with_parent() -> None:
    os.read(0, 1)  # unbuffered: a buffer that is being read aborts the interpreter when it ends with a traceback
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
