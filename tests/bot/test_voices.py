"""What a server like vLLM may do to the client, and what the client then says: proven by canary, or not asked at all."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bot.canary import Away, Reading, numbers_fault, texts_fault
from bot.models import UNREACHABLE, Models
from bot.voices import Voices
from storage.errors import ConfigurationError
from storage.ledger import Ledger
from storage.records import Answer
from storage.settings import Settings, load_settings
from tests.bot.adapters import made, promote
from tests.bot.raw_server import chunk
from tests.bot.vllm_server import BASE_MODEL, VllmServer, vllm_server
from tests.serving import free_port

QUESTION = ({"role": "user", "content": "How?"},)


@dataclass
class Follower:
    """One process that follows promotions at a scripted server; the test calls its steps."""

    server: VllmServer
    settings: Settings
    ledger: Ledger
    voices: Voices
    models: Models
    opened: list[Models]

    def promoted(self, seed: int, *, follow: bool = True) -> str:
        """The digest of an adapter that was promoted just now."""
        digest = self.made(seed)
        promote(self.ledger, digest)
        if follow:
            self.models.follow()
        return digest

    def made(self, seed: int) -> str:
        return made(self.ledger, self.settings.weights_dir, seed)

    @property
    def word(self) -> str:
        """What the ledger says of the last promotion."""
        champion = self.ledger.promotions.champion()
        assert champion is not None
        return champion.confirmed

    def ask(self, role: Any = "tuned") -> Answer:
        return self.models.ask(role, QUESTION, deadline_s=5)

    def another(self, **changes: Any) -> "Follower":
        """The same after a restart of the bot."""
        settings = self.settings.model_copy(update=changes)
        voices = Voices(settings, self.ledger)
        models = Models("", "", max_new_tokens=12, voices=voices)
        self.opened.append(models)
        return Follower(self.server, settings, self.ledger, voices, models, self.opened)


@pytest.fixture(autouse=True)
def _asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.voices.AWAY_S", 0.0)


@pytest.fixture
def follower(ledger: Ledger, tmp_path: Path) -> Iterator[Follower]:
    with vllm_server() as server:
        settings = load_settings(_env_file=None, data_dir=tmp_path / "data", engine_url=server.url, base_name=BASE_MODEL,
                                 tuned_name="tuned-{adapter}")  # fmt: skip
        voices = Voices(settings, ledger)
        models = Models("", "", max_new_tokens=12, voices=voices)
        found = Follower(server, settings, ledger, voices, models, [models])
        yield found
        for models in found.opened:
            models.close()


def test_an_adapter_is_loaded_under_the_name_of_its_content_from_where_the_server_sees_it(follower: Follower) -> None:
    seen = follower.another(adapters_root="/mnt/adapters/")
    digest = seen.promoted(1)

    assert follower.word == "ok"
    assert follower.server.loaded == {f"tuned-{digest[:12]}": f"/mnt/adapters/{digest}"}
    answer = seen.ask()
    assert (answer.adapter_digest, answer.base_digest, answer.params["proof"]) == (
        digest,
        f"name:{BASE_MODEL}",
        "canary",
    )


def test_without_a_root_the_server_is_told_our_own_folder(follower: Follower) -> None:
    digest = follower.promoted(1)

    (path,) = follower.server.loaded.values()
    assert Path(path) == follower.settings.weights_dir.absolute() / "adapters" / digest


@pytest.mark.parametrize(
    ("lies", "changes", "said"),
    [
        (True, {}, "exactly as the base does"),
        (True, {"wobble": 0.05}, "cannot be told from the base"),
        (True, {"logprobs": False}, "its texts prove no difference"),
        (False, {"nan": True}, "not finite"),
        (False, {"runtime_loading": False}, "may it load adapters at run time"),
    ],
    ids=["the base under its name", "the same, wobbling", "the same without numbers", "NaN", "no loading"],
)
def test_a_server_that_does_not_serve_the_adapter_is_caught_and_the_one_before_goes_on(
    follower: Follower, lies: bool, changes: dict[str, Any], said: str
) -> None:
    good = follower.promoted(1)
    follower.server.__dict__.update(changes)
    if lies:
        follower.server.loaded = _Lying(follower.server.loaded)

    follower.promoted(2)

    assert said in follower.word
    assert follower.ask().adapter_digest == good


class _Lying(dict[str, str]):
    """Takes an adapter and keeps the base's weights under its name."""

    def __setitem__(self, name: str, path: str) -> None:
        super().__setitem__(name, "base")


@pytest.mark.parametrize("strangers", ["base", "liar"])
def test_a_missing_adapter_that_the_base_answers_with_200_is_refused(follower: Follower, strangers: str) -> None:
    """The load is said to be done, the name is not there, and the server answers all the same."""
    follower.server.strangers = strangers
    follower.server.loaded = _Forgetful()

    follower.promoted(1)

    assert re.search("exactly as the base does|'acme/base-1' replied", follower.word)
    assert follower.ask().adapter_digest is None  # nobody served before: the base does, and its row says so


