"""Payloads of odd shapes are told from Slack's own before anybody reads them, whatever is odd and wherever."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_bolt import BoltRequest

from bot.arrivals import sort
from bot.shapes import drop_strange, strange
from bot.slack import Me
from tests.bot.test_intake import Threads

ME = Me(team="T0DEMO", user="U0EVENKEEL", bot_id="B0EVENKEEL")
MESSAGE = {
    "type": "message", "user": "U0MIA", "text": "<@U0EVENKEEL> hi", "channel": "C0SUPPORT", "channel_type": "channel",
    "ts": "100.000001", "event_ts": "100.000001", "team": "T0DEMO", "client_msg_id": "x", "files": [{"id": "F1"}],
}  # fmt: skip
OUTER = {
    "token": "x", "team_id": "T0DEMO", "context_team_id": "T0DEMO", "context_enterprise_id": None,
    "api_app_id": "A0EVENKEEL", "type": "event_callback", "event_id": "Ev1", "event_time": 1,
    "authorizations": [{"enterprise_id": None, "team_id": "T0DEMO", "user_id": "U0EVENKEEL", "is_bot": True}],
    "is_ext_shared_channel": False, "event_context": "4-x",
}  # fmt: skip
REACTION = {
    "type": "reaction_added", "user": "U0ASHA", "reaction": "thumbsup", "item_user": "U0EVENKEEL", "event_ts": "1.000001",
    "item": {"type": "message", "channel": "C0SUPPORT", "ts": "1.000001"},
}  # fmt: skip
CHANGED = {
    "type": "message", "subtype": "message_changed", "hidden": True, "channel": "C0SUPPORT", "channel_type": "channel",
    "ts": "1.000002", "message": {**MESSAGE, "edited": {"user": "U0MIA", "ts": "1.000002"}}, "previous_message": MESSAGE,
}  # fmt: skip
CLICK = {
    "type": "block_actions", "user": {"id": "U0MIA", "team_id": "T0DEMO"}, "team": {"id": "T0DEMO", "domain": "x"},
    "enterprise": None, "is_enterprise_install": False, "trigger_id": "1.2.3", "response_url": "https://hooks.slack.com/x",
    "container": {"type": "message", "message_ts": "1.000001", "channel_id": "C0SUPPORT"},
    "channel": {"id": "C0SUPPORT", "name": "support"}, "message": MESSAGE, "state": {"values": {}},
    "actions": [{"action_id": "evenkeel_feedback", "block_id": "b", "type": "button", "value": "up", "action_ts": "1.1"}],
}  # fmt: skip
FORM = {
    "type": "view_submission", "user": {"id": "U0ASHA", "team_id": "T0DEMO"}, "team": {"id": "T0DEMO"},
    "trigger_id": "1.2.3", "response_urls": [],
    "view": {
        "id": "V1", "type": "modal", "callback_id": "x", "private_metadata": "1 C", "team_id": "T0DEMO", "external_id": "",
        "state": {"values": {"answer": {"answer": {"type": "plain_text_input", "value": None}}}},
        "root_view_id": "V1", "previous_view_id": None, "bot_id": "B1", "app_id": "A1",
    },
}  # fmt: skip
COMMAND = {"command": "/retrain", "text": "", "user_id": "U0INES", "channel_id": "C0OPS", "team_id": "T0DEMO"}
GOOD: list[dict[str, Any]] = [
    *({**OUTER, "event": event} for event in (MESSAGE, REACTION, CHANGED, {**MESSAGE, "text": "a\nb \u202e \ud83d"})),
    {**OUTER, "event": {"type": "channel_rename", "channel": {"id": "C1", "name": "x"}}},
    {**OUTER, "event": {"type": "team_join", "user": {"id": "U1", "profile": {}}}},
    {**OUTER, "event": {**REACTION, "reaction": "größe::skin-tone-2"}},
    {**OUTER, "event": MESSAGE, "authorizations": [], "is_ext_shared_channel": True},
    CLICK, FORM, COMMAND, {"type": "app_rate_limited"}, {"type": "url_verification", "challenge": "x"}, {"ssl_check": "1"},
]  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "x", "\ud83d", "a\x00b", "message", "T0DEMO"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "user", "type", "ts"]), inner),
    max_leaves=6,
)


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for name, each in inner for path in ((*here, name), *places(each, (*here, name)))]


def read(payload: dict[str, Any]) -> None:
    """As Bolt and the intake read it; raises where they would."""
    BoltRequest(body=payload, mode="socket_mode")
    sort(payload, ME, Threads())


@pytest.mark.parametrize("payload", GOOD)
def test_what_slack_sends_is_not_odd(payload: dict[str, Any]) -> None:
    assert strange(payload) is None


@given(payload=st.sampled_from(GOOD), value=json_values, data=st.data())
def test_one_odd_value_anywhere_is_either_told_or_harmless(payload: dict[str, Any], value: Any, data: Any) -> None:
    broken = copy.deepcopy(payload)
    path = data.draw(st.sampled_from(places(payload)))
    inner: Any = broken
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value

    if strange(broken) is None:
        read(broken)


def test_response_urls_that_bolt_would_count_in_vain_are_told() -> None:
    assert strange({**FORM, "response_urls": None}) == "response_urls"


@given(json_values)
def test_any_json_gets_an_answer(value: Any) -> None:
    assert strange(value) is None or isinstance(strange(value), str)


class Client:
    """The one method of the socket's client that is called."""

    def __init__(self) -> None:
        self.acked: list[str] = []

    def send_socket_mode_response(self, response: Any) -> None:
        self.acked.append(response.envelope_id)


def test_an_odd_envelope_is_acked_and_emptied_and_a_good_one_is_left_alone() -> None:
    client: Any = Client()
    odd = {"envelope_id": "e1", "type": "events_api", "payload": {**OUTER, "event": {**MESSAGE, "user": 5}}}
    good = {"envelope_id": "e2", "type": "events_api", "payload": {**OUTER, "event": MESSAGE}}
    for message in (odd, good, {"type": "hello"}):
        drop_strange(client, message)

    assert client.acked == ["e1"] and "payload" not in odd and good["payload"]["event"] == MESSAGE
