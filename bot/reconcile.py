"""What Slack never delivered: read again on start and after a dead connection, and taken in as if it had arrived.

Promise: replies in recent threads, questions in recent channels and the reactions on recent answers end where they would
have ended; what is known already changes nothing (the inbox's keys and the fold of ratings see to that). A question that
a person has answered in the meantime is left alone.
What cannot be read, or not stored, is tried again for an hour.
Source: Slack does not promise to deliver again what was missed in an outage (slack-status.com, 2025-02).
"""

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import structlog

from bot.intake import Intake
from bot.question import mentions
from bot.reactions import canonical
from bot.slack import SLACK_ERRORS, Me, PacedClient, persist, trouble_of
from storage.errors import Busy
from storage.forgetting import is_forgotten
from storage.ledger import Ledger

log = structlog.get_logger()
OLDEST = timedelta(days=1)
OVERLAP = timedelta(minutes=10)
THREADS = 50
PAGE = 200
PATIENCE_S = 5.0  # with one call; what fails for longer is read again after a pause
AGAIN_S = 30.0
TRIES = 120  # of one place: an hour
TAKEN_IN = ("question", "excess", "remark")


@dataclass(slots=True)
class Since:
    """From when on a place is still to be read, and how often that failed."""

    oldest: str
    tries: int = 0


