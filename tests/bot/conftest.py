"""A real bot, a local workspace and a scripted model server; nothing of Slack's is faked here.

Workspace, model server and running bot live as long as a test module; tests keep apart by their threads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bot.app import Bot, build_bot
from bot.pace import Pace
from bot.run import running_bot
from bot.slack import make_client, who_am_i
from bot.workspace.running import running_workspace
from storage.ledger import Ledger
from storage.settings import Settings, load_settings
from tests.bot.model_server import ModelServer, model_server

SUPPORT, OPS = "C0SUPPORT", "C0OPS"
ASK = "<@U0EVENKEEL> How do I reset my password?"


@pytest.fixture(scope="module")
def slack() -> Iterator[Any]:
    with running_workspace() as workspace:
        yield workspace


@pytest.fixture(scope="module")
def model_process() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


@pytest.fixture
def engine(model_process: ModelServer) -> ModelServer:
    """The scripted model server as new."""
    model_process.__dict__.update(ModelServer(url=model_process.url).__dict__)
    return model_process


@pytest.fixture(scope="module")
def settings(slack: Any, model_process: ModelServer) -> Settings:
    return load_settings(
        _env_file=None, slack_bot_token=slack.bot_token, slack_app_token=slack.app_token, slack_api_url=slack.api_url,
        slack_signing_secret=slack.signing_secret, engine_url=model_process.url, admins="U0INES", agents="S0AGENTS",
        answer_deadline_s=5, auto_promote=False, learn_from_slack=True,
        user_questions_per_minute=10_000, channel_questions_per_minute=10_000)  # fmt: skip


@dataclass
class Live:
    """A bot that runs for a whole test module."""

    slack: Any
    ledger: Ledger
    bot: Bot

    def set(self, *, answer_deadline_s: float = 5.0, retry_s: float = 0.1) -> Bot:
        """The bot, with other patience."""
        patient = self.bot.asking.settings.model_copy(update={"answer_deadline_s": answer_deadline_s})
        object.__setattr__(self.bot.asking, "settings", patient)
        object.__setattr__(self.bot.asking, "retry_s", retry_s)
        object.__setattr__(self.bot.shadow, "deadline_s", answer_deadline_s)
        object.__setattr__(self.bot.watch, "every_s", 0.1)
        return self.bot

    def quiet(self) -> bool:
        """Nothing is open: no question, no rating, no shadow."""
        return self.ledger.inbox.depth() == 0 and not self.ledger.exchanges.awaiting_shadow(max_age_s=3600)


@pytest.fixture(scope="module")
def process(settings: Settings, slack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    ledger = Ledger(Path(tmp_path_factory.mktemp("live")) / "evenkeel.db")
    with running_bot(settings, ledger) as bot:
        yield Live(slack, ledger, bot)
    ledger.close()


@pytest.fixture
def live(process: Live, engine: ModelServer) -> Iterator[Live]:
    """The running bot with default patience and nothing left to do, before and after."""
    process.set()
    process.bot.asking.delivery.client.pace = Pace()  # what earlier tests called does not count
    yield process
    process.set(retry_s=0.0)
    engine.mode = engine.base_mode = "ok"
    process.slack.wait_for(process.quiet, timeout=15)


@pytest.fixture
def start(live: Live) -> Callable[..., Bot]:
    return live.set


@pytest.fixture
def still(settings: Settings, ledger: Ledger, engine: ModelServer) -> Iterator[Bot]:
    """A bot that is wired and does nothing by itself: the test calls its steps."""
    client = make_client(settings.slack_bot_token.get_secret_value(), settings.slack_api_url)
    bot = build_bot(settings, ledger, client, who_am_i(client))
    yield bot
    bot.close()
