"""Bad inputs 1 to 31: what may come over HTTP. Real sockets, the real server, the real guard, the whole Bolt app.

Promise held here: what Slack did not sign, or what is no payload of Slack's, gets 4xx and changes nothing; nothing gets
5xx; no log line holds a traceback or a text.
"""

import gzip
import hashlib
import hmac
import http.client
import json
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
import uvicorn

from bot.app import build_bot
from bot.http_mode import PATH, http_app
from bot.slack import make_client, who_am_i
from storage.ledger import Ledger
from storage.settings import Settings
from tests.bot.inputs import SECRET_TEXT, Act, Cases, clean_log

SECRET = "local-workspace-secret"
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
HOST = "127.0.0.1"
cases = Cases("A", range(1, 32))
Headers = dict[str, str | None]


@dataclass
class Door:
    """The bot's address, and what it has stored."""

    port: int
    ledger: Ledger
    sent: int = 0

    def event(self, **changes: Any) -> bytes:
        """A new question as Slack sends it."""
        self.sent += 1
        event = {
            "type": "app_mention",
            "user": "U0MIA",
            "text": f"<@U0EVENKEEL> {SECRET_TEXT}",
            "channel": "C0SUPPORT",
            "ts": f"{self.sent}.000001",
        }
        outer = {"type": "event_callback", "event_id": f"Ev{self.sent}", "team_id": "T0DEMO", "event": event}
        return json.dumps({**outer, **changes}).encode()

    def ask(self, body: bytes, headers: Sequence[tuple[str, str]], method: str = "POST") -> tuple[int, str]:
        """Exactly these headers, as often as they stand there."""
        line = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            line.putrequest(method, PATH, skip_accept_encoding=True)
            for name, value in (*headers, ("Content-Length", str(len(body)))):
                line.putheader(name, value.encode("latin-1"))
            line.endheaders(body)
            reply = line.getresponse()
            return reply.status, reply.read().decode()
        finally:
            line.close()

    def post(self, body: bytes, **changes: Any) -> int:
        return self.ask(body, seal(body, **changes))[0]

    def rows(self) -> int:
        return self.ledger.inbox.depth()

    def refuses(self, status: int, body: bytes, **changes: Any) -> None:
        """This status, and nothing is stored."""
        before = self.rows()
        assert self.post(body, **changes) == status
        assert self.rows() == before


def seal(
    body: bytes, *, kind: str = JSON, secret: str = SECRET, stamp: str | None = None, signature: str | None = None,
    more: Sequence[tuple[str, str]] = (),
) -> list[tuple[str, str]]:  # fmt: skip
    stamp = str(int(time.time())) if stamp is None else stamp
    digest = hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    signature = f"v0={digest}" if signature is None else signature.replace("GOOD", digest)
    return [
        ("Content-Type", kind), ("X-Slack-Request-Timestamp", stamp), ("X-Slack-Signature", signature), *more
    ]  # fmt: skip


