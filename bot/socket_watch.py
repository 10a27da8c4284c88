"""The watch over the Socket Mode connection: a line that is open and silent is dead.

Promise: silence is noticed within a minute by a clock that nobody can turn back, and a new connection takes over; after
every change of connection what was missed is read again. (The SDK's own check goes by the wall clock.)
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from slack_sdk.socket_mode import SocketModeClient

log = structlog.get_logger()
SILENCE_S = 35.0  # seven pings without a pong
LOOK_EVERY_S = 5.0


@dataclass(slots=True, kw_only=True)
class SocketWatch:
    """`changed` is told of every new connection but the first."""

    client: SocketModeClient
    changed: Callable[[], None]
    silence_s: float = SILENCE_S
    monotonic: Callable[[], float] = time.monotonic
    session: str | None = None
    heard: float | None = None
    since: float = 0.0

    def step(self) -> bool:
        """Look once; always False: it is called again after a pause. Raises Slack's errors when no new line is had."""
        current, now = self.client.current_session, self.monotonic()
        session = None if current is None else current.session_id
        heard = None if current is None else current.last_ping_pong_time
        if (session, heard) != (self.session, self.heard):
            if self.session is not None and session not in (None, self.session):
                self.changed()
            self.session, self.heard, self.since = session or self.session, heard, now
        elif now - self.since > self.silence_s:
            log.warning("socket_silent", seconds=round(now - self.since))
            self.since = now
            self.client.connect_to_new_endpoint(force=True)
        return False
