"""Streams and agent sessions: who may feed them, when they die, and the person's Stop."""

from collections.abc import Callable, Iterator

import pytest
from slack_sdk import WebClient
from websockets.sync.client import ClientConnection

from bot.workspace.refused import Refused
from bot.workspace.running import Driver, running_workspace
from tests.workspace.conftest import SUPPORT, ack, client_of, hear, manifest, refusal

FOR_MIA = {"recipient_user_id": "U0MIA", "recipient_team_id": "T0DEMO"}


@pytest.fixture(scope="module")
def running() -> Iterator[Driver]:
    whole = manifest()
    whole["settings"]["event_subscriptions"]["bot_events"] = ["agent_session_stopped"]
    with running_workspace(manifest=whole) as slack:
        yield slack


@pytest.fixture
def slack(running: Driver) -> Driver:
    running.set_stream_life(300)
    running.tiers(False)
    return running


@pytest.fixture
def client(slack: Driver) -> WebClient:
    return client_of(slack)


@pytest.fixture
def root(slack: Driver) -> str:
    return slack.say("U0MIA", SUPPORT, "tell me")


def start(client: WebClient, root: str) -> str:
    return str(client.chat_startStream(channel=SUPPORT, thread_ts=root, markdown_text="Hel", **FOR_MIA)["ts"])


def test_a_living_stream_refuses_an_update_and_a_dead_one_is_healed_by_it(
    slack: Driver, client: WebClient, root: str
) -> None:
    ts = start(client, root)
    assert refusal(lambda: client.chat_update(channel=SUPPORT, ts=ts, text="whole")) == "streaming_state_conflict"

    slack.set_stream_life(0)
    for call in (client.chat_appendStream, client.chat_stopStream):
        code = refusal(lambda call=call: call(channel=SUPPORT, ts=ts, markdown_text="lo"))
        assert code == "message_not_in_streaming_state"
    client.chat_update(channel=SUPPORT, ts=ts, text="whole")

    assert slack.messages(SUPPORT, root)[-1]["text"] == "whole"
    slack.set_stream_life(300)
    code = refusal(lambda: client.chat_appendStream(channel=SUPPORT, ts=ts, markdown_text="lo"))
    assert code == "message_not_in_streaming_state"


@pytest.mark.parametrize("missing", ["recipient_user_id", "recipient_team_id", "thread_ts"])
def test_a_stream_in_a_channel_says_for_whom_and_in_which_thread(client: WebClient, root: str, missing: str) -> None:
    given = {"channel": SUPPORT, "thread_ts": root, **FOR_MIA}
    del given[missing]

    code = refusal(lambda: client.api_call("chat.startStream", json=given))

    assert code == ("invalid_arguments" if missing == "thread_ts" else f"missing_{missing}")


def test_the_twenty_first_start_in_a_minute_waits(client: WebClient, root: str) -> None:
    codes = {start(client, root) for _ in range(20)}

    reply = client.api_call  # the refusal carries the time to wait
    with pytest.raises(Exception) as caught:  # noqa: PT011  the SDK's error, read below
        reply("chat.startStream", json={"channel": SUPPORT, "thread_ts": root, **FOR_MIA})

    response = caught.value.response  # type: ignore[attr-defined]
    assert len(codes) == 20 and (response.status_code, response["error"]) == (429, "ratelimited")
    assert 50 <= int(response.headers["Retry-After"]) <= 60


def test_a_stream_makes_its_thread_a_session_until_it_stops(slack: Driver, client: WebClient, root: str) -> None:
    ts = start(client, root)
    assert slack.thread(SUPPORT, root)["session"] == "processing"

    client.chat_stopStream(channel=SUPPORT, ts=ts, session_status="suspended")

    assert slack.thread(SUPPORT, root)["session"] == "suspended"
    other = start(client, root)
    wrong = refusal(lambda: client.chat_stopStream(channel=SUPPORT, ts=other, session_status="asleep"))
    assert wrong == "invalid_status" and slack.thread(SUPPORT, root)["session"] == "processing"


def test_stop_ends_the_streams_tells_the_app_and_is_gone(
    slack: Driver, client: WebClient, root: str, plug: Callable[[], ClientConnection]
) -> None:
    socket = plug()
    ts = start(client, root)

    slack.stop("U0MIA", SUPPORT, root)

    envelope = hear(socket)
    ack(socket, envelope)
    event = envelope["payload"]["event"]
    assert (event["type"], event["thread_ts"], event["user"]) == ("agent_session_stopped", root, "U0MIA")
    assert event["streaming_message_ts"] == [ts] and event["channel"] == SUPPORT
    for call in (client.chat_appendStream, client.chat_stopStream):
        code = refusal(lambda call=call: call(channel=SUPPORT, ts=ts, markdown_text="lo"))
        assert code == "stopped_by_user"
    client.chat_update(channel=SUPPORT, ts=ts, text="Stopped.")
    with pytest.raises(Refused, match="not_processing"):
        slack.stop("U0MIA", SUPPORT, root)


def test_stop_without_a_stream_is_for_a_session_that_is_processing(
    slack: Driver, client: WebClient, root: str, plug: Callable[[], ClientConnection]
) -> None:
    socket = plug()
    at = {"channel_id": SUPPORT, "thread_ts": root}
    with pytest.raises(Refused, match="not_processing"):
        slack.stop("U0MIA", SUPPORT, root)

    client.agents_sessions_setStatus(status="processing", title="Password", **at)
    client.chat_postMessage(channel=SUPPORT, thread_ts=root, text="One moment")
    slack.stop("U0MIA", SUPPORT, root)

    envelope = hear(socket)
    ack(socket, envelope)
    assert envelope["payload"]["event"]["streaming_message_ts"] == []
    client.agents_sessions_setStatus(status="active", **at)
    client.api_call("agents.sessions.rename", json={**at, "title": "Password reset"})
    known = slack.thread(SUPPORT, root)
    assert (known["session"], known["title"], known["status"]) == ("active", "Password reset", "")
    too_long = refusal(lambda: client.agents_sessions_setStatus(status="active", title="x" * 201, **at))
    assert too_long == "invalid_arguments"
