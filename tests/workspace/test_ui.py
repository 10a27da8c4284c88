"""What the page gets and does, and whose eyes it is for."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from slack_sdk import WebClient
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from bot.workspace.running import Driver, running_workspace
from tests.workspace.conftest import SUPPORT, client_of, hear, silent

Json = dict[str, Any]


@pytest.fixture(scope="module")
def slack() -> Iterator[Driver]:
    with running_workspace(ack_timeout_s=0.1) as running:
        yield running


@pytest.fixture(scope="module")
def client(slack: Driver) -> WebClient:
    return client_of(slack)


def ask(slack: Driver, path: str, body: Json | bytes | None = None, **headers: str) -> tuple[int, Any]:
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    request = urllib.request.Request(slack.url + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode()
            return error.code, json.loads(text) if text.startswith("{") else text


@contextmanager
def page_of(slack: Driver, user: str) -> Iterator[ClientConnection]:
    with connect(f"{slack.url.replace('http', 'ws')}ui/ws?user={user}") as socket:
        yield socket


def test_a_page_starts_with_everything_that_its_user_may_see(slack: Driver) -> None:
    slack.say("U0MIA", slack.dm("U0MIA"), "between us")
    ts = slack.say("U0MIA", SUPPORT, "for all")

    _, mias = ask(slack, "ui/api/boot?user=U0MIA")
    _, toms = ask(slack, "ui/api/boot?user=U0TOM")

    assert {u["id"]: u["role"] for u in mias["users"]} == {
        "U0MIA": "customer", "U0JONAS": "customer", "U0ASHA": "agent", "U0TOM": "agent", "U0INES": "admin",
        "U0EVENKEEL": "bot", "U0OTHERBOT": "bot",
    }  # fmt: skip
    assert [c["name"] for c in mias["channels"] if c["kind"] == "channel"] == ["support", "ops", "general"]
    assert "between us" in str(mias["messages"]) and "between us" not in str(toms)
    assert toms["messages"][SUPPORT][-1]["ts"] == ts and {c["command"] for c in toms["commands"]} == {
        "/retrain",
        "/model",
        "/review",
    }
    assert ask(slack, "ui/api/boot?user=U0NOBODY")[0] == 404


def test_what_happens_is_pushed_to_those_who_may_see_it(slack: Driver, client: WebClient) -> None:
    with page_of(slack, "U0TOM") as toms, page_of(slack, "U0JONAS") as other:
        slack.wait_for(lambda: slack.pages == 2)
        client.chat_postEphemeral(channel=SUPPORT, user="U0TOM", text="psst")
        assert hear(toms)["type"] == "ephemeral"
        direct = client.chat_postMessage(channel="U0TOM", text="hello")
        assert hear(toms)["channel"] == direct["channel"]
        client.views_publish(user_id="U0TOM", view={"type": "home", "blocks": []})
        assert hear(toms)["type"] == "home"
        assert silent(other, 0.05)

        ts = client.chat_postMessage(channel=SUPPORT, text="one", metadata={"event_type": "x", "event_payload": {}})[
            "ts"
        ]
        pushed = hear(other)
        assert (pushed["type"], pushed["message"]["text"], pushed["message"]["channel"]) == ("message", "one", SUPPORT)
        assert "metadata" not in pushed["message"]
        client.chat_update(channel=SUPPORT, ts=ts, text="two")
        assert hear(other)["message"]["text"] == "two"
        slack.react("U0ASHA", SUPPORT, ts, "+1")
        assert hear(other)["message"]["reactions"][0]["count"] == 1
        client.assistant_threads_setStatus(channel_id=SUPPORT, thread_ts=ts, status="is thinking…")
        status = {"type": "status", "channel": SUPPORT, "thread_ts": ts, "text": "is thinking…"}
        assert hear(other) == {**status, "session": "", "stoppable": False}
        client.chat_delete(channel=SUPPORT, ts=ts)
        assert hear(other) == {"type": "deleted", "channel": SUPPORT, "ts": ts}


def test_a_stream_is_seen_to_grow(slack: Driver, client: WebClient) -> None:
    root = slack.say("U0MIA", SUPPORT, "tell me")
    with page_of(slack, "U0MIA") as page:
        slack.wait_for(lambda: slack.pages == 1)
        at = {"channel": SUPPORT, "thread_ts": root, "recipient_user_id": "U0MIA", "recipient_team_id": "T0DEMO"}
        ts = client.chat_startStream(markdown_text="Hel", **at)["ts"]
        assert hear(page)["message"]["streaming"] is True and hear(page)["message"]["reply_count"] == 1
        assert hear(page)["stoppable"] is True
        client.chat_appendStream(channel=SUPPORT, ts=ts, markdown_text="lo")
        assert hear(page)["message"]["text"] == "Hello"
        client.chat_stopStream(channel=SUPPORT, ts=ts)
        assert "streaming" not in hear(page)["message"]
        assert hear(page)["stoppable"] is False


def test_people_change_and_delete_their_own_messages_only(slack: Driver, client: WebClient) -> None:
    mine, bots = slack.say("U0MIA", SUPPORT, "first"), client.chat_postMessage(channel=SUPPORT, text="bot")["ts"]
    at = {"user": "U0MIA", "channel": SUPPORT}

    assert ask(slack, "ui/api/edit", {**at, "ts": mine, "text": "second"}) == (200, {})
    assert next(m for m in slack.messages(SUPPORT) if m["ts"] == mine)["edited"]["user"] == "U0MIA"
    assert ask(slack, "ui/api/edit", {**at, "ts": mine, "text": " "})[0] == 400
    assert ask(slack, "ui/api/edit", {**at, "ts": bots, "text": "mine now"})[0] == 400
    assert ask(slack, "ui/api/delete", {**at, "user": "U0TOM", "ts": mine})[0] == 400
    assert ask(slack, "ui/api/delete", {**at, "ts": mine}) == (200, {})
    assert mine not in [m["ts"] for m in slack.messages(SUPPORT)]


def test_people_say_and_react(slack: Driver) -> None:
    _, said = ask(slack, "ui/api/say", {"user": "U0MIA", "channel": "C0OPS", "text": "hi"})
    reaction = {"user": "U0TOM", "channel": "C0OPS", "ts": said["ts"], "name": "+1"}

    assert ask(slack, "ui/api/react", {**reaction, "on": True}) == (200, {})
    assert slack.messages("C0OPS")[-1]["reactions"] == [{"name": "+1", "users": ["U0TOM"], "count": 1}]
    assert ask(slack, "ui/api/react", {**reaction, "on": False}) == (200, {})
    assert ask(slack, "ui/api/dm", {"user": "U0TOM"}) == (200, {"channel": slack.dm("U0TOM")})


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("say", {"user": "U0MIA", "channel": SUPPORT, "text": "  "}, 400, "1 to 40000"),
        ("say", {"user": "U0MIA", "channel": SUPPORT, "text": "x" * 40_001}, 400, "1 to 40000"),
        ("say", {"user": "U0MIA", "channel": SUPPORT}, 400, "“text” is missing"),
        ("say", {"user": "U0NOBODY", "channel": SUPPORT, "text": "x"}, 404, "User not found"),
        ("say", {"user": "U0TOM", "channel": "D0MIA", "text": "x"}, 404, "Channel not found"),
        ("say", b"not json", 400, "JSON object"),
        ("say", b"[]", 400, "JSON object"),
        ("react", {"user": "U0MIA", "channel": SUPPORT, "ts": "1.0", "name": "x"}, 404, "Message not found"),
        ("command", {"user": "U0MIA", "channel": SUPPORT, "command": "/dance"}, 400, "/dance is not a command"),
        ("submit", {"user": "U0MIA", "view_id": "V0", "values": {}}, 404, "Not found"),
        ("shortcut", {"user": "U0MIA", "channel": SUPPORT, "ts": "1.0", "callback_id": "x"}, 400, "manifest"),
    ],
)
def test_what_cannot_be_done_is_said(slack: Driver, path: str, body: Json | bytes, status: int, said: str) -> None:
    slack.dm("U0MIA")

    found, answer = ask(slack, f"ui/api/{path}", body)

    assert found == status and said in answer["error"]


def test_a_click_that_no_bot_takes_is_said_within_the_timeout(slack: Driver, client: WebClient) -> None:
    button = {"type": "button", "action_id": "go", "text": {"type": "plain_text", "text": "Go"}}
    ts = client.chat_postMessage(channel=SUPPORT, text="x", blocks=[{"type": "actions", "elements": [button]}])["ts"]

    status, answer = ask(slack, "ui/api/click", {"user": "U0MIA", "channel": SUPPORT, "ts": ts, "action_id": "go"})

    assert status == 400 and "Is it running?" in answer["error"]


def test_other_pages_and_names_get_nothing(slack: Driver) -> None:
    body = {"user": "U0MIA", "channel": SUPPORT, "text": "forged"}

    assert ask(slack, "ui/api/say", body, Origin="https://evil.example")[0] == 403
    assert ask(slack, "ui/api/boot?user=U0MIA", Host="evil.example")[0] == 400
    with pytest.raises(InvalidStatus):
        connect(f"{slack.url.replace('http', 'ws')}ui/ws?user=U0MIA", origin="https://evil.example")
    assert "forged" not in str(slack.messages(SUPPORT))


def test_the_page_itself_is_served(slack: Driver) -> None:
    with urllib.request.urlopen(slack.url, timeout=5) as page:
        assert b"Evenkeel Workspace" in page.read()
    with urllib.request.urlopen(f"{slack.url}static/app.js", timeout=5) as script:
        assert "javascript" in script.headers["content-type"]
