"""HTTP mode: signed POSTs that slack_sdk's verifier accepts, and retries as Slack makes them."""

import json
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from slack_sdk import WebClient
from slack_sdk.signature import SignatureVerifier

from bot.workspace.running import running_workspace
from tests.workspace.conftest import SUPPORT


@dataclass
class App:
    """An app behind a request URL; `replies` are (status, headers, body) of the next calls, then 200."""

    url: str = ""
    heard: list[tuple[dict[str, str], str]] = field(default_factory=list)
    replies: list[tuple[int, dict[str, str], str]] = field(default_factory=list)

    def payloads(self) -> list[str]:
        return [body for _, body in self.heard]


@pytest.fixture
def app() -> Iterator[App]:
    app = App()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            app.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status, headers, said = app.replies.pop(0) if app.replies else (200, {}, "")
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(said))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    app.url = f"http://127.0.0.1:{server.server_port}/slack/events"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield app
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_request_is_signed(app: App) -> None:
    with running_workspace(event_url=app.url) as slack:
        slack.say("U0MIA", SUPPORT, "@Evenkeel hello")
        slack.wait_for(lambda: len(app.heard) == 2)

        verifier = SignatureVerifier(slack.signing_secret)
        assert all(verifier.is_valid_request(body, headers) for headers, body in app.heard)
        assert {json.loads(body)["event"]["type"] for body in app.payloads()} == {"message", "app_mention"}
        assert not any("x-slack-retry-num" in headers for headers, _ in app.heard)


def test_a_refused_event_comes_again_with_number_and_reason_until_it_is_taken(app: App) -> None:
    app.replies = [(500, {}, ""), (503, {}, "")]
    with running_workspace(event_url=app.url, ack_timeout_s=0.02) as slack:
        slack.say("U0MIA", SUPPORT, "hello")
        slack.wait_for(lambda: len(app.heard) == 3)

    numbers = [(headers.get("x-slack-retry-num"), headers.get("x-slack-retry-reason")) for headers, _ in app.heard]
    assert numbers == [(None, None), ("1", "http_error"), ("2", "http_error")]
    assert len(set(app.payloads())) == 1


def test_an_app_that_wants_no_retry_gets_none(app: App) -> None:
    app.replies = [(500, {"X-Slack-No-Retry": "1"}, "")]
    with running_workspace(event_url=app.url, ack_timeout_s=0.02) as slack:
        slack.say("U0MIA", SUPPORT, "one")
        slack.wait_for(lambda: len(app.heard) == 1)
        slack.say("U0MIA", SUPPORT, "two")
        slack.wait_for(lambda: len(app.heard) == 2)

    assert "one" in app.payloads()[0] and "two" in app.payloads()[1]


def test_commands_and_clicks_come_as_forms_and_are_answered(app: App) -> None:
    app.replies = [(200, {"content-type": "application/json"}, '{"text": "On it."}'), (200, {}, "")]
    with running_workspace(event_url=app.url) as slack:
        assert slack.command("U0INES", "/retrain", "lr=1e-3 & more", SUPPORT) == {"text": "On it."}
        button = {"type": "button", "action_id": "go", "text": {"type": "plain_text", "text": "Go"}}
        blocks = [{"type": "actions", "elements": [button]}]
        client = WebClient(slack.bot_token, base_url=slack.api_url)
        slack.set_members(SUPPORT, "U0INES", "U0EVENKEEL")
        ts = client.chat_postMessage(channel=slack.dm("U0INES"), text="x", blocks=blocks)["ts"]
        slack.wait_for(lambda: len(app.heard) == 2)
        assert slack.click("U0INES", slack.dm("U0INES"), ts, "go")

    assert urllib.parse.parse_qs(app.payloads()[0])["text"] == ["lr=1e-3 & more"]
    assert json.loads(urllib.parse.parse_qs(app.payloads()[2])["payload"][0])["type"] == "block_actions"


def test_an_app_that_is_not_there_is_tried_again_and_a_command_times_out() -> None:
    with running_workspace(event_url="http://127.0.0.1:9/slack/events", ack_timeout_s=0.02) as slack:
        slack.say("U0MIA", SUPPORT, "hello")

        assert slack.command("U0INES", "/retrain", "", SUPPORT) is None
        assert "operation_timeout" in slack.ephemerals("U0INES")[-1]["text"]
