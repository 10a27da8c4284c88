"""A dataset is the same bytes for the same rows, and no conversation ever crosses the holdout line."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import WeightsError
from storage.records import Dataset, Lesson, Ticket
from training.dataset import build_dataset, in_holdout, load_dataset, load_replay, save_dataset
from training.redact import redact


def ticket(n: int, conversation: str | None = None, **changes: object) -> Ticket:
    fields = {
        "ticket_id": f"t{n}",
        "conversation_id": conversation or f"c{n}",
        "question": f"How do I do thing {n} in room {n * 7}?",
        "answer": f"Open menu {n}, choose entry {n * 3}, then press button {n * 5} twice.",
        "language": "en",
        "category": "menus",
    }
    return Ticket(**{**fields, **changes})  # type: ignore[arg-type]


def replay(count: int) -> tuple[Lesson, ...]:
    return tuple(
        Lesson(
            lesson_id=f"replay-{n:03}",
            source="replay",
            conversation_id=f"replay-{n}",
            answer=f"General answer {n}.",
            messages=({"role": "user", "content": f"General prompt {n}"},),
        )
        for n in range(count)
    )


def build(tickets: Sequence[Ticket], **changes: object) -> Dataset:
    fields = {
        "liked": (),
        "corrections": (),
        "replay": replay(40),
        "system_prompt": "Be kind.",
        "learn_from_slack": True,
        "replay_share": 0.1,
        "seed": 17,
    }
    return build_dataset(tickets=tickets, **{**fields, **changes})  # type: ignore[arg-type]


def lesson(source: str, n: int, conversation: str) -> Lesson:
    return Lesson(
        lesson_id=f"{source}-{n}",
        source=source,  # type: ignore[arg-type]
        conversation_id=conversation,
        author="U0ASHA",
        messages=({"role": "user", "content": f"Slack question {n} about {source}?"},),
        answer=f"Slack answer number {n} by {source}.",
    )


def test_built_twice_it_is_byte_identical_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = [ticket(n) for n in range(60)]

    one, two = save_dataset(build(rows), tmp_path / "1"), save_dataset(build(rows[::-1]), tmp_path / "2")

    assert one.name == two.name
    for name in ("train.jsonl", "holdout.jsonl", "manifest.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert load_dataset(one) == build(rows)


def test_a_dataset_that_was_changed_on_disk_is_refused(tmp_path: Path) -> None:
    folder = save_dataset(build([ticket(n) for n in range(10)]), tmp_path)
    path = folder / "train.jsonl"
    path.write_text(path.read_text().replace("menu 1", "menu 9"))

    with pytest.raises(WeightsError, match="was changed on disk"):
        load_dataset(folder)


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0, 400), min_size=1, max_size=25), st.sets(st.integers(0, 400), max_size=25))
def test_adding_data_moves_no_conversation_across_the_line(first: set[int], more: set[int]) -> None:
    before = build([ticket(n, f"c{n % 50}") for n in sorted(first)])
    after = build([ticket(n, f"c{n % 50}") for n in sorted(first | more)])

    def sides(d: Dataset) -> tuple[set[str], set[str]]:
        return (
            {x.conversation_id for x in d.train if x.source != "replay"},
            {x.conversation_id for x in d.holdout},
        )

    assert not sides(after)[0] & sides(after)[1]
    assert not sides(before)[0] & sides(after)[1] and not sides(before)[1] & sides(after)[0]


def test_about_a_fifth_of_the_conversations_is_held_out() -> None:
    assert 0.17 < sum(in_holdout(f"conversation {n}", 0.2) for n in range(5_000)) / 5_000 < 0.23


def test_duplicates_go_and_nothing_in_training_nearly_equals_the_holdout() -> None:
    held = next(f"h{n}" for n in range(100) if in_holdout(f"h{n}", 0.2))
    taught = [f"t{n}" for n in range(100) if not in_holdout(f"t{n}", 0.2)]
    twin = "Please open the settings page, choose security, press the reset link and follow the message that we send to you"
    rows = [
        ticket(1, held, answer=twin),
        ticket(2, taught[0], question=ticket(1).question, answer=twin + "."),
        ticket(3, taught[1]),
        ticket(4, taught[2], question=ticket(3).question, answer=ticket(3).answer),
    ]

    dataset = build(rows, replay_share=0.0)

    assert [x.lesson_id for x in dataset.holdout] == ["ticket-t1"] and [x.lesson_id for x in dataset.train] == [
        "ticket-t3"
    ]
    assert dataset.manifest["dropped"] == {"duplicates": 1, "near a holdout row": 1}


def test_unapproved_tickets_and_unconsented_slack_rows_are_left_out_and_counted() -> None:
    rows = [ticket(n) for n in range(5)] + [ticket(9, approved=False)]

    dataset = build(
        rows,
        liked=[lesson("rating", 1, "T:C:1")],
        corrections=[lesson("correction", 2, "T:C:2")],
        learn_from_slack=False,
    )

    assert dataset.manifest["dropped"] == {"no consent (LEARN_FROM_SLACK is off)": 2, "not approved": 1}
    assert {x.source for x in (*dataset.train, *dataset.holdout)} <= {"ticket", "replay"}


def test_with_consent_likes_teach_but_never_judge() -> None:
    held, taught = (
        next(f"T:C:{n}" for n in range(100) if in_holdout(f"T:C:{n}", 0.2) is side) for side in (True, False)
    )
    likes = [lesson("rating", 1, held), lesson("rating", 2, taught)]

    dataset = build([], liked=likes, corrections=[lesson("correction", 3, held)])

    assert [x.lesson_id for x in dataset.train] == ["rating-2"]
    assert [x.lesson_id for x in dataset.holdout] == ["correction-3"]


def test_taught_replies_teach_and_judge_with_consent_and_are_left_out_without() -> None:
    held, learnt = (
        next(f"T:C:{n}" for n in range(100) if in_holdout(f"T:C:{n}", 0.2) is side) for side in (True, False)
    )
    rows = [lesson("taught", 1, held), lesson("taught", 2, learnt)]

    dataset = build([], taught=rows, replay_share=0.0)
    without = build([], taught=rows, replay_share=0.0, learn_from_slack=False)

    assert [x.lesson_id for x in dataset.train] == ["taught-2"] and [x.lesson_id for x in dataset.holdout] == [
        "taught-1"
    ]
    assert dataset.manifest["train"]["by"]["source"] == {"taught": 1}
    assert (without.train, without.holdout) == ((), ())
    assert without.manifest["dropped"] == {"no consent (LEARN_FROM_SLACK is off)": 2}


def test_of_equal_rows_a_correction_goes_before_a_taught_reply_and_that_before_a_like_and_a_ticket() -> None:
    learnt = [name for n in range(100) if not in_holdout(name := f"T:C:{n}", 0.2)]

    def same(source: str, n: int) -> Lesson:
        first = lesson("rating", 1, learnt[0])
        return replace(lesson(source, n, learnt[n]), messages=first.messages, answer=first.answer)

    correction, taught, like = same("correction", 1), same("taught", 2), same("rating", 3)
    twin = ticket(4, learnt[4], question=like.question, answer=like.answer)

    def kept(**sources: Sequence[Lesson]) -> list[str]:
        return [x.lesson_id for x in build([twin], replay_share=0.0, **sources).train]

    assert kept(corrections=[correction], taught=[taught], liked=[like]) == ["correction-1"]
    assert kept(taught=[taught], liked=[like]) == ["taught-2"]
    assert kept(liked=[like]) == ["rating-3"]


def test_replay_has_the_asked_share_and_follows_the_seed() -> None:
    rows = [ticket(n) for n in range(200)]

    def share(d: Dataset) -> float:
        return sum(x.source == "replay" for x in d.train) / len(d.train)

    assert share(build(rows)) == pytest.approx(0.1, abs=0.005)
    assert share(build(rows, replay_share=0.0)) == 0
    assert build(rows, seed=1).digest != build(rows, seed=2).digest


def test_a_follow_up_carries_the_conversation_as_it_will_be_served() -> None:
    taught = next(f"t{n}" for n in range(100) if not in_holdout(f"t{n}", 0.2))
    rows = [ticket(1, taught, created_at="2026-01-01"), ticket(2, taught, created_at="2026-01-02")]

    follow_up = next(x for x in build(rows, replay_share=0.0).train if x.lesson_id == "ticket-t2")

    assert [m["role"] for m in follow_up.messages] == ["system", "user", "assistant", "user"]
    assert follow_up.messages[1]["content"] == ticket(1).question and follow_up.question == ticket(2).question


PERSONAL = "I am jo.ann+x@example.com, call +1 202-555-0143 or +49 30 23125 000; card 4111 1111 1111 1111, DE89370400440532013000, sk_test_4eC39HqLyjWD"


def test_personal_data_is_redacted_in_questions_answers_and_history() -> None:
    taught = next(f"t{n}" for n in range(100) if not in_holdout(f"t{n}", 0.2))
    rows = [ticket(1, taught, question=PERSONAL, created_at="1"), ticket(2, taught, answer=PERSONAL, created_at="2")]

    dataset = build(rows, replay_share=0.0)

    text = " ".join(m["content"] for x in dataset.train for m in x.messages) + " ".join(x.answer for x in dataset.train)
    assert "[email], call [phone] or [phone]; card [card], [iban], [secret]" in text
    assert not any(part in text for part in ("example.com", "555", "4111", "DE89", "sk_test"))
    assert dataset.manifest["redacted"]["email"] == 3


@given(st.text(max_size=200))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once, _ = redact(text)

    assert redact(once)[0] == once


@pytest.mark.parametrize(
    "text",
    ["order 1234567890123", "from 2026-03-01 10:00 to 2026-03-02", "version 10.2.13.4", "12 of 340 rows, 99.95 EUR"],
)
def test_ordinary_numbers_stay(text: str) -> None:
    assert redact(text)[0] == text


def test_the_shipped_replay_rows_load_and_are_distinct() -> None:
    rows = load_replay()

    assert len(rows) >= 60 and len({x.lesson_id for x in rows}) == len(rows) and all(x.answer for x in rows)
