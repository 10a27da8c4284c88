"""The page's side: what one person may see, pushed as it happens, and what they do.

Promise: nobody gets to see another's direct messages, private notes, modals or home.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from bot.workspace import seed
from bot.workspace.interactions import Interactions
from bot.workspace.records import (
    Change,
    Changed,
    Channel,
    Deleted,
    HomeShown,
    Json,
    ModalShown,
    Posted,
    Reacted,
    StatusShown,
    Whispered,
)
from bot.workspace.refused import Refused
from bot.workspace.world import World

LOCAL = ("http://127.0.0.1:", "http://localhost:")
LONGEST = 40_000
Act = Callable[[str, Json], Awaitable[Json]]


@dataclass(slots=True, kw_only=True)
class Ui:
    world: World
    interactions: Interactions
    lines: dict[asyncio.Queue[Json], str] = field(default_factory=dict)  # of each open page, and whose it is

    def hear(self, change: Change) -> None:
        """Push a change to the pages of those who may see it."""
        if not self.lines:
            return
        push, seen_by = self._push(change)
        for line, user in self.lines.items():
            if seen_by is None or user in seen_by:
                line.put_nowait(push)

    def _push(self, change: Change) -> tuple[Json, tuple[str, ...] | None]:
        match change:
            case Posted() | Changed() | Reacted():
                shown = self.shown(change.channel.id, change.message)
                return {"type": "message", "channel": change.channel.id, "message": shown}, _witnesses(change.channel)
            case Deleted():
                gone = {"type": "deleted", "channel": change.channel.id, "ts": change.message["ts"]}
                return gone, _witnesses(change.channel)
            case Whispered(gone=True):
                return {"type": "deleted", "channel": change.channel, "ts": change.message["ts"]}, (change.user,)
            case Whispered():
                return {"type": "ephemeral", "channel": change.channel, "message": {**change.message}}, (change.user,)
            case ModalShown():
                return {"type": "view", "view": change.view}, (change.user,)
            case HomeShown():
                return {"type": "home", "view": change.view}, (change.user,)
            case StatusShown():
                return _status(change), _witnesses(change.channel)

    def shown(self, channel: str, message: Json) -> Json:
        """A message as the page draws it."""
        hidden = ("metadata", "stream_started", "stream_stopped")
        return {"channel": channel, **{name: value for name, value in message.items() if name not in hidden}}

    def boot(self, user: str) -> Json:
        """All that this user's page starts with. Raises Refused user_not_found."""
        self.world.user(user)
        channels = [c for c in self.world.channels.values() if c.kind == "channel" or user in c.members]
        app = self.world.app
        return {
            "me": user,
            "team": {"id": seed.TEAM, "name": seed.TEAM_NAME},
            "users": [
                {"id": u.id, "name": u.name, "real_name": u.real_name, "role": self.world.role_of(u.id)}
                for u in self.world.users.values()
            ],
            "channels": [{"id": c.id, "name": c.name, "kind": c.kind, "members": c.members} for c in channels],
            "commands": [
                {name: c.get(name, "") for name in ("command", "description", "usage_hint")} for c in app.commands
            ],
            "shortcuts": [{name: s.get(name, "") for name in ("callback_id", "name", "type")} for s in app.shortcuts],
            "messages": {c.id: [self.shown(c.id, m) for m in self.world.messages[c.id].values()] for c in channels},
            "ephemerals": self.world.notes.get(user, []),
            "statuses": [_status(s) for s in self.interactions.sessions.all() if s.channel in channels],
            "usergroups": [{"id": g.id, "handle": g.handle} for g in self.world.usergroups.values()],
            "home": self.interactions.views.homes.get(user),
        }

    async def line(self, socket: WebSocket) -> None:
        """One page's live line, until it closes; an open modal comes first."""
        user, origin = socket.query_params.get("user", ""), socket.headers.get("origin")
        if user not in self.world.users or not _local(origin):
            await socket.close()
            return
        await socket.accept()
        queue: asyncio.Queue[Json] = asyncio.Queue()
        self.lines[queue] = user
        if top := self.interactions.views.top(user):
            queue.put_nowait({"type": "view", "view": top})
        writer = asyncio.create_task(_write(socket, queue))
        try:
            while True:
                await socket.receive_text()
        except WebSocketDisconnect:
            pass
        finally:
            del self.lines[queue]
            writer.cancel()

    # What people do

    async def say(self, user: str, given: Json) -> Json:
        text = _message_text(given)
        message = self.world.post(_text(given, "channel"), user, {"text": text}, thread_ts=given.get("thread_ts"))
        return {"ts": message["ts"]}

    async def react(self, user: str, given: Json) -> Json:
        on = bool(given.get("on", True))
        self.world.react(user, _text(given, "channel"), _text(given, "ts"), _text(given, "name"), on=on)
        return {}

    async def command(self, user: str, given: Json) -> Json:
        text = str(given.get("text") or "")
        await self.interactions.command(user, _text(given, "command"), text, _text(given, "channel"))
        return {}

    async def click(self, user: str, given: Json) -> Json:
        place = {name: given.get(name) for name in ("channel", "ts", "view_id")}
        if not place["view_id"]:
            place |= {name: _text(given, name) for name in ("channel", "ts")}
        action = {
            "action_id": _text(given, "action_id"),
            **{n: given.get(n) for n in ("block_id", "value", "selected")},
        }
        values = given.get("values")
        known = values if isinstance(values, dict) else None
        return _acked(await self.interactions.click(user, place, action, known))

    async def submit(self, user: str, given: Json) -> Json:
        return await self.interactions.submit(user, _text(given, "view_id"), given.get("values") or {})

    async def close(self, user: str, given: Json) -> Json:
        await self.interactions.close(user, _text(given, "view_id"))
        return {}

    async def home(self, user: str, given: Json) -> Json:
        self.interactions.home(user)
        return {}

    async def stop(self, user: str, given: Json) -> Json:
        self.interactions.stop(user, _text(given, "channel"), _text(given, "thread_ts"))
        return {}

    async def edit(self, user: str, given: Json) -> Json:
        text = _message_text(given)
        channel, ts = self._own(user, given)
        self.world.edit(channel, ts, {"text": text}, by=user)
        return {}

    async def delete(self, user: str, given: Json) -> Json:
        self.world.delete(*self._own(user, given))
        return {}

    def _own(self, user: str, given: Json) -> tuple[str, str]:
        channel, ts = self.world.writable(_text(given, "channel"), user).id, _text(given, "ts")
        if self.world.message(channel, ts)["user"] != user:
            raise Refused("cant_update_message", text="Only its author may change a message.")
        return channel, ts

    async def dm(self, user: str, given: Json) -> Json:
        return {"channel": self.world.dm(user, self.world.app.user_id).id}

    async def shortcut(self, user: str, given: Json) -> Json:
        names = ("channel", "ts", "callback_id")
        return _acked(await self.interactions.shortcut(user, *(_text(given, name) for name in names)))

    def routes(self) -> list[BaseRoute]:
        async def boot(request: Request) -> Response:
            try:
                return JSONResponse(self.boot(request.query_params.get("user", "")))
            except Refused as refused:
                return _refusal(refused)

        acts: dict[str, Act] = {
            "say": self.say, "react": self.react, "command": self.command, "click": self.click, "submit": self.submit,
            "close": self.close, "home": self.home, "dm": self.dm, "shortcut": self.shortcut,
            "stop": self.stop, "edit": self.edit, "delete": self.delete,
        }  # fmt: skip
        doors = [Route(f"/ui/api/{name}", self._door(act), methods=["POST"]) for name, act in acts.items()]
        return [Route("/ui/api/boot", boot), *doors, WebSocketRoute("/ui/ws", self.line)]

    def _door(self, act: Act) -> Callable[[Request], Awaitable[Response]]:
        async def door(request: Request) -> Response:
            if not _local(request.headers.get("origin")):
                return JSONResponse({"error": "This page is not the workspace's own."}, 403)
            try:
                given: Any = json.loads(await request.body())
            except ValueError:
                given = None
            if not isinstance(given, dict):
                return JSONResponse({"error": "The body must be a JSON object."}, 400)
            try:
                return JSONResponse(await act(self.world.user(_text(given, "user")).id, given))
            except Refused as refused:
                return _refusal(refused)

        return door


