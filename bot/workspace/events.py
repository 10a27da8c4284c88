"""What the app hears of a change: Slack's event objects. Pure."""

import re
import time
from collections.abc import Iterator

from bot.workspace import seed
from bot.workspace.records import App, Change, Changed, Deleted, Json, Posted, Reacted, copied
from bot.workspace.world import new_id

PRIVATE = {
    "metadata",
    "streaming",
    "channel",
    "stream_started",
    "stream_stopped",
}  # kept with a message, not part of what Slack shows


def shown(message: Json, *, with_metadata: bool = False) -> Json:
    """The message as the Web API and events show it."""
    hidden = PRIVATE - {"metadata"} if with_metadata else PRIVATE
    return {name: copied(value) for name, value in message.items() if name not in hidden}


def events_of(change: Change, app: App) -> Iterator[Json]:
    """The events of a change for which this app, in this channel, is subscribed."""
    if not isinstance(change, Posted | Changed | Deleted | Reacted) or app.user_id not in change.channel.members:
        return
    if isinstance(change, Reacted):
        if _reaction(change)["type"] in app.bot_events:
            yield _reaction(change)
        return
    if isinstance(change, Changed) and not change.heard:
        return
    if ("message.im" if change.channel.kind == "im" else "message.channels") in app.bot_events:
        yield _message(change)
    if isinstance(change, Posted) and "app_mention" in app.bot_events and _mentions(change, app):
        yield {**_message(change), "type": "app_mention"}


def _mentions(change: Posted, app: App) -> bool:
    named = re.search(rf"<@{app.user_id}(\|[^>]*)?>", change.message["text"])
    return bool(named) and change.channel.kind == "channel" and change.message["user"] != app.user_id


def _message(change: Posted | Changed | Deleted) -> Json:
    place = {"channel": change.channel.id, "channel_type": change.channel.kind}
    message = shown(change.message)
    if isinstance(change, Posted):
        return {**message, **place, "event_ts": message["ts"]}
    event = {"type": "message", "hidden": True, **place, "ts": _now(), "event_ts": _now()}
    if isinstance(change, Changed):
        return {**event, "subtype": "message_changed", "message": message, "previous_message": shown(change.previous)}
    return {**event, "subtype": "message_deleted", "deleted_ts": message["ts"], "previous_message": message}


def _reaction(change: Reacted) -> Json:
    item = {"type": "message", "channel": change.channel.id, "ts": change.message["ts"]}
    return {
        "type": "reaction_added" if change.added else "reaction_removed",
        "user": change.user,
        "reaction": change.name,
        "item_user": change.message["user"],
        "item": item,
        "event_ts": change.at,
    }


def home_opened(user: str, channel: str, view: Json | None) -> Json:
    """Somebody looks at the App Home."""
    event = {"type": "app_home_opened", "user": user, "channel": channel, "tab": "home", "event_ts": _now()}
    return {**event, "view": view} if view else event


def stopped(user: str, channel: str, thread_ts: str, streams: list[str]) -> Json:
    """Somebody pressed Stop."""
    place = {"channel": channel, "thread_ts": thread_ts, "user": user, "streaming_message_ts": streams}
    return {"type": "agent_session_stopped", **place, "event_ts": _now()}


def callback(event: Json, app: App, *, shared: bool = False) -> Json:
    """The outer object in which an event travels, with an id of its own. `shared`: in a Slack Connect channel."""
    bot = {"enterprise_id": None, "team_id": seed.TEAM, "user_id": app.user_id, "is_bot": True}
    return {
        "token": "local-verification",
        "team_id": seed.TEAM,
        "context_team_id": seed.TEAM,
        "context_enterprise_id": None,
        "api_app_id": app.id,
        "event": event,
        "type": "event_callback",
        "event_id": new_id("Ev"),
        "event_time": int(time.time()),
        "authorizations": [{**bot, "is_enterprise_install": False}],
        "is_ext_shared_channel": shared,
        "event_context": new_id("4-"),
    }


def _now() -> str:
    return f"{time.time():.6f}"
