"""The HTTP door: only Slack's own requests get in, once, and everything else is 4xx without a traceback."""

import gzip
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from slack_bolt import App
from slack_sdk import WebClient
from starlette.testclient import TestClient

from bot.http_mode import PATH, http_app, signed
from bot.intake import Intake
from bot.slack import Me
from storage.ledger import Ledger
from storage.settings import load_settings

SECRET = "s3cret"
ME = Me(team="T0DEMO", user="U0EVENKEEL", bot_id="B0")
EVENT = {
    "type": "event_callback",
    "event_id": "Ev1",
    "team_id": "T0DEMO",
    "event": {
        "type": "app_mention",
        "user": "U0MIA",
        "text": "<@U0EVENKEEL> hello there",
        "channel": "C1",
        "ts": "100.000001",
    },
}
BODY = json.dumps(EVENT).encode()


@pytest.fixture
def door(ledger: Ledger) -> TestClient:
    app = App(
        client=WebClient(token="xoxb-x", base_url="http://127.0.0.1:1/api/"),
        token="xoxb-x",
        signing_secret=SECRET,
        token_verification_enabled=False,
        before_authorize=Intake(load_settings(_env_file=None), ledger, ME, lambda: None),
    )
    return TestClient(http_app(app, SECRET, ledger=ledger, healthy=lambda: True))


def seal(
    body: bytes, *, stamp: str | None = None, secret: str = SECRET, kind: str = "application/json"
) -> dict[str, str]:
    stamp = stamp or str(int(time.time()))
    digest = hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {"x-slack-request-timestamp": stamp, "x-slack-signature": f"v0={digest}", "content-type": kind}


def send(door: TestClient, body: bytes, headers: Any) -> int:
    return int(door.post(PATH, content=body, headers=headers).status_code)


def test_a_signed_event_is_stored_and_acked(door: TestClient, ledger: Ledger) -> None:
    assert send(door, BODY, seal(BODY)) == 200
    assert ledger.inbox.depth() == 1


def test_a_replay_is_answered_and_does_not_act_again(
    door: TestClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    acted: list[str] = []
    monkeypatch.setattr(ledger.inbox, "accept", lambda **columns: acted.append(columns["event_id"]))
    headers = seal(BODY)

    assert [send(door, BODY, headers) for _ in range(3)] == [200, 200, 200]
    assert acted == ["Ev1"]


NOW = str(int(time.time()))
GOOD = seal(BODY)["x-slack-signature"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-slack-signature": ""},
        {"x-slack-signature": "v0="},
        {"x-slack-signature": GOOD.replace("v0", "v1")},
        {"x-slack-signature": GOOD.upper()},
        {"x-slack-signature": "v0=é".encode()},
        {"x-slack-request-timestamp": "abc"},
        {"x-slack-request-timestamp": ""},
        {"x-slack-request-timestamp": NOW + ".5"},
        {"x-slack-request-timestamp": "-1"},
        {"x-slack-request-timestamp": "9" * 20},
        {"x-slack-request-timestamp": str(int(NOW) - 400)},
        {"x-slack-request-timestamp": "１２３".encode()},
    ],
)
def test_what_slack_did_not_sign_is_401(door: TestClient, ledger: Ledger, headers: dict[str, Any]) -> None:
    sealed: dict[str, Any] = {} if not headers else {**seal(BODY), **headers}

    assert send(door, BODY, sealed) == 401
    assert ledger.inbox.depth() == 0


@pytest.mark.parametrize("age", [-301, 301])
def test_a_signature_outside_five_minutes_is_401(door: TestClient, age: int) -> None:
    assert send(door, BODY, seal(BODY, stamp=str(int(time.time()) + age))) == 401


def test_another_apps_secret_is_401(door: TestClient) -> None:
    assert send(door, BODY, seal(BODY, secret="another")) == 401


def test_two_timestamps_are_401(door: TestClient) -> None:
    pairs = [*seal(BODY).items(), ("x-slack-request-timestamp", NOW)]

    assert send(door, BODY, pairs) == 401


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"not json",
        b"[" * 100_000,
        b"null",
        b"[1,2]",
        b'"x"',
        gzip.compress(BODY),
        b"\xef\xbb\xbf" + BODY,
        b"",
    ],
)
def test_signed_nonsense_is_400(door: TestClient, body: bytes) -> None:
    assert send(door, body, seal(body)) == 400


@pytest.mark.parametrize("form", ["", "a=b", "payload=", "payload=%5B1%5D", "payload=nope", "%ff=%ff"])
def test_a_form_without_a_payload_is_400(door: TestClient, form: str) -> None:
    assert send(door, form.encode(), seal(form.encode(), kind="application/x-www-form-urlencoded")) == 400


@pytest.mark.parametrize(
    "changes", [{"event": None}, {"event": "x"}, {"event": {"type": "message", "user": 5}}, {"event": 7}]
)
def test_odd_events_are_never_a_server_error(door: TestClient, ledger: Ledger, changes: dict[str, Any]) -> None:
    body = json.dumps({**EVENT, **changes}).encode()

    assert send(door, body, seal(body)) in (200, 400)
    assert ledger.inbox.depth() == 0


def test_a_body_over_the_limit_is_413(door: TestClient) -> None:
    body = b"x" * 1_000_001

    assert send(door, body, seal(body)) == 413


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE"])
def test_other_methods_are_405(door: TestClient, method: str) -> None:
    assert door.request(method, PATH).status_code == 405


def test_the_challenge_of_a_new_address_is_answered(door: TestClient) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "abc"}).encode()

    reply = door.post(PATH, content=body, headers=seal(body))

    assert (reply.status_code, reply.text) == (200, '{"challenge": "abc"}')


def test_health_is_public(door: TestClient) -> None:
    assert door.get("/healthz").json() == {"status": "ok"}


def test_no_secret_means_nothing_is_signed() -> None:
    assert not signed("", NOW, GOOD, BODY, float(NOW))


def test_a_failed_store_may_come_again_with_the_same_signature(
    door: TestClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = seal(BODY)
    with monkeypatch.context() as broken:
        broken.setattr(ledger.inbox, "accept", lambda **_: 1 / 0)
        assert send(door, BODY, headers) == 500

    assert send(door, BODY, headers) == 200
    assert ledger.inbox.depth() == 1