async def _write(socket: WebSocket, queue: asyncio.Queue[Json]) -> None:
    try:
        while True:
            await socket.send_text(json.dumps(await queue.get()))
    except (WebSocketDisconnect, RuntimeError):
        return  # the reader of the line ends it


def _status(change: StatusShown) -> Json:
    place = {"type": "status", "channel": change.channel.id, "thread_ts": change.thread_ts}
    return {**place, "text": change.text, "session": change.session, "stoppable": change.stoppable}


def _witnesses(channel: Channel) -> tuple[str, ...] | None:
    """Who sees what happens there; None: everybody."""
    return channel.members if channel.kind == "im" else None


def _text(given: Json, name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise Refused("invalid_arguments", text=f"“{name}” is missing.")
    return value


def _message_text(given: Json) -> str:
    text = _text(given, "text")
    if not text.strip() or len(text) > LONGEST:
        raise Refused("no_text", text=f"A message has 1 to {LONGEST} characters.")
    return text


def _acked(acked: bool) -> Json:
    if not acked:
        raise Refused("operation_timeout", text="The bot did not answer in time. Is it running?")
    return {}


def _refusal(refused: Refused) -> Response:
    said = refused.details.get("text") or refused.code.replace("_", " ").capitalize() + "."
    return JSONResponse({"error": said}, 404 if refused.code.endswith("not_found") else 400)


def _local(origin: str | None) -> bool:
    """Whether a request comes from a page on this machine, or from no page at all."""
    return origin is None or origin.startswith(LOCAL)