class _Forgetful(dict[str, str]):
    def __setitem__(self, name: str, path: str) -> None:
        """Takes an adapter and keeps nothing."""


def test_without_numbers_texts_that_differ_are_a_proof(follower: Follower) -> None:
    follower.server.logprobs = False

    digest = follower.promoted(1)

    assert follower.word == "ok" and follower.ask().adapter_digest == digest


def test_a_little_wobble_does_not_hide_an_adapter(follower: Follower) -> None:
    follower.server.wobble = 0.02

    follower.promoted(1)

    assert follower.word == "ok"


def test_an_adapter_whose_folder_the_server_cannot_read_is_refused_with_the_path(follower: Follower) -> None:
    moved = follower.another(adapters_root="/nowhere/adapters")

    moved.promoted(1)

    assert "No adapter found for /nowhere/adapters/" in follower.word and "ADAPTERS_ROOT" in follower.word


def test_an_adapter_that_is_loaded_already_is_proven_and_fine(follower: Follower) -> None:
    digest = follower.promoted(1)
    again = follower.another()

    again.models.follow()

    loads = [body for path, body in follower.server.calls if path.endswith("/load_lora_adapter")]
    assert len(loads) == 2 and follower.word == "ok" and again.ask().adapter_digest == digest


def test_a_restarted_server_gets_its_adapter_again_and_the_question_is_tried_again(follower: Follower) -> None:
    digest = follower.promoted(1)
    follower.server.restart()

    first = follower.ask()
    follower.models.follow()

    assert first.status == "failed" and first.reason == f"{UNREACHABLE}: it has forgotten tuned-{digest[:12]}"
    assert follower.ask().adapter_digest == digest and follower.word == "ok"


def test_a_restarted_server_that_is_not_back_yet_is_asked_until_it_is(follower: Follower) -> None:
    digest = follower.promoted(1)
    follower.server.restart()
    follower.ask()
    follower.server.status = 503
    follower.models.follow()
    assert follower.ask().reason.startswith(UNREACHABLE) and follower.word == "ok"

    follower.server.status = 200
    follower.models.follow()

    assert follower.ask().adapter_digest == digest


