"""The HTTP door: only Slack's own requests get in, once, and everything else is 4xx without a traceback."""

import hashlib
import hmac
import json
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from slack_bolt import Ack, App
from slack_bolt.authorization import AuthorizeResult
from slack_sdk import WebClient
from starlette.testclient import TestClient

from bot.http_mode import PATH, THREADS, WINDOW_S, Seen, http_app, signed
from bot.intake import Intake
from bot.slack import Me
from storage.ledger import Ledger
from storage.requests import Requests
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


COMMAND = urlencode({"command": "/count", "user_id": "U0INES", "channel_id": "C1", "team_id": "T0DEMO", "text": ""})
FORM = "application/x-www-form-urlencoded"


def door_of(ledger: Ledger, folder: Path, acted: list[str]) -> TestClient:
    """One process: the guard, Bolt with the intake, and a command that counts."""
    app = App(
        client=WebClient(token="xoxb-x", base_url="http://127.0.0.1:1/api/"),
        authorize=lambda: AuthorizeResult(enterprise_id=None, team_id="T0DEMO", bot_token="xoxb-x"),
        signing_secret=SECRET,
        before_authorize=Intake(load_settings(_env_file=None, data_dir=folder), ledger, ME, lambda _: None),
    )

    @app.command("/count")
    def count(ack: Ack, command: dict[str, Any]) -> None:
        acted.append(command["text"])
        if command["text"] != "broken":
            ack()
            return
        raise ValueError("before the ack")

    app.error(lambda error: None)
    return TestClient(http_app(app, SECRET, ledger=ledger, healthy=lambda: True))


@pytest.fixture
def acted() -> list[str]:
    """What the command was called with, in every process."""
    return []


@pytest.fixture
def door(ledger: Ledger, tmp_path: Path, acted: list[str]) -> TestClient:
    return door_of(ledger, tmp_path, acted)


@pytest.fixture
def other_door(ledger: Ledger, tmp_path: Path, acted: list[str]) -> Iterator[TestClient]:
    """A second process on the same ledger; also what the first is after a restart."""
    again = Ledger(ledger.path)
    yield door_of(again, tmp_path, acted)
    again.close()


@contextmanager
def locked(ledger: Ledger) -> Iterator[None]:
    """Another process holds the ledger, and lets nobody write."""
    holder = sqlite3.connect(ledger.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


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


@pytest.mark.parametrize(
    "changes", [{"event": None}, {"event": "x"}, {"event": {"type": "message", "user": 5}}, {"event": 7}]
)
def test_odd_events_are_never_a_server_error(door: TestClient, ledger: Ledger, changes: dict[str, Any]) -> None:
    body = json.dumps({**EVENT, **changes}).encode()

    assert send(door, body, seal(body)) in (200, 400)
    assert ledger.inbox.depth() == 0


def test_the_challenge_of_a_new_address_is_answered(door: TestClient) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "abc"}).encode()

    reply = door.post(PATH, content=body, headers=seal(body))

    assert (reply.status_code, reply.text) == (200, '{"challenge": "abc"}')


def test_health_is_public(door: TestClient) -> None:
    assert door.get("/healthz").json() == {"status": "ok"}


def test_no_secret_means_nothing_is_signed() -> None:
    sealed = seal(BODY, secret="")
    stamp = sealed["x-slack-request-timestamp"]

    assert not signed("", stamp, sealed["x-slack-signature"], BODY, float(stamp))


def test_a_failed_store_may_come_again_with_the_same_signature(
    door: TestClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = seal(BODY)
    with monkeypatch.context() as broken:
        broken.setattr(ledger.inbox, "accept", lambda **_: 1 / 0)
        assert send(door, BODY, headers) == 500

    assert send(door, BODY, headers) == 200
    assert ledger.inbox.depth() == 1


# Twice


def test_an_event_that_comes_again_after_a_restart_is_one(
    door: TestClient, other_door: TestClient, ledger: Ledger
) -> None:
    headers = seal(BODY)

    assert [send(each, BODY, headers) for each in (door, other_door, other_door)] == [200] * 3
    assert ledger.inbox.depth() == 1


def test_a_command_acts_once_also_after_a_restart(
    door: TestClient, other_door: TestClient, acted: list[str], ledger: Ledger
) -> None:
    body = COMMAND.encode()
    headers = seal(body, kind=FORM)

    assert [send(each, body, headers) for each in (door, door, other_door, other_door)] == [200] * 4
    assert len(acted) == 1 and ledger.requests.count() == 1
    assert send(door, body, seal(body, kind=FORM, stamp=str(int(time.time()) - 5))) == 200 and len(acted) == 2


def test_of_two_processes_one_lets_a_command_in(door: TestClient, other_door: TestClient, acted: list[str]) -> None:
    body = COMMAND.encode()
    headers = seal(body, kind=FORM)

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda n: send((door, other_door)[n % 2], body, headers), range(8)))

    assert codes == [200] * 8 and len(acted) == 1


def test_what_was_not_accepted_may_come_again(
    door: TestClient, other_door: TestClient, acted: list[str], ledger: Ledger
) -> None:
    body = (COMMAND + "broken").encode()
    headers = seal(body, kind=FORM)

    assert [send(each, body, headers) for each in (door, door, other_door)] == [500] * 3
    assert len(acted) == 3 and ledger.requests.count() == 0


def test_signatures_are_forgotten_after_two_windows(ledger: Ledger) -> None:
    now = ledger.clock()
    requests = Requests(ledger.connections, lambda: now)
    assert requests.first("v0=a", keep_s=600) and not requests.first("v0=a", keep_s=600)

    later = Requests(ledger.connections, lambda: now + timedelta(seconds=601))

    assert later.first("v0=b", keep_s=600) and later.count() == 1 and later.first("v0=a", keep_s=600)


def test_old_signatures_are_forgotten_here_too(ledger: Ledger) -> None:
    now = [1000.0]
    seen = Seen(ledger, lambda: now[0])
    for n in range(100):
        now[0] += 10
        assert seen.let_in(f"v0={n}", event=True)
        seen.settle(f"v0={n}", accepted=True)

    assert len(seen._at) <= 2 * WINDOW_S / 10 + 1 and not seen.let_in("v0=99", event=True)


# A ledger that somebody else holds


def test_a_locked_ledger_delays_no_ack_and_lets_no_replay_in(
    door: TestClient, ledger: Ledger, acted: list[str]
) -> None:
    body = COMMAND.encode()
    headers, event = seal(body, kind=FORM), seal(BODY)
    assert send(door, b"{}", seal(b"{}")) == 200  # the thread and its connection are there
    with locked(ledger):
        began = time.monotonic()
        assert send(door, BODY, event) == 200
        assert time.monotonic() - began < 0.5
        assert [send(door, body, headers) for _ in range(3)] == [200] * 3
        assert time.monotonic() - began < 1.5

    assert len(acted) == 1


def test_a_text_that_says_payload_is_still_a_command(door: TestClient, acted: list[str]) -> None:
    body = (COMMAND + "payload").encode()

    assert send(door, body, seal(body, kind=FORM)) == 200 and acted == ["payload"]


def test_every_thread_has_its_connection_before_the_first_request(door: TestClient, ledger: Ledger) -> None:
    with door:
        assert len(ledger.connections._all) >= THREADS
        assert send(door, BODY, seal(BODY)) == 200
