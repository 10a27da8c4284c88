"""How long a benchmark may stand still: one that hangs ends with its reason, as one that crashes does.

Knows signals, so only the main thread of a Unix process has a limit. What no signal reaches (a driver that hangs in C) is
ended from outside: training/child.py.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from eval.benchmark import Tell

STALL_S = 3_600.0  # between two words: one batch of a large model on a slow CPU may take many minutes
AGAIN_S = 10.0  # a library may swallow what is raised, or a `finally` may hang: then it is raised again


class _Stalled(BaseException):
    """No Exception: a library's `except Exception` would take it for the fault of one item."""


@contextmanager
def moving(tell: Tell) -> Iterator[Tell]:
    """The same `tell`, which must be heard again and again: STALL_S without it end the block.

    Raises TimeoutError, also where somebody inside swallowed it and went on. Handler and timer are afterwards as they were.
    Outside the main thread, or where there is no SIGALRM, nothing is limited.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield tell
        return
    clock = _Clock(tell)
    clock.start()
    try:
        yield clock.told
    except (_Stalled, Exception):
        if not clock.stalled:
            raise
    finally:
        clock.stop()
    if clock.stalled:
        raise TimeoutError(f"no progress for {STALL_S / 60:g} minutes")


class _Clock:
    """The process's alarm, borrowed."""

    def __init__(self, tell: Tell) -> None:
        self.tell, self.runs, self.stalled = tell, True, False

    def start(self) -> None:
        self.began, self.handler = time.monotonic(), signal.signal(signal.SIGALRM, self.ring)
        self.timer = signal.setitimer(signal.ITIMER_REAL, STALL_S, AGAIN_S)

    def told(self, done: int, total: int) -> None:
        if self.stalled:
            raise _Stalled
        signal.setitimer(signal.ITIMER_REAL, STALL_S, AGAIN_S)
        self.tell(done, total)

    def ring(self, *_: object) -> None:
        if self.runs:
            self.stalled = True
            raise _Stalled

    def stop(self) -> None:
        """What was left of the former timer goes on; one that fell due meanwhile rings at once."""
        self.runs = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if self.handler is None else self.handler)
        left, interval = self.timer
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - self.began), 1e-6), interval)
