"""Checkable constraints: what counts as kept."""

from typing import Any

import pytest

from eval.checks import KINDS, passes, sentences
from storage.errors import ConfigurationError

KEPT: list[tuple[str, dict[str, Any]]] = [
    ("The word Lighthouse is here", {"kind": "contains", "text": "lighthouse"}),
    ("No trees", {"kind": "not_contains", "text": "river"}),
    ("Sure: here it is", {"kind": "starts_with", "text": "sure:"}),
    ("That is all. Goodbye", {"kind": "ends_with", "text": "goodbye"}),
    ("one two three", {"kind": "max_words", "n": 3}),
    ("one two three", {"kind": "min_words", "n": 3}),
    ("One. Two!", {"kind": "max_sentences", "n": 2}),
    ("- a\n* b\n3. c", {"kind": "n_bullets", "n": 3}),
    ("first\nstill first\n\nsecond", {"kind": "n_paragraphs", "n": 2}),
    ("all small 42", {"kind": "lowercase"}),
    ("ALL LARGE", {"kind": "uppercase"}),
    ('```json\n{"name": "x", "age": 3}\n```', {"kind": "json_keys", "keys": ["name", "age"]}),
    ("Yes.", {"kind": "one_of", "options": ["yes", "no"]}),
    ("red green blue", {"kind": "no_commas"}),
    ('```\n["a", "b"]\n```', {"kind": "json_list", "n": 2}),
    ("one two three", {"kind": "n_words", "n": 3}),
    ("One. Two!", {"kind": "n_sentences", "n": 2}),
    ("pear\n\nplum\nfig", {"kind": "n_lines", "n": 3}),
    ("Step one: water\n\nstep two: tea", {"kind": "each_line_starts", "text": "step"}),
    ("Breakfast comes before dinner", {"kind": "in_order", "texts": ["breakfast", "dinner"]}),
    ("Hello, hello! HELLO.", {"kind": "times", "text": "hello", "n": 3}),
    ("up to a hundred years", {"kind": "no_digits"}),
    ("おはようございます、先生！", {"kind": "script", "name": "Hiragana"}),
]
BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("nothing of it", {"kind": "contains", "text": "lighthouse"}),
    ("A River runs", {"kind": "not_contains", "text": "river"}),
    ("Here, sure:", {"kind": "starts_with", "text": "sure:"}),
    ("Goodbye then", {"kind": "ends_with", "text": "goodbye"}),
    ("one two three four", {"kind": "max_words", "n": 3}),
    ("one two", {"kind": "min_words", "n": 3}),
    ("One. Two! Three", {"kind": "max_sentences", "n": 2}),
    ("- a\n- b", {"kind": "n_bullets", "n": 3}),
    ("only one", {"kind": "n_paragraphs", "n": 2}),
    ("Not small", {"kind": "lowercase"}),
    ("Not LARGE", {"kind": "uppercase"}),
    ('{"name": "x"}', {"kind": "json_keys", "keys": ["name", "age"]}),
    ("yes and no", {"kind": "one_of", "options": ["yes", "no"]}),
    ("red, green", {"kind": "no_commas"}),
    ('["a", "b", "c"]', {"kind": "json_list", "n": 2}),
    ("one two three", {"kind": "n_words", "n": 4}),
    ("One. Two!", {"kind": "n_sentences", "n": 1}),
    ("pear, plum, fig", {"kind": "n_lines", "n": 3}),
    ("Step one: water\nThen tea", {"kind": "each_line_starts", "text": "step"}),
    ("Dinner comes after breakfast", {"kind": "in_order", "texts": ["breakfast", "dinner"]}),
    ("Hello, othello", {"kind": "times", "text": "hello", "n": 2}),
    ("up to 100 years", {"kind": "no_digits"}),
    ("ohayo ございます", {"kind": "script", "name": "Hiragana"}),
]


@pytest.mark.parametrize(("answer", "check"), KEPT, ids=[c["kind"] for _, c in KEPT])
def test_a_kept_constraint_passes(answer: str, check: dict[str, Any]) -> None:
    assert passes(answer, check)


@pytest.mark.parametrize(("answer", "check"), BROKEN, ids=[c["kind"] for _, c in BROKEN])
def test_a_broken_constraint_fails(answer: str, check: dict[str, Any]) -> None:
    assert not passes(answer, check)


def test_every_kind_is_tried_both_ways() -> None:
    assert {c["kind"] for _, c in KEPT} == {c["kind"] for _, c in BROKEN} == set(KINDS)


@pytest.mark.parametrize("check", [c for _, c in KEPT], ids=[c["kind"] for _, c in KEPT])
def test_silence_keeps_no_constraint(check: dict[str, Any]) -> None:
    assert not passes("  \n", check)


def test_json_that_is_no_object_has_no_keys() -> None:
    assert not passes("[1, 2]", {"kind": "json_keys", "keys": ["name"]})


def test_sentences_are_counted_in_other_scripts_and_not_within_numbers() -> None:
    assert sentences("元気です。はい！") == 2
    assert sentences("It costs 3.50 euros today.") == 1


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="'rhymes' is unknown.*max_words"):
        passes("text", {"kind": "rhymes"})
