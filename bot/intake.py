"""What happens before the ack: an event that matters is stored, the rest is answered and forgotten.

Promise: an event is acked only after it is on disk, in the ledger or, while that is locked, in the spool; if neither
takes it, this raises, nothing is acked and Slack delivers again. A message is one question however often and in
however many shapes it arrives. `sort` decides and is pure; `Intake` acts.
"""

import re
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog
from slack_bolt import BoltRequest, BoltResponse
from slack_bolt.middleware import Middleware

from bot.question import meant_for_another, mentions
from bot.slack import Me
from bot.spool import Spool
from storage.database import is_locked
from storage.errors import Busy
from storage.ledger import Ledger
from storage.settings import Settings

log = structlog.get_logger()
FEEDBACK_ACTION = "evenkeel_feedback"
PERSON_ACTION = "evenkeel_person"
STOP_ACTION = "evenkeel_stop"
TS = re.compile(r"[0-9]{1,12}\.[0-9]{1,9}")
READABLE_SUBTYPES = (None, "file_share", "thread_broadcast")
LOCK_PATIENCE_S = 0.2
LOCK_MEMORY_S = 0.5
LATE_S = 5.0  # a question delivered so late may have had replies that came first and were not known to be for us
MINUTE_S = 60.0
WORKERS = {"question": "questions", "reaction": "ratings"}  # who takes up which kind; all others: people


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One event worth keeping: the columns of its inbox row."""

    event_id: str
    kind: str
    channel: str
    ts: str
    payload: dict[str, Any]


class Known(Protocol):
    """What the intake must know of a thread to tell who is spoken to."""

    def askers(self, channel: str, thread_ts: str) -> frozenset[str]:
        """Who asked the bot something there."""
        ...

    def bot_speaks(self, channel: str, thread_ts: str) -> bool:
        """False once a person was asked for or has taken over."""
        ...

    def asked(self, channel: str, ts: str) -> bool:
        """Whether the message with this ts was taken in as a question."""
        ...


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
        if not _is_ours_to_store(body):
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
        return self._ledger.inbox.holds(self._me.team, channel, ts)


def _is_ours_to_store(body: dict[str, Any]) -> bool:
    """Events (but the App Home, which is drawn at once) and the clicks that must not be lost. Commands, forms and other
    buttons go on to listeners.
    """
    if body.get("type") in ("event_callback", "app_rate_limited"):
        event = body.get("event")
        return not (isinstance(event, dict) and event.get("type") == "app_home_opened")
    return _press(body) is not None


def sort(body: dict[str, Any], me: Me, known: Known) -> Arrival | None:
    """The row to keep, or None for what is not for us: own messages, bots, most edits, other teams, odd shapes."""
    click = _press(body)
    if click is not None:
        return _clicked(body, click)
    event, event_id = body.get("event"), body.get("event_id")
    if not isinstance(event, dict) or not isinstance(event_id, str) or not event_id or not _for_team(body, me.team):
        return None
    match event.get("type"):
        case "message" if event.get("subtype") == "message_changed":
            return _edited(event, event_id, me, known)
        case "message" if event.get("subtype") == "message_deleted":
            return _deleted(event, event_id, known)
        case "app_mention" | "message":
            return _message(event, event_id, me, known)
        case "reaction_added" | "reaction_removed":
            return _reaction(event, event_id, me)
        case "agent_session_stopped":
            return _session_stopped(event, event_id)
    return None


def _message(event: dict[str, Any], event_id: str, me: Me, known: Known) -> Arrival | None:
    user, channel, ts, text = (_text(event, name) for name in ("user", "channel", "ts", "text"))
    if event.get("subtype") not in READABLE_SUBTYPES or event.get("bot_id") or "edited" in event:
        return None
    if not user or user in (me.user, "USLACKBOT") or not channel or not TS.fullmatch(ts):
        return None
    thread_ts = _text(event, "thread_ts")
    thread_ts = thread_ts if TS.fullmatch(thread_ts) else ts
    direct = event.get("channel_type") == "im" or channel.startswith("D")
    files = event.get("files")
    payload = {
        "user": user,
        "text": text,
        "thread_ts": thread_ts,
        "files": len(files) if isinstance(files, list) else 0,
        "direct": direct,
    }
    kind = _kind(event, payload, me, known, channel)
    return Arrival(event_id=event_id, kind=kind, channel=channel, ts=ts, payload=payload) if kind else None


def _kind(event: dict[str, Any], payload: dict[str, Any], me: Me, known: Known, channel: str) -> str | None:
    """question: the bot is spoken to. remark: somebody else writes in a thread of the bot's, perhaps to take over."""
    text, thread_ts = payload["text"], payload["thread_ts"]
    if event["type"] == "app_mention" or mentions(text, me.user):
        return "question"
    follows = thread_ts != event["ts"]
    if not follows:
        return "question" if payload["direct"] else None
    askers = known.askers(channel, thread_ts)
    if not askers and not payload["direct"]:
        return None
    if payload["user"] in askers or payload["direct"]:
        wanted = known.bot_speaks(channel, thread_ts) and not meant_for_another(text, me.user)
        return "question" if wanted else None
    return "remark"


