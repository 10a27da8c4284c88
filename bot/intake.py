"""What happens before the ack: an event that matters is stored, the rest is answered and forgotten.

Promise: an event is acked only after it is on disk, in the ledger or, while that is locked, in the spool; if neither
takes it, this raises, nothing is acked and Slack delivers again. A message is one question however often and in
however many shapes it arrives. What matters is decided in bot/arrivals.py.
"""

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import structlog
from slack_bolt import BoltRequest, BoltResponse
from slack_bolt.middleware import Middleware

from bot.arrivals import Arrival, is_ours_to_store, sort
from bot.slack import Me
from bot.spool import Spool
from storage.commits import is_locked
from storage.errors import Busy
from storage.ledger import Ledger
from storage.settings import Settings

log = structlog.get_logger()
LOCK_PATIENCE_S = 0.2
LOCK_MEMORY_S = 0.5
LATE_S = 5.0  # a question delivered so late may have had replies that came first and were not known to be for us
MINUTE_S = 60.0
WORKERS = {"question": "questions", "reaction": "ratings"}  # who takes up which kind; all others: people


class Intake(Middleware):
    """Bolt's first middleware. Its return value is the ack, so the commit comes before it."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        me: Me,
        wake: Callable[[str], None],
        acking: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._acking = acking
        self._settings, self._ledger, self._me, self._wake = settings, ledger, me, wake
        self._locked_until = 0.0
        self._turn = threading.Lock()  # one after the other: a reply is sorted after the question that it follows
        self.late: Callable[[str, str], None] = lambda channel, thread_ts: None
        self.spool = Spool(folder=ledger.path.parent / "spool", take_in=self.take_in)

    def process(self, *, req: BoltRequest, resp: BoltResponse, next: Callable[[], BoltResponse]) -> BoltResponse:
        return self.receive(req.body, next)

    def receive(self, body: dict[str, Any], next: Callable[[], BoltResponse]) -> BoltResponse:
        """Store what matters, then say 200; hand on what a listener must answer."""
        if "command" in body and body.get("team_id") != self._me.team:
            log.warning("command_refused", reason="it comes from another workspace")
            return BoltResponse(status=200, body="")
        if not is_ours_to_store(body):
            return next()
        with self._acking():
            try:
                self.take_in(body, urgent=True)
            except Busy:
                self.spool.keep(body)
        return BoltResponse(status=200, body="")

    def _patience_s(self) -> float:
        """How long an ack may wait for a lock: not at all while another one has just waited in vain."""
        return 0.0 if time.monotonic() < self._locked_until else LOCK_PATIENCE_S

    def take_in(self, body: dict[str, Any], *, urgent: bool = False) -> None:
        """Store the event if it matters. Raises Busy when the ledger stays locked; an urgent one waits for no lock that
        another has just waited for in vain.
        """
        try:
            with self._turn, self._ledger.connections.patience(self._patience_s() if urgent else LOCK_PATIENCE_S):
                self._store(body)
        except Busy:
            self._locked_until = time.monotonic() + LOCK_MEMORY_S
            raise
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            self._locked_until = time.monotonic() + LOCK_MEMORY_S
            raise Busy(str(error)) from None

    def _store(self, body: dict[str, Any]) -> None:
        arrival = sort(body, self._me, self)
        if arrival is None or (arrival.kind == "question" and self.asked(arrival.channel, arrival.ts)):
            return  # not for us, or the same message in another shape
        arrival = self._within_limits(arrival)
        new = self._ledger.inbox.accept(
            event_id=arrival.event_id,
            kind=arrival.kind,
            team=self._me.team,
            channel=arrival.channel,
            ts=arrival.ts,
            payload=arrival.payload,
        )
        log.info("accepted", kind=arrival.kind, event_id=arrival.event_id, new=new)
        if new and arrival.kind == "question" and self._ledger.clock().timestamp() - float(arrival.ts) > LATE_S:
            self.late(arrival.channel, arrival.payload["thread_ts"])
        self._wake(WORKERS.get(arrival.kind, "people"))

    def call_person(self, user: str, channel: str, thread_ts: str, at: str) -> None:
        """A call for a person that came from no message of ours. Raises Busy."""
        self._ledger.inbox.accept(
            event_id=f"person:{channel}:{at}:{user}",
            kind="person",
            team=self._me.team,
            channel=channel,
            ts=thread_ts,
            payload={"user": user, "thread_ts": thread_ts},
        )
        self._wake("people")

    def _within_limits(self, arrival: Arrival) -> Arrival:
        """The arrival, as `excess` if its person or its channel asked too much in the last minute."""
        if arrival.kind != "question":
            return arrival
        user = arrival.payload["user"]
        by_user, in_channel = self._ledger.inbox.asked_lately(seconds=MINUTE_S, user=user, channel=arrival.channel)
        limit = None
        if by_user >= self._settings.user_questions_per_minute:
            limit = "user"
        elif in_channel >= self._settings.channel_questions_per_minute:
            limit = "channel"
        if limit is None:
            return arrival
        return replace(arrival, kind="excess", payload={**arrival.payload, "limit": limit})

    # What `sort` asks

    def askers(self, channel: str, thread_ts: str) -> frozenset[str]:
        return self._ledger.exchanges.askers(self._me.team, channel, thread_ts)

    def bot_speaks(self, channel: str, thread_ts: str) -> bool:
        return self._ledger.threads.get(self._me.team, channel, thread_ts).bot_speaks

    def asked(self, channel: str, ts: str) -> bool:
        return self._ledger.inbox.holds(self._me.team, channel, ts, kinds=("question", "excess"))