@dataclass(slots=True, kw_only=True)
class Reconcile:
    """The worker of what was missed. `again` asks for another pass; the first one comes by itself."""

    ledger: Ledger
    client: PacedClient
    me: Me
    intake: Intake
    _wanted: threading.Event = field(default_factory=threading.Event)
    _late: queue.SimpleQueue[tuple[str, str]] = field(default_factory=queue.SimpleQueue)
    _left: dict[tuple[str, str], Since] = field(default_factory=dict)  # (channel, thread or "") that is not read yet
    _due: float = 0.0  # when it is tried again

    def __post_init__(self) -> None:
        self._wanted.set()
        self.intake.late = lambda channel, thread_ts: self._late.put((channel, thread_ts))

    def again(self) -> None:
        self._wanted.set()

    def step(self) -> bool:
        """One pass if somebody asked for it, and what is due; always False: it is called again after a pause."""
        if self._wanted.is_set():
            self.pass_over()
        while not self._late.empty():
            channel, thread_ts = self._late.get()
            self._leave(channel, thread_ts, oldest=thread_ts)
            self._due = 0.0
        if self._left and time.monotonic() >= self._due:
            self._read()
        return False

    def pass_over(self) -> int:
        """Take in everything that was missed; returns how many events that were. One place that fails stops no other."""
        threads = self.ledger.exchanges.recent_threads(max_age_s=OLDEST.total_seconds(), limit=THREADS)
        oldest = self._oldest()
        self._wanted.clear()  # from here on, nothing is forgotten that fails
        for channel, thread_ts in (*((channel, "") for channel in dict.fromkeys(c for c, _ in threads)), *threads):
            self._leave(channel, thread_ts, oldest=oldest)
        found = self._read()
        log.info("reconciled", threads=len(threads), found=found, left=len(self._left))
        return found

    def _leave(self, channel: str, thread_ts: str, *, oldest: str) -> None:
        """Have this place read since then; since the earlier moment where that failed before."""
        since = self._left.setdefault((channel, thread_ts), Since(oldest))
        since.oldest = min(since.oldest, oldest, key=float)

    def _read(self) -> int:
        """Read all places that are left; returns how many events were found."""
        self._due = time.monotonic() + AGAIN_S
        return sum(self._take_in(*place, since) for place, since in list(self._left.items()))

    def _take_in(self, channel: str, thread_ts: str, since: Since) -> int:
        """What one place holds; it stays left while waiting may cure what failed."""
        found = 0
        try:
            for body in self._missed(channel, thread_ts, since.oldest):
                self.intake.take_in(body)
                found += 1
        except (Busy, sqlite3.OperationalError, *SLACK_ERRORS) as error:
            since.tries += 1
            trouble = trouble_of(error)
            log.warning("not_reconciled", code=trouble.code, tries=since.tries)
            if trouble.kind != "refused" and since.tries < TRIES:
                return found
        self._left.pop((channel, thread_ts), None)
        return found

    def _missed(self, channel: str, thread_ts: str, oldest: str) -> Iterator[dict[str, Any]]:
        return self._thread(channel, thread_ts, oldest) if thread_ts else self._channel(channel, oldest)

    def _oldest(self) -> str:
        """Messages since shortly before the last event that we heard of, but none older than a day."""
        now, last = self.ledger.clock(), self.ledger.inbox.last_received()
        since = now - OLDEST if last is None else max(now - OLDEST, last - OVERLAP)
        return f"{since.timestamp():.6f}"

    def _channel(self, channel: str, oldest: str) -> Iterator[dict[str, Any]]:
        """Questions that stand in the channel itself, unless a person has answered them."""
        for message in self._pages(partial(self.client.conversations_history, channel=channel, oldest=oldest)):
            direct = channel.startswith("D")
            if not (direct or mentions(str(message.get("text") or ""), self.me.user)):
                continue
            others = set(message.get("reply_users") or ()) - {self.me.user, message.get("user")}
            if not others:
                yield from self._message(channel, message)

    def _thread(self, channel: str, thread_ts: str, oldest: str) -> Iterator[dict[str, Any]]:
        """Replies that we have not seen and nobody has answered, and the reactions on our answers."""
        at = self._slacks_time()
        call = partial(self.client.conversations_replies, channel=channel, ts=thread_ts)
        messages = list(self._pages(call))
        for number, message in enumerate(messages):
            if self.ledger.exchanges.is_known(self.me.team, channel, message["ts"]):
                yield from self._reactions(channel, message, at)
            elif float(message["ts"]) > float(oldest):
                later = {m.get("user") for m in messages[number + 1 :]} - {message.get("user"), self.me.user}
                if not later:
                    yield from self._message(channel, message)

    def _slacks_time(self) -> str:
        """What Slack's own clock shows, as a ts: missed reactions are ordered among those that it stamps."""
        said = persist(self.client.auth_test, for_s=PATIENCE_S).headers
        try:
            moment = parsedate_to_datetime(next(str(v) for k, v in said.items() if k.lower() == "date"))
        except (StopIteration, ValueError):
            moment = self.ledger.clock()
        return f"{moment.timestamp():.6f}"

    def _message(self, channel: str, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self.ledger.inbox.holds(self.me.team, channel, message["ts"], kinds=TAKEN_IN):
            return
        kind = "im" if channel.startswith("D") else "channel"
        event = {name: value for name, value in message.items() if name != "edited"}
        yield self._body(f"missed:{channel}:{message['ts']}", {**event, "channel": channel, "channel_type": kind})

    def _reactions(self, channel: str, message: dict[str, Any], at: str) -> Iterator[dict[str, Any]]:
        """The difference between what stands in Slack and what the ledger's events add up to, as events of `at`, or of
        the moment after the last event that we have: Slack's clock is read in whole seconds.
        """
        ts = message["ts"]
        at = max(at, f"{float(self.ledger.ratings.last_event_ts(self.me.team, channel, ts)) + 1e-6:.6f}")
        there = {
            (user, canonical(reaction["name"]))
            for reaction in self._complete(channel, message)
            for user in reaction["users"]
            if user != self.me.user
        }
        here = self.ledger.ratings.reactions_on(self.me.team, channel, ts)
        added = {(user, name) for user, name in there - here if not is_forgotten(self.ledger, user)}
        for kind, missed in (("reaction_added", added), ("reaction_removed", here - there)):
            for user, name in sorted(missed):
                event = {
                    "type": kind,
                    "user": user,
                    "reaction": name,
                    "item_user": self.me.user,
                    "item": {"type": "message", "channel": channel, "ts": ts},
                    "event_ts": at,
                }
                yield self._body(f"missed:{kind}:{channel}:{ts}:{user}:{name}:{at}", event)

    def _complete(self, channel: str, message: dict[str, Any]) -> list[dict[str, Any]]:
        """The reactions with all their users: a listing names only some where there are many."""
        reactions: list[dict[str, Any]] = message.get("reactions") or []
        if all(len(r["users"]) >= r.get("count", 0) for r in reactions):
            return reactions
        reply = persist(
            partial(self.client.reactions_get, channel=channel, timestamp=message["ts"], full=True), for_s=PATIENCE_S
        )
        return list((reply.get("message") or {}).get("reactions") or [])

    def _pages(self, call: Callable[..., Any]) -> Iterator[dict[str, Any]]:
        cursor = ""
        while True:
            reply = persist(partial(call, limit=PAGE, cursor=cursor or None), for_s=PATIENCE_S)
            yield from reply.get("messages") or ()
            cursor = (reply.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return

    def _body(self, event_id: str, event: dict[str, Any]) -> dict[str, Any]:
        return {"type": "event_callback", "event_id": event_id, "team_id": self.me.team, "event": event}