@pytest.fixture(scope="module")
def door(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The whole bot behind its real server; nothing works on what is stored."""
    ledger = Ledger(tmp_path_factory.mktemp("door") / "evenkeel.db")
    client = make_client(settings.slack_bot_token.get_secret_value(), settings.slack_api_url)
    many = settings.model_copy(update={"user_questions_per_minute": 1000, "channel_questions_per_minute": 1000})
    bot = build_bot(many, ledger, client, who_am_i(client))
    app = http_app(bot.bolt, SECRET, ledger=ledger, healthy=lambda: True)
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=0, log_level="info"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Door(server.servers[0].sockets[0].getsockname()[1], ledger)
    server.should_exit = True
    thread.join()
    bot.close()
    ledger.close()


# The signature


@cases(1, "no signature header")
def _(door: Door) -> None:
    body, before = door.event(), door.rows()
    sealed = seal(body)
    assert door.ask(body, sealed[:2])[0] == door.ask(body, sealed[:1])[0] == door.ask(body, [])[0] == 401
    assert door.rows() == before


SIGNATURES = {
    2: ("empty signature", ""),
    3: ("v0= only", "v0="),
    4: ("right HMAC with a v1= prefix", "v1=GOOD"),
    6: ("non-ASCII signature", "v0=é"),
}
for number, (words, signature) in SIGNATURES.items():
    cases(number, words)(lambda door, signature=signature: door.refuses(401, door.event(), signature=signature))


@cases(5, "uppercase hex")
def _(door: Door) -> None:
    body = door.event()
    stamp = str(int(time.time()))
    upper = dict(seal(body, stamp=stamp))["X-Slack-Signature"].upper().replace("V0", "v0")
    door.refuses(401, body, stamp=stamp, signature=upper)


STAMPS = {
    7: ("timestamp abc", "abc"),
    8: ("empty timestamp", ""),
    9: ("timestamp with a fraction", "1795448128.5"),
    10: ("timestamp -1", "-1"),
    11: ("timestamp of 20 digits", "9" * 20),
}
for number, (words, stamp) in STAMPS.items():
    cases(number, words)(lambda door, stamp=stamp: door.refuses(401, door.event(), stamp=stamp))
for number, (words, age) in {12: ("301 s ago", -301), 13: ("in 301 s", 302)}.items():
    cases(number, words)(lambda door, age=age: door.refuses(401, door.event(), stamp=str(int(time.time() + age))))


@cases(14, "exact replay within 300 s")
def _(door: Door) -> None:
    body, before = door.event(), door.rows()
    sealed = seal(body)
    assert [door.ask(body, sealed)[0] for _ in range(4)] == [200] * 4
    assert door.rows() == before + 1


@cases(14, "exact replay of a command")
def _(door: Door) -> None:
    fields = {"command": "/retrain", "user_id": "U0MIA", "channel_id": "C0OPS", "team_id": "T0DEMO", "text": ""}
    body = urlencode(fields).encode()
    sealed = seal(body, kind=FORM)
    assert [door.ask(body, sealed)[0] for _ in range(4)] == [200] * 4
    time.sleep(0.3)
    refused = [entry for entry in door.ledger.audits() if entry["action"] == "retrain_refused"]
    assert len(refused) == 1 and door.ledger.runs.active() is None


@cases(15, "two timestamp headers")
def _(door: Door) -> None:
    door.refuses(401, door.event(), more=[("X-Slack-Request-Timestamp", str(int(time.time())))])
    door.refuses(401, door.event(), more=[("X-Slack-Signature", "v0=" + "0" * 64)])


@cases(30, "signed with another app's secret")
def _(door: Door) -> None:
    door.refuses(401, door.event(), secret="another")


# The body

BODIES = {
    16: ("bytes ff fe", b"\xff\xfe"),
    17: ("not JSON", b"not json"),
    18: ("[ a hundred thousand times", b"[" * 100_000),
    19: ("null", b"null"),
    20: ("a list", b"[1,2]"),
    21: ("a string", b'"x"'),
}
for number, (words, body) in BODIES.items():
    cases(number, words)(lambda door, body=body: door.refuses(400, body))


@cases(22, "50 MB")
def _(door: Door) -> None:
    with socket.create_connection((HOST, door.port), timeout=5) as line:
        line.sendall(head(50_000_000))
        sent = 0
        while sent < 50_000_000 and not select.select([line], [], [], 0)[0]:
            try:
                sent += line.send(b"x" * 65_536)
            except ConnectionError:
                break
        assert sent < 10_000_000
        assert status_of(line) == 413


@cases(23, "shorter than its Content-Length")
def _(door: Door) -> None:
    with pytest.MonkeyPatch.context() as patched, socket.create_connection((HOST, door.port), timeout=5) as line:
        patched.setattr("bot.http_mode.SLOWEST_BODY_S", 0.3)
        began = time.monotonic()
        line.sendall(head(1000) + b"{")
        assert status_of(line) == 413 and time.monotonic() - began < 2


def head(length: int) -> bytes:
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: {length}\r\n\r\n".encode()


def status_of(line: socket.socket) -> int:
    """The status of the answer; 413 too when the server has hung up on what was still coming."""
    try:
        return int(line.recv(65_536).split(b" ")[1])
    except (ConnectionError, IndexError):
        return 413


@cases(24, "gzip")
def _(door: Door) -> None:
    door.refuses(400, gzip.compress(door.event()), more=[("Content-Encoding", "gzip")])


@cases(25, "form-encoded event")
def _(door: Door) -> None:
    door.refuses(400, urlencode({"event": door.event().decode()}).encode(), kind=FORM)
    door.refuses(400, door.event(), kind=FORM)
    door.refuses(400, door.event(), kind="text/plain")


@cases(26, "no payload= in a form")
def _(door: Door) -> None:
    for form in ("", "a=b", "payload=", "payload=%5B1%5D", "payload=nope", "%ff=%ff", "payload=null&payload="):
        door.refuses(400, form.encode(), kind=FORM)


@cases(27, "BOM before the JSON")
def _(door: Door) -> None:
    door.refuses(400, b"\xef\xbb\xbf" + door.event())


@cases(28, "event_id twice")
def _(door: Door) -> None:
    body, before = door.event(), door.rows()
    twice = body.replace(b'{"type"', b'{"event_id": "EvFirst", "type"', 1)
    assert [door.post(twice), door.post(body)] == [200, 200]
    assert door.rows() == before + 1


@cases(29, "a challenge of 1 MB, and one of HTML")
def _(door: Door) -> None:
    def challenge(text: str) -> bytes:
        return json.dumps({"type": "url_verification", "challenge": text}).encode()

    door.refuses(413, challenge("x" * 1_000_000))
    body = challenge("<script>alert(1)</script>")
    status, said = door.ask(body, seal(body))
    assert status == 200 and json.loads(said)["challenge"] == "<script>alert(1)</script>"
    assert door.post(json.dumps({"type": "url_verification"}).encode()) < 500


@cases(31, "GET, PUT, HEAD")
def _(door: Door) -> None:
    body = door.event()
    for method in ("GET", "PUT", "HEAD", "DELETE", "PATCH"):
        assert door.ask(body, seal(body), method=method)[0] == 405


@cases.parametrize()
def test_a_bad_request_is_refused_or_handled(door: Door, act: Act) -> None:
    with clean_log():
        act(door)


def test_every_number_of_part_a_has_a_case() -> None:
    assert cases.missing() == set()
