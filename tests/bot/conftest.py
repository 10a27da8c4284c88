"""A real bot, a local workspace and a scripted model server; nothing of Slack's is faked here."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from bot.workspace.running import running_workspace

from bot.app import Bot, build_bot
from bot.run import running_bot
from bot.slack import make_client, who_am_i
from storage.ledger import Ledger
from storage.settings import Settings, load_settings
from tests.bot.model_server import ModelServer, model_server

SUPPORT, OPS = "C0SUPPORT", "C0OPS"


@pytest.fixture
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
    fresh = ModelServer(url=model_process.url)
    model_process.__dict__.update(fresh.__dict__)
    return model_process


@pytest.fixture
def settings(slack: Any, engine: ModelServer) -> Settings:
    return load_settings(
        _env_file=None, slack_bot_token=slack.bot_token, slack_app_token=slack.app_token, slack_api_url=slack.api_url,
        slack_signing_secret=slack.signing_secret, engine_url=engine.url, admins="U0INES", agents="S0AGENTS",
        answer_deadline_s=5)  # fmt: skip


@pytest.fixture
def start(settings: Settings, ledger: Ledger) -> Iterator[Callable[..., Bot]]:
    """Starts a bot that stops at the end of the test; keyword arguments change its settings."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(running_bot(settings.model_copy(update=changes), ledger))


@pytest.fixture
def still(settings: Settings, ledger: Ledger) -> Iterator[Bot]:
    """A bot that is wired and does nothing by itself: the test calls its steps."""
    client = make_client(settings.slack_bot_token.get_secret_value(), settings.slack_api_url)
    bot = build_bot(settings, ledger, client, who_am_i(client))
    yield bot
    bot.close()
