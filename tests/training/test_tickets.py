"""Ticket files are imported whole or not at all, and every faulty row is named."""

import json
from pathlib import Path

import pytest

from storage.errors import UsageError
from storage.forgetting import forget
from storage.ledger import Ledger
from training.sources import ticket_lessons
from training.tickets import Imported, import_file, read_tickets


def write(tmp_path: Path, name: str, text: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_csv_with_other_column_names_is_read_by_its_map(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", '\ufeffId,Description,Resolution,Thread\n1,"How, please?","So\nand so",C1\n')

    (ticket,) = read_tickets(
        path, {"question": "Description", "answer": "Resolution", "ticket_id": "Id", "conversation_id": "Thread"}
    ).rows

    assert (ticket.question, ticket.answer, ticket.conversation_id, ticket.language) == (
        "How, please?",
        "So\nand so",
        "C1",
        "en",
    )


def test_jsonl_is_read_and_importing_twice_adds_nothing(tmp_path: Path, ledger: Ledger) -> None:
    rows = [{"question": f"Question {n}?", "answer": "Yes.", "approved": n != 2} for n in range(3)]
    path = write(tmp_path, "t.jsonl", "\n".join(map(json.dumps, rows)))

    first, again = (import_file(path, {}, ledger=ledger, actor="me") for _ in range(2))
    assert (first.added, first.known, again.added, again.known) == (3, 0, 0, 3)
    assert [t.approved for t in sorted(ledger.lessons.tickets(), key=lambda t: t.question)] == [True, True, False]


def brought(tmp_path: Path, ledger: Ledger, *rows: dict[str, object], **columns: str) -> Imported:
    plain = {"ticket_id": "7", "conversation_id": "c7", "question": "How long does it take?", "answer": "One day."}
    text = "\n".join(json.dumps({**plain, **row}) for row in rows)
    return import_file(write(tmp_path, "t.jsonl", text), columns, ledger=ledger, actor="me")


def taught(ledger: Ledger) -> list[str]:
    return [lesson.answer for lesson in ticket_lessons(ledger.lessons.tickets(), "Be brief.")]


def test_a_ticket_that_is_solved_later_is_learned_and_one_that_is_disliked_later_is_not(
    tmp_path: Path, ledger: Ledger
) -> None:
    brought(tmp_path, ledger, {"approved": False})
    assert taught(ledger) == []
    solved = brought(tmp_path, ledger, {"approved": True})
    assert taught(ledger) == ["One day."]
    disliked = brought(tmp_path, ledger, {"approved": False})

    assert taught(ledger) == []
    assert [(x.added, x.known, x.changed) for x in (solved, disliked)] == [(0, 1, 1)] * 2


def test_of_two_answers_the_one_that_was_imported_last_counts_even_if_it_was_known_before(
    tmp_path: Path, ledger: Ledger
) -> None:
    for answer in ("One day.", "Two days.", "One day."):
        done = brought(tmp_path, ledger, {"answer": answer})

    assert taught(ledger) == ["One day."] and (done.added, done.known, done.changed) == (0, 1, 1)
    assert brought(tmp_path, ledger, {"answer": "One day."}).changed == 0


def test_a_file_with_two_answers_to_one_question_changes_nothing_when_it_is_imported_again(
    tmp_path: Path, ledger: Ledger
) -> None:
    both = ({"answer": "One day."}, {"answer": "Two days."})
    brought(tmp_path, ledger, *both)
    before = taught(ledger)

    again = [brought(tmp_path, ledger, *both) for _ in range(2)]

    assert [x.changed for x in again] == [0, 0] and taught(ledger) == before


def test_who_asked_is_learned_from_a_second_import_and_kept_when_a_third_does_not_say(
    tmp_path: Path, ledger: Ledger
) -> None:
    brought(tmp_path, ledger, {"who": "k1"})
    mapped = brought(tmp_path, ledger, {"who": "k1"}, customer="who")
    silent = brought(tmp_path, ledger, {"who": "k1"})

    assert [t.customer for t in ledger.lessons.tickets()] == ["k1"] and (mapped.changed, silent.changed) == (1, 0)
    ledger.consent.exclude("k1", actor="ines")
    barred = ledger.consent.barred()
    assert ticket_lessons(ledger.lessons.tickets(), "Be brief.", barred) == []


def test_a_changed_date_moves_no_conversation_across_the_line_and_counts_as_a_new_lesson(
    tmp_path: Path, ledger: Ledger
) -> None:
    brought(tmp_path, ledger, {"created_at": "2026-03-10"})
    ledger.runs.cancel(ledger.runs.request(reason="cli", requested_by="me", overrides={}))
    assert brought(tmp_path, ledger, {"created_at": "2026-03-10"}).changed == 0
    assert ledger.lessons.count_since_last_run(with_slack=False) == 0

    brought(tmp_path, ledger, {"created_at": "2026-02-27"})

    (ticket,) = ledger.lessons.tickets()
    assert (ticket.created_at, ticket.began) == ("2026-02-27", "2026-03-10")
    assert ledger.lessons.count_since_last_run(with_slack=False) == 1


def test_what_a_forgotten_person_asked_stays_out_of_a_second_import(tmp_path: Path, ledger: Ledger) -> None:
    brought(tmp_path, ledger, {"customer": "k1"})
    forget(ledger, tmp_path / "datasets", "k1", actor="ines")

    again = brought(tmp_path, ledger, {"customer": "k1"})

    assert (again.added, again.known, again.forgotten) == (0, 0, 1) and ledger.lessons.tickets() == ()


def test_every_faulty_row_is_named_and_nothing_is_imported(tmp_path: Path, ledger: Ledger) -> None:
    path = write(tmp_path, "t.csv", "question,answer,approved\nA?,,yes\nB?,Good.,perhaps\nC?,Fine.,yes\n")

    with pytest.raises(UsageError) as error:
        import_file(path, {}, ledger=ledger, actor="me")

    assert "2 of 3 rows" in str(error.value)
    assert "row 1: answer is empty" in str(error.value) and "row 2: approved is 'perhaps'" in str(error.value)
    assert ledger.lessons.tickets() == ()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "question,reply\nA?,B.\n", "no column 'answer'"),
        ("t.csv", "question,answer\nA?,B.,C\n", "row 1 has 3 columns, the header has 2"),
        ("t.csv", "question,answer\n", "has no rows"),
        ("t.csv", b"question,answer\n\xff\xfe,B.\n", "not UTF-8"),
        ("t.csv", 'question,answer\n"A?,B.\n', "broken CSV"),
        ("t.jsonl", '{"question": "A?", "answer": "B."}\nnot json\n', "line 2 is not JSON"),
        ("t.jsonl", "[1, 2]\n", "record 1 is int"),
        ("t.jsonl", '{"question": "A\\u0000?", "answer": "B."}\n', "characters that are no text"),
        ("t.jsonl", json.dumps({"question": "A?", "answer": "b" * 8001}), "8,001 characters"),
        ("t.xlsx", "x", "neither .csv nor .jsonl"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_tickets(write(tmp_path, name, content), {})


def test_a_missing_file_and_an_unknown_field_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_tickets(tmp_path / "none.csv", {})
    with pytest.raises(UsageError, match="--map colour=… is no field"):
        read_tickets(tmp_path / "none.csv", {"colour": "x"})
