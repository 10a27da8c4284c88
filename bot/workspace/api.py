"""What every Web API method works with, and how it reads its arguments."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot.workspace.records import Channel, Json
from bot.workspace.refused import Refused
from bot.workspace.sessions import Sessions
from bot.workspace.views import Views
from bot.workspace.world import World

MOST_ON_A_PAGE = 1_000


@dataclass(slots=True, kw_only=True)
class Api:
    """The parts that methods act on. `url` ends with a slash; `socket_url` gives a fresh Socket Mode address."""

    world: World
    views: Views
    sessions: Sessions
    url: str
    socket_url: Callable[[], str]
    uploads: dict[str, Json] = field(default_factory=dict)  # files that were announced and not completed
    stream_life_s: float = 300.0

    @property
    def me(self) -> str:
        return self.world.app.user_id

    def streaming(self, message: Json) -> bool:
        """Whether this message is a stream that still lives."""
        return bool(message.get("streaming")) and self.world.now() - message["stream_started"] <= self.stream_life_s


Method = Callable[[Api, Json], Json]


def need(given: Json, name: str) -> str:
    """The text of a required argument. Raises Refused invalid_arguments."""
    value = given.get(name)
    if value is None or value == "":
        raise missing(name)
    return str(value)


def missing(name: str) -> Refused:
    return Refused("invalid_arguments", response_metadata={"messages": [f"[ERROR] missing required field: {name}"]})


def flag(given: Json, name: str) -> bool:
    """A truth in any of the spellings that clients use."""
    return str(given.get(name, "")).lower() in ("1", "true", "t", "yes")


def place(api: Api, given: Json, name: str = "channel") -> Channel:
    """The channel that an argument names, by id or (a direct message) by the user's id. Raises Refused."""
    wanted = need(given, name)
    return api.world.dm(wanted, api.me) if wanted in api.world.users else api.world.channel(wanted)


def readable(api: Api, given: Json) -> Channel:
    """A channel that the app is in. Raises Refused channel_not_found, not_in_channel."""
    channel = api.world.channel(need(given, "channel"))
    if api.me not in channel.members:
        raise Refused("not_in_channel" if channel.kind == "channel" else "channel_not_found")
    return channel


def page(items: Sequence[Any], given: Json, *, usual: int) -> tuple[list[Any], Json]:
    """The page that limit and cursor ask for, and the response's fields about the next. Raises Refused."""
    try:
        limit = int(given.get("limit") or usual)
        start = int(base64.b64decode(str(given.get("cursor") or ""), validate=True).decode().removeprefix("next:") or 0)
    except (ValueError, binascii.Error):
        raise Refused("invalid_cursor" if given.get("cursor") else "invalid_limit") from None
    if not 1 <= limit <= MOST_ON_A_PAGE:
        raise Refused("invalid_limit")
    more = start + limit < len(items)
    cursor = base64.b64encode(f"next:{start + limit}".encode()).decode() if more else ""
    return list(items[start : start + limit]), {"has_more": more, "response_metadata": {"next_cursor": cursor}}
