"""The files of a job, and how long its base will be there: decided here, before anybody is asked."""

from dataclasses import replace
from datetime import date

import pytest

from storage.errors import EvenkeelError, TooLittleData
from storage.recipe import Recipe
from storage.records import Dataset, Lesson
from training import hosted_rows
from training.hosted_rows import files_of, held_back
from training.shutdown import PAGE, ending, time_left

URL = "https://api.openai.com/v1"


def row(n: int, **changes: object) -> Lesson:
    plain = Lesson(lesson_id=f"t{n}", source="ticket", conversation_id=f"c{n // 2}", answer=f"Answer {n}.",
                   messages=({"role": "user", "content": f"Question {n}?"},))  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def of(*rows: Lesson) -> Dataset:
    return Dataset(digest="d", train=rows, holdout=(), manifest={})


def test_the_same_rows_give_the_same_bytes_and_no_conversation_is_on_both_sides() -> None:
    rows = [row(n) for n in range(200)]
    train, watched = held_back(rows, seed=3)

    assert files_of(of(*rows), Recipe()) == files_of(of(*rows), Recipe())
    assert len(watched) == 16 and len(train) == 184
    assert not {x.conversation_id for x in train} & {x.conversation_id for x in watched}
    assert held_back(rows, seed=4)[1] != watched


def test_too_few_lessons_hold_none_back() -> None:
    assert files_of(of(*[row(n) for n in range(20)]), Recipe()).validation is None


@pytest.mark.parametrize(
    ("messages", "answer", "said"),
    [
        (({"role": "tool", "content": "x"}, {"role": "user", "content": "q"}), "a", "t3 has the role 'tool', allowed are system"),
        (({"role": "user", "content": "q"}, {"role": "system", "content": "x"}), "a", "t3 has a system message that is not its first"),
        (({"role": "assistant", "content": "q"},), "a", "t3 does not end with the user's question"),
        ((), "a", "t3 does not end with the user's question"),
        (({"role": "user", "content": " "},), "a", "t3 has an empty message"),
        (({"role": "user", "content": "q"},), " ", "t3 has an empty message"),
    ],
)  # fmt: skip
def test_a_row_that_is_no_chat_is_named(messages: tuple[dict[str, str], ...], answer: str, said: str) -> None:
    rows = [row(n) for n in range(20)]
    rows[3] = row(3, messages=messages, answer=answer)

    with pytest.raises(EvenkeelError, match=f"1 rows are no chat .*: {said}"):
        files_of(of(*rows), Recipe())


def test_rows_that_are_too_long_are_left_out_and_counted_and_too_few_are_refused() -> None:
    long = row(99, answer="word " * 2000)

    assert files_of(of(*[row(n) for n in range(20)], long), Recipe()).dropped == 1
    with pytest.raises(TooLittleData, match="9 rows fit into max_tokens=512, a job needs 10"):
        files_of(of(*[row(n) for n in range(9)], long), Recipe())


def test_a_file_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted_rows, "MOST_BYTES", 1000)

    with pytest.raises(EvenkeelError, match="the training file has 0 MB"):
        files_of(of(*[row(n) for n in range(50)]), Recipe())


@pytest.mark.parametrize(
    ("model", "url", "day"),
    [
        ("gpt-4.1-mini-2025-04-14", URL, date(2027, 1, 14)),
        ("gpt-4o", URL, date(2027, 1, 14)),
        ("gpt-4.1-nano", URL, date(2026, 10, 31)),
        ("gpt-4ohm", URL, None),
        ("gpt-4o", "https://acme.example/v1", None),
    ],
)
def test_the_table_is_of_models_at_openai_alone(model: str, url: str, day: date | None) -> None:
    found = ending(url=url, model=model, told=None, set_to=None)

    assert (found.on if found else None) == day and (found is None or found.says == PAGE)


def test_the_setting_wins_over_the_server_and_the_server_over_the_table() -> None:
    told = ending(url=URL, model="gpt-4o", told="2028-05-06", set_to=None)
    assert told and told.on == date(2028, 5, 6)
    stated = ending(url=URL, model="gpt-4o", told="2028-05-06", set_to=date(2029, 1, 1))
    assert stated and stated.on == date(2029, 1, 1)
    nonsense = ending(url="https://acme.example", model="m", told="soon", set_to=None)
    assert nonsense is None


def test_openai_starts_no_job_after_its_last_day() -> None:
    with pytest.raises(EvenkeelError, match="starts no fine-tuning job since 2027-01-06"):
        time_left("gpt-9", None, url=URL, today=date(2027, 1, 6))
    assert time_left("gpt-9", None, url="https://acme.example", today=date(2027, 1, 6)) == ""
