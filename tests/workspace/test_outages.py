"""Lines that die in silence, events that never come, limits on how often, and what can be read back afterwards."""

from collections.abc import Callable, Iterator

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from websockets.sync.client import ClientConnection

from bot.workspace.running import Driver, running_workspace
from tests.workspace.conftest import OPS, SUPPORT, ack, client_of, hear, refusal, silent

Plug = Callable[[], ClientConnection]


@pytest.fixture(scope="module")
def running() -> Iterator[Driver]:
    with running_workspace(ack_timeout_s=0.2) as slack:
        yield slack


@pytest.fixture
def slack(running: Driver) -> Iterator[Driver]:
    yield running
    running.silence(False)
    running.tiers(False)
    running.forget_undelivered()
    running.wait_for(lambda: running.connections == 0)


@pytest.fixture
def client(slack: Driver) -> WebClient:
    return client_of(slack)


# A dead line


def test_what_is_sent_into_the_silence_comes_again_on_a_new_line(slack: Driver, plug: Plug) -> None:
    dead = plug()
    slack.silence(True)
    assert slack.connections == 0
    ts = slack.say("U0MIA", SUPPORT, "is anybody there?")
    assert silent(dead, 0.5)  # lost once; the second try waits for a line that speaks

    alive = plug()
    envelope = hear(alive)
    ack(alive, envelope)

    assert envelope["payload"]["event"]["ts"] == ts and envelope["retry_attempt"] == 1
    later = slack.say("U0MIA", SUPPORT, "and now?")
    heard = hear(alive)
    ack(alive, heard)
    assert heard["payload"]["event"]["ts"] == later and heard["retry_attempt"] == 0 and silent(dead, 0.05)
    slack.silence(False)


def test_a_silent_line_answers_no_ping_and_works_again_when_it_is_healed(slack: Driver, plug: Plug) -> None:
    line = plug()
    slack.silence(True)
    pong = line.ping()
    assert not pong.wait(0.3)

    slack.silence(False)

    assert pong.wait(2)
    ts = slack.say("U0MIA", SUPPORT, "hello again")
    assert hear(line)["payload"]["event"]["ts"] == ts


# An outage


def test_events_of_an_outage_never_come(slack: Driver, plug: Plug) -> None:
    socket = plug()
    with slack.deaf_period():
        missed = slack.say("U0MIA", SUPPORT, "lost")
        slack.react("U0ASHA", SUPPORT, missed, "+1")
        slack.open_home("U0MIA")
    ts = slack.say("U0MIA", SUPPORT, "after")

    heard = hear(socket)
    ack(socket, heard)

    assert heard["payload"]["event"]["ts"] == ts and silent(socket)


def test_events_can_come_late_and_the_wrong_way_round(slack: Driver, plug: Plug) -> None:
    socket = plug()
    with slack.pause_delivery(newest_first=True):
        first = slack.say("U0MIA", SUPPORT, "first")
        second = slack.say("U0MIA", SUPPORT, "second")
        assert silent(socket, 0.05)

    heard = [hear(socket), hear(socket)]
    for envelope in heard:
        ack(socket, envelope)

    assert [each["payload"]["event"]["ts"] for each in heard] == [second, first]


def test_what_was_missed_can_be_read_back(slack: Driver, client: WebClient) -> None:
    root = slack.say("U0MIA", SUPPORT, "question")
    reply = slack.say("U0TOM", SUPPORT, "answer", thread_ts=root)
    slack.react("U0ASHA", SUPPORT, reply, "+1")
    gone = slack.say("U0JONAS", SUPPORT, "gone", thread_ts=root)
    slack.delete(SUPPORT, gone)

    thread = client.conversations_replies(channel=SUPPORT, ts=root)["messages"]
    newest = client.conversations_history(channel=SUPPORT, limit=1)["messages"][0]
    reactions = client.reactions_get(channel=SUPPORT, timestamp=reply, full=True)["message"]["reactions"]

    assert thread[1]["reactions"] == reactions == [{"name": "+1", "users": ["U0ASHA"], "count": 1}]
    assert (newest["ts"], newest["reply_count"], newest["latest_reply"]) == (root, 1, reply)
    assert newest["reply_users"] == ["U0TOM"]
    direct = slack.dm("U0JONAS")
    ts = slack.say("U0JONAS", direct, "between us")
    assert [m["ts"] for m in client.conversations_history(channel=direct)["messages"]] == [ts]


def test_many_reactions_are_cut_unless_all_are_asked_for(slack: Driver, client: WebClient) -> None:
    ts = slack.say("U0MIA", SUPPORT, "popular")
    fans = [f"U0FAN{number}" for number in range(60)]
    for fan in fans:
        slack.add_user(fan, fan)
    slack.set_members(SUPPORT, *fans, "U0MIA", "U0EVENKEEL", "U0ASHA", "U0TOM", "U0JONAS")
    for fan in fans:
        slack.react(fan, SUPPORT, ts, "tada")

    cut = client.reactions_get(channel=SUPPORT, timestamp=ts)["message"]["reactions"][0]
    whole = client.reactions_get(channel=SUPPORT, timestamp=ts, full=True)["message"]["reactions"][0]

    assert (cut["count"], len(cut["users"])) == (60, 50) and whole["users"] == fans


def test_the_app_finds_the_channels_that_it_is_in(slack: Driver, client: WebClient) -> None:
    slack.set_members("C0GENERAL", "U0MIA")
    slack.set_members(SUPPORT, "U0MIA", "U0EVENKEEL")
    found = client.users_conversations(types="public_channel,im")["channels"]
    with_ines = client.users_conversations(user="U0INES")["channels"]

    assert {c["id"] for c in found if c["id"][0] == "C"} == {SUPPORT, OPS}
    assert {c["id"] for c in with_ines} == {OPS}  # she is in neither of the others
    assert refusal(lambda: client.users_conversations(user="U0NOBODY")) == "user_not_found"


# How often


def test_with_tiers_the_fifty_first_update_in_a_minute_waits(slack: Driver, client: WebClient) -> None:
    ts = client.chat_postMessage(channel=OPS, text="0")["ts"]
    slack.tiers(True)
    for number in range(50):
        client.chat_update(channel=OPS, ts=ts, text=f"{number}")

    with pytest.raises(SlackApiError) as caught:
        client.chat_update(channel=OPS, ts=ts, text="too soon")

    assert caught.value.response.status_code == 429 and int(caught.value.response.headers["Retry-After"]) > 50
    assert slack.messages(OPS)[-1]["text"] == "49" and slack.calls("chat.update")[-1]["error"] == "ratelimited"
    slack.tiers(False)
    client.chat_update(channel=OPS, ts=ts, text="free again")


def test_with_tiers_a_channel_takes_a_small_burst_and_then_one_a_second() -> None:
    with running_workspace(tiers=True) as slack:
        client = client_of(slack)
        for number in range(5):
            client.chat_postMessage(channel=OPS, text=f"{number}")

        with pytest.raises(SlackApiError) as caught:
            client.chat_postMessage(channel=OPS, text="too soon")

        assert 1 <= int(caught.value.response.headers["Retry-After"]) <= 5
        client.chat_postMessage(channel=SUPPORT, text="another channel has its own")
