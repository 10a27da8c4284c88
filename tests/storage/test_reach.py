"""How far lessons reach: distances, where far begins, and a file that is believed only when it is whole."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import WeightsError
from storage.reach import REACH, keep_reach, load_reach, reach_of
from storage.records import Dataset, Lesson

LEARNED = ["How do I reset my password?", "Wo finde ich meine Rechnung?", "パスワードを忘れました"]
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


def lesson(number: int, question: str, source: str = "ticket") -> Lesson:
    return Lesson(lesson_id=f"l{number}", source=source, conversation_id=f"c{number}", answer="So.",  # type: ignore[arg-type]
                  messages=({"role": "system", "content": "Be brief."}, {"role": "user", "content": question}))  # fmt: skip


def dataset(digest: str = "d" * 64) -> Dataset:
    train = (*(lesson(n, text) for n, text in enumerate(LEARNED)), lesson(9, "Who wrote Faust?", "replay"))
    held = tuple(
        lesson(20 + n, f"How do I reset the password of {name}?") for n, name in enumerate(("Ada", "Tom Moss"))
    )
    return Dataset(digest=digest, train=train, holdout=held, manifest={})


@given(st.lists(TEXTS, min_size=1, max_size=5), TEXTS)
def test_what_was_learned_is_at_distance_0_and_nothing_is_farther_than_1(learned: list[str], other: str) -> None:
    reach = reach_of(learned, [[other]])

    assert all(reach.distance([text]) == 0 for text in learned)
    assert 0 <= reach.distance([other]) <= 1


@given(st.lists(st.lists(TEXTS, min_size=1, max_size=2), min_size=1, max_size=45))
def test_far_begins_where_a_twentieth_of_the_holdout_ends(held: list[list[str]]) -> None:
    reach = reach_of(LEARNED, held)
    distances = sorted(reach.distance(said) for said in held)

    assert reach.threshold in distances
    assert sum(each > reach.threshold for each in distances) <= 0.05 * len(held)
    assert sum(each >= reach.threshold for each in distances) >= 0.05 * len(held)


def test_case_and_spacing_do_not_count_and_other_words_are_farther_in_every_script() -> None:
    reach = reach_of(LEARNED, [["Hello"]])

    assert reach.distance(["  HOW do I reset\nmy password?"]) == 0
    for near, far in (("Reset password how?", "Are whales fish?"), ("パスワードを忘れた", "鯨は魚ですか")):
        assert reach.distance([near]) < 0.6 < 0.8 < reach.distance([far])


def test_a_conversation_is_as_near_as_its_nearest_text() -> None:
    reach = reach_of(LEARNED, [["Hello"]])

    assert reach.distance(["Are whales fish?", LEARNED[1], "And then?"]) == 0
    assert reach.distance(["Are whales fish?", "And then?"]) > 0.8


def test_a_kept_reach_measures_as_it_did_and_knows_lessons_but_no_general_rows(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 64)
    folder.mkdir()
    keep_reach(dataset(), folder)
    reach = load_reach(folder)

    assert [reach.distance([text]) for text in LEARNED] == [0, 0, 0]
    assert reach.distance(["Who wrote Faust?"]) > 0.8 and reach.distance(["Be brief."]) > 0.8
    assert reach.threshold == max(reach.distance([row.question]) for row in dataset().holdout)
    assert b"password" not in (folder / REACH).read_bytes()


def test_a_reach_that_is_missing_damaged_or_another_datasets_is_refused(tmp_path: Path) -> None:
    own, other = tmp_path / ("d" * 64), tmp_path / ("e" * 64)
    own.mkdir(), other.mkdir()
    with pytest.raises(WeightsError, match=r"no reach.npz can be read .*Next: retrain"):
        load_reach(own)
    keep_reach(dataset(), own)
    whole = (own / REACH).read_bytes()
    (other / REACH).write_bytes(whole)

    with pytest.raises(WeightsError, match="another dataset's"):
        load_reach(other)
    for broken in (b"", whole[:-1], whole[:100] + b"x" + whole[101:]):
        (own / REACH).write_bytes(broken)
        with pytest.raises(WeightsError, match="damaged"):
            load_reach(own)