def test_a_server_that_lets_the_base_answer_after_a_restart_is_found_out(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower.promoted(1)
    follower.server.restart(strangers="liar", loaded=_Forgetful())
    monkeypatch.setattr("bot.voices.time.monotonic", _later(by=301))

    follower.models.follow()

    assert "exactly as the base does" in follower.word and follower.ask().adapter_digest is None


def _later(by: float) -> Callable[[], float]:
    now = time.monotonic
    return lambda: now() + by


def test_no_adapter_is_asked_before_this_process_has_proven_it(follower: Follower) -> None:
    follower.promoted(1)
    again = follower.another()

    answer = again.ask()

    assert answer.status == "failed" and answer.reason == f"{UNREACHABLE}: its adapter is not proven yet"
    again.models.follow()
    assert again.ask().status == "ok"


def test_the_same_trouble_is_told_again_when_it_comes_again(follower: Follower) -> None:
    with capture_logs() as logs:
        follower.promoted(1)
        for status in (503, 503, 200, 503):
            follower.server.status = status
            follower.voices._proven.clear()
            follower.voices.lost(follower.voices._named_base())
            follower.models.follow()

    assert [line["event"] for line in logs].count("model_server") == 2


def test_while_the_server_is_away_nothing_is_confirmed_and_nothing_refused(follower: Follower) -> None:
    good = follower.promoted(1)
    follower.server.status = 503

    new = follower.promoted(2)
    assert follower.word == ""
    follower.server.status = 200
    assert follower.ask().adapter_digest == good  # until the new one is proven
    follower.models.follow()

    assert follower.word == "ok" and follower.ask().adapter_digest == new


NAME = '"object": "chat.completion", "id": "c", "created": 1, "model": "acme/base-1"'
SHAPES = {
    "null": "null",
    "a list": "[1]",
    "a word": '"x"',
    "no JSON": "<html>",
    "no choices": f'{{{NAME}, "choices": null}}',
    "empty choices": f'{{{NAME}, "choices": []}}',
    "no message": f'{{{NAME}, "choices": [{{"message": null}}]}}',
    "numbers that are words": f'{{{NAME}, "choices": [{{"message": {{}}, "logprobs": {{"content": [{{"token": "a", "logprob": "x"}}]}}}}]}}',
    "tokens that are none": f'{{{NAME}, "choices": [{{"message": {{}}, "logprobs": {{"content": [{{"token": null}}]}}}}]}}',
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_canary_that_cannot_be_read_proves_nothing_and_raises_nothing(follower: Follower, shape: str) -> None:
    good = follower.promoted(1)
    follower.server.whole = shape
    follower.promoted(2)

    tried = follower.models.ask_adapter(follower.made(3), QUESTION, deadline_s=5)

    assert follower.word == "" and follower.ask().adapter_digest == good
    assert tried.status == "failed" and tried.reason.startswith(f"{UNREACHABLE}: ")


def test_an_adapter_that_cannot_be_read_here_is_refused(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("bot.voices.verify_adapter", locked)

    digest = follower.promoted(1)

    assert follower.word == f"adapter {digest[:12]} cannot be read here: Permission denied"
    assert follower.models.ask_adapter(digest, QUESTION, deadline_s=5).reason == follower.word


def test_adapters_that_neither_serve_nor_served_before_are_unloaded_and_others_left_alone(follower: Follower) -> None:
    follower.server.loaded["tuned-of-somebody"] = "/elsewhere"
    digests = [follower.promoted(n) for n in range(3)]

    names = [f"tuned-{digest[:12]}" for digest in digests]
    assert set(follower.server.loaded) == {"tuned-of-somebody", *names[1:]}
    follower.ledger.promotions.rollback(actor="test", reason="test", to_version=1)
    follower.models.follow()
    assert follower.word == "ok" and follower.ask().adapter_digest == digests[0]


def test_a_candidate_that_was_only_tried_makes_room_for_the_next_one(follower: Follower) -> None:
    served = [follower.promoted(n) for n in range(2)]
    tried = [follower.made(n) for n in (7, 8)]
    answers = [follower.models.ask_adapter(digest, QUESTION, deadline_s=5) for digest in tried]
    assert [answer.adapter_digest for answer in answers] == tried

    back = follower.ledger.promotions.rollback(actor="test", reason="test")
    follower.models.follow()

    assert back.adapter_digest == served[0] and follower.ask().adapter_digest == served[0]
    assert set(follower.server.loaded) == {f"tuned-{digest[:12]}" for digest in (*served, tried[1])}


def test_a_candidate_is_tried_within_the_deadline_while_another_is_loading(follower: Follower) -> None:
    digest = follower.made(7)
    with ThreadPoolExecutor(1) as other, follower.voices._lock:
        answer = other.submit(follower.models.ask_adapter, digest, QUESTION, deadline_s=0.2).result(timeout=5)

    assert answer.reason == f"{UNREACHABLE}: it is loading another adapter"


def slowly(*parts: bytes) -> Iterator[bytes]:
    for part in parts:
        yield part
        time.sleep(0.05)


FRAMES: dict[str, tuple[Callable[[str], Iterator[bytes]], str, str]] = {
    "hangs": (lambda name: slowly(chunk(name, {"content": "So"}).encode(), *[b""] * 100), "timeout", "no whole answer"),
    "drips": (lambda name: slowly(*[b": patience\n\n"] * 100), "timeout", "no whole answer"),
    "stops in a character": (lambda name: iter([cut_smile(name)]), "failed", "could not be read|cut off|no answer"),
    "stops in its JSON": (lambda name: iter([chunk(name, {"content": "So"}).encode()[:-30]]), "failed", "no answer|could not be read"),
    "stops between tokens": (lambda name: iter([chunk(name, {"content": "So"}).encode()]), "failed", "cut off"),
    "lies about its name": (
        lambda name: iter([chunk(BASE_MODEL, {"content": "So"}).encode(), chunk(BASE_MODEL, {}, "stop").encode()]),
        "failed",
        "tuned-[0-9a-f]{12} was asked, but 'acme/base-1' replied",
    ),
}  # fmt: skip


def cut_smile(name: str) -> bytes:
    whole = chunk(name, {"content": "X"}).replace("X", "🙂").encode()
    return whole[: whole.index("🙂".encode()) + 2]


@pytest.mark.parametrize(("stream", "status", "reason"), FRAMES.values(), ids=FRAMES)
def test_a_proven_adapter_whose_answer_is_not_whole_is_a_failed_answer(
    follower: Follower, stream: Callable[[str], Iterator[bytes]], status: str, reason: str
) -> None:
    follower.promoted(1)
    follower.server.stream, began = stream, time.monotonic()

    answer = follower.models.ask("tuned", QUESTION, deadline_s=0.5)

    assert (answer.status, answer.text) == (status, "") and re.search(reason, answer.reason), answer.reason
    assert time.monotonic() - began < 3
    follower.server.stream = None
    assert follower.ask().status == "ok"


def test_priority_is_dropped_where_the_server_refuses_it_and_not_sent_again(follower: Follower) -> None:
    follower.server.priority = False

    answers = [follower.ask("base") for _ in range(2)]

    assert [a.status for a in answers] == ["ok", "ok"]
    assert [body.get("priority") for body in follower.server.questions(BASE_MODEL)] == [10, None, None]
    assert not follower.models.puts_people_first  # from now on shadows are asked afterwards


def test_a_key_goes_to_its_own_address_alone(follower: Follower) -> None:
    with vllm_server(key="for-base") as other:
        parts = {"base_url": other.url, "base_key": "for-base", "engine_key": "for-tuned"}
        settings = load_settings(_env_file=None, **{**follower.settings.model_dump(), **parts})
        models = Models("", "", max_new_tokens=12, voices=Voices(settings, follower.ledger))
        assert models.ask("base", QUESTION, deadline_s=5).status == "ok"
        follower.promoted(1, follow=False)
        models.follow()
        assert models.ask("tuned", QUESTION, deadline_s=5).adapter_digest is not None
        models.close()

        assert set(other.keys) == {"Bearer for-base"} and set(follower.server.keys) == {"Bearer for-tuned"}


def test_a_fixed_name_is_told_from_the_base_by_canary_where_its_server_has_the_base(follower: Follower) -> None:
    follower.server.extra = ("ft:acme-1",)
    hosted = follower.another(tuned_name="ft:acme-1")
    hosted.models.follow()

    answer = hosted.ask()

    assert (answer.status, answer.adapter_digest, answer.params["proof"]) == ("ok", "name:ft:acme-1", "canary")
    assert follower.ledger.verify() == ()
    refused = hosted.models.ask_adapter(hosted.made(1), QUESTION, deadline_s=5)
    assert refused.reason == "TUNED_NAME=ft:acme-1 is fixed: no other adapter can be asked there"


def test_a_fixed_name_alone_at_its_server_is_believed_by_name_and_the_row_says_so(follower: Follower) -> None:
    follower.server.extra, follower.server.has_base = ("ft:acme-1",), False
    hosted = follower.another(tuned_name="ft:acme-1")
    hosted.models.follow()

    assert hosted.ask().params["proof"] == "name"


def test_a_fixed_name_behind_which_the_base_speaks_is_not_asked(follower: Follower) -> None:
    follower.server.strangers = "liar"
    hosted = follower.another(tuned_name="ft:acme-1")
    hosted.models.follow()

    answer = hosted.ask()

    assert answer.status == "failed" and "exactly as the base does" in answer.reason
    assert not answer.reason.startswith(UNREACHABLE) and follower.server.questions("ft:acme-1") == []


def test_a_server_that_is_not_there_is_unreachable_and_not_wrong(follower: Follower) -> None:
    lost = follower.another(engine_url=f"http://127.0.0.1:{free_port()}/v1")
    lost.promoted(1)

    assert follower.word == "" and lost.ask().reason.startswith(UNREACHABLE)
    with pytest.raises(Away):
        lost.voices.of("tuned")


# The proof itself

BASE = Reading(numbers=({"a": -0.5, "b": -1.5},), texts=("x", "y"))


def reading(by: float, texts: tuple[str, ...] = ("x", "y")) -> Reading:
    return Reading(numbers=({"a": -0.5 + by, "b": -1.5},), texts=texts)


@pytest.mark.parametrize(
    ("base", "tuned", "proven"),
    [
        ((BASE, BASE), (reading(0.01), reading(0.01)), True),
        ((BASE, BASE), (BASE, BASE), False),
        ((BASE, reading(0.02)), (reading(0.01), reading(0.03)), False),
        ((BASE, reading(0.02)), (reading(0.4), reading(0.42)), True),
        ((BASE, BASE), (BASE, reading(0.4)), False),
        ((BASE, BASE), (Reading(numbers=({"c": -0.1},), texts=()),) * 2, True),
    ],
)
def test_numbers_prove_an_adapter_only_beyond_the_wobble(base: Any, tuned: Any, proven: bool) -> None:
    assert (numbers_fault(base, tuned) == "") is proven


@pytest.mark.parametrize(
    ("tuned", "proven"),
    [((("x", "z"), ("x", "z")), True), ((("x", "z"), ("x", "y")), False), ((("x", "y"), ("x", "y")), False)],
)
def test_texts_prove_an_adapter_only_where_both_repeat_themselves(tuned: Any, proven: bool) -> None:
    assert (texts_fault((BASE, BASE), [reading(0, texts) for texts in tuned]) == "") is proven


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tuned_name": "tuned-{adaptr}", "base_name": "acme"}, "TUNED_NAME"),
        ({"tuned_name": "tuned-{adapter}"}, "name the base there in BASE_NAME"),
        ({"base_name": "acme"}, "name that server in BASE_URL"),
        ({"base_name": "acme", "tuned_name": "acme"}, "are both acme"),
    ],
)
def test_names_that_do_not_fit_their_servers_are_refused_at_the_start(changes: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_settings(_env_file=None, **changes)
