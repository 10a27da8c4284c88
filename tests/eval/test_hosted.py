"""A hosted base and its tuned model are measured by what their server gives; what it does not give is unknown."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from eval.benchmark import Answerer, Deal
from eval.hosted import HostedModel, Unread
from eval.lm import AnswererLM, answer_log_likelihoods, answers_to, continuations, rolling
from eval.own import own_benchmarks
from eval.suite import Plan, score
from storage.digests import digest_of
from storage.errors import EvenkeelError, WeightsError
from storage.ledger import Ledger
from storage.records import Lesson
from storage.servers import Server
from storage.weights import keep_adapter
from tests.training.tuning_server import BASE, TuningServer, likelihoods, tuning_server

TUNED = f"ft:{BASE}:acme:x:1"
ASKED = ({"role": "user", "content": "Where is the zebra menu?"},)


def untold(*_: Any) -> None:
    return


@pytest.fixture
def server() -> Iterator[TuningServer]:
    with tuning_server(taught={TUNED: {ASKED[0]["content"]: "Behind the zebra gate."}}) as made:
        yield made


At = Callable[[], HostedModel]


@pytest.fixture
def at(server: TuningServer) -> Iterator[At]:
    with ExitStack() as stack:
        there = Server(url=server.url, key="k", name=BASE)
        yield lambda: stack.enter_context(closing(HostedModel(there, there)))


def adapter(weights: Path, model: str = TUNED, base: str = f"name:{BASE}") -> Path:
    def write(folder: Path) -> None:
        (folder / "hosted.json").write_text(json.dumps({"model": model}))

    return keep_adapter(weights, write, {"base_digest": base})[1]


def test_base_and_tuned_answer_under_their_own_names_and_say_how_sure_they_were(
    server: TuningServer, at: At, tmp_path: Path
) -> None:
    model = at()
    digest = model.add_adapter(adapter(tmp_path))
    chats = [ASKED] * 3

    plain, tuned = (
        answers_to(Answerer(model=model, adapter=who), chats, max_new_tokens=8, tell=untold) for who in (None, digest)
    )

    assert [g.text for g in tuned] == ["Behind the zebra gate."] * 3 and plain[0].text.startswith("About ")
    expected = likelihoods(server, TUNED, "Behind the zebra gat")
    assert tuned[0].finished and tuned[0].confidence == pytest.approx(math.fsum(expected) / len(expected))


def test_only_a_whole_record_of_this_base_is_asked(server: TuningServer, at: At, tmp_path: Path) -> None:
    model = at()
    with pytest.raises(WeightsError, match="was trained on base other"):
        model.add_adapter(adapter(tmp_path / "a", base="name:other"))
    with pytest.raises(EvenkeelError, match="not known to be at a server"):
        answers_to(Answerer(model=model, adapter="d" * 64), [ASKED], max_new_tokens=8, tell=untold)


def test_text_and_answers_have_the_servers_own_numbers(server: TuningServer, at: At, tmp_path: Path) -> None:
    model = at()
    answerer = Answerer(model=model, adapter=model.add_adapter(adapter(tmp_path)))
    text, context = "The zebra sleeps at last.", "Yesterday "
    rendered = "<user>Where is the zebra menu?</><assistant>"

    (whole,) = rolling(answerer, [text], untold)
    (after,) = continuations(answerer, [(list(context.encode()), list(text.encode()))], untold)
    (said,) = answer_log_likelihoods(answerer, [(ASKED, "Zürich")], untold)
    (open_end,) = answer_log_likelihoods(answerer, [(ASKED, "Zürich")], untold, ends=False)

    assert whole == pytest.approx(math.fsum(likelihoods(server, TUNED, text)[1:]))
    assert after == pytest.approx(math.fsum(likelihoods(server, TUNED, context + text)[len(context) :]))
    assert open_end == pytest.approx(math.fsum(likelihoods(server, TUNED, rendered + "Zürich")[len(rendered) :]))
    assert said == pytest.approx(math.fsum(likelihoods(server, TUNED, rendered + "Zürich</>")[len(rendered) :]))
    assert model.unread == ()


def test_lm_evals_pairs_and_chats_go_through_whole(at: At) -> None:
    model = at()
    lm = AnswererLM(Answerer(model=model, adapter=None), untold)
    long = "word " * 1000 + "zebra"

    (ids, cont) = lm._encode_pair("Grüße an ", "alle")
    assert (bytes(ids).decode(), bytes(cont).decode()) == ("Grüße an", " alle")
    chat = lm.apply_chat_template([{"role": "user", "content": long}])
    (said,) = lm._speak([lm.tok_encode(chat)[-lm._window :]], {"max_gen_toks": 8}, 0, 1)
    assert said.startswith("About word")
    with pytest.raises(Unread, match="asked chats alone"):
        lm._speak([lm.tok_encode("plain text")], {}, 0, 1)


@pytest.mark.parametrize(
    ("changes", "text", "chat"),
    [
        ({}, "", ""),
        ({"tokenize": False}, "", "renders no chat at /tokenize"),
        ({"echo": False}, "gives no log-probabilities of a prompt", "gives no log-probabilities of a prompt"),
        ({"faults": {"POST completions": ["html"]}}, "gives no log-probabilities", "gives no log-probabilities"),
    ],
)
def test_what_the_server_does_not_give_is_unread_with_the_reason(
    server: TuningServer, at: At, changes: dict[str, Any], text: str, chat: str
) -> None:
    server.__dict__.update(changes)
    answerer = Answerer(model=at(), adapter=None)
    asks: tuple[tuple[str, Callable[[], Any]], ...] = (
        (text, lambda: rolling(answerer, ["Water is wet."], untold)),
        (chat, lambda: answer_log_likelihoods(answerer, [(ASKED, "Here.")], untold)),
    )
    for why, ask in asks:
        if why:
            with pytest.raises(Unread, match=why):
                ask()
        else:
            ask()


@pytest.mark.parametrize("status", [401, 500])
def test_a_base_that_does_not_answer_is_an_error_and_no_unread_benchmark(
    server: TuningServer, at: At, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.hosted.RETRIES", 0)
    server.faults["POST completions"] = [status]

    with pytest.raises(EvenkeelError, match=f"{BASE} at .* could not be asked: .*scripted"):
        at()


def test_a_model_that_another_one_answers_for_is_not_measured(server: TuningServer, at: At, tmp_path: Path) -> None:
    model = at()
    answerer = Answerer(model=model, adapter=model.add_adapter(adapter(tmp_path)))
    server.answers_as = f"{BASE}-of-today"

    with pytest.raises(EvenkeelError, match=f"{TUNED} was asked, but '{BASE}-of-today' answered"):
        answers_to(answerer, [ASKED], max_new_tokens=4, tell=untold)


@pytest.mark.parametrize("echo", [True, False])
def test_a_suite_is_measured_whole_or_says_what_stays_unknown(
    server: TuningServer, at: At, ledger: Ledger, lessons: Callable[[str, int], tuple[Lesson, ...]], echo: bool
) -> None:
    server.echo = echo
    model, run_id = at(), ledger.runs.request(reason="cli", requested_by="t", overrides={})
    general = own_benchmarks(system_prompt="Be brief.", deal=Deal(items=8, seed=1))
    plan = Plan(general=general, missing=(), seed=1, target_items=8, target_generations=4, max_new_tokens=8)

    card = score(model, None, plan=plan, holdout=lessons("h", 12), ledger=ledger, progress=untold, run_id=run_id)

    measured = {(s.benchmark, s.metric) for s in card.scores}
    assert {("instructions", "pass"), ("diversity", "distinct_2"), ("support", "rouge_l")} <= measured
    needs = {
        ("support", "bits_per_byte"),
        ("instruct_answers", "bits_per_byte"),
        ("refusal", "p_correct"),
        ("open_text.news", "bits_per_byte"),
    }
    assert needs & measured == (needs if echo else set())
    notes = [note["text"] for note in ledger.runs.history(run_id)]
    held = [text for text in notes if text.endswith("what needs them is unknown, so the gate holds")]
    assert bool(held) != echo and card.base_digest == f"name:{BASE}"
    if echo:
        value = card.get("support", "bits_per_byte")
        assert value and value.n == 8 and 0.5 < value.value < 5
        assert card.template_digest == digest_of(["hosted", server.url, server.url])
