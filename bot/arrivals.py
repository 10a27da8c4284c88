"""What Slack sends, sorted: which events, clicks and edits are kept, as what kind, and which are not for us. Pure.

    question   the bot is spoken to            remark    somebody else writes in a thread of the bot's
    reaction   a vote, by emoji or button      person    somebody asks for a person
    stop       somebody presses Stop           deletion  a question was deleted
    handover   a button under a call is pressed: take it, resolved, hand back to the bot

Knows Slack's shapes; what must be known of a thread is asked of `Known`.
"""

import re
from dataclasses import dataclass
from typing import Any, Protocol

from bot.question import meant_for_another, mentions
from bot.slack import Me

FEEDBACK_ACTION = "evenkeel_feedback"
PERSON_ACTION = "evenkeel_person"
STOP_ACTION = "evenkeel_stop"
TAKE_ACTION, RESOLVE_ACTION, BACK_ACTION = "evenkeel_take", "evenkeel_resolve", "evenkeel_back"
HANDOVERS = (TAKE_ACTION, RESOLVE_ACTION, BACK_ACTION)
KEPT_ACTIONS = (FEEDBACK_ACTION, PERSON_ACTION, STOP_ACTION, *HANDOVERS)
TS = re.compile(r"[0-9]{1,12}\.[0-9]{1,9}")
THREAD = re.compile(rf"([A-Z0-9]{{2,30}}):({TS.pattern})")  # what a button under a call carries
READABLE_SUBTYPES = (None, "file_share", "thread_broadcast")


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
        """Whether the message with this ts was taken in as a question, also as one too many."""
        ...


def is_ours_to_store(body: dict[str, Any]) -> bool:
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
    if not isinstance(event, dict) or not isinstance(event_id, str) or not event_id or not for_team(body, me.team):
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
    if kind == "remark":  # what people say to each other is not ours to keep
        payload = {"user": payload["user"], "thread_ts": payload["thread_ts"]}
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
    kept = isinstance(found, dict) and found.get("action_id") in KEPT_ACTIONS
    return found if kept and isinstance(body.get("container"), dict) else None


def _clicked(body: dict[str, Any], click: dict[str, Any]) -> Arrival | None:
    place, who = body["container"], body.get("user")
    if not isinstance(who, dict):
        return None
    user, channel, ts = _text(who, "id"), _text(place, "channel_id"), _text(place, "message_ts")
    value, at = _text(click, "value"), _text(click, "action_ts")
    if not user or not channel or not TS.fullmatch(ts) or not TS.fullmatch(at):
        return None
    action, thread_ts, press = click["action_id"], _text(place, "thread_ts"), f"{channel}:{ts}:{user}:{at}"
    if action == FEEDBACK_ACTION:
        payload = {"user": user, "button": value, "event_ts": at, "author_known": True}
        name, kind = f"click:{press}", "reaction"
        if value not in ("up", "down"):
            return None
    elif action in HANDOVERS:
        thread = THREAD.fullmatch(value)
        if thread is None:
            return None
        payload = {"user": user, "action": action, "room": channel, "under": thread_ts or None, "thread_ts": thread[2]}
        name, kind, channel = f"handover:{press}", "handover", thread[1]
    else:
        payload = {"user": user, "thread_ts": thread_ts if TS.fullmatch(thread_ts) else ts}
        kind = "person" if action == PERSON_ACTION else "stop"
        name = f"{kind}:{press}"
    return Arrival(event_id=name, kind=kind, channel=channel, ts=ts, payload=payload)


def for_team(body: dict[str, Any], team: str) -> bool:
    """Whether our workspace is among those that this event is delivered for (Slack Connect names several)."""
    authorizations = body.get("authorizations")
    named = (
        [a.get("team_id") for a in authorizations if isinstance(a, dict)] if isinstance(authorizations, list) else []
    )
    return team in (body.get("team_id"), body.get("context_team_id"), *named)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""
