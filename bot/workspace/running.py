"""A workspace for tests: a real server in a thread, and a driver that plays everybody but the bot."""

import asyncio
import copy
import re
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from bot.workspace import seed
from bot.workspace.events import shown
from bot.workspace.faults import Kind
from bot.workspace.files import described
from bot.workspace.records import Json
from bot.workspace.server import Workspace, create_app, make_server

T = TypeVar("T")
PATIENCE_S = 30.0
PING_EVERY_S = 0.2  # a client of slack_sdk that closes waits for the next frame, for up to three seconds


class Driver:
    """What people do and see. Every call is carried out in the server's own thread; what it gives is a copy."""

    bot_token, app_token, signing_secret = seed.BOT_TOKEN, seed.APP_TOKEN, seed.SIGNING_SECRET

    def __init__(self, workspace: Workspace, loop: asyncio.AbstractEventLoop) -> None:
        self._workspace, self._loop = workspace, loop
        self.url, self.api_url = workspace.url, f"{workspace.url}api/"

    # What people do

    def say(self, user: str, channel: str, text: str, thread_ts: str | None = None) -> str:
        """Post as this user; `@Evenkeel` becomes a mention. The message's ts."""
        names = {person.real_name: person.id for person in self._workspace.world.users.values()}
        found = re.sub(rf"@({'|'.join(names)})\b", lambda match: f"<@{names[match[1]]}>", text)
        post = self._workspace.world.post
        return str(self._now(lambda: post(channel, user, {"text": found}, thread_ts=thread_ts)["ts"]))

    def edit(self, user: str, channel: str, ts: str, text: str) -> None:
        self._now(lambda: self._workspace.world.edit(channel, ts, {"text": text}, by=user))

    def delete(self, channel: str, ts: str) -> None:
        self._now(lambda: self._workspace.world.delete(channel, ts))

    def react(self, user: str, channel: str, ts: str, name: str) -> None:
        self._now(lambda: self._workspace.world.react(user, channel, ts, name, on=True))

    def unreact(self, user: str, channel: str, ts: str, name: str) -> None:
        self._now(lambda: self._workspace.world.react(user, channel, ts, name, on=False))

    def dm(self, user: str) -> str:
        """The direct message of this user with the bot."""
        return self._now(lambda: self._workspace.world.dm(user, seed.BOT).id)

    def command(self, user: str, command: str, text: str, channel: str) -> Json | None:
        """The bot's immediate response; None when there was none in time."""
        return self._run(self._workspace.interactions.command(user, command, text, channel))

    def click(self, user: str, channel: str, ts: str, action_id: str, value: str | None = None) -> bool:
        """Press a button of a message or private note; whether the bot acked. Raises Refused when there is none."""
        return self._click(user, {"channel": channel, "ts": ts}, action_id, value)

    def click_in_view(self, user: str, view_id: str, action_id: str, value: str | None = None) -> bool:
        """The same in a modal or the App Home."""
        return self._click(user, {"view_id": view_id}, action_id, value)

    def _click(self, user: str, place: Json, action_id: str, value: str | None) -> bool:
        action = {"action_id": action_id, "value": value}
        return self._run(self._workspace.interactions.click(user, place, action))

    def submit(self, user: str, view_id: str, values: Json) -> Json:
        """Send a form. {"errors": …} when the bot refuses it, {"view": …} when it shows another, else {}."""
        return self._run(self._workspace.interactions.submit(user, view_id, values))

    def close(self, user: str, view_id: str) -> None:
        self._run(self._workspace.interactions.close(user, view_id))

    def shortcut(self, user: str, channel: str, ts: str, callback_id: str) -> bool:
        """Use a message shortcut; whether the bot acked."""
        return self._run(self._workspace.interactions.shortcut(user, channel, ts, callback_id))

    def open_home(self, user: str) -> None:
        home = self._workspace.interactions.home
        self._now(lambda: self._workspace.background.start(home(user)))

    # What people see

    def messages(self, channel: str, thread_ts: str | None = None) -> list[Json]:
        """A thread with its parent; without `thread_ts` what stands in the channel itself. Oldest first."""

        def find() -> list[Json]:
            said = list(self._workspace.world.messages[channel].values())
            if thread_ts is None:
                said = [m for m in said if m.get("thread_ts") in (None, m["ts"])]
            else:
                said = [m for m in said if thread_ts in (m["ts"], m.get("thread_ts"))]
            return [shown(message, with_metadata=True) for message in said]

        return self._now(find)

    def ephemerals(self, user: str) -> list[Json]:
        return self._copy(lambda: self._workspace.world.notes.get(user, []))

    def view(self, user: str) -> Json | None:
        """The modal that this user looks at."""
        return self._copy(lambda: self._workspace.views.top(user))

    def home(self, user: str) -> Json | None:
        return self._copy(lambda: self._workspace.views.homes.get(user))

    def thread(self, channel: str, thread_ts: str) -> Json:
        """The status, title and prompts that the bot gave a thread."""
        return self._copy(lambda: self._workspace.world.threads.get((channel, thread_ts), {}))

    @property
    def files(self) -> list[Json]:
        return self._now(lambda: [described(file) for file in self._workspace.world.files.values()])

    # What goes wrong, and what was called

    @property
    def journal(self) -> list[Json]:
        """The Web API calls so far: method, args, ok, error, at."""
        return self._copy(lambda: list(self._workspace.web_api.journal))

    @property
    def connections(self) -> int:
        """How many Socket Mode connections are open."""
        return self._now(lambda: self._workspace.sockets.connected)

    @property
    def pages(self) -> int:
        """How many pages are open."""
        return self._now(lambda: len(self._workspace.ui.lines))

    def fault(self, method: str, kind: Kind, times: int = 1, **details: Any) -> None:
        """The next `times` calls of `method` go wrong: see faults.Fault for kinds and details."""
        self._now(lambda: self._workspace.web_api.faults.add(method, kind, times=times, **details))

    def drop_acks(self, n: int) -> None:
        """The next `n` acks do not arrive."""

        def grow() -> None:
            self._workspace.courier.deaf += n

        self._now(grow)

    def forget_undelivered(self) -> None:
        """What the app has not acked by now never comes again."""
        self._run(self._workspace.background.stop())

    def disconnect(self, reason: str) -> None:
        """A disconnect frame to every Socket Mode connection, then the close."""
        self._run(self._workspace.sockets.disconnect(reason))

    def archive(self, channel: str) -> None:
        self._now(lambda: self._workspace.world.change_channel(channel, is_archived=True))

    def set_user(self, user: str, **flags: bool) -> None:
        """Flags of users.info: deleted, is_restricted, is_stranger …"""
        self._now(lambda: self._workspace.world.change_user(user, **flags))

    def set_members(self, channel: str, *users: str) -> None:
        """Who is in this channel now."""
        self._now(lambda: self._workspace.world.change_channel(channel, members=users))

    def wait_for(self, predicate: Callable[[], T], timeout: float = 10) -> T:
        """What the predicate gives as soon as it is true. Raises TimeoutError."""
        until = time.monotonic() + timeout
        while not (found := predicate()):
            if time.monotonic() > until:
                raise TimeoutError(f"still not true after {timeout:g} s")
            time.sleep(0.01)
        return found

    def _copy(self, read: Callable[[], T]) -> T:
        return self._now(lambda: copy.deepcopy(read()))

    def _now(self, act: Callable[[], T]) -> T:
        async def acting() -> T:
            return act()

        return self._run(acting())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)


@contextmanager
def running_workspace(
    port: int = 0, event_url: str | None = None, ack_timeout_s: float = 3.0, manifest: Json | None = None
) -> Iterator[Driver]:
    """A fresh workspace on loopback inside the block. With `event_url`, the app is called there instead of by socket."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        workspace = Workspace(url=url, event_url=event_url, ack_timeout_s=ack_timeout_s, manifest=manifest)
        server = make_server(create_app(workspace), ping_every_s=PING_EVERY_S)
        loops: list[asyncio.AbstractEventLoop] = []

        async def serving() -> None:
            loops.append(asyncio.get_running_loop())
            await server.serve(sockets=[listener])

        thread = threading.Thread(target=lambda: asyncio.run(serving()), name="workspace", daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        try:
            yield Driver(workspace, loops[0])
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)
