"""Child processes that are ready before we go on, and gone when we leave.

Promise: nothing is left running, however the block ends. Knows processes and logs, not what they do.
"""

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.errors import EvenkeelError

READY_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """One process of the stage: its command, how to see that it is ready, and where it writes."""

    name: str
    command: tuple[str, ...]
    ready_url: str | None
    log: Path


@contextmanager
def running(actors: tuple[Actor, ...], environment: Mapping[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """All actors started and ready; all stopped at the end: SIGTERM first, SIGKILL after ten seconds."""
    processes: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        for actor in actors:
            actor.log.parent.mkdir(parents=True, exist_ok=True)
            with actor.log.open("ab") as log:
                processes.append(
                    subprocess.Popen(
                        actor.command,
                        env={**os.environ, **environment},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        for actor, process in zip(actors, processes, strict=True):
            await_ready(actor, process)
        yield processes
    finally:
        stop(processes)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def await_ready(actor: Actor, process: subprocess.Popen[bytes]) -> None:
    """Return when the actor answers. Raises EvenkeelError with the end of its log when it died or never answers."""
    until = time.monotonic() + READY_S
    while actor.ready_url is not None and time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(actor.ready_url, timeout=2) as reply:
                if reply.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    if actor.ready_url is not None or process.poll() is not None:
        raise EvenkeelError(
            f"{actor.name} did not start:\n{tail(actor.log)}\nNext: evenkeel doctor; whole log: {actor.log}"
        )


def watch(actors: tuple[Actor, ...], processes: list[subprocess.Popen[bytes]]) -> None:
    """Until Ctrl-C. Raises EvenkeelError with the end of the log when an actor dies."""
    while True:
        time.sleep(0.5)
        for actor, process in zip(actors, processes, strict=True):
            if process.poll() is not None:
                raise EvenkeelError(f"{actor.name} ended with code {process.returncode}:\n{tail(actor.log)}")


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in reversed(processes):
        if process.poll() is None:
            process.terminate()
    until = time.monotonic() + 10
    for process in processes:
        try:
            process.wait(timeout=max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def tail(log: Path, lines: int = 12) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
