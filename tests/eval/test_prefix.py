"""Rows that share a pass: the same numbers as one row at a time, and lm-eval's own numbers, for fewer tokens."""

import logging
import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from bot.engine.model import LoadedModel
from eval import prefix
from eval.benchmark import Answerer
from eval.lm import AnswererLM, continuations
from eval.prefix import Row, grow, log_likelihoods, passes


def row(context: list[int], continuation: list[int]) -> Row:
    return Row(ids=[*context, *continuation], size=len(continuation))


def mixed(seed: int = 1) -> list[Row]:
    """Items of two to four choices after contexts of very different lengths, some choices beginning alike."""
    dice, rows = random.Random(seed), list[Row]()
    for _ in range(12):
        context = [dice.randrange(5, 250) for _ in range(dice.choice([1, 3, 20, 90, 300]))]
        begin = [dice.randrange(5, 250) for _ in range(dice.choice([0, 2]))]
        for _ in range(dice.randrange(1, 5)):
            rows.append(row(context, begin + [dice.randrange(5, 250) for _ in range(dice.randrange(1, 12))]))
    return rows


def told(model: LoadedModel, adapter: str | None, rows: list[Row]) -> list[float]:
    found = {n: v for ns, vs in log_likelihoods(model, adapter, rows) for n, v in zip(ns, vs, strict=True)}
    assert sorted(found) == list(range(len(rows)))
    return [found[n] for n in range(len(rows))]


def alone(model: LoadedModel, adapter: str | None, one: Row) -> float:
    (log_p,) = model.log_probs([one.ids], adapter=adapter)
    return float(log_p[-one.size :].double().sum())


def test_rows_that_share_a_pass_have_the_numbers_of_rows_alone(exact: LoadedModel) -> None:
    rows = mixed()

    assert told(exact, None, rows) == pytest.approx([alone(exact, None, one) for one in rows], abs=1e-3, rel=1e-5)


@pytest.mark.parametrize("words", [1, 100, 258])
def test_the_vocabulary_may_be_read_in_pieces(exact: LoadedModel, words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = mixed(4)
    whole = told(exact, None, rows)
    monkeypatch.setattr(prefix, "WORDS", words)

    assert told(exact, None, rows) == pytest.approx(whole, abs=1e-4)


def test_logits_that_are_no_numbers_give_no_number(exact: LoadedModel) -> None:
    word = exact.model.lm_head.weight.data[200]  # nobody asks for it, but it is in the sum over all words
    before = word.clone()
    word.fill_(torch.nan)
    try:
        found = told(exact, None, [row([9], [5, 6]), row([9], [7])])
    finally:
        word.copy_(before)

    assert all(math.isnan(value) for value in found)


def test_the_models_own_attention_is_back_after_a_pass_even_one_that_broke(
    exact: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = exact.model.config._attn_implementation
    told(exact, None, mixed(5))
    assert exact.model.config._attn_implementation == way != prefix.TREES

    monkeypatch.setattr(prefix, "scaled_dot_product_attention", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        told(exact, None, mixed(5))
    assert exact.model.config._attn_implementation == way


def test_an_adapter_speaks_in_every_branch(tiny_model: LoadedModel, adapters: tuple[str, str]) -> None:
    rows = mixed(2)

    tuned = told(tiny_model, adapters[0], rows)

    assert tuned == pytest.approx([alone(tiny_model, adapters[0], one) for one in rows], rel=2e-2)
    assert all(abs(a - b) > 1e-3 for a, b in zip(tuned, told(tiny_model, None, rows), strict=True))


def test_a_model_that_forgets_its_past_reads_whole_rows(exact: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, seen = mixed(3), list[dict[str, Any]]()
    before = told(exact, None, rows)
    model = SimpleNamespace(
        model=SimpleNamespace(
            config=SimpleNamespace(layer_types=["full_attention", "sliding_attention"]),
            device="cpu",
            dtype=torch.float32,
            lm_head=exact.model.lm_head,
            model=lambda **what: seen.append(what) or exact.model.model(**what),
        ),
        use=exact.use,
    )

    assert told(model, None, rows) == pytest.approx(before, abs=1e-3)  # type: ignore[arg-type]
    assert all("attention_mask" not in what for what in seen)


def test_a_question_with_four_choices_is_read_once() -> None:
    context = list(range(10, 90))
    rows = [row(context, [n, n + 1]) for n in range(4)]

    (tree,) = grow(rows)

    assert (tree.rows, tree.stem, tree.width) == ([0, 1, 2, 3], 80, 84)


def test_questions_that_have_a_few_words_in_common_stay_apart() -> None:
    rows = [row([1, 2, *range(10 * n, 10 * n + 30)], [n, c]) for n in range(3) for c in range(2)]

    assert [tree.rows for tree in grow(rows)] == [[0, 1], [2, 3], [4, 5]]


def test_a_long_question_is_read_once_for_all_of_its_choices() -> None:
    rows = [row([3] * 2 * prefix.TREE, [c, 5]) for c in range(4)]

    (tree,) = grow(rows)

    assert (tree.stem, tree.width) == (2 * prefix.TREE, 2 * prefix.TREE + 4)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 700), st.integers(1, 4), st.integers(1, 30)), min_size=1, max_size=40))
