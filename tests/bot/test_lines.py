"""The deadline holds for every byte, wherever a server is slow."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from bot.lines import Lines, within
from bot.models import Models
from storage.records import Answer
from storage.servers import Server
from tests.bot.raw_server import HEAD, Line, RawServer, chunk, last, plain, raw_server

MESSAGES = ({"role": "user", "content": "How?"},)
DEADLINE_S = 0.6


@pytest.fixture
def server() -> Iterator[RawServer]:
    with raw_server() as running:
        yield running


def timed(server: RawServer, deadline_s: float = DEADLINE_S) -> tuple[Answer, float]:
    models, began = Models(server.url, "", max_new_tokens=8), time.monotonic()
    answer = models.ask("tuned", MESSAGES, deadline_s=deadline_s)
    models.close()
    return answer, time.monotonic() - began


DRIPS = {
    "the status line": lambda line: line.drip(HEAD, 0.05),
    "comments": lambda line: (line.send(HEAD), line.drip(b": still here\n\n" * 40, 0.05)),
    "half a line": lambda line: (line.send(HEAD), line.drip(chunk("tuned", {"content": "x"}).encode(), 0.05)),
    "an error's body": lambda line: (
        line.send("HTTP/1.1 500 No\r\nContent-Length: 9000\r\n\r\n"),
        line.drip(b"x" * 900, 0.05),
    ),
    "a refusal's headers": lambda line: (line.send("HTTP/1.1 400 No\r\n"), line.drip(b"X-A: b\r\n" * 40, 0.05)),
    "text, for ever": lambda line: (
        line.send(HEAD),
        [line.send(chunk("tuned", {"content": "ha "})) or time.sleep(0.02) for _ in range(500)],
    ),
}


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_bytes_that_never_end_do_not_outlast_the_deadline(server: RawServer, drip: object) -> None:
    server.says = drip  # type: ignore[assignment]

    answer, took = timed(server)

    assert (answer.status, answer.reason) == ("timeout", "no whole answer within 1 s")
    assert DEADLINE_S - 0.1 < took < DEADLINE_S + 1.0


def test_silence_after_the_first_word_ends_at_the_deadline_too(server: RawServer) -> None:
    def first_word(line: Line) -> None:
        line.send(HEAD, chunk("tuned", {"content": "Well"}))
        line.hang()

    server.says = first_word
    answer, took = timed(server)

    assert answer.status == "timeout" and took < DEADLINE_S + 1.0


def test_silence_is_called_silence_when_there_was_time_left(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.lines.LONGEST_SILENCE_S", 0.3)
    server.says = Line.hang

    answer, took = timed(server, deadline_s=60)

    assert answer.status == "timeout" and answer.reason.startswith("no word from the model server for") and took < 3


def test_a_handshake_that_hangs_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts, and never speaks TLS
        deaf = RawServer(url=f"https://127.0.0.1:{listener.getsockname()[1]}/v1")

        answer, took = timed(deaf)

    assert answer.status in ("timeout", "failed") and took < DEADLINE_S + 1.0


def test_the_deadline_holds_behind_a_proxy_too(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))
    server.says = lambda line: line.drip(HEAD, 0.05)

    answer, took = timed(RawServer(url="http://models.example/v1"))

    assert answer.status == "timeout" and took < DEADLINE_S + 1.0 and server.asked == ["tuned"]


def test_a_slow_but_whole_answer_is_an_answer(server: RawServer) -> None:
    whole = HEAD + chunk("tuned", {"content": "Grüße, 你好 🙂"}).encode() + last("tuned").encode()
    server.says = lambda line: line.drip(whole, 0.0005)

    answer, _ = timed(server, deadline_s=20)

    assert (answer.status, answer.text) == ("ok", "Grüße, 你好 🙂")


def test_a_flood_is_cut_before_it_fills_the_memory(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.lines.MOST_BYTES", 300_000)
    server.says = lambda line: (line.send(HEAD), [line.send(b"x" * 65_536) for _ in range(200)])  # type: ignore[assignment,return-value]

    answer, took = timed(server, deadline_s=20)

    assert answer.reason == "the model server's reply could not be read (TooMuch)" and took < 5


def test_a_redirect_is_not_followed(server: RawServer) -> None:
    """What people wrote goes to the server that was named, and nowhere else."""
    with raw_server() as other:
        server.says = lambda line: line.send(plain("307 Go", "", f"Location: {other.url}/chat/completions"))
        answer, _ = timed(server)

        assert answer.reason == "the model server refused: 307" and other.asked == []


def test_two_questions_at_once_have_their_own_deadlines(server: RawServer) -> None:
    server.says = Line.hang
    lines, took = Lines(), dict[float, float]()
    client = lines.to(Server(url=server.url, key="", name="tuned"))

    def ask(seconds: float) -> None:
        began = time.monotonic()
        with within(seconds) as timeout, pytest.raises(Exception, match="timed out"):
            client.chat.completions.create(model="tuned", messages=[], timeout=timeout)
        took[seconds] = time.monotonic() - began

    threads = [threading.Thread(target=ask, args=(seconds,)) for seconds in (0.3, 1.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines.close()

    assert 0.25 < took[0.3] < 0.95 and 0.95 < took[1.0] < 2
