"""Envelopes: one of N gets each, what is not acked comes again, what nobody could take waits."""

from collections.abc import Callable, Iterator

import pytest
from slack_sdk import WebClient
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from bot.workspace.running import Driver, running_workspace
from tests.workspace.conftest import SUPPORT, ack, hear, silent, socket_url

Plug = Callable[[], ClientConnection]


@pytest.fixture(scope="module")
def running() -> Iterator[Driver]:
    with running_workspace(ack_timeout_s=0.2) as slack:
        yield slack


@pytest.fixture
def slack(running: Driver) -> Iterator[Driver]:
    yield running
    running.forget_undelivered()
    running.wait_for(lambda: running.connections == 0)


def test_a_mention_arrives_as_message_and_as_app_mention_with_one_ts(slack: Driver, plug: Plug) -> None:
    socket = plug()
    ts = slack.say("U0MIA", SUPPORT, "@Evenkeel hello")

    envelopes = [hear(socket), hear(socket)]

    events = [each["payload"]["event"] for each in envelopes]
    assert {event["type"] for event in events} == {"message", "app_mention"}
    assert {event["ts"] for event in events} == {ts} and {event["text"] for event in events} == {"<@U0EVENKEEL> hello"}
    assert len({each["payload"]["event_id"] for each in envelopes}) == 2
    assert events[0]["channel_type"] == "channel" and events[0]["client_msg_id"]
    assert {(each["type"], each["accepts_response_payload"]) for each in envelopes} == {("events_api", False)}


def test_a_direct_message_is_no_mention(slack: Driver, plug: Plug) -> None:
    socket = plug()
    slack.say("U0MIA", slack.dm("U0MIA"), "@Evenkeel hello")

    event = hear(socket)["payload"]["event"]

    assert (event["type"], event["channel_type"]) == ("message", "im")
    assert hear(socket)["retry_attempt"] == 1  # and nothing else before it


def test_what_is_not_acked_comes_again_three_times_and_then_no_more(slack: Driver, plug: Plug) -> None:
    socket = plug()
    slack.say("U0MIA", SUPPORT, "hello")

    tries = [hear(socket) for _ in range(4)]

    assert [(each["retry_attempt"], each["retry_reason"]) for each in tries] == [
        (0, ""), (1, "timeout"), (2, "timeout"), (3, "timeout"),
    ]  # fmt: skip
    assert len({each["payload"]["event_id"] for each in tries}) == 1
    assert silent(socket, 0.35)


def test_an_ack_that_got_lost_means_once_more(slack: Driver, plug: Plug) -> None:
    socket = plug()
    slack.drop_acks(1)
    slack.say("U0MIA", SUPPORT, "hello")
    ack(socket, hear(socket))

    again = hear(socket)
    ack(socket, again)

    assert again["retry_attempt"] == 1 and silent(socket, 0.35)


def test_each_envelope_goes_to_one_connection_in_turn(slack: Driver, plug: Plug) -> None:
    sockets = [plug(), plug(), plug()]
    for number in range(3):
        slack.say("U0MIA", SUPPORT, f"{number}")

    heard = []
    for socket in sockets:
        envelope = hear(socket)
        ack(socket, envelope)
        heard.append(envelope["payload"]["event"]["text"])

    assert sorted(heard) == ["0", "1", "2"] and all(silent(socket, 0.05) for socket in sockets)


def test_events_wait_while_nobody_is_connected(slack: Driver, plug: Plug) -> None:
    ts = slack.say("U0MIA", SUPPORT, "is anybody there?")

    envelope = hear(plug())

    assert envelope["payload"]["event"]["ts"] == ts and envelope["retry_attempt"] == 0


@pytest.mark.parametrize("reason", ["warning", "refresh_requested", "link_disabled"])
def test_a_disconnect_is_said_before_it_happens(slack: Driver, plug: Plug, reason: str) -> None:
    socket = plug()

    slack.disconnect(reason)

    assert hear(socket)["reason"] == reason
    with pytest.raises(ConnectionClosed):
        socket.recv(2)
    assert slack.connections == 0


def test_a_connection_that_broke_gives_its_envelope_to_another(slack: Driver, plug: Plug) -> None:
    gone, there = plug(), plug()
    slack.say("U0MIA", SUPPORT, "hello")
    first = hear(gone)
    gone.close()

    again = hear(there)

    assert again["payload"]["event_id"] == first["payload"]["event_id"] and again["retry_attempt"] == 1


def test_a_ticket_opens_one_connection_only(slack: Driver) -> None:
    url = socket_url(slack)

    with connect(url) as first, pytest.raises(InvalidStatus):
        assert hear(first)["num_connections"] == 1
        connect(url)


def test_the_eleventh_connection_is_sent_away(slack: Driver, plug: Plug) -> None:
    for _ in range(10):
        plug()

    with connect(socket_url(slack)) as eleventh:
        assert hear(eleventh)["reason"] == "too_many_websockets"


def test_noise_on_the_line_harms_nothing(slack: Driver, plug: Plug) -> None:
    socket = plug()
    for noise in ("", "not json", "[]", "{}", '{"envelope_id": 7}', '{"envelope_id": "unknown"}'):
        socket.send(noise)
    slack.say("U0MIA", SUPPORT, "still here?")

    assert hear(socket)["payload"]["event"]["text"] == "still here?"


def test_edits_deletions_replies_and_reactions_are_events(slack: Driver, plug: Plug) -> None:
    socket = plug()

    def event() -> dict[str, object]:
        envelope = hear(socket)
        ack(socket, envelope)
        found: dict[str, object] = envelope["payload"]["event"]
        return found

    ts = slack.say("U0MIA", SUPPORT, "one")
    assert event()["ts"] == ts
    slack.edit("U0MIA", SUPPORT, ts, "two")
    changed = event()
    assert changed["subtype"] == "message_changed" and changed["message"]["text"] == "two"
    assert changed["previous_message"]["text"] == "one"
    reply = slack.say("U0TOM", SUPPORT, "a reply", thread_ts=ts)
    assert event()["thread_ts"] == ts
    parent = event()
    assert (parent["subtype"], parent["message"]["reply_count"]) == ("message_changed", 1)
    slack.react("U0ASHA", SUPPORT, ts, "+1")
    added = event()
    assert (added["type"], added["item_user"], added["reaction"]) == ("reaction_added", "U0MIA", "+1")
    slack.unreact("U0ASHA", SUPPORT, ts, "+1")
    removed = event()
    assert removed["type"] == "reaction_removed" and str(removed["event_ts"]) > str(added["event_ts"])
    slack.delete(SUPPORT, reply)
    assert event()["deleted_ts"] == reply


def test_the_app_hears_nothing_of_a_channel_that_it_is_not_in(slack: Driver, plug: Plug) -> None:
    socket = plug()
    slack.set_members("C0GENERAL", "U0MIA")

    slack.say("U0MIA", "C0GENERAL", "@Evenkeel hello")

    assert silent(socket)


def test_the_bots_own_messages_are_events_too(slack: Driver, plug: Plug, client: WebClient) -> None:
    socket = plug()
    client.chat_postMessage(channel=SUPPORT, text="<@U0EVENKEEL> speaks")

    event = hear(socket)["payload"]["event"]

    assert (event["type"], event["user"], event["bot_id"]) == ("message", "U0EVENKEEL", "B0EVENKEEL")