def test_every_row_is_read_once_in_passes_that_are_not_too_large(items: list[tuple[int, int, int]]) -> None:
    rows = [
        row([n % 7 + 3] * length, [n, c] * size)
        for n, (length, choices, size) in enumerate(items)
        for c in range(choices)
    ]

    trees = grow(rows)

    assert sorted(n for tree in trees for n in tree.rows) == list(range(len(rows)))
    for tree in trees:
        assert len({tuple(rows[n].ids[: tree.stem]) for n in tree.rows}) == 1
        assert tree.width == tree.stem + sum(rows[n].read - tree.stem for n in tree.rows)
        assert tree.width - tree.stem <= prefix.TREE or len(tree.rows) == 1
    for padded in (False, True):
        groups = list(passes(trees, padded=padded))
        assert sorted(map(id, trees)) == sorted(id(tree) for group in groups for tree in group)
        for group in groups:
            taken = len(group) * group[0].width if padded else sum(tree.width for tree in group)
            assert taken <= prefix.PASS_TOKENS or len(group) == 1


def test_lm_evals_own_model_class_gives_the_same_numbers_item_by_item(exact: LoadedModel, tiny_folder: Path) -> None:
    asked = [
        Instance("loglikelihood", {}, (f"Question: {question}\nAnswer:", f" {choice}"), n, metadata=("t", n, 1))
        for n, question in enumerate(["What is frozen water?", "Where do fish live, if not in trees?", "Who?"])
        for choice in ("ice", "in the sea", "nobody knows")
    ]
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    theirs = HFLM(pretrained=plain, tokenizer=AutoTokenizer.from_pretrained(tiny_folder), batch_size=4)
    ours = AnswererLM(Answerer(model=exact, adapter=None), lambda *_: None)

    found = [value for value, _ in ours.loglikelihood(asked)]

    assert found == pytest.approx([value for value, _ in theirs.loglikelihood(asked, disable_tqdm=True)], abs=1e-3)


def test_older_context_falls_away_and_one_token_of_it_always_stays(
    exact: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = Answerer(model=exact, adapter=None)
    monkeypatch.setattr("eval.lm.WINDOW", 6)

    cut, bare, empty = continuations(
        who, [(list(range(20, 40)), [5, 6]), ([9, 8], [7] * 9), ([3], [])], lambda *_: None
    )

    assert cut == pytest.approx(alone(exact, None, row([36, 37, 38, 39], [5, 6])), abs=1e-4)
    assert bare == pytest.approx(alone(exact, None, row([8], [7] * 9)), abs=1e-4)
    assert empty == 0
