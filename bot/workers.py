"""The bot's threads: each repeats one step, and none dies silently.

A step returns whether there was something to do; then it is called again at once, else after a pause or a wake.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from storage.commits import is_locked

log = structlog.get_logger()
Step = Callable[[], bool | None]
PAUSE_S = 0.25
LONGEST_BACKOFF_S = 30.0
DRAIN_S = 20.0
LONGEST_ACK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    name: str
    step: Step
    pause_s: float
    bell: threading.Semaphore


class Workers:
    """Added, started together, stopped together."""

    def __init__(self) -> None:
        self._tasks: list[_Task] = []
        self._bells: dict[str, threading.Semaphore] = {}
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._acks, self._acks_lock, self._calm = 0, threading.Lock(), threading.Event()
        self._calm.set()

    def add(self, name: str, step: Step, *, count: int = 1, pause_s: float = PAUSE_S) -> None:
        """`count` threads that repeat this step; one of them hears each wake of this name."""
        bell = self._bells[name] = threading.Semaphore(0)
        for number in range(count):
            called = name if count == 1 else f"{name}-{number}"
            self._tasks.append(_Task(name=called, step=step, pause_s=pause_s, bell=bell))

    def start(self) -> None:
        self._threads = [
            threading.Thread(target=self._run, args=(task,), name=task.name, daemon=True) for task in self._tasks
        ]
        for thread in self._threads:
            thread.start()

    def wake(self, name: str) -> None:
        """Something was stored for these: one of them need not wait for the end of its pause."""
        self._bells[name].release()

    @contextmanager
    def acking(self) -> Iterator[None]:
        """While somebody waits for an ack, no step begins, for up to half a second: acks are due, answers can wait."""
        with self._acks_lock:
            self._acks += 1
            self._calm.clear()
        try:
            yield
        finally:
            with self._acks_lock:
                self._acks -= 1
                if not self._acks:
                    self._calm.set()

    def alive(self) -> bool:
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def stop(self, *, patience_s: float = DRAIN_S) -> bool:
        """Let every step in progress end; True if all did in time."""
        self._stopping.set()
        for task in self._tasks:
            task.bell.release()
        until = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        left = [thread.name for thread in self._threads if thread.is_alive()]
        if left:
            log.warning("not_drained", threads=left)
        return not left

    def _run(self, task: _Task) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._calm.wait(LONGEST_ACK_S)
            try:
                again = task.step()
                failures = 0
            except Exception as error:  # the named place: recorded, then tried again after a pause that grows
                failures += 1
                told, event = (log.warning, "step_waits") if is_locked(error) else (log.error, "step_failed")
                told(event, worker=task.name, error=type(error).__name__, at=_place(error), failures=failures)
                self._stopping.wait(min(LONGEST_BACKOFF_S, 0.5 * 2 ** min(failures, 6)))
                continue
            if not again:
                task.bell.acquire(timeout=task.pause_s)


def _place(error: Exception) -> str:
    """File and line where it broke: enough to look, and no message text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
