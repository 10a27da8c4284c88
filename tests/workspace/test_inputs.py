"""What stands in inputs travels with every click and submit, and survives an update of the view."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from slack_bolt import Ack
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient

from bot.workspace.refused import Refused
from bot.workspace.running import Driver, running_workspace
from tests.workspace.conftest import SUPPORT, bolt, client_of

Json = dict[str, Any]


def option(value: str) -> Json:
    return {"text": {"type": "plain_text", "text": value.title()}, "value": value}


def asks(block_id: str, element: Json) -> Json:
    label = {"type": "plain_text", "text": block_id.title()}
    return {"type": "input", "block_id": block_id, "label": label, "element": {"action_id": "in", **element}}


PRESETS = {"type": "static_select", "action_id": "preset", "options": [option("quick"), option("full")]}
SOURCES = {"type": "checkboxes", "action_id": "sources", "options": [option("ratings"), option("tickets")],
           "initial_options": [option("tickets")]}  # fmt: skip
CHECK = {"type": "button", "action_id": "check", "text": {"type": "plain_text", "text": "Estimate"}}
BLOCKS = [
    {"type": "actions", "block_id": "levers", "elements": [PRESETS, SOURCES, CHECK]},
    asks("epochs", {"type": "number_input", "is_decimal_allowed": False, "initial_value": "3"}),
    asks("note", {"type": "plain_text_input"}),
]


def modal(blocks: list[Json]) -> Json:
    title = {"type": "plain_text", "text": "Retrain"}
    return {"type": "modal", "callback_id": "recipe", "title": title, "submit": title, "blocks": blocks}


@pytest.fixture(scope="module")
def slack() -> Iterator[Driver]:
    with running_workspace(ack_timeout_s=1.0) as running:
        yield running


@pytest.fixture(scope="module")
def heard(slack: Driver) -> Iterator[list[Json]]:
    """A bot that opens the form for /retrain and writes down every payload."""
    heard: list[Json] = []
    app = bolt(slack)

    @app.command("/retrain")
    def retrain(ack: Ack, body: Json, client: WebClient) -> None:
        ack()
        client.views_open(trigger_id=body["trigger_id"], view=modal(BLOCKS))

    @app.action(re.compile(""))
    @app.view("recipe")
    def any_of_them(ack: Ack, body: Json) -> None:
        heard.append(body)
        ack()

    @app.event("message")
    def message() -> None:
        """Nothing to do."""

    handler = SocketModeHandler(app, slack.app_token)
    handler.connect()
    yield heard
    handler.close()


@pytest.fixture
def view(slack: Driver, heard: list[Json]) -> str:
    slack.command("U0INES", "/retrain", "", "C0OPS")
    shown = slack.wait_for(lambda: slack.view("U0INES"))
    assert shown
    return str(shown["id"])


def test_a_click_in_a_form_carries_what_is_typed_and_picked_so_far(slack: Driver, heard: list[Json], view: str) -> None:
    slack.click_in_view("U0INES", view, "preset", "full")
    slack.click_in_view("U0INES", view, "check", values={"note": {"in": {"value": "tonight"}}})

    picked, pressed = heard[-2], heard[-1]
    assert picked["actions"][0]["selected_option"] == option("full")
    values = pressed["view"]["state"]["values"]
    assert values["levers"]["preset"] == {"type": "static_select", "selected_option": option("full")}
    assert values["levers"]["sources"]["selected_options"] == [option("tickets")]
    assert values["epochs"]["in"] == {"type": "number_input", "value": "3"}
    assert values["note"]["in"] == {"type": "plain_text_input", "value": "tonight"}
    with pytest.raises(Refused, match="invalid_action"):
        slack.click_in_view("U0INES", view, "preset", "enormous")


def test_an_update_keeps_what_is_typed_where_the_input_is_still_there(
    slack: Driver, heard: list[Json], view: str
) -> None:
    slack.click_in_view(
        "U0INES", view, "check", values={"epochs": {"in": {"value": "5"}}, "note": {"in": {"value": "x"}}}
    )
    renamed = asks("note", {"type": "plain_text_input", "action_id": "other"})

    client_of(slack).views_update(view_id=view, view=modal([*BLOCKS[:2], renamed]))
    slack.submit("U0INES", view, {})

    values = heard[-1]["view"]["state"]["values"]
    assert values["epochs"]["in"]["value"] == "5" and values["note"] == {
        "other": {"type": "plain_text_input", "value": None}
    }


def test_a_pick_in_a_message_comes_with_the_next_button(slack: Driver, heard: list[Json]) -> None:
    better = {"type": "radio_buttons", "action_id": "better", "options": [option("a"), option("b")]}
    blocks = [{"type": "actions", "block_id": "card", "elements": [better, CHECK]}]
    ts = client_of(slack).chat_postMessage(channel=SUPPORT, text="Which?", blocks=blocks)["ts"]

    slack.click("U0ASHA", SUPPORT, ts, "better", "b")
    slack.click("U0ASHA", SUPPORT, ts, "check")
    slack.click("U0TOM", SUPPORT, ts, "check")

    picked = [body["state"]["values"]["card"]["better"]["selected_option"] for body in heard[-2:]]
    assert picked == [option("b"), None]


# Who is who


def test_a_stranger_and_another_bot_are_seen_for_what_they_are(slack: Driver, heard: list[Json]) -> None:
    client = client_of(slack)
    slack.add_user("U0EVE", "Eve", team_id="T0OTHER", is_stranger=True)
    slack.set_members("C0GENERAL", "U0EVE", "U0EVENKEEL", "U0OTHERBOT")
    slack.say("U0EVE", "C0GENERAL", "let me in")
    slack.say("U0OTHERBOT", "C0GENERAL", "<!subteam^S0AGENTS> beep")

    bots, eves = client.conversations_history(channel="C0GENERAL")["messages"][:2]

    assert (eves["user_team"], eves["source_team"], eves["team"]) == ("T0OTHER",) * 3
    assert (bots["user"], bots["bot_id"], bots["app_id"]) == ("U0OTHERBOT", "B0OTHERBOT", "A0OTHERBOT")
    assert "client_msg_id" not in bots and "user_team" not in bots
    user = client.users_info(user="U0EVE")["user"]
    assert (user["team_id"], user["is_stranger"]) == ("T0OTHER", True)
    assert client.users_info(user="U0OTHERBOT")["user"]["profile"]["bot_id"] == "B0OTHERBOT"
    assert client.conversations_info(channel="C0GENERAL")["channel"]["is_ext_shared"] is True
    blocks = [{"type": "actions", "elements": [CHECK]}]
    ts = client.chat_postMessage(channel="C0GENERAL", text="x", blocks=blocks)["ts"]
    slack.click("U0EVE", "C0GENERAL", ts, "check")
    assert heard[-1]["user"]["team_id"] == "T0OTHER"
