"""A real Bolt app over Socket Mode that changes nothing but its base_url: every kind of interaction."""

from collections.abc import Iterator
from typing import Any

import pytest
from slack_bolt import Ack, App, BoltRequest, Respond, Say
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient

from bot.workspace.refused import Refused
from bot.workspace.running import Driver, running_workspace
from tests.workspace.conftest import SUPPORT, bolt, client_of, manifest, refusal

Json = dict[str, Any]
TITLE = {"type": "plain_text", "text": "Form"}
FIELD = {"type": "plain_text_input", "action_id": "text", "multiline": True}
FORM: Json = {
    "type": "modal", "callback_id": "form", "title": TITLE, "submit": TITLE, "notify_on_close": True,
    "blocks": [{"type": "input", "block_id": "better", "label": TITLE, "element": FIELD}],
}  # fmt: skip
DONE: Json = {"type": "modal", "title": TITLE, "blocks": [{"type": "section", "text": TITLE}]}
BUTTONS: list[Json] = [
    {"type": "actions", "block_id": "acts", "elements": [
        {"type": "button", "action_id": "open", "value": "v", "text": {"type": "plain_text", "text": "Open"}},
        {"type": "static_select", "action_id": "choose", "options": [
            {"value": "a", "text": TITLE}, {"value": "b", "text": TITLE}]},
    ]},
    {"type": "context_actions", "block_id": "thumbs", "elements": [{
        "type": "feedback_buttons", "action_id": "thumb",
        "positive_button": {"text": {"type": "plain_text", "text": "Good"}, "value": "up"},
        "negative_button": {"text": {"type": "plain_text", "text": "Bad"}, "value": "down"}}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def slack() -> Iterator[Driver]:
    with running_workspace(ack_timeout_s=0.6, manifest=manifest()) as running:
        yield running


@pytest.fixture(scope="module")
def client(slack: Driver) -> WebClient:
    return client_of(slack)


@pytest.fixture(scope="module")
def heard(slack: Driver) -> Iterator[list[Json]]:
    """What the app heard, in order."""
    app, heard = bolt(slack), []
    listen(app, heard)
    handler = SocketModeHandler(app, slack.app_token)
    handler.connect()
    yield heard
    handler.close()


def listen(app: App, heard: list[Json]) -> None:
    @app.event("app_mention")
    def mention(event: Json, say: Say, request: BoltRequest) -> None:
        heard.append({**event, "retry": request.headers.get("x-slack-retry-num")})
        say(text="Here I am", thread_ts=event["ts"])

    @app.event("message")
    @app.event("reaction_added")
    def event(event: Json, request: BoltRequest) -> None:
        heard.append({**event, "retry": request.headers.get("x-slack-retry-num")})

    @app.event("app_home_opened")
    def home(event: Json, client: WebClient) -> None:
        client.views_publish(user_id=event["user"], view={"type": "home", "blocks": BUTTONS[:1]})

    @app.command("/retrain")
    def retrain(ack: Ack, command: Json, respond: Respond) -> None:
        if command["text"] == "sleep":
            return
        ack("On it." if command["text"] != "publicly" else {"text": "For all.", "response_type": "in_channel"})
        respond(f"Done by {command['user_name']} in {command['channel_name']}")

    @app.action("open")
    def opened(ack: Ack, body: Json, client: WebClient) -> None:
        ack()
        heard.append(body)
        client.views_open(trigger_id=body["trigger_id"], view=FORM)
        heard.append({"second": refusal(lambda: client.views_open(trigger_id=body["trigger_id"], view=FORM))})

    @app.action("thumb")
    def rated(ack: Ack, body: Json, respond: Respond) -> None:
        ack()
        heard.append(body)
        respond(text="Thank you", replace_original=body["actions"][0]["value"] == "down")

    @app.view("form")
    def sent(ack: Ack, view: Json) -> None:
        said = view["state"]["values"]["better"]["text"]["value"]
        answers: dict[str, Json] = {
            "wrong": {"response_action": "errors", "errors": {"better": "Say please."}},
            "another": {"response_action": "update", "view": DONE},
            "deeper": {"response_action": "push", "view": DONE},
            "clear": {"response_action": "clear"},
        }
        ack(**answers.get(said, {}))

    @app.view_closed("form")
    def closed(ack: Ack, view: Json) -> None:
        ack()
        heard.append({"closed": view["id"]})

    @app.shortcut("correct")
    def shortcut(ack: Ack, body: Json) -> None:
        ack()
        heard.append(body)


def test_a_mention_is_heard_and_answered_in_its_thread(slack: Driver, heard: list[Json]) -> None:
    ts = slack.say("U0MIA", SUPPORT, "@Evenkeel are you there?")

    said = slack.wait_for(lambda: slack.messages(SUPPORT, ts)[1:])

    assert [(m["user"], m["text"]) for m in said] == [("U0EVENKEEL", "Here I am")]
    assert [e["retry"] for e in heard if e.get("ts") == ts and "retry" in e] == [["0"]] * 2


def test_a_redelivery_says_which_try_it_is(slack: Driver, heard: list[Json]) -> None:
    slack.drop_acks(2)
    slack.say("U0MIA", SUPPORT, "@Evenkeel once more")

    slack.wait_for(lambda: ["1"] in [event.get("retry") for event in heard])


def test_a_reaction_is_heard_with_its_author(slack: Driver, client: WebClient, heard: list[Json]) -> None:
    ts = client.chat_postMessage(channel=SUPPORT, text="rate me")["ts"]
    slack.react("U0ASHA", SUPPORT, ts, "thumbsup::skin-tone-3")

    event = slack.wait_for(lambda: [e for e in heard if e.get("type") == "reaction_added"])[-1]

    assert (event["user"], event["item_user"], event["item"]["ts"]) == ("U0ASHA", "U0EVENKEEL", ts)
    assert event["reaction"] == "thumbsup::skin-tone-3"


def test_a_command_is_answered_at_once_and_again_later(slack: Driver, heard: list[Json]) -> None:
    assert slack.command("U0INES", "/retrain", "lr=1e-3", "C0OPS") == {"text": "On it."}

    slack.wait_for(lambda: {note["text"] for note in slack.ephemerals("U0INES")} == {"On it.", "Done by ines in ops"})


def test_a_commands_answer_can_be_for_all(slack: Driver, heard: list[Json]) -> None:
    slack.command("U0INES", "/retrain", "publicly", "C0OPS")

    assert slack.messages("C0OPS")[-1]["text"] == "For all."


def test_a_command_that_nobody_acks_is_said_to_have_failed(slack: Driver, heard: list[Json]) -> None:
    assert slack.command("U0TOM", "/retrain", "sleep", "C0OPS") is None

    assert "operation_timeout" in slack.ephemerals("U0TOM")[-1]["text"]
    with pytest.raises(Refused, match="invalid_command"):
        slack.command("U0TOM", "/dance", "", "C0OPS")


def test_a_click_opens_one_modal_with_one_trigger(slack: Driver, client: WebClient, heard: list[Json]) -> None:
    ts = client.chat_postMessage(channel=SUPPORT, text="x", blocks=BUTTONS)["ts"]

    assert slack.click("U0ASHA", SUPPORT, ts, "open")

    slack.wait_for(lambda: heard[-1] == {"second": "expired_trigger_id"})
    body = heard[-2]
    assert body["container"] == {"type": "message", "message_ts": ts, "channel_id": SUPPORT, "is_ephemeral": False}
    assert (body["actions"][0]["value"], body["actions"][0]["block_id"]) == ("v", "acts")
    assert body["message"]["text"] == "x" and slack.view("U0ASHA")["callback_id"] == "form"


@pytest.fixture
def form(slack: Driver, client: WebClient, heard: list[Json]) -> str:
    """An open form of Tom's."""
    ts = client.chat_postMessage(channel=SUPPORT, text="x", blocks=BUTTONS)["ts"]
    slack.click("U0TOM", SUPPORT, ts, "open")
    view = slack.wait_for(lambda: slack.view("U0TOM"))
    assert view
    return str(view["id"])


def values(text: str) -> Json:
    return {"better": {"text": {"type": "plain_text_input", "value": text}}}


def test_a_form_with_errors_stays_and_a_good_one_closes(slack: Driver, form: str) -> None:
    assert slack.submit("U0TOM", form, values("wrong")) == {"errors": {"better": "Say please."}}
    assert slack.view("U0TOM")

    assert slack.submit("U0TOM", form, values("fine")) == {} and slack.view("U0TOM") is None


def test_a_form_can_turn_into_another(slack: Driver, form: str) -> None:
    assert slack.submit("U0TOM", form, values("another"))["view"]["blocks"][0]["text"] == TITLE

    view = slack.view("U0TOM")
    assert view and view["id"] == form
    slack.close("U0TOM", form)


def test_a_form_can_lie_on_another_and_all_can_be_cleared(slack: Driver, form: str) -> None:
    above = slack.submit("U0TOM", form, values("deeper"))["view"]
    assert above["previous_view_id"] == form
    slack.close("U0TOM", above["id"])
    assert slack.view("U0TOM")["id"] == form
    slack.submit("U0TOM", form, values("deeper"))

    slack.submit("U0TOM", form, values("clear"))

    assert slack.view("U0TOM") is None


def test_a_form_that_is_closed_is_told(slack: Driver, heard: list[Json], form: str) -> None:
    slack.close("U0TOM", form)

    assert heard[-1] == {"closed": form} and slack.view("U0TOM") is None
    with pytest.raises(Refused, match="not_found"):
        slack.submit("U0TOM", form, values("too late"))


@pytest.mark.parametrize("value", ["up", "down"])
def test_a_thumb_button_carries_its_side_and_the_app_answers(
    slack: Driver, client: WebClient, heard: list[Json], value: str
) -> None:
    ts = client.chat_postMessage(channel=SUPPORT, text="x", blocks=BUTTONS)["ts"]

    slack.click("U0JONAS", SUPPORT, ts, "thumb", value)

    if value == "up":
        slack.wait_for(lambda: [note["text"] for note in slack.ephemerals("U0JONAS")] == ["Thank you"])
    else:
        slack.wait_for(lambda: [m["text"] for m in slack.messages(SUPPORT) if m["ts"] == ts] == ["Thank you"])
    assert heard[-1]["actions"][0]["value"] == value and heard[-1]["actions"][0]["action_ts"]


def test_what_is_not_there_cannot_be_clicked(slack: Driver, client: WebClient) -> None:
    ts = client.chat_postMessage(channel=SUPPORT, text="x", blocks=BUTTONS)["ts"]

    with pytest.raises(Refused, match="invalid_action"):
        slack.click("U0JONAS", SUPPORT, ts, "nothing")


def test_a_message_shortcut_carries_its_message(slack: Driver, heard: list[Json]) -> None:
    ts = slack.say("U0MIA", "C0GENERAL", "wrong answer")

    assert slack.shortcut("U0ASHA", "C0GENERAL", ts, "correct")

    assert (heard[-1]["type"], heard[-1]["message"]["text"]) == ("message_action", "wrong answer")
    with pytest.raises(Refused, match="invalid_shortcut"):
        slack.shortcut("U0ASHA", "C0GENERAL", ts, "unheard_of")


def test_a_home_that_is_opened_is_drawn_and_its_buttons_work(slack: Driver, heard: list[Json]) -> None:
    slack.open_home("U0MIA")
    home = slack.wait_for(lambda: slack.home("U0MIA"))

    assert home and slack.click_in_view("U0MIA", home["id"], "open")

    slack.wait_for(lambda: slack.view("U0MIA"))
    assert [b for b in heard if b.get("container") == {"type": "view", "view_id": home["id"]}]


def test_a_client_that_is_sent_away_comes_back(slack: Driver, heard: list[Json]) -> None:
    slack.disconnect("refresh_requested")
    ts = slack.say("U0MIA", "C0GENERAL", "still there?")

    slack.wait_for(lambda: ts in [event.get("ts") for event in heard])

    assert slack.connections == 1


def test_an_unanswered_click_is_noticed() -> None:
    with running_workspace(ack_timeout_s=0.1) as slack:
        ts = client_of(slack).chat_postMessage(channel=SUPPORT, text="x", blocks=BUTTONS)["ts"]

        assert slack.click("U0MIA", SUPPORT, ts, "open") is False
