"""Exports of Zendesk and Intercom become tickets: what customers asked, and what people publicly replied."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.consent import known_as
from storage.errors import UsageError
from storage.ledger import Ledger
from training.exports import html_to_text
from training.tickets import import_file, read_tickets


def zendesk(number: int = 35, **changes: Any) -> dict[str, Any]:
    """A ticket as the incremental export has it, with its comments."""
    said = [
        (7, True, "The export stops at half.", 1),
        (90, False, "He is on the old plan.", 2),
        (90, True, "Please try Reports → Export → In parts.", 3),
        (91, True, "Each part then has 5,000 rows.", 4),
        (7, True, "And where do I find the parts?", 5),
        (90, True, "In Reports → Downloads, for 7 days.", 6),
        (7, True, "Great, thanks!", 7),
    ]
    comments = [
        {"id": n, "author_id": who, "public": public, "body": text, "html_body": f"<p>{text}</p>", "created_at": f"2026-03-0{n}T10:00:00Z"}
        for who, public, text, n in said
    ]  # fmt: skip
    return {"id": number, "requester_id": 7, "subject": "Export", "status": "solved", "created_at": "2026-03-01T10:00:00Z",
            "comments": comments, **changes}  # fmt: skip


def intercom(number: str = "88", **changes: Any) -> dict[str, Any]:
    """A conversation as Intercom's API has it."""

    def part(kind: str, who: str, name: str, body: str, n: int) -> dict[str, Any]:
        return {
            "type": "conversation_part",
            "part_type": kind,
            "body": body,
            "created_at": 1772359200 + n,
            "author": {"type": who, "id": name},
        }

    parts = [
        part("comment", "bot", "b1", "<p>Have you read our articles?</p>", 1),
        part("note", "admin", "a1", "<p>Angry one.</p>", 2),
        part("comment", "admin", "a1", '<p>Open <b>Billing</b> and choose <a href="https://help.acme.example/pay">Pay</a>.</p><ul><li>Card</li><li>Transfer</li></ul>', 3),
        part("close", "admin", "a1", "", 4),
    ]  # fmt: skip
    source = {
        "type": "conversation",
        "body": "<p>How do I pay &amp; when?</p>",
        "author": {"type": "user", "id": "u1", "email": "mia@example.com"},
    }
    return {"type": "conversation", "id": number, "created_at": 1772359200, "state": "closed", "source": source,
            "conversation_parts": {"type": "conversation_part.list", "conversation_parts": parts}, **changes}  # fmt: skip


def write(tmp_path: Path, name: str, *records: Any) -> Path:
    path = tmp_path / name
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


def test_a_zendesk_ticket_gives_a_row_for_each_turn_with_public_replies_only(tmp_path: Path) -> None:
    found = read_tickets(write(tmp_path, "z.ndjson", zendesk()), {})

    assert found.format == "zendesk" and [t.ticket_id for t in found.rows] == ["zendesk-35-1", "zendesk-35-2"]
    first, second = found.rows
    assert first.question == "The export stops at half."
    assert first.answer == "Please try Reports → Export → In parts.\nEach part then has 5,000 rows."
    assert (second.question, second.answer) == (
        "And where do I find the parts?",
        "In Reports → Downloads, for 7 days.",
    )
    assert (first.customer, first.agent, first.created_at) == ("7", "90", "2026-03-01T10:00:00Z")
    assert {t.conversation_id for t in found.rows} == {"zendesk-35"} and all(t.approved for t in found.rows)


@pytest.mark.parametrize(
    ("changes", "approved"),
    [({"status": "open"}, False), ({"satisfaction_rating": {"score": "bad"}}, False), ({"satisfaction_rating": {"score": "good"}}, True)],
)  # fmt: skip
def test_open_and_disliked_zendesk_tickets_are_not_approved(
    tmp_path: Path, changes: dict[str, Any], approved: bool
) -> None:
    rows = read_tickets(write(tmp_path, "z.jsonl", zendesk(**changes)), {}).rows

    assert {t.approved for t in rows} == {approved}


def test_an_intercom_conversation_gives_text_without_bots_notes_and_tags(tmp_path: Path) -> None:
    (ticket,) = read_tickets(
        write(tmp_path, "i.json", {"type": "conversation.list", "conversations": [intercom()]}), {}
    ).rows

    assert ticket.question == "How do I pay & when?"
    assert ticket.answer == "Open Billing and choose Pay (https://help.acme.example/pay).\n- Card\n- Transfer"
    assert (ticket.customer, ticket.agent, ticket.conversation_id) == ("u1", "a1", "intercom-88")
    assert ticket.created_at.startswith("2026-03-01T10:00:00") and ticket.approved


def test_a_conversation_that_its_customer_rated_with_one_is_not_approved(tmp_path: Path) -> None:
    (ticket,) = read_tickets(write(tmp_path, "i.json", [intercom(conversation_rating={"rating": 1})]), {}).rows

    assert not ticket.approved


def told(number: int, who: int, text: str) -> dict[str, Any]:
    return {"id": number, "author_id": who, "public": True, "body": text, "html_body": f"<p>{text}</p>"}


