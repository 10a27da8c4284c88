"""A dataset is the same bytes for the same lessons, and no conversation ever crosses the holdout line."""

import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import WeightsError
from storage.ledger import Ledger
from storage.records import Dataset, Lesson, Ticket
from storage.settings import load_settings
from training.dataset import build_dataset, ends_a_window, in_holdout, load_dataset, load_replay, save_dataset
from training.findings import Context
from training.redact import phones_in, redact
from training.sources import estimated_tokens, gather, ticket_lessons

CONTEXT = Context(max_tokens=512, tokens_of=estimated_tokens, counted_by="estimated")


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


def build(
    tickets: Sequence[Ticket] = (), *, lessons: Sequence[Lesson] = (), context: Context = CONTEXT, replay_share: float = 0.1,
    seed: int = 17, left_out: Mapping[str, int] | None = None,
) -> Dataset:  # fmt: skip
    rows = (*ticket_lessons(tickets, "Be kind."), *lessons)
    return build_dataset(lessons=rows, left_out=left_out or {}, replay=replay(40), context=context,
                         replay_share=replay_share, seed=seed).dataset  # fmt: skip


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


DAY_ONE = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = st.sets(st.tuples(st.integers(0, 60), st.integers(0, 90)), max_size=12)  # (conversation, day)


def imported(ledger: Ledger, rows: set[tuple[int, int]]) -> Dataset:
    """The dataset after one more file: a ticket for each (conversation, day)."""
    tickets = [
        ticket(c * 100 + day, f"c{c}", created_at=(DAY_ONE + timedelta(days=day)).isoformat())
        for c, day in sorted(rows)
    ]
    ledger.lessons.import_tickets(tickets, file="f", file_digest="d", columns={}, actor="me")
    return build(lessons=gather(ledger, load_settings(_env_file=None)).lessons)


def sides(d: Dataset) -> tuple[set[str], set[str]]:
    return {x.conversation_id for x in d.train if x.source != "replay"}, {x.conversation_id for x in d.holdout}


