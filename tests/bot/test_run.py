"""Starting: a wrong token is named before anything runs. Threads: none dies silently."""

import signal
import sqlite3
import threading
import time
from typing import Any

import pytest
from slack_sdk.errors import SlackApiError
from stamina.instrumentation import get_on_retry_hooks, set_on_retry_hooks
from structlog.testing import capture_logs

from bot.run import check_tokens, run_bot, running_bot
from bot.slack import make_client, persist, told_by_code, trouble_of
from bot.workers import Workers
from storage.errors import Busy, ConfigurationError
from storage.ledger import Ledger
from storage.settings import Settings, load_settings
from tests.serving import free_port

GOOD = {"slack_bot_token": "xoxb-1", "slack_app_token": "xapp-1", "slack_signing_secret": "s"}


@pytest.mark.parametrize(
    ("changes", "named", "said"),
    [
        ({"slack_bot_token": ""}, "SLACK_BOT_TOKEN", "is empty"),
        ({"slack_bot_token": "xapp-1"}, "SLACK_BOT_TOKEN", "holds a xapp-"),
        ({"slack_bot_token": 'xoxb-1"'}, "SLACK_BOT_TOKEN", "quotes"),
        ({"slack_bot_token": "xoxb-1\n"}, "SLACK_BOT_TOKEN", "line break"),
        ({"slack_app_token": "xoxb-1"}, "SLACK_APP_TOKEN", "holds a xoxb-"),
        ({"slack_app_token": "secret"}, "SLACK_APP_TOKEN", "does not start with xapp-"),
        ({"slack_mode": "http", "slack_signing_secret": " "}, "SLACK_SIGNING_SECRET", "is empty"),
    ],
)
def test_a_faulty_token_is_named_and_never_shown(changes: dict[str, str], named: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_tokens(load_settings(_env_file=None, **{**GOOD, **changes}))

    assert str(caught.value).startswith(named) and said in str(caught.value) and "Next:" in str(caught.value)
    assert "secret." not in str(caught.value) and "xoxb-1" not in str(caught.value)


def test_http_mode_needs_no_app_token() -> None:
    check_tokens(load_settings(_env_file=None, **{**GOOD, "slack_app_token": "", "slack_mode": "http"}))


def test_no_slack_at_the_address_is_one_clear_message(ledger: Ledger) -> None:
    settings = load_settings(_env_file=None, slack_api_url=f"http://127.0.0.1:{free_port()}/api/", **GOOD)

    with pytest.raises(ConfigurationError, match="SLACK_API_URL"), running_bot(settings, ledger):
        pass


def test_a_sigterm_that_the_system_gives_to_another_thread_ends_the_bot(
    settings: Settings, slack: Any, ledger: Ledger
) -> None:
    def end() -> None:
        slack.wait_for(lambda: slack.connections)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    threading.Thread(target=end).start()
    run_bot(settings, ledger)

    slack.wait_for(lambda: not slack.connections)


def test_a_step_that_breaks_is_called_again() -> None:
    calls: list[float] = []
    done = threading.Event()

    def step() -> bool:
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise RuntimeError("once")
        done.set()
        return False

    workers = Workers()
    workers.add("breaks", step)
    workers.start()

    assert done.wait(5) and workers.alive()
    assert workers.stop()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (sqlite3.OperationalError("database is locked"), ("step_waits", "warning")),
        (Busy("the ledger is locked"), ("step_waits", "warning")),
        (sqlite3.OperationalError("no such table: x"), ("step_failed", "error")),
    ],
)
def test_a_step_that_waited_for_a_lock_in_vain_is_no_error_and_is_tried_again(
    error: Exception, told: tuple[str, str]
) -> None:
    errors, done = [error], threading.Event()

    def step() -> bool:
        if errors:
            raise errors.pop()
        done.set()
        return False

    workers = Workers()
    workers.add("waits", step)
    with capture_logs() as lines:
        workers.start()
        assert done.wait(5) and workers.stop()

    assert [(line["event"], line["log_level"]) for line in lines] == [told]


def test_no_step_begins_while_an_ack_is_due_but_none_waits_for_ever() -> None:
    steps: list[float] = []
    workers = Workers()
    workers.add("works", lambda: steps.append(time.monotonic()), pause_s=0.01)
    with workers.acking():
        workers.start()
        time.sleep(0.2)
        assert not steps
        time.sleep(0.5)
        assert steps
    workers.stop()


def test_a_wake_ends_a_pause_at_once() -> None:
    seen: list[float] = []
    workers = Workers()
    workers.add("sleeps", lambda: seen.append(time.monotonic()), pause_s=30)
    workers.start()
    while not seen:
        time.sleep(0.01)
    workers.wake("sleeps")
    until = time.monotonic() + 2
    while len(seen) < 2 and time.monotonic() < until:
        time.sleep(0.01)

    workers.stop()
    assert len(seen) >= 2


def test_a_step_in_progress_is_let_end() -> None:
    ended: list[bool] = []
    began = threading.Event()

    def step() -> bool:
        began.set()
        time.sleep(0.3)
        ended.append(True)
        return False

    workers = Workers()
    workers.add("long", step)
    workers.start()
    began.wait(2)

    assert workers.stop() and ended


def test_a_call_that_never_reached_slack_is_unsure_and_tried_again() -> None:
    client, tries = make_client("xoxb-1", f"http://127.0.0.1:{free_port()}/api/"), []

    def call() -> object:
        tries.append(1)
        return client.auth_test()

    with pytest.raises(OSError) as caught:
        persist(call, for_s=0.8)

    assert len(tries) >= 2 and trouble_of(caught.value).kind == "unsure"


def test_a_repeated_call_is_logged_by_its_code_alone() -> None:
    replies = [
        SlackApiError("what somebody wrote", {"ok": False, "error": "internal_error", "text": "what somebody wrote"})
    ]

    def call() -> str:
        if replies:
            raise replies.pop()
        return "ok"

    before = get_on_retry_hooks()
    set_on_retry_hooks([told_by_code])
    try:
        with capture_logs() as lines:
            assert persist(call) == "ok"
    finally:
        set_on_retry_hooks(before)

    (line,) = lines
    assert line["code"] == "internal_error" and "somebody" not in str(line)
