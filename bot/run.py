"""Starting and stopping the bot: tokens first, then Slack, then the threads, then the events.

Knows the two ways in which events arrive (Socket Mode, HTTP); knows nothing of questions.
"""

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

import structlog
import uvicorn
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk.errors import SlackClientNotConnectedError
from slack_sdk.socket_mode import SocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from stamina.instrumentation import set_on_retry_hooks

from bot.app import Bot, build_bot
from bot.http_mode import http_app
from bot.question import know_languages
from bot.shapes import drop_strange
from bot.slack import SLACK_ERRORS, make_client, told_by_code, trouble_of, who_am_i
from bot.socket_watch import LOOK_EVERY_S, SocketWatch
from bot.workers import Workers
from storage.errors import ConfigurationError
from storage.ledger import Ledger
from storage.settings import Settings

log = structlog.get_logger()
SWITCH_S = 0.0005  # an ack that waits for the interpreter gets it before a busy worker's usual 5 ms are over
LISTEN_EVERY_S = 1.0
ACKS = 32  # envelopes that are stored at once


def run_bot(settings: Settings, ledger: Ledger) -> None:
    """Serve until SIGTERM or Ctrl-C, then let what is in progress end. Raises ConfigurationError before anything starts."""
    over = threading.Event()
    sys.setswitchinterval(SWITCH_S)

    def stop(number: int, frame: FrameType | None) -> None:
        over.set()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with running_bot(settings, ledger):
            while not over.wait(LISTEN_EVERY_S):
                pass  # a signal that the system gave to another thread is handled when this one wakes
            log.info("stopping")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def running_bot(settings: Settings, ledger: Ledger) -> Iterator[Bot]:
    """A bot that receives events inside the block and drains at its end."""
    check_tokens(settings)
    know_languages()
    set_on_retry_hooks([told_by_code])
    client = make_client(settings.slack_bot_token.get_secret_value(), settings.slack_api_url)
    me = who_am_i(client)
    bot = build_bot(settings, ledger, client, me)
    bot.workers.start()
    try:
        with socket_mode(settings, bot) if settings.slack_mode == "socket" else http_mode(settings, bot):
            log.info("ready", team=me.team, bot=me.user, mode=settings.slack_mode)
            yield bot
    finally:
        bot.close()


@contextmanager
def socket_mode(settings: Settings, bot: Bot) -> Iterator[SocketWatch]:
    """Events over a connection that is watched. Raises ConfigurationError when Slack gives none."""
    token = settings.slack_app_token.get_secret_value()
    handler = SocketModeHandler(
        bot.bolt, token, web_client=make_client(token, settings.slack_api_url), concurrency=ACKS
    )
    handler.client.message_listeners.insert(0, drop_strange)
    handler.client.socket_mode_request_listeners[:] = [partial(answer, handler)]
    try:
        handler.client.connect()
    except SLACK_ERRORS as error:
        handler.client.close()
        raise ConfigurationError(
            f"Slack gave no Socket Mode connection: {trouble_of(error).code}. Next: check that SLACK_APP_TOKEN is an "
            "app-level token with the scope connections:write, and that Socket Mode is on."
        ) from None
    watch, guard = SocketWatch(client=handler.client, changed=bot.reconcile.again), Workers()
    guard.add("socket", watch.step, pause_s=LOOK_EVERY_S)
    guard.start()
    try:
        yield watch
    finally:
        guard.stop(patience_s=1.0)
        hang_up(handler.client)


def answer(handler: SocketModeHandler, client: SocketModeClient, request: SocketModeRequest) -> None:
    """Bolt's answer to one envelope. An ack that finds its line closed is lost, and Slack delivers again."""
    try:
        handler.handle(client, request)
    except SlackClientNotConnectedError:
        log.warning("ack_lost")


def hang_up(client: SocketModeClient) -> None:
    """Close the connection; the SDK alone would wait for a silent read to time out after three seconds."""
    client.auto_reconnect_enabled = False
    client.current_session_state.terminated = True
    client.closed = True
    client.message_queue.put(None)  # wakes the processor, which ignores it
    session = client.current_session
    with suppress(OSError):  # the other side may have hung up first
        if session is not None and session.sock is not None:
            session.sock.shutdown(socket.SHUT_RDWR)
    client.close()


@contextmanager
def http_mode(settings: Settings, bot: Bot) -> Iterator[None]:
    """Listens on loopback; a proxy with TLS stands in front."""
    secret, ledger = settings.slack_signing_secret.get_secret_value(), bot.asking.ledger
    app = http_app(bot.bolt, secret, ledger=ledger, healthy=bot.workers.alive)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=settings.http_port, log_level="warning"))
    thread = threading.Thread(target=server.run, name="http", daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.05)
        if not thread.is_alive():
            raise ConfigurationError(f"port {settings.http_port} is taken. Next: set HTTP_PORT.")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def check_tokens(settings: Settings) -> None:
    """Raises ConfigurationError that names the first faulty variable, what is wrong with it and the next step."""
    wanted = [("SLACK_BOT_TOKEN", settings.slack_bot_token, "xoxb-", "OAuth & Permissions")]
    if settings.slack_mode == "socket":
        wanted.append(("SLACK_APP_TOKEN", settings.slack_app_token, "xapp-", "Basic Information, App-Level Tokens"))
    for name, secret, prefix, page in wanted:
        if fault := token_fault(secret.get_secret_value(), prefix):
            raise ConfigurationError(
                f"{name} {fault}. Next: copy the {prefix}… token from your Slack app ({page}) into .env; "
                "without a Slack workspace, use make demo."
            )
    if settings.slack_mode == "http" and not settings.slack_signing_secret.get_secret_value().strip():
        raise ConfigurationError(
            "SLACK_SIGNING_SECRET is empty, and SLACK_MODE=http needs it. Next: copy it from your Slack "
            "app (Basic Information) into .env."
        )


def token_fault(token: str, prefix: str) -> str:
    """What is wrong with a token, without showing it; empty when it looks right."""
    if not token:
        return "is empty"
    if token != token.strip().strip("\"'"):
        return "has quotes, spaces or a line break around it"
    if not token.startswith(prefix):
        kind = next((k for k in ("xoxb-", "xapp-", "xoxp-") if token.startswith(k)), None)
        return f"holds a {kind}… token, but this is the place of {prefix}…" if kind else f"does not start with {prefix}"
    return ""
