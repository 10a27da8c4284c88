"""lm-eval's view of a model says what the model says, item by item."""

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bot.engine.model import LoadedModel
from eval.benchmark import Answerer, Deal
from eval.lm import AnswererLM, answer_log_likelihoods, answers_to, continuations, rolling
from eval.local_tasks import local_benchmark, local_tasks
from eval.metrics import choice_probabilities
from storage.settings import Settings


def quietly(done: int, total: int) -> None:
    assert 0 <= done <= total


@pytest.fixture
def base(tiny_model: LoadedModel) -> Answerer:
    return Answerer(model=tiny_model, adapter=None)


@pytest.fixture
def direct(tiny_folder: Path) -> Any:
    """log p(continuation | context) by plain transformers, one row at a time, in float32."""
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)

    def measure(context: str, continuation: str) -> float:
        begin = tokenizer(context, add_special_tokens=False).input_ids
        row = torch.tensor([begin + tokenizer(continuation, add_special_tokens=False).input_ids])
        with torch.inference_mode():
            log_p = torch.log_softmax(model(row).logits.float(), -1)[0, :-1]
        return float(log_p.gather(1, row[0, 1:, None])[len(begin) - 1 :].sum())

    return measure


def test_lm_eval_agrees_with_a_direct_computation_item_by_item(base: Answerer, small: Settings, direct: Any) -> None:
    benchmark = local_benchmark(local_tasks(small)["arc_easy"], Deal(items=8, seed=3))
    right, sure = benchmark.measure(base, quietly)

    choices = {0: ["ice", "steam", "sand"], 1: ["in trees", "in water"]}
    questions = {0: "What is frozen water?", 1: "Where do fish live?"}
    assert len(sure.items) == 8
    for hit, item in zip(right.items, sure.items, strict=True):
        kind = int(item.item_id[1:]) % 2
        lls = [direct(f"Question: {questions[kind]}\nAnswer:", f" {choice}") for choice in choices[kind]]
        answer = (0, 1)[kind]
        assert item.value == pytest.approx(choice_probabilities(lls)[answer], rel=2e-2)
        assert hit.value == float(lls.index(max(lls)) == answer)


def test_order_and_batches_do_not_change_an_item(base: Answerer) -> None:
    pairs = [([5, 6, 7], [8, 9]), ([10] * 40, [11]), ([12], [13, 14, 15])] * 20

    together = continuations(base, pairs, quietly)

    assert together[:3] == pytest.approx([continuations(base, [pair], quietly)[0] for pair in pairs[:3]], abs=1e-4)
    assert together[3:6] == pytest.approx(together[:3], abs=1e-4)


def test_an_adapter_speaks_for_itself_and_the_base_alone_stays_the_base(
    tiny_model: LoadedModel, adapters: tuple[str, str], base: Answerer
) -> None:
    pairs = [([5, 6, 7], [8, 9, 10])]
    before = continuations(base, pairs, quietly)
    tuned = [continuations(Answerer(model=tiny_model, adapter=a), pairs, quietly) for a in adapters]

    assert len({before[0], tuned[0][0], tuned[1][0]}) == 3
    assert continuations(base, pairs, quietly) == pytest.approx(before, abs=1e-6)


def test_a_rolling_text_counts_every_token_once(base: Answerer, direct: Any) -> None:
    text = "plain text, ohne Frage"

    (value,) = rolling(base, [text], quietly)

    assert value == pytest.approx(direct("<|im_start|>", text), rel=1e-3)


def test_a_text_longer_than_the_window_is_read_in_windows_each_token_once(
    base: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[int], list[int]]] = []

    def record(_: Answerer, pairs: list[tuple[list[int], list[int]]], __: Any) -> list[float]:
        seen.extend(pairs)
        return [float(len(continuation)) for _, continuation in pairs]

    monkeypatch.setattr("eval.lm.WINDOW", 21)
    monkeypatch.setattr("eval.lm.continuations", record)

    values = rolling(base, ["abcdefghij" * 5, "short"], quietly)

    assert values == [50.0, 5.0]
    assert len(seen) == 4
    assert all(context and len(context) + len(continuation) <= 21 for context, continuation in seen)
    ids = base.model.renderer.tokenizer("abcdefghij" * 5, add_special_tokens=False).input_ids
    assert [t for _, continuation in seen[:3] for t in continuation] == list(ids)


def test_the_answer_is_scored_with_its_end_token_and_nothing_else(base: Answerer) -> None:
    messages = ({"role": "user", "content": "hi"},)
    ids, mask = base.model.renderer.example(messages, "yes")
    (row,) = base.model.log_probs([ids], adapter=None)
    by_mask = sum(float(row[i - 1]) for i in range(1, len(ids)) if mask[i])

    assert sum(mask) == len("yes") + 1
    assert answer_log_likelihoods(base, [(messages, "yes")], quietly) == pytest.approx([by_mask], abs=1e-4)


def test_answers_come_back_in_the_order_of_the_chats_and_are_told_to_the_end(base: Answerer) -> None:
    chats = [({"role": "user", "content": text},) for text in ("a longer question", "b", "some words")]
    told: list[tuple[int, int]] = []

    together = answers_to(base, chats, max_new_tokens=6, tell=lambda *done: told.append(done))

    alone = [answers_to(base, [chat], max_new_tokens=6, tell=quietly)[0] for chat in chats]
    assert [one.text for one in together] == [one.text for one in alone] and told[-1] == (3, 3)


def test_generate_until_follows_length_and_stop_of_each_request(base: Answerer) -> None:
    lm = AnswererLM(base, quietly)
    requests = [SimpleNamespace(args=("abc", {"until": ["\n"], "max_gen_toks": n})) for n in (3, 3, 5)]

    texts = lm.generate_until(requests)

    assert len(texts) == 3
    assert texts[0] == texts[1]


def test_greedy_is_looked_up_only_where_somebody_asks(base: Answerer) -> None:
    lm = AnswererLM(base, quietly, wants_greedy=True)
    (said,) = base.model.generate([lm.tok_encode("abc")], adapter=None, max_new_tokens=2)
    pairs = [(("", ""), lm.tok_encode("abc"), list(said.ids)), (("", ""), lm.tok_encode("abc"), [7, 7])]

    assert [greedy for _, greedy in lm._loglikelihood_tokens(pairs)] == [True, False]


def test_a_look_at_what_is_greedy_is_told_pair_by_pair(base: Answerer) -> None:
    told: list[tuple[int, int]] = []
    lm = AnswererLM(base, lambda *done: told.append(done), wants_greedy=True)

    lm._loglikelihood_tokens([(("", ""), lm.tok_encode("abc"), [7, 7])] * 3)

    assert told[-4:] == [(3, 6), (4, 6), (5, 6), (6, 6)]


def test_the_chat_template_of_lm_eval_is_the_one_that_is_served(base: Answerer) -> None:
    lm = AnswererLM(base, quietly)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]

    assert lm.tok_encode(lm.apply_chat_template(messages)) == list(base.model.renderer.prompt(messages))


def test_a_local_benchmark_opens_no_connection(
    base: Answerer, small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    assert len(list(local_benchmark(local_tasks(small)["arc_easy"], Deal(items=8, seed=3)).measure(base, quietly))) == 2
