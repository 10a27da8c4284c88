"""Trouble on demand, as slack_sdk meets it."""

import http.client
import time
from collections.abc import Iterator

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler

from bot.workspace.running import Driver, running_workspace
from tests.workspace.conftest import OPS, SUPPORT, client_of, refusal


@pytest.fixture(scope="module")
def slack() -> Iterator[Driver]:
    with running_workspace() as running:
        yield running


@pytest.fixture
def client(slack: Driver) -> WebClient:
    return client_of(slack)


def test_a_rate_limit_says_how_long_and_the_sdk_waits_it_out(slack: Driver, client: WebClient) -> None:
    slack.fault("auth.test", "ratelimited", retry_after=0)
    with pytest.raises(SlackApiError) as caught:
        client.auth_test()
    assert caught.value.response.status_code == 429 and caught.value.response.headers["Retry-After"] == "0"

    client.retry_handlers.append(RateLimitErrorRetryHandler(max_retry_count=1))
    slack.fault("auth.test", "ratelimited", retry_after=0)
    assert client.auth_test()["ok"]


def test_a_server_error_is_no_json(slack: Driver, client: WebClient) -> None:
    slack.fault("auth.test", "http_500")

    with pytest.raises(SlackApiError) as caught:
        client.auth_test()

    assert caught.value.response.status_code == 500


def test_a_lost_response_has_acted(slack: Driver, client: WebClient) -> None:
    slack.fault("chat.postMessage", "lost_response")

    with pytest.raises((OSError, http.client.HTTPException)):
        client.chat_postMessage(channel=OPS, text="did you get this?")

    assert [m["text"] for m in slack.messages(OPS)] == ["did you get this?"]
    assert slack.journal[-1]["error"] == "lost_response"


def test_any_error_code_can_be_had(slack: Driver, client: WebClient) -> None:
    slack.fault("chat.postMessage", "error", code="is_archived")

    assert refusal(lambda: client.chat_postMessage(channel=SUPPORT, text="x")) == "is_archived"
    assert slack.messages(SUPPORT) == []


def test_a_call_that_hangs_outlasts_the_clients_patience(slack: Driver) -> None:
    slack.fault("auth.test", "hang", seconds=0.3)
    started = time.monotonic()

    with pytest.raises(TimeoutError):
        WebClient(slack.bot_token, base_url=slack.api_url, timeout=0.1, retry_handlers=[]).auth_test()

    assert time.monotonic() - started < 0.3


def test_a_fault_is_used_up_after_its_times_and_touches_no_other_method(slack: Driver, client: WebClient) -> None:
    slack.fault("auth.test", "error", times=2, code="fatal_error")

    assert client.users_list()["ok"]
    assert [refusal(client.auth_test) for _ in range(2)] == ["fatal_error"] * 2
    assert client.auth_test()["ok"]


def test_an_unknown_fault_is_refused(slack: Driver) -> None:
    with pytest.raises(ValueError, match="it is one of ratelimited"):
        slack.fault("auth.test", "gremlins")


def test_the_journal_holds_every_call_and_no_token(slack: Driver, client: WebClient) -> None:
    client.chat_postMessage(channel=SUPPORT, text="noted", unfurl_links=False)

    entry = slack.journal[-1]

    assert (entry["method"], entry["ok"], entry["error"]) == ("chat.postMessage", True, None)
    assert entry["args"] == {"channel": SUPPORT, "text": "noted", "unfurl_links": False}
    assert abs(entry["at"] - time.time()) < 10 and "xoxb" not in str(slack.journal)
