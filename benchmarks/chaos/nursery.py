"""A process that has imported the bot once and gives birth to as many as are wanted: a start costs milliseconds.

Promise: a child is the bot as `evenkeel bot` runs it, in a process and a session of its own, and can be killed like it;
the nursery itself has no thread, opens no ledger and ends with whoever started it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Child:
    """A child of the nursery: its id, and how it ended."""

    def __init__(self, nursery: "Nursery", pid: int) -> None:
        self.pid, self._nursery, self._code = pid, nursery, None

    def poll(self) -> int | None:
        """As of subprocess.Popen: None while it runs, -9 once it was killed."""
        if self._code is None:
            self._code = self._nursery.say({"poll": self.pid})
        return self._code

    def wait(self, timeout: float = 30.0) -> int:
        """Raises TimeoutError."""
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise TimeoutError(f"process {self.pid} still runs after {timeout:g} s")
            time.sleep(0.002)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> int:
        self.send_signal(signal.SIGKILL)
        return self.wait()


class Nursery:
    """Our end of the line to it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def say(self, wish: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, job: str, environment: Mapping[str, str], log: Path, **given: Any) -> Child:
        """A new process that does this job of jobs.py."""
        wish = {"job": job, "given": given, "environment": dict(environment), "log": str(log)}
        return Child(self, int(self.say(wish)))


@contextmanager
def nursery() -> Iterator[Nursery]:
    """One that is ready inside the block; at its end it is hung up on, and its children are gone."""
    command = [sys.executable, "-m", "benchmarks.chaos.nursery"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        here = Nursery(process)
        here.say({"poll": 0})
        yield here


def serve() -> None:
    """Until our owner hangs up: a line asks for a child, or how one has ended."""
    from benchmarks.chaos import jobs

    children: set[int] = set()
    for line in sys.stdin:
        wish = json.loads(line)
        if "poll" in wish:
            answer = ended(wish["poll"]) if wish["poll"] in children else None
            children -= {wish["poll"]} if answer is not None else set()
        else:
            answer = os.fork()
            if answer == 0:
                become(jobs, wish)
            children.add(answer)
        print(json.dumps(answer), flush=True)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def ended(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def become(jobs: Any, wish: dict[str, Any]) -> None:
    """The child's whole life."""
    os.setsid()
    nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(wish["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for old, new in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(old, new)
    os.environ.update(wish["environment"])
    code = 1
    try:
        getattr(jobs, wish["job"])(**wish["given"])
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
