"""Ticket files are imported whole or not at all, and every faulty row is named."""

import json
from pathlib import Path

import pytest

from storage.errors import UsageError
from storage.ledger import Ledger
from training.tickets import import_file, read_tickets


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
