"""The stage: the local workspace in this process, an instant model server and the bot in processes of their own.

Promise: only loopback, everything in one temporary folder, nothing left running at the end. What the bot acked and
showed is noted at the moment at which it reached the workspace. The bot's clock is the machine's.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect

from bot.workspace.records import Changed, Channel, Json, Posted
from bot.workspace.running import Driver, running_workspace

from .nursery import ROOT, Nursery, nursery

BOT, TEAM = "U0EVENKEEL", "T0DEMO"
FEEDBACK, STOP = "evenkeel_feedback", "evenkeel_stop"
CHANNELS = ("C0SUPPORT", "C0GENERAL", "C0LOAD1", "C0LOAD2", "C0LOAD3")
READY_S = 30.0
MUCH = "1000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """One envelope that was handed over. `seconds`: from there to its ack; None when none came in time."""

    kind: str
    event: Json
    seconds: float | None


@dataclass(slots=True)
class Watch:
    """What the bot acked and what it showed, as the workspace saw it. Moments are of time.perf_counter."""

    acks: list[Ack] = field(default_factory=list)
    shown: dict[str, float] = field(default_factory=dict)  # word of the question → its final answer first stood there
    open: dict[str, float] = field(default_factory=dict)  # envelope → handed over
    undelivered: int = 0  # events that the bot has not acked and Slack has not given up on
    news: threading.Condition = field(default_factory=threading.Condition)

    def over(self, slack: Driver) -> None:
        """Look over the shoulder of this workspace from now on."""
        sockets, world = slack._workspace.sockets, slack._workspace.world
        hand_over, deliver, send = sockets._hand_over, sockets._deliver, sockets.send

        async def handed(envelope: Json, *, first: bool) -> None:
            begun = time.perf_counter() if sockets.connected else None
            await hand_over(envelope, first=first)
            self.open[envelope["envelope_id"]] = begun or time.perf_counter()

        async def delivered(envelope: Json, *, patient: bool, first: bool) -> Json | None:
            ack = await deliver(envelope, patient=patient, first=first)
            begun = self.open.pop(envelope["envelope_id"], None)
            if begun is not None:
                seconds = None if ack is None else time.perf_counter() - begun
                event = envelope["payload"].get("event") or {}
                self.acks.append(Ack(kind=envelope["type"], event=event, seconds=seconds))
            return ack

        async def sent(kind: Any, payload: Json, *, again: bool) -> Json | None:
            self.undelivered += again
            try:
                return await send(kind, payload, again=again)
            finally:
                self.undelivered -= again

        sockets._hand_over, sockets._deliver, sockets.send = handed, delivered, sent  # type: ignore[method-assign]
        world.listeners.append(self._hear)

    def _hear(self, change: Any) -> None:
        if isinstance(change, Posted | Changed) and is_final(change.message):
            word = last_word(change.message)
            with self.news:
                self.shown.setdefault(word, time.perf_counter())
                self.news.notify_all()

    def await_shown(self, done: Callable[[], bool], seconds: float) -> bool:
        """Whether that came true in time; looked at after every final answer."""
        until = time.monotonic() + seconds
        with self.news:
            while not done():
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self.news.wait(min(left, 0.25))
        return True


def is_final(message: Json) -> bool:
    """Whether this is an answer of the bot's in its last form: it asks for a rating."""
    return message.get("user") == BOT and FEEDBACK in str(message.get("blocks")) and not message.get("streaming")


def last_word(message: Json) -> str:
    return (str(message.get("text", "")).split() or [""])[-1]


