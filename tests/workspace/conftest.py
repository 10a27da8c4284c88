"""A running workspace, and the two real clients of Slack's own SDK."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from slack_bolt import App
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from websockets.sync.client import ClientConnection, connect

import bot
from bot.workspace.running import Driver, running_workspace

SUPPORT, OPS = "C0SUPPORT", "C0OPS"
Json = dict[str, Any]


def manifest() -> Json:
    """The bot's manifest, with a message shortcut."""
    whole: Json = json.loads(Path(bot.__file__).with_name("manifest.json").read_text(encoding="utf-8"))
    whole["features"]["shortcuts"] = [
        {"name": "Correct", "type": "message", "callback_id": "correct", "description": "Write a better answer"}
    ]
    return whole


@pytest.fixture
def slack() -> Iterator[Driver]:
    with running_workspace(ack_timeout_s=0.3, manifest=manifest()) as running:
        yield running


@pytest.fixture
def client(slack: Driver) -> WebClient:
    return client_of(slack)


def client_of(slack: Driver) -> WebClient:
    return WebClient(slack.bot_token, base_url=slack.api_url, retry_handlers=[])


def bolt(slack: Driver) -> App:
    return App(client=client_of(slack), token_verification_enabled=False)


def refusal(call: Callable[[], Any]) -> str:
    """The error code with which a call is refused."""
    with pytest.raises(SlackApiError) as caught:
        call()
    return str(caught.value.response["error"])


def socket_url(slack: Driver) -> str:
    """A fresh Socket Mode address."""
    return str(WebClient(base_url=slack.api_url).apps_connections_open(app_token=slack.app_token)["url"])


@pytest.fixture
def plug(slack: Driver) -> Iterator[Callable[[], ClientConnection]]:
    """Opens bare Socket Mode connections, past the hello."""
    with ExitStack() as stack:

        def open_one() -> ClientConnection:
            socket = stack.enter_context(connect(socket_url(slack)))
            assert hear(socket)["type"] == "hello"
            return socket

        yield open_one


def hear(socket: ClientConnection, timeout: float = 2) -> Json:
    """The next frame."""
    frame: Json = json.loads(socket.recv(timeout))
    return frame


def silent(socket: ClientConnection, for_s: float = 0.15) -> bool:
    try:
        socket.recv(for_s)
    except TimeoutError:
        return True
    return False


def ack(socket: ClientConnection, envelope: Json, payload: Json | None = None) -> None:
    socket.send(json.dumps({"envelope_id": envelope["envelope_id"], **({"payload": payload} if payload else {})}))
