"""A workspace for tests plays everybody but the bot: what people do and see, and what goes wrong."""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from bot.workspace import seed
from bot.workspace.events import shown
from bot.workspace.faults import Kind
from bot.workspace.files import described
from bot.workspace.records import Json, User, copied
from bot.workspace.server import Workspace

T = TypeVar("T")
PATIENCE_S = 30.0


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
        """Press a button of a message or private note, or pick the option with this value; whether the bot acked.

        Raises Refused when there is none.
        """
        return self._click(user, {"channel": channel, "ts": ts}, action_id, value, None)

    def click_in_view(
        self, user: str, view_id: str, action_id: str, value: str | None = None, values: Json | None = None
    ) -> bool:
        """The same in a modal or the App Home. `values`: what has been typed meanwhile, as in submit."""
        return self._click(user, {"view_id": view_id}, action_id, value, values)

    def _click(self, user: str, place: Json, action_id: str, value: str | None, values: Json | None) -> bool:
        action = {"action_id": action_id, "value": value}
        return self._run(self._workspace.interactions.click(user, place, action, values))

    def submit(self, user: str, view_id: str, values: Json) -> Json:
        """Send a form. {"errors": …} when the bot refuses it, {"view": …} when it shows another, else {}.

        `values`: {block_id: {action_id: {"value": …}}}; an input that is not named keeps what stands in it.
        """
        return self._run(self._workspace.interactions.submit(user, view_id, values))

    def close(self, user: str, view_id: str) -> None:
        self._run(self._workspace.interactions.close(user, view_id))

    def shortcut(self, user: str, channel: str, ts: str, callback_id: str) -> bool:
        """Use a message shortcut; whether the bot acked."""
        return self._run(self._workspace.interactions.shortcut(user, channel, ts, callback_id))

    def open_home(self, user: str) -> None:
        self._now(lambda: self._workspace.interactions.home(user))

    def stop(self, user: str, channel: str, thread_ts: str) -> None:
        """Press Stop under a thread. Raises Refused not_processing."""
        self._now(lambda: self._workspace.interactions.stop(user, channel, thread_ts))

    # What people see

    def messages(self, channel: str, thread_ts: str | None = None) -> list[Json]:
        """A thread with its parent; without `thread_ts` what stands in the channel itself. Oldest first.

        A message that still grows has `streaming`, a sign of this driver's and not of Slack's.
        """

        def find() -> list[Json]:
            world = self._workspace.world
            if thread_ts is None:
                said = [m for m in world.messages[channel].values() if m.get("thread_ts") in (None, m["ts"])]
            else:
                said = world.thread(channel, thread_ts) if thread_ts in world.messages[channel] else []
            return [_seen(message) for message in said]

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
        return self._copy(lambda: self._workspace.sessions.threads.get((channel, thread_ts), {}))

    @property
    def files(self) -> list[Json]:
        return self._now(lambda: [described(file) for file in self._workspace.world.files.values()])

    # What goes wrong, and what was called

    @property
    def journal(self) -> list[Json]:
        """The Web API calls so far: method, args, ok, error, at."""
        return self._copy(lambda: list(self._workspace.web_api.journal))

    def calls(self, method: str) -> list[Json]:
        """Those of one method."""
        return self._copy(lambda: [call for call in self._workspace.web_api.journal if call["method"] == method])

    @property
    def connections(self) -> int:
        """How many Socket Mode connections are open and not silent."""
        return self._now(lambda: self._workspace.sockets.connected)

    @property
    def pages(self) -> int:
        """How many pages are open."""
        return self._now(lambda: len(self._workspace.ui.lines))

    def fault(self, method: str, kind: Kind, times: int = 1, **details: Any) -> None:
        """The next `times` calls of `method` go wrong: see faults.Fault for kinds and details."""
        self._now(lambda: self._workspace.web_api.faults.add(method, kind, times=times, **details))

    def forget_faults(self) -> None:
        """All calls go well from now on."""
        self._now(self._workspace.web_api.faults.clear)

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

    def silence(self, on: bool) -> None:
        """Half-open sockets: open connections stay open and send and hear nothing; new ones work. Or: no longer."""
        self._now(lambda: self._workspace.sockets.silence(on))

    @contextmanager
    def deaf_period(self) -> Iterator[None]:
        """Events of what happens inside are never delivered, as in an outage of Slack's."""
        self._lose_events(True)
        try:
            yield
        finally:
            self._lose_events(False)

    @contextmanager
    def pause_delivery(self, *, newest_first: bool = False) -> Iterator[None]:
        """Events of what happens inside are delivered at its end, in order or the wrong way round."""

        def hold() -> None:
            self._workspace.events.held = []

        self._now(hold)
        try:
            yield
        finally:
            self._now(lambda: self._workspace.events.release(newest_first=newest_first))

    def _lose_events(self, on: bool) -> None:
        def change() -> None:
            self._workspace.events.lost = on

        self._now(change)

    def tiers(self, on: bool) -> None:
        """Hold every method to Slack's rate limits from now on; or only the start of streams. Counts from zero."""

        def change() -> None:
            self._workspace.web_api.tiers.enforced = on
            self._workspace.web_api.tiers.forget()

        self._now(change)

    def set_stream_life(self, seconds: float) -> None:
        """How long a stream lives from its start (300)."""

        def change() -> None:
            self._workspace.web_api.api.stream_life_s = seconds

        self._now(change)

    def add_user(self, user: str, name: str, **flags: Any) -> None:
        """Somebody new, in no channel yet (set_members). Flags as in set_user."""
        fresh = User(id=user, name=name.lower(), real_name=name, **flags)
        self._now(lambda: self._workspace.world.users.update({user: fresh}))

    def set_user(self, user: str, **flags: Any) -> None:
        """Flags of users.info: deleted, is_restricted, is_stranger, team_id …"""
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
        def act() -> T:
            found: T = copied(read())
            return found

        return self._now(act)

    def _now(self, act: Callable[[], T]) -> T:
        async def acting() -> T:
            return act()

        return self._run(acting())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)


def _seen(message: Json) -> Json:
    return {**shown(message, with_metadata=True), **({"streaming": True} if message.get("streaming") else {})}
