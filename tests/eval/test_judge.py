"""A model as judge: both orders, contradictions are ties, and what is no verdict counts nowhere."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import openai
import pytest

from eval.judge import Judged, Pair, asker, in_words, judge
from storage.picks import win_rate

PAIRS = tuple(
    Pair(question=f"Question {i}?", approved="Approved.", base=f"base {i}", tuned=f"tuned {i}") for i in range(4)
)


def shown(prompt: str) -> tuple[str, str]:
    """What stands as A and as B."""
    first, second = prompt.split("Answer A:\n")[1].split("\n\nAnswer B:\n")
    return first, second.split("\n\n")[0]


def test_a_judge_that_prefers_tuned_in_both_orders_lets_it_win() -> None:
    found = judge(PAIRS, lambda prompt: "A" if shown(prompt)[0].startswith("tuned") else "**b**, because it is clear")

    assert (found.rate.wins, found.rate.losses, found.rate.ties, found.swayed, found.unclear) == (4, 0, 0, 0, 0)


def test_a_judge_that_always_takes_the_first_says_nothing_but_ties() -> None:
    found = judge(PAIRS, lambda _: "A")

    assert (found.rate.wins, found.rate.losses, found.rate.ties, found.swayed) == (0, 0, 4, 4)
    assert found.rate.share == 0.5


def test_a_tie_in_one_order_is_a_tie() -> None:
    replies = iter(["A", "TIE"] * 4)

    assert judge(PAIRS, lambda _: next(replies)).rate.ties == 4


def test_a_reply_that_is_no_verdict_counts_nowhere() -> None:
    replies = iter(["A", "Both are fine.", "", "B", "A better one is B", "B", "tie.", "Tie"])

    found = judge(PAIRS, lambda _: next(replies))

    assert (found.rate.n, found.unclear) == (2, 2)


def test_equal_answers_are_a_tie_that_costs_no_question() -> None:
    def never(_: str) -> str:
        raise AssertionError("asked")

    same = Pair(question="?", approved="!", base="the same ", tuned="the same")

    assert judge([same], never).rate.ties == 1


def test_braces_in_texts_are_plain_text_and_long_ones_are_cut() -> None:
    asked: list[str] = []
    odd = Pair(question="{approved} {0}", approved="x" * 9_000, base="a {b}", tuned="c")

    judge([odd], lambda prompt: asked.append(prompt) or "A")  # type: ignore[func-returns-value]

    assert all("{approved} {0}" in prompt and len(prompt) < 4_000 for prompt in asked)


def test_what_it_says_is_told_with_its_interval_as_advice() -> None:
    text = in_words(Judged(rate=win_rate(6, 2, 2), swayed=1, unclear=3))

    assert "70.0 % of 10 pairs, ties as half (39.7 to 89.2 %); the order decided 1, 3 unclear; advice only" in text
    assert in_words(Judged(rate=win_rate(0, 0, 0), swayed=0, unclear=3)) == "the judge gave no verdict on 3 pairs"


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An OpenAI-compatible judge of its own; its url and the bodies that it was sent."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append({**body, "key": self.headers["Authorization"], "path": self.path})
            message = {"role": "assistant", "content": "B"}
            reply = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
                     "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}  # fmt: skip
            data = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/v1", seen
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_any_openai_compatible_server_can_judge(server: tuple[str, list[dict[str, Any]]]) -> None:
    url, seen = server

    assert asker(url, "secret", "arbiter")("Which?") == "B"
    assert (seen[0]["model"], seen[0]["temperature"], seen[0]["key"], seen[0]["path"]) == (
        "arbiter", 0, "Bearer secret", "/v1/chat/completions")  # fmt: skip
    assert seen[0]["messages"] == [{"role": "user", "content": "Which?"}]


def test_a_judge_that_is_not_there_is_an_error_of_the_client() -> None:
    with pytest.raises(openai.OpenAIError):
        asker("http://127.0.0.1:9/v1", "", "judge")("Which?")