COLLEAGUE = [told(1, 7, "Where is my key?"), told(2, 8, "Look under the mat, I do."), told(3, 90, "At the desk.")]


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"email_cc_ids": [8]}, "At the desk."),
        ({"collaborator_ids": [8, 90], "follower_ids": [90]}, "At the desk."),
        ({"collaborator_ids": [8, 90], "assignee_id": 90}, "At the desk."),
        ({"users": [{"id": 8, "role": "end-user"}, {"id": 90, "role": "admin"}]}, "At the desk."),
        ({"email_cc_ids": [8], "users": [{"id": 8, "role": "agent"}]}, "Look under the mat, I do.\nAt the desk."),
        ({}, "Look under the mat, I do.\nAt the desk."),
    ],
    ids=["copied in", "agents follow", "an agent has it", "roles of users", "an agent who is copied in", "nobody says"],
)
def test_the_words_of_a_customers_colleague_are_no_answer(tmp_path: Path, changes: dict[str, Any], answer: str) -> None:
    (ticket,) = read_tickets(write(tmp_path, "z.jsonl", zendesk(comments=COLLEAGUE, **changes)), {}).rows

    assert ticket.answer == answer and ticket.agent == ("90" if answer == "At the desk." else "8")


def test_roles_that_a_page_tells_once_hold_for_all_of_its_tickets_and_a_ticket_without_an_agent_is_counted(
    tmp_path: Path,
) -> None:
    page = {
        "tickets": [zendesk(1, comments=COLLEAGUE), zendesk(2, comments=COLLEAGUE[:2])],
        "users": [{"id": 7, "role": "end-user"}, {"id": 8, "role": "end-user"}, {"id": 90, "role": "agent"}],
    }

    found = read_tickets(write(tmp_path, "z.json", page), {})

    assert [t.answer for t in found.rows] == ["At the desk."] and found.unusable == 1


def test_tickets_nobody_answered_are_counted_and_the_rest_is_imported(tmp_path: Path, ledger: Ledger) -> None:
    silent = zendesk(36, comments=zendesk()["comments"][:2])

    done = import_file(write(tmp_path, "z.jsonl", zendesk(), silent), {}, ledger=ledger, actor="cli")

    assert (done.format, done.added, done.unusable) == ("zendesk", 2, 1)
    assert ledger.lessons.tickets()[0].origin == "z.jsonl ticket zendesk-35-1"
    assert ledger.lessons.tickets()[0].consent == "imported by cli"


@pytest.mark.parametrize(
    ("records", "format", "message"),
    [
        ([zendesk()], "intercom", "line 1: no Intercom conversation: 'conversation_parts' is missing"),
        (
            [{"question": "A?", "answer": "B."}],
            "zendesk",
            "no Zendesk ticket: 'id' is missing; it has question, answer",
        ),
        ([zendesk(comments=[])], None, "none of 1 records has a question with a public reply"),
        ([zendesk()], "xml", "--format xml is not known. Formats: csv, jsonl, zendesk, intercom"),
    ],
)
def test_an_export_that_cannot_be_used_says_why(
    tmp_path: Path, records: list[Any], format: str | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        read_tickets(write(tmp_path, "e.jsonl", *records), {}, format)


def test_columns_cannot_be_mapped_in_an_export(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--map is for plain rows"):
        read_tickets(write(tmp_path, "z.jsonl", zendesk()), {"question": "subject"})


def test_a_person_is_known_by_their_id_and_by_no_address(tmp_path: Path) -> None:
    row = {"question": "A?", "answer": "B it is.", "customer": "Mia@Example.com", "agent": "U0ASHA"}

    (ticket,) = read_tickets(write(tmp_path, "t.jsonl", row), {}).rows

    assert ticket.agent == "U0ASHA" and ticket.customer == known_as("mia@example.com ") and "@" not in ticket.customer


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p>\n<p>Two<br>Three</p>", "One\nTwo\nThree"),
        ("a <script>alert(1)</script>b<style>p{}</style>", "a b"),
        (
            '<a href="javascript:x">click</a> <a href="https://a.example">https://a.example</a>',
            "click https://a.example",
        ),
        ("a &lt; b &nbsp; c", "a < b c"),
        ("<p><b>unclosed", "unclosed"),
        ("Error <![ x", "Error <![ x"),
        ("<![unknown[a]]> b", "<![unknown[a]]> b"),
        ("<![if !supportLists]>1. <![endif]>Open it", "1. Open it"),
        ("", ""),
    ],
)
def test_html_becomes_text(html: str, text: str) -> None:
    assert html_to_text(html) == text


@given(
    st.lists(
        st.sampled_from(
            ["<![", "<!", "<!--", "]]>", "<", ">", "&", "</", "<a href=", "<script>", "if", "CDATA[", "x", " "]
        )
    )
)
def test_no_text_is_too_broken_to_be_read(pieces: list[str]) -> None:
    assert isinstance(html_to_text("".join(pieces)), str)
