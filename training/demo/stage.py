"""`evenkeel demo`: local Slack workspace, engine, bot and worker as four processes on loopback.

Knows ports, the demo's settings and the shipped tickets. The bot does not know that it is not talking to Slack.
"""

import socket
import sys
from collections.abc import Callable
from pathlib import Path

from bot.engine.base import prepare_base
from eval.suite_fetch import fetch_suite
from storage.errors import ConfigurationError
from storage.ledger import Ledger
from storage.processes import Actor, running, watch
from storage.settings import BASE_NAME, TUNED_NAME, Settings, load_settings
from training.tickets import import_file

TICKETS = Path(__file__).with_name("tickets.csv")


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
        say("  Ask as Mia, rate as Asha, type /retrain now as Ines. Ctrl-C stops everything.")
        say(f"  Ledger: {demo.ledger_path}   logs: {demo.data_dir / 'logs'}")
        watch(actors, processes)


def demo_environment(settings: Settings, *, port: int) -> dict[str, str]:
    """What differs from a real workspace: addresses, tokens, and a data folder of its own."""
    return {
        "DATA_DIR": str((settings.data_dir / "demo").absolute()),
        "CACHE_DIR": str(settings.cache_dir.absolute()),
        "SLACK_API_URL": f"http://127.0.0.1:{port}/api/",
        "SLACK_MODE": "socket",
        "SLACK_BOT_TOKEN": "xoxb-local-workspace",
        "SLACK_APP_TOKEN": "xapp-local-workspace",
        "SLACK_SIGNING_SECRET": "local-workspace-secret",
        "ADMINS": "S0ADMINS",
        "AGENTS": "S0AGENTS",
        "OPS_CHANNEL": "C0OPS",
        "SUPPORT_GROUP": "S0AGENTS",
        "ENGINE_URL": f"http://127.0.0.1:{port + 1}/v1",
        "TUNED_URL": "",
        "TUNED_NAME": TUNED_NAME,
        "BASE_URL": "",
        "BASE_NAME": BASE_NAME,
        "LEARN_FROM_SLACK": "true",
        "EPOCHS": "1",
        "MARGIN_POINTS": "10",
        "RETRAIN_CRON": "",
        "RETRAIN_AFTER_LESSONS": "0",
    }


def require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise ConfigurationError(
                f"port {port} is taken. Next: stop what uses it (another demo?), or evenkeel demo --port {port + 10}."
            ) from None


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
        Actor(
            name="workspace",
            command=(*evenkeel, "workspace", "--port", str(port)),
            ready_url=f"http://127.0.0.1:{port}/",
            log=logs / "workspace.log",
        ),
        Actor(
            name="engine",
            command=(*evenkeel, "engine"),
            ready_url=f"http://127.0.0.1:{port + 1}/healthz",
            log=logs / "engine.log",
        ),
        Actor(name="bot", command=(*evenkeel, "bot"), ready_url=None, log=logs / "bot.log"),
        Actor(name="worker", command=(*evenkeel, "worker"), ready_url=None, log=logs / "worker.log"),
    )
