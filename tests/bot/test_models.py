"""Whatever a server does, `ask` returns one Answer that says what happened."""

from collections.abc import Iterator

import pytest

from bot.models import UNREACHABLE, Models
from storage.records import Answer
from tests.bot.model_server import BASE, ModelServer, model_server
from tests.serving import free_port

MESSAGES = ({"role": "user", "content": "How?"},)


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


@pytest.fixture
def ask(server: ModelServer) -> Iterator[object]:
    models = Models(server.url, "", max_new_tokens=50)

    def one(mode: str, role: str = "tuned", deadline_s: float = 5.0) -> Answer:
        server.mode = server.base_mode = mode
        return models.ask(role, MESSAGES, deadline_s=deadline_s)  # type: ignore[arg-type]

    yield one
    models.close()
    server.adapter = None


def test_a_good_answer_proves_who_spoke(ask, server: ModelServer) -> None:
    server.adapter = "a" * 64

    answer = ask("ok")

    assert (answer.status, answer.text) == ("ok", server.text)
    assert (answer.base_digest, answer.adapter_digest, answer.template_digest) == (BASE, "a" * 64, "t" * 64)
    assert answer.tokens_out == 6 and answer.latency_s is not None and answer.ttft_s is not None
    assert server.asked[-1]["evenkeel"] == {"role": "user"} and server.asked[-1]["temperature"] == 0


def test_the_base_is_asked_in_the_shadows_name(ask, server: ModelServer) -> None:
    server.adapter = "a" * 64

    answer = ask("ok", role="base")

    assert answer.status == "ok" and answer.adapter_digest is None
    assert server.asked[-1]["evenkeel"] == {"role": "shadow"}


@pytest.mark.parametrize(
    ("mode", "status", "said"),
    [
        ("garbage", "failed", "could not be read"),
        ("html", "failed", "no answer in the OpenAI protocol"),
        ("empty", "failed", "empty"),
        ("wrong_model", "failed", "'gpt-4' replied"),
        ("no_proof", "failed", "which weights"),
        ("cut", "failed", "cut off"),
        ("down", "failed", UNREACHABLE),
        ("hang", "timeout", "within"),
    ],
)
def test_a_bad_reply_is_a_failed_answer_with_its_reason(ask, mode: str, status: str, said: str) -> None:
    answer = ask(mode, deadline_s=0.5)

    assert answer.status == status
    assert said in answer.reason
    assert answer.text == ""


def test_a_server_that_is_not_there_is_unreachable() -> None:
    models = Models(f"http://127.0.0.1:{free_port()}/v1", "", max_new_tokens=50)

    answer = models.ask("tuned", MESSAGES, deadline_s=2)

    models.close()
    assert answer.status == "failed" and answer.reason.startswith(UNREACHABLE)


def test_a_slow_answer_ends_at_its_deadline(ask) -> None:
    assert ask("slow", deadline_s=0.3).status == "timeout"


def test_text_arrives_while_it_is_written(server: ModelServer) -> None:
    server.mode, seen = "ok", []
    models = Models(server.url, "", max_new_tokens=50)

    models.ask("tuned", MESSAGES, deadline_s=5, on_text=seen.append)

    models.close()
    assert seen[0] == "Open" and server.text == seen[-1] and len(seen) >= 6
