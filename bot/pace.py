"""How often each Web API method may be called, and what to do when Slack says it was too often.

Promise: after a 429 nobody calls that method again before Retry-After is over, whichever thread wants to; what can be
left out (previews, queue positions) leaves room for what cannot (final words).
Source of the tiers: docs.slack.dev/apis/web-api/rate-limits.
"""

import threading
import time
from collections.abc import Callable

from slack_sdk.errors import SlackApiError

PER_MINUTE = {
    "chat.update": 50,
    "chat.startStream": 20,
    "chat.stopStream": 20,
    "chat.appendStream": 100,
    "assistant.threads.setStatus": 50,
}
RESERVE = 0.4  # of a minute's calls, kept for what must be said


class HeldBack(SlackApiError):
    """Not sent: Slack asked for a pause that is not over. Reads like the 429 that began it."""

    def __init__(self, method: str, seconds: float) -> None:
        said = f"{method} is held back for {seconds:.1f} s"
        super().__init__(said, {"ok": False, "error": "ratelimited"})  # type: ignore[no-untyped-call]
        self.seconds = seconds


class Pace:
    """One for all threads of a process."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._lock = monotonic, threading.Lock()
        self._until: dict[str, float] = {}
        self._left: dict[str, tuple[float, float]] = {}  # method → (calls left, as of)

    def pause(self, key: str, seconds: float) -> None:
        """Slack said: not before so many seconds have passed."""
        with self._lock:
            self._until[key] = max(self._until.get(key, 0.0), self._monotonic() + seconds)

    def pause_left(self, key: str) -> float:
        """Seconds of the pause that are left; 0 when the call may be made."""
        with self._lock:
            return max(0.0, self._until.get(key, 0.0) - self._monotonic())

    def spend(self, method: str) -> None:
        """A call that must be made: counted, never refused."""
        with self._lock:
            if method in PER_MINUTE:
                self._left[method] = (max(0.0, self._calls_left(method) - 1), self._monotonic())

    def spare(self, method: str) -> bool:
        """Whether a call that may be left out has room now."""
        with self._lock:
            paused = self._until.get(method, 0.0) > self._monotonic()
            return not paused and self._calls_left(method) > RESERVE * PER_MINUTE[method]

    def _calls_left(self, method: str) -> float:
        most = PER_MINUTE[method]
        left, at = self._left.get(method, (float(most), self._monotonic()))
        return min(most, left + (self._monotonic() - at) * most / 60)
