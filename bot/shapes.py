"""Is this payload of a shape that Slack documents? Asked before Bolt reads it: Bolt breaks on some that are not.

Promise: total and pure; what it lets through, Bolt and our listeners can read without looking at types again. What it
refuses is acked, so that it does not come for ever, and logged by its kind, never by its content.
Source of the shapes: docs.slack.dev/apis/events-api, docs.slack.dev/reference/interaction-payloads.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import structlog
from slack_sdk.errors import SlackClientNotConnectedError
from slack_sdk.socket_mode.client import BaseSocketModeClient
from slack_sdk.socket_mode.response import SocketModeResponse

log = structlog.get_logger()
NAMES = ("user", "channel", "team", "enterprise")  # an id, or an object that holds one
IDS = re.compile(
    "id|(?:user|channel|team|enterprise|bot|app|api_app|event|source_team|context_team|context_enterprise|callback|trigger"
    "|action|app_installed_team|function_execution)_id|user_team|item_user|ts|(?:event|message|thread|deleted|action)_ts"
    "|type|subtype|response_url"
)
WORDS = ("reaction", "command", "value")
PARTS = (
    "event",
    "message",
    "previous_message",
    "item",
    "view",
    "container",
    "assistant_thread",
    "function_data",
    "edited",
)
LISTS = ("authorizations", "response_urls", "actions")
EVENTS = ("event_callback", "app_rate_limited", "url_verification")
INTERACTIONS = ("block_actions", "view_submission", "view_closed", "message_action", "shortcut", "block_suggestion")
ODD = re.compile(r"[^\x20-\x7e]")
ODD_WORD = re.compile(r"[\x00\ud800-\udfff]")  # an emoji's name and what is typed may be in any language
LONGEST_ID = 3_000
DEEPEST = 4


def strange(payload: object) -> str | None:
    """What is odd, as the name of the part; None when nothing is."""
    if not isinstance(payload, dict):
        return "payload"
    return _incomplete(payload) or _odd_part(payload, DEEPEST)


def drop_strange(client: BaseSocketModeClient, message: dict[str, Any], raw: str | None = None) -> None:
    """A message listener of the Socket Mode client, called before any request listener: it acks an envelope with a
    strange payload and takes the payload out, so that nobody reads it.
    """
    if "envelope_id" not in message or (part := strange(message.get("payload"))) is None:
        return
    log.warning("payload_refused", part=part)
    message.pop("payload", None)
    with suppress(SlackClientNotConnectedError):  # then it comes again
        client.send_socket_mode_response(SocketModeResponse(envelope_id=str(message["envelope_id"])))


def _incomplete(payload: Mapping[str, Any]) -> str | None:
    """The part without which a payload of this type says nothing."""
    kind = payload.get("type")
    if kind == "event_callback":
        event = payload.get("event")
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            return "event"
        return None if isinstance(payload.get("event_id"), str) else "event_id"
    if isinstance(kind, str) and kind in INTERACTIONS:
        return _incomplete_interaction(payload)
    if "command" in payload or "ssl_check" in payload:
        return _incomplete_command(payload)
    return None if kind in EVENTS else "type"


def _incomplete_command(payload: Mapping[str, Any]) -> str | None:
    if "command" in payload:
        missing = next((name for name in ("user_id", "channel_id") if not payload.get(name)), None)
        return missing or (None if isinstance(payload.get("text", ""), str) else "text")
    return None


def _incomplete_interaction(payload: Mapping[str, Any]) -> str | None:
    user, kind = payload.get("user"), payload["type"]
    if not isinstance(user, dict) or not user.get("id"):
        return "user"
    if kind.startswith("view_"):
        return _incomplete_form(payload)
    return "actions" if kind == "block_actions" and not payload.get("actions") else None


def _incomplete_form(payload: Mapping[str, Any]) -> str | None:
    """A form's fields: {block_id: {action_id: {…}}}."""
    view = payload.get("view")
    if not isinstance(view, dict):
        return "view"
    if not isinstance(view.get("private_metadata", ""), str):
        return "view.private_metadata"
    state = view.get("state", {"values": {}})
    values = state.get("values") if isinstance(state, dict) else None
    if not isinstance(values, dict) or not all(isinstance(block, dict) for block in values.values()):
        return "view.state"
    sound = all(isinstance(field, dict) for block in values.values() for field in block.values())
    return None if sound else "view.state"


def _odd_part(part: Mapping[str, Any], depth: int) -> str | None:
    """The first id that is none, or the first part that is no object, here or below."""
    for name, value in part.items():
        if IDS.fullmatch(name) and not _is_id(value):
            return name
        if name in WORDS and not _is_id(value, ODD_WORD):
            return name
    for name in NAMES:
        if not _names_somebody(part.get(name)):
            return name
    for name in LISTS:
        if name in part and not _are_objects(part[name]):
            return name
    if part.get("response_urls", ()) is None:  # Bolt counts them where the name is there
        return "response_urls"
    below = [(name, part[name]) for name in PARTS if part.get(name) is not None]
    below += [(name, each) for name in LISTS for each in part.get(name) or ()]
    for name, inner in below:
        if not isinstance(inner, dict) or not depth:
            return name
        if (odd := _odd_part(inner, depth - 1)) is not None:
            return f"{name}.{odd}"
    return None


def _is_id(value: object, odd: re.Pattern[str] = ODD) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= LONGEST_ID and not odd.search(value))


def _names_somebody(value: object) -> bool:
    return _is_id(value.get("id")) if isinstance(value, dict) else _is_id(value)


def _are_objects(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(each, dict) for each in value))
