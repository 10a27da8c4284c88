"""How payloads reach the app, whichever way it listens."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal, Protocol

from bot.workspace.records import Json

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
