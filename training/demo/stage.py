"""`evenkeel demo`: local Slack workspace, engine, bot and worker as four processes on loopback.

Promise: one URL when all four are up, and nothing left running when it ends, however it ends.
Knows processes, ports and the shipped tickets. The bot does not know that it is not talking to Slack.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bot.engine.base import prepare_base
from eval.suite_fetch import fetch_suite
from storage.errors import ConfigurationError, EvenkeelError
from storage.ledger import Ledger
from storage.settings import Settings, load_settings
from training.tickets import import_file

TICKETS = Path(__file__).with_name("tickets.csv")
READY_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """One process of the stage: its command, how to see that it is ready, and where it writes."""

    name: str
    command: tuple[str, ...]
    ready_url: str | None
    log: Path


def play(settings: Settings, *, port: int, say: Callable[[str], None]) -> None:
    """Prepare everything once, start the four, print the URL, wait for Ctrl-C, stop the four."""
    environment = demo_environment(settings, port=port)
    demo = load_settings(**{name.lower(): value for name, value in environment.items()})
    for number in (port, port + 1):
        require_free(number)
    prepare_base(demo, say)
    fetch_suite(demo, say)
    seed(demo, say)
    actors = cast(demo, port=port)
    with running(actors, environment) as processes:
        say("")
        say(f"  Evenkeel is ready:  http://127.0.0.1:{port}")
        say("  Ask as Mia, rate as Asha, type /retrain as Ines. Ctrl-C stops everything.")
        say(f"  Ledger: {demo.ledger_path}   logs: {demo.data_dir / 'logs'}")
        watch(actors, processes)


def demo_environment(settings: Settings, *, port: int) -> dict[str, str]:
    """What differs from a real workspace: addresses, tokens, and a data folder of its own."""
    return {
        "DATA_DIR": str((settings.data_dir / "demo").absolute()), "CACHE_DIR": str(settings.cache_dir.absolute()),
        "SLACK_API_URL": f"http://127.0.0.1:{port}/api/", "SLACK_MODE": "socket",
        "SLACK_BOT_TOKEN": "xoxb-local-workspace", "SLACK_APP_TOKEN": "xapp-local-workspace",
        "SLACK_SIGNING_SECRET": "local-workspace-secret", "ADMINS": "S0ADMINS", "AGENTS": "S0AGENTS", "OPS_CHANNEL": "C0OPS",
        "ENGINE_URL": f"http://127.0.0.1:{port + 1}/v1", "LEARN_FROM_SLACK": "true",
        "RETRAIN_CRON": "", "RETRAIN_AFTER_LESSONS": "0",
    }


def require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise ConfigurationError(
                f"port {port} is taken. Next: stop what uses it (another demo?), or evenkeel demo --port {port + 10}.") from None


def seed(settings: Settings, say: Callable[[str], None]) -> None:
    """The demo company's tickets, once: known ones are not added again."""
    ledger = Ledger(settings.ledger_path)
    try:
        added, known = import_file(TICKETS, {}, ledger=ledger, actor="demo")
    finally:
        ledger.close()
    say(f"tickets of the demo company: {added} added, {known} known")


def cast(settings: Settings, *, port: int) -> tuple[Actor, ...]:
    """The four processes in the order in which they need each other."""
    evenkeel, logs = (sys.executable, "-m", "evenkeel"), settings.data_dir / "logs"
    return (
        Actor(name="workspace", command=(*evenkeel, "workspace", "--port", str(port)),
              ready_url=f"http://127.0.0.1:{port}/", log=logs / "workspace.log"),
        Actor(name="engine", command=(*evenkeel, "engine"), ready_url=f"http://127.0.0.1:{port + 1}/healthz", log=logs / "engine.log"),
        Actor(name="bot", command=(*evenkeel, "bot"), ready_url=None, log=logs / "bot.log"),
        Actor(name="worker", command=(*evenkeel, "worker"), ready_url=None, log=logs / "worker.log"),
    )


@contextmanager
def running(actors: tuple[Actor, ...], environment: Mapping[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """All actors started and ready; all stopped at the end: SIGTERM first, SIGKILL after ten seconds."""
    processes: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        for actor in actors:
            actor.log.parent.mkdir(parents=True, exist_ok=True)
            with actor.log.open("ab") as log:
                processes.append(subprocess.Popen(actor.command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                                                  stdout=log, stderr=log, start_new_session=True))
        for actor, process in zip(actors, processes, strict=True):
            await_ready(actor, process)
        yield processes
    finally:
        stop(processes)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def await_ready(actor: Actor, process: subprocess.Popen[bytes]) -> None:
    """Return when the actor answers. Raises EvenkeelError with the end of its log when it died or never answers."""
    until = time.monotonic() + READY_S
    while actor.ready_url is not None and time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(actor.ready_url, timeout=2) as reply:
                if reply.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    if actor.ready_url is not None or process.poll() is not None:
        raise EvenkeelError(f"{actor.name} did not start:\n{tail(actor.log)}\nNext: evenkeel doctor; whole log: {actor.log}")


def watch(actors: tuple[Actor, ...], processes: list[subprocess.Popen[bytes]]) -> None:
    """Until Ctrl-C. Raises EvenkeelError with the end of the log when an actor dies."""
    while True:
        time.sleep(0.5)
        for actor, process in zip(actors, processes, strict=True):
            if process.poll() is not None:
                raise EvenkeelError(f"{actor.name} ended with code {process.returncode}:\n{tail(actor.log)}")


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in reversed(processes):
        if process.poll() is None:
            process.terminate()
    until = time.monotonic() + 10
    for process in processes:
        try:
            process.wait(timeout=max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def tail(log: Path, lines: int = 12) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