@dataclass(kw_only=True)
class Stage:
    """The workspace, what the bot needs to run there, and the processes that were started."""

    slack: Driver
    watch: Watch
    folder: Path
    environment: dict[str, str]
    port: int
    nursery: Nursery
    engine: "subprocess.Popen[bytes] | None" = None
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10**9)))

    @property
    def data(self) -> Path:
        return Path(self.environment["DATA_DIR"])

    @property
    def log(self) -> Path:
        return self.folder / "bot.log"

    def start_engine(self, seconds: float = 0.0) -> None:
        command = [sys.executable, "-m", "benchmarks.chaos.instant", str(self.port), str(seconds)]
        self.engine = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise TimeoutError("the model server did not start")

    def stop_engine(self) -> None:
        if self.engine is not None:
            self.engine.kill()
            self.engine.wait()
            self.engine = None

    def start_bot(self, *, connections: int = 1) -> "subprocess.Popen[bytes]":
        """`evenkeel bot` as a person starts it, once so many bots are connected. Raises RuntimeError if they never are."""
        with self.log.open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "evenkeel", "bot"], cwd=ROOT, stdin=subprocess.DEVNULL,
                                       env={**os.environ, **self.environment}, stdout=log, stderr=log)  # fmt: skip
        try:
            self.await_connections(connections)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process

    @contextmanager
    def bot(self) -> Iterator["subprocess.Popen[bytes]"]:
        """One that is connected inside the block and gets SIGTERM at its end. Raises RuntimeError if it ends badly."""
        process = self.start_bot()
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(40)
        if code:
            raise RuntimeError(f"the bot ended with {code}:\n{self.log.read_text()[-2000:]}")

    def await_connections(self, number: int) -> None:
        try:
            self.slack.wait_for(lambda: self.slack.connections >= number, READY_S)
        except TimeoutError:
            raise RuntimeError(f"the bot does not connect:\n{self.log.read_text()[-2000:]}") from None

    def word(self) -> str:
        """A word that no other question ends with."""
        return f"case-{next(self._numbers)}"

    def ask(self, user: str, channel: str, *, thread_ts: str | None = None) -> tuple[str, str]:
        """A question of this person's: its word and its ts."""
        word = self.word()
        name = "" if channel.startswith("D") else f"<@{BOT}> "
        return word, self.slack.say(user, channel, f"{name}How do I reset my password {word}", thread_ts)


@contextmanager
def stage(*, ack_timeout_s: float = 3.0, engine_s: float = 0.0, **settings: str) -> Iterator[Stage]:
    """An empty stage with a model server; `engine_s`: how long an answer takes. `settings`: of the bot."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evenkeel-chaos-")))
        slack = stack.enter_context(running_workspace(ack_timeout_s=ack_timeout_s))
        logging.getLogger("uvicorn.error").addFilter(nobody_hung_up)
        add_channels(slack)
        watch = Watch()
        watch.over(slack)
        port = free_port()
        environment = {
            "SLACK_API_URL": slack.api_url, "SLACK_BOT_TOKEN": slack.bot_token, "SLACK_APP_TOKEN": slack.app_token,
            "ENGINE_URL": f"http://127.0.0.1:{port}/v1", "DATA_DIR": str(folder / "data"), "LOG_LEVEL": "error",
            "ADMINS": "S0ADMINS", "AGENTS": "S0AGENTS", "OPS_CHANNEL": "C0OPS", "LEARN_FROM_SLACK": "true",
            "USER_QUESTIONS_PER_MINUTE": MUCH, "CHANNEL_QUESTIONS_PER_MINUTE": MUCH, "ANSWER_WORKERS": "8", **settings}  # fmt: skip
        here = Stage(slack=slack, watch=watch, folder=folder, environment=environment, port=port,
                     nursery=stack.enter_context(nursery()))  # fmt: skip
        stack.callback(here.stop_engine)
        here.start_engine(engine_s)
        yield here


def add_channels(slack: Driver) -> None:
    """More rooms than the workspace is born with, everybody in each."""
    world = slack._workspace.world

    def add() -> None:
        for name in CHANNELS:
            if name not in world.channels:
                everybody = world.channels[CHANNELS[0]].members
                world.channels[name] = Channel(id=name, name=name.lower(), kind="channel", members=everybody, topic="")
                world.messages[name] = {}

    slack._now(add)


def nobody_hung_up(record: logging.LogRecord) -> bool:
    """Whether this is worth a line: a bot that is killed in the middle of a call is not."""
    return not (record.exc_info and isinstance(record.exc_info[1], ClientDisconnect))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