def _edited(event: dict[str, Any], event_id: str, me: Me, known: Known) -> Arrival | None:
    """An edit is no question, but where it is the edit that names the bot; a deleted parent of replies is edited away."""
    new, old = event.get("message"), event.get("previous_message")
    if isinstance(new, dict) and new.get("subtype") == "tombstone":
        return _deleted({**event, "deleted_ts": new.get("ts")}, event_id, known)
    if not isinstance(new, dict) or not isinstance(old, dict) or not mentions(_text(new, "text"), me.user):
        return None
    if mentions(_text(old, "text"), me.user) or known.asked(_text(event, "channel"), _text(new, "ts")):
        return None
    plain = {name: value for name, value in new.items() if name != "edited"}
    place = {"type": "message", "channel": _text(event, "channel"), "channel_type": event.get("channel_type")}
    return _message({**plain, **place}, event_id, me, known)


def _deleted(event: dict[str, Any], event_id: str, known: Known) -> Arrival | None:
    """The deletion of a message that was a question."""
    channel, ts = _text(event, "channel"), _text(event, "deleted_ts")
    if not channel or not TS.fullmatch(ts) or not known.asked(channel, ts):
        return None
    return Arrival(event_id=event_id, kind="deletion", channel=channel, ts=ts, payload={})


def _session_stopped(event: dict[str, Any], event_id: str) -> Arrival | None:
    """The Stop button that Slack itself shows."""
    user, channel, thread_ts = (_text(event, name) for name in ("user", "channel", "thread_ts"))
    if not user or not channel or not TS.fullmatch(thread_ts):
        return None
    payload = {"user": user, "thread_ts": thread_ts}
    return Arrival(event_id=event_id, kind="stop", channel=channel, ts=thread_ts, payload=payload)


def _reaction(event: dict[str, Any], event_id: str, me: Me) -> Arrival | None:
    """A reaction on one of our messages, or on one whose author Slack does not name."""
    item = event.get("item")
    if not isinstance(item, dict) or item.get("type") != "message" or event.get("item_user", me.user) != me.user:
        return None
    user, name, channel, ts = _text(event, "user"), _text(event, "reaction"), _text(item, "channel"), _text(item, "ts")
    if not user or user == me.user or not name or not channel or not TS.fullmatch(ts):
        return None
    event_ts = _text(event, "event_ts")
    payload = {
        "user": user,
        "reaction": name,
        "action": "add" if event["type"] == "reaction_added" else "remove",
        "event_ts": event_ts if TS.fullmatch(event_ts) else ts,
        "author_known": "item_user" in event,
    }
    return Arrival(event_id=event_id, kind="reaction", channel=channel, ts=ts, payload=payload)


def _press(body: dict[str, Any]) -> dict[str, Any] | None:
    """The click on a button that is kept like an event, if this payload is one."""
    actions = body.get("actions") if body.get("type") == "block_actions" else None
    found = actions[0] if isinstance(actions, list) and actions else None
    kept = isinstance(found, dict) and found.get("action_id") in (FEEDBACK_ACTION, PERSON_ACTION, STOP_ACTION)
    return found if kept and isinstance(body.get("container"), dict) else None


def _clicked(body: dict[str, Any], click: dict[str, Any]) -> Arrival | None:
    place, who = body["container"], body.get("user")
    if not isinstance(who, dict):
        return None
    user, channel, ts = _text(who, "id"), _text(place, "channel_id"), _text(place, "message_ts")
    value, at = _text(click, "value"), _text(click, "action_ts")
    if not user or not channel or not TS.fullmatch(ts) or not TS.fullmatch(at):
        return None
    if click["action_id"] == FEEDBACK_ACTION:
        payload = {"user": user, "button": value, "event_ts": at, "author_known": True}
        name, kind = f"click:{channel}:{ts}:{user}:{at}", "reaction"
        if value not in ("up", "down"):
            return None
    else:
        thread_ts = _text(place, "thread_ts")
        payload = {"user": user, "thread_ts": thread_ts if TS.fullmatch(thread_ts) else ts}
        kind = "person" if click["action_id"] == PERSON_ACTION else "stop"
        name = f"{kind}:{channel}:{ts}:{user}:{at}"
    return Arrival(event_id=name, kind=kind, channel=channel, ts=ts, payload=payload)


def _for_team(body: dict[str, Any], team: str) -> bool:
    """Whether our workspace is among those that this event is delivered for (Slack Connect names several)."""
    authorizations = body.get("authorizations")
    named = (
        [a.get("team_id") for a in authorizations if isinstance(a, dict)] if isinstance(authorizations, list) else []
    )
    return team in (body.get("team_id"), body.get("context_team_id"), *named)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""
