"""Which items a run is asked: hands without replacement, a sealed part, and nothing that training has seen."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.benchmark import SEALED_FROM, Deal, Row
from eval.overlap import Seen
from storage.records import Lesson


def pool(size: int) -> list[Row]:
    return [{"id": f"r{i}", "text": f"text {i}"} for i in range(size)]


def names(deal: Deal, rows: list[Row]) -> list[str]:
    return [row["id"] for row in deal.hand("x", rows).rows]


@given(st.sampled_from([2, 9, 60, 130, 499, 500, 700]), st.integers(20, 80), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_no_item_comes_again_until_the_pool_is_used_up_and_then_the_same_hands_come(
    size: int, items: int, seed: int
) -> None:
    rows = pool(size)
    everything = names(Deal(items=size, seed=seed), rows)
    hands = math.ceil(len(everything) / items)

    dealt = [names(Deal(items=items, seed=seed, turn=turn), rows) for turn in range(hands + 1)]

    asked = [item for hand in dealt[: hands - 1] for item in hand]
    assert len(set(asked)) == len(asked)
    assert {*asked, *dealt[hands - 1]} == set(everything)
    assert all(len(hand) == len(set(hand)) == min(items, len(everything)) for hand in dealt)
    assert dealt[hands] == dealt[0]


@given(st.sampled_from([SEALED_FROM, 777, 1_000]), st.integers(8, 60), st.integers(0, 30), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_a_sealed_item_is_in_no_open_hand_of_any_turn_or_seed(size: int, items: int, turn: int, seed: int) -> None:
    rows = pool(size)
    sealed = set(names(Deal(items=size, seed=3, sealed=True), rows))

    assert size / 8 < len(sealed) < size / 3.5
    assert not sealed & set(names(Deal(items=items, seed=seed, turn=turn), rows))
    assert set(names(Deal(items=items, seed=seed, turn=turn, sealed=True), rows)) <= sealed


def test_a_small_pool_has_nothing_sealed_and_is_dealt_whole() -> None:
    rows = pool(SEALED_FROM - 1)

    assert names(Deal(items=50, seed=1, sealed=True), rows) == []
    assert len(names(Deal(items=SEALED_FROM, seed=1), rows)) == SEALED_FROM - 1


def test_the_seal_of_an_item_does_not_depend_on_the_others() -> None:
    few, many = (set(names(Deal(items=2_000, seed=1, sealed=True), pool(size))) for size in (600, 1_200))

    assert few == {name for name in many if int(name[1:]) < 600}


def test_known_items_leave_their_hand_and_the_others_stay() -> None:
    rows = pool(40)
    plain = Deal(items=10, seed=1, turn=2).hand("x", rows)
    gone = {plain.rows[3]["id"], plain.rows[7]["id"]}

    hand = Deal(items=10, seed=1, turn=2, known=lambda row: row["id"] in gone).hand("x", rows)

    assert hand.rows == tuple(row for row in plain.rows if row["id"] not in gone)
    assert set(hand.left_out) == gone


def test_a_hand_of_one_is_none() -> None:
    hand = Deal(items=10, seed=1, known=lambda row: row["id"] != "r4").hand("x", pool(10))

    assert hand.rows == ()
    assert len(hand.left_out) == 9


LONG = "The ferry to the northern islands leaves at six in the morning and comes back late in the evening on most days."
TAUGHT = Lesson(
    lesson_id="l", source="ticket", conversation_id="c", answer=f"Hello! {LONG}",
    messages=(
        {"role": "system", "content": "You are a careful assistant who always answers in the language of the customer, briefly and directly."},
        {"role": "user", "content": "How do I reset the password of my account?"},
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("row", "held"),
    [
        ({"id": "a", "text": f"It is said: {LONG.upper()}"}, True),
        ({"id": "b", "query": "When?", "choices": ["never", LONG[4:]]}, True),
        ({"id": "c", "prompt": "How do I reset the password of my account"}, True),
        ({"id": "d", "prompt": "How do I reset the password of an account that is not mine, and stay unseen?"}, False),
        ({"id": "e", "text": "The ferry to the northern islands sails at noon and returns on the next day."}, False),
        ({"id": "f", "prompt": "Hello!"}, False),
        ({"id": LONG, "text": "A short one."}, False),
        ({"id": "g", "text": str(TAUGHT.messages[0]["content"])}, False),
    ],
)
def test_an_item_is_known_by_thirteen_words_in_a_row_or_by_being_nearly_a_training_text(row: Row, held: bool) -> None:
    assert Seen([TAUGHT]).holds(row) is held


def test_texts_without_spaces_are_known_too() -> None:
    text = "忘れた場合は、設定を開いてアカウントを選び、新しいパスワードを入力してください。"
    lesson = Lesson(lesson_id="l", source="ticket", conversation_id="c", messages=(), answer=text)

    assert Seen([lesson]).holds({"id": "a", "text": f"答え：{text}"})


def test_without_training_rows_nothing_is_known() -> None:
    assert not Seen([]).holds({"id": "a", "text": LONG})
