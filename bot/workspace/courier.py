"""How payloads reach the app, whichever way it listens."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from bot.workspace import seed
from bot.workspace.events import callback, events_of
from bot.workspace.records import Change, Json
from bot.workspace.world import World

Kind = Literal["events_api", "slash_commands", "interactive"]
RETRIES = 3


class Courier(Protocol):
    """One way to the app: Socket Mode or signed HTTP."""

    deaf: int  # as many of the next acks are ignored

    async def send(self, kind: Kind, payload: Json, *, again: bool) -> Json | None:
        """What the app answered ({} for a bare ack); None when it did not in time. `again`: up to three more tries."""
        ...


class Background:
    """Work that nobody waits for, until `stop`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass(slots=True, kw_only=True)
class Events:
    """Tells the app what happens. While `lost` is on nothing is sent, now or later: Slack promises no replay.

    While `held` is a list, what happens waits in it.
    """

    world: World
    courier: Courier
    background: Background
    lost: bool = False
    held: list[Json] | None = None

    def hear(self, change: Change) -> None:
        """The events of a change to which the app is subscribed."""
        for event in events_of(change, self.world.app):
            self._tell(event, event.get("channel") or event["item"]["channel"])

    def tell(self, event: Json) -> None:
        """An event that is no change of the workspace."""
        if event["type"] in self.world.app.bot_events:
            self._tell(event, event["channel"])

    def _tell(self, event: Json, channel: str) -> None:
        if self.lost:
            return
        members = self.world.channels[channel].members
        shared = any(self.world.users[member].team_id != seed.TEAM for member in members if member in self.world.users)
        outer = callback(event, self.world.app, shared=shared)
        if self.held is None:
            self._send(outer)
        else:
            self.held.append(outer)

    def release(self, *, newest_first: bool) -> None:
        """Send what was held, in either order."""
        waiting, self.held = self.held or [], None
        for outer in reversed(waiting) if newest_first else waiting:
            self._send(outer)

    def _send(self, outer: Json) -> None:
        self.background.start(self.courier.send("events_api", outer, again=True))
