"""What happens before the ack: an event that matters is stored, the rest is answered and forgotten.

Promise: an event is acked only after its row is on disk; if it cannot be stored, this raises, nothing is acked and
Slack delivers again. A message is one question however often and in however many shapes it arrives.
`sort` decides and is pure; `Intake` acts.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from slack_bolt import BoltRequest, BoltResponse
from slack_bolt.middleware import Middleware

from bot.question import meant_for_another, mentions
from bot.slack import Me
from storage.ledger import Ledger

log = structlog.get_logger()
FEEDBACK_ACTION = "evenkeel_feedback"
TS = re.compile(r"\d{1,12}\.\d{1,9}")
READABLE_SUBTYPES = (None, "file_share", "thread_broadcast")
Asked = Callable[[str, str], bool]  # (channel, thread_ts) → whether the bot was asked in this thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One event worth keeping: the columns of its inbox row."""

    event_id: str
    kind: str
    channel: str
    ts: str
    payload: dict[str, Any]


class Intake(Middleware):
    """Bolt's first middleware. Its return value is the ack, so the commit comes before it."""

    def __init__(self, ledger: Ledger, me: Me, wake: Callable[[], None]) -> None:
        self._ledger, self._me, self._wake = ledger, me, wake

    def process(self, *, req: BoltRequest, resp: BoltResponse, next: Callable[[], BoltResponse]) -> BoltResponse:
        return self.receive(req.body, next)

    def receive(self, body: dict[str, Any], next: Callable[[], BoltResponse]) -> BoltResponse:
        """Store what matters, then say 200; hand on what a listener must answer."""
        if not _is_ours_to_store(body):
            return next()
        arrival = sort(body, self._me, self._asked)
        if arrival is not None:
            new = self._ledger.inbox.accept(
                event_id=arrival.event_id,
                kind=arrival.kind,
                team=self._me.team,
                channel=arrival.channel,
                ts=arrival.ts,
                payload=arrival.payload,
            )
            log.info("accepted", kind=arrival.kind, event_id=arrival.event_id, new=new)
            self._wake()
        return BoltResponse(status=200, body="")

    def _asked(self, channel: str, thread_ts: str) -> bool:
        team = self._me.team
        return self._ledger.exchanges.has_thread(team, channel, thread_ts) or self._ledger.inbox.holds_question(
            team, channel, thread_ts
        )


def _is_ours_to_store(body: dict[str, Any]) -> bool:
    """Events (but the App Home, which is drawn at once) and clicks on 👍 👎. Commands and forms go on to listeners."""
    if body.get("type") == "event_callback":
        event = body.get("event")
        return not (isinstance(event, dict) and event.get("type") == "app_home_opened")
    return _feedback(body) is not None


def sort(body: dict[str, Any], me: Me, asked: Asked) -> Arrival | None:
    """The row to keep, or None for what is not for us: own messages, bots, edits, other teams, odd shapes."""
    click = _feedback(body)
    if click is not None:
        return _clicked(body, click)
    event, event_id = body.get("event"), body.get("event_id")
    if not isinstance(event, dict) or not isinstance(event_id, str) or not event_id or not _for_team(body, me.team):
        return None
    if event.get("type") in ("app_mention", "message"):
        return _message(event, event_id, me, asked)
    if event.get("type") in ("reaction_added", "reaction_removed"):
        return _reaction(event, event_id, me)
    return None


def _message(event: dict[str, Any], event_id: str, me: Me, asked: Asked) -> Arrival | None:
    user, channel, ts, text = (_text(event, name) for name in ("user", "channel", "ts", "text"))
    if event.get("subtype") not in READABLE_SUBTYPES or event.get("bot_id") or "edited" in event:
        return None
    if not user or user in (me.user, "USLACKBOT") or not channel or not TS.fullmatch(ts):
        return None
    thread_ts = _text(event, "thread_ts")
    thread_ts = thread_ts if TS.fullmatch(thread_ts) else ts
    direct = event.get("channel_type") == "im" or channel.startswith("D")
    named = event["type"] == "app_mention" or mentions(text, me.user)
    follows = thread_ts != ts and not meant_for_another(text, me.user) and asked(channel, thread_ts)
    if not (direct or named or follows):
        return None
    files = event.get("files")
    payload = {
        "user": user,
        "text": text,
        "thread_ts": thread_ts,
        "files": len(files) if isinstance(files, list) else 0,
    }
    return Arrival(event_id=event_id, kind="question", channel=channel, ts=ts, payload=payload)


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


def _feedback(body: dict[str, Any]) -> dict[str, Any] | None:
    """The click on a feedback button in this payload, if it is one."""
    actions = body.get("actions") if body.get("type") == "block_actions" else None
    found = actions[0] if isinstance(actions, list) and actions else None
    return found if isinstance(found, dict) and found.get("action_id") == FEEDBACK_ACTION else None


def _clicked(body: dict[str, Any], click: dict[str, Any]) -> Arrival | None:
    place = body.get("container") if isinstance(body.get("container"), dict) else {}
    who = body.get("user") if isinstance(body.get("user"), dict) else {}
    assert isinstance(place, dict) and isinstance(who, dict)
    user, channel, ts = _text(who, "id"), _text(place, "channel_id"), _text(place, "message_ts")
    value, at = _text(click, "value"), _text(click, "action_ts")
    if not user or not channel or not TS.fullmatch(ts) or value not in ("up", "down") or not TS.fullmatch(at):
        return None
    payload = {"user": user, "button": value, "event_ts": at, "author_known": True}
    return Arrival(
        event_id=f"click:{channel}:{ts}:{user}:{at}", kind="reaction", channel=channel, ts=ts, payload=payload
    )


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