@settings(max_examples=30, deadline=None)
@given(files=st.lists(ROWS, min_size=1, max_size=3))
def test_no_file_moves_a_conversation_across_the_line_and_none_is_on_both_sides(
    files: list[set[tuple[int, int]]],
) -> None:
    """Also when a later file holds an older ticket of a known conversation: its beginning stays as it was first seen."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "evenkeel.db")
        seen = [sides(imported(ledger, rows)) for rows in files]
        ledger.close()

    assert not any(train & holdout for train, holdout in seen)
    for (train, holdout), (later_train, later_holdout) in zip(seen, seen[1:], strict=False):
        assert not train & later_holdout and not holdout & later_train


def test_whoever_began_in_the_last_two_of_thirty_days_judges_and_without_a_date_nobody_does() -> None:
    days = [(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=n)).isoformat() for n in range(300)]

    held = [n for n, day in enumerate(days) if ends_a_window(day)]

    assert len(held) == 20 and all(b - a in (1, 29) for a, b in zip(held, held[1:], strict=False))
    assert not any(ends_a_window(text) for text in ("", "yesterday", "03/01/2026"))
    learnt = next(name for n in range(100) if not in_holdout(name := f"t{n}", 0.2))
    late = ticket(1, learnt, began=days[held[0]])
    assert [x.lesson_id for x in build([late]).holdout] == ["ticket-t1"] and not build([ticket(1, learnt)]).holdout


def test_about_a_fifth_of_the_conversations_is_held_out() -> None:
    assert 0.17 < sum(in_holdout(f"conversation {n}", 0.2) for n in range(5_000)) / 5_000 < 0.23


def test_duplicates_go_and_nothing_in_training_nearly_equals_the_holdout() -> None:
    held = next(f"h{n}" for n in range(100) if in_holdout(f"h{n}", 0.2))
    taught = [f"t{n}" for n in range(100) if not in_holdout(f"t{n}", 0.2)]
    twin = "Please open the settings page, choose security, press the reset link and follow the message that we send to you"
    rows = [
        ticket(1, held, answer=twin),
        ticket(2, taught[0], question=ticket(1).question, answer=twin + " now."),
        ticket(3, taught[1]),
        ticket(4, taught[2], question=ticket(3).question, answer=ticket(3).answer),
    ]

    dataset = build(rows, replay_share=0.0)

    assert [x.lesson_id for x in dataset.holdout] == ["ticket-t1"]
    assert [x.lesson_id for x in dataset.train] == ["ticket-t3"]
    assert dataset.manifest["dropped"] == {"duplicate": 1, "near a holdout row": 1}


def test_likes_and_picks_teach_but_never_judge_and_peoples_own_words_do_both() -> None:
    held, learnt = (
        next(f"T:C:{n}" for n in range(100) if in_holdout(f"T:C:{n}", 0.2) is side) for side in (True, False)
    )
    sources = ("rating", "pick", "taught", "correction")
    rows = [lesson(source, n, place) for source in sources for n, place in ((1, held), (2, learnt))]

    dataset = build(lessons=rows, replay_share=0.0)

    assert [x.lesson_id for x in dataset.train] == ["correction-2", "pick-2", "rating-2", "taught-2"]
    assert [x.lesson_id for x in dataset.holdout] == ["correction-1", "taught-1"]


def test_the_manifest_says_what_was_left_out_before_and_by_the_lint() -> None:
    manifest = build([ticket(1), ticket(2, answer="ok")], left_out={"excluded person": 3}).manifest

    assert manifest["dropped"] == {"boilerplate answer": 1, "excluded person": 3}
    assert [(x["kind"], x["done"], x["examples"]) for x in manifest["lint"]] == [
        ("boilerplate answer", "removed", ["ticket-t2"])
    ]


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
    [
        "the token is shown once",
        "password reset link",
        "address 192.168.0.1",
        "release 8.2.13.4",
        "order 1234567890123",
        "from 2026-03-01 10:00 to 2026-03-02",
        "version 10.2.13.4",
        "at 12:30:45, on 2026:03:01 12:30:45",
        "std::vector<int>, dead::beef and ::",
        "in the lab 2001:db8::1 and fe80::1",
        "ab12 cdef ghij klmn opqr",
        "12 of 340 rows, 99.95 EUR",
    ],
)
def test_ordinary_numbers_stay(text: str) -> None:
    assert redact(text)[0] == text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("It is 2a00:1450:4001:82f::200e: down.", "It is [ip]: down."),
        ("From 2A02:908:1:2:3:4:5:6/64, [2600::1]:443.", "From [ip]/64, [[ip]]:443."),
        ("Mine is de89 3704 0044 0532 0130 00, thanks", "Mine is [iban], thanks"),
        ("to es9121000418450200051332 paid", "to [iban] paid"),
        ("to ES91 2100 0418 4502 0005 1332 from here", "to [iban] from here"),
    ],
)
def test_ipv6_addresses_and_ibans_in_small_letters_go(text: str, redacted: str) -> None:
    assert redact(text)[0] == redacted


def test_a_dataset_that_was_damaged_on_disk_is_written_again_and_one_that_is_gone_says_so(tmp_path: Path) -> None:
    dataset = build([ticket(n) for n in range(9)])
    folder = save_dataset(dataset, tmp_path)
    (folder / "train.jsonl").write_text('{"lesson_id": ')
    with pytest.raises(WeightsError, match="cannot be read"):
        load_dataset(folder)

    assert load_dataset(save_dataset(dataset, tmp_path)) == dataset
    with pytest.raises(WeightsError, match="is not there"):
        load_dataset(tmp_path / "gone")


def test_a_phone_number_of_our_own_stays() -> None:
    text = "Call +49 30 23125-000 or +49 30 23125 111."

    assert phones_in(text) == ["+493023125000", "+493023125111"]
    assert redact(text, keep={"+493023125000"})[0] == "Call +49 30 23125-000 or [phone]."


def test_the_shipped_replay_rows_load_and_are_distinct() -> None:
    rows = load_replay()

    assert len(rows) >= 60 and len({x.lesson_id for x in rows}) == len(rows) and all(x.answer for x in rows)
