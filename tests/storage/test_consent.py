"""Exclusions and reviews stay on record, and the migration that brought them moves nobody."""

from pathlib import Path

import pytest
from sqlite_utils import Database

from storage.consent import Barred, known_as
from storage.database import connect
from storage.digests import digest_of
from storage.ledger import Ledger
from storage.migrations import migrations
from storage.records import Ticket


def test_an_exclusion_names_who_made_it_and_can_be_undone_once(ledger: Ledger) -> None:
    assert ledger.consent.exclude("Mia@Example.com ", actor="ines")
    (standing,) = ledger.consent.exclusions()
    assert (standing.person, standing.actor) == (known_as("mia@example.com"), "ines")

    assert ledger.consent.include("mia@example.com", actor="asha")
    assert not ledger.consent.include("mia@example.com", actor="asha") and ledger.consent.exclusions() == ()
    rows = ledger.connections.db.execute("SELECT actor, undone_by FROM exclusions").fetchall()
    assert rows == [("ines", "asha")]


def test_the_newest_word_on_a_contact_counts(ledger: Ledger) -> None:
    ledger.consent.judge("evil.example", "allow", actor="a")
    ledger.consent.judge("evil.example", "deny", actor="b")

    assert ledger.consent.verdicts() == {"evil.example": "deny"}


def test_the_forgotten_are_known_by_their_digest_only() -> None:
    barred = Barred(excluded=frozenset({"U2"}), forgotten=frozenset({digest_of("U1")}))

    assert [barred.reason(*p) for p in (("U1", ""), ("", "U2"), ("U3", ""))] == [
        "forgotten person",
        "excluded person",
        "",
    ]


@pytest.mark.parametrize(
    ("person", "kept"),
    [("U0ASHA", True), ("360012345678", True), ("", True), ("mia@example.com", False), ("+49 30 123456", False), ("Mia Lund", False)],
)  # fmt: skip
def test_ids_are_kept_as_names_and_what_is_personal_is_not(person: str, kept: bool) -> None:
    assert (known_as(person) == person) is kept


def test_a_ledger_of_before_keeps_its_tickets_and_none_of_its_conversations_gets_a_beginning(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    db = Database(connect(path))
    migrations.apply(db, stop_before="m003_lesson_sources")
    db.execute("INSERT INTO imports VALUES (1, 't.csv', 'd', '{}', 1, 1, 0, 'me', '2026-01-01')")
    content = digest_of(["A", "c1", "q", "a"])
    db.execute("INSERT INTO tickets VALUES (?, 1, 'A', 'c1', 'q', 'a', '', 'en', 1, '2026-03-10')", (content,))
    db.conn.commit()
    db.conn.close()

    ledger = Ledger(path)

    (ticket,) = ledger.lessons.tickets()
    assert (ticket.customer, ticket.origin, ticket.began, ticket.created_at) == ("", "t.csv", "", "2026-03-10")
    later = Ticket(ticket_id="B", conversation_id="c1", question="q", answer="b", created_at="2026-03-11")
    ledger.lessons.import_tickets([later], file="u", file_digest="e", columns={}, actor="me")
    assert {t.began for t in ledger.lessons.tickets()} == {""} and ledger.verify() == ()
    ledger.close()
