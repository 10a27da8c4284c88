"""Exports of help desks into rows: Zendesk's tickets with comments, Intercom's conversations with parts.

A row is one turn: what the customer asked, and the public replies of people until the customer speaks again. Private notes,
bots and whoever is neither customer nor agent are left out. Knows shapes of files; nothing is fetched.
Source: Zendesk's ticket and comment resources, Intercom's conversation model (developers' references of both).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from typing import Any, Literal

from storage.clock import to_text
from storage.errors import UsageError

Json = dict[str, Any]
Row = dict[str, str]
Export = Literal["zendesk", "intercom"]
BLOCKS = frozenset(
    {"p", "div", "br", "li", "ul", "ol", "tr", "table", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "blockquote", "hr"}
)
SILENT = frozenset({"script", "style", "head", "title"})
WORDS_MARK = re.compile(r"<!\[(?:if|else|endif)\b[^<>]*>", re.IGNORECASE)
SPOKEN = frozenset({"comment", "open", "close", "assignment"})  # Intercom's parts that may carry a public message


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One public message of a conversation."""

    customer: bool
    person: str
    text: str
    at: str


def recognised(record: Mapping[str, Any]) -> Export | None:
    """Whose export a record is from, or None when it is a plain row."""
    if "conversation_parts" in record:
        return "intercom"
    if "comments" in record and ("requester_id" in record or "requester" in record):
        return "zendesk"
    return None


def rows_of(export: Export, record: Json) -> list[Row]:
    """The turns of one ticket or conversation; none where nobody answered. Raises UsageError naming what is missing."""
    return zendesk_rows(record) if export == "zendesk" else intercom_rows(record)


def zendesk_rows(ticket: Json) -> list[Row]:
    """Approved are solved and closed tickets that the customer did not rate bad. A deleted ticket has no rows.

    Who answered for the company is told by the role in the comment, else in the export's `users`; where neither says, who was
    only copied in is taken for a customer's colleague.
    """
    number, comments = _need(ticket, "id", "Zendesk ticket"), _need(ticket, "comments", "Zendesk ticket")
    requester = _text(ticket.get("requester_id") or _at(ticket, "requester", "id"))
    status = _text(ticket.get("status"))
    if status == "deleted":
        return []
    roles = {_text(user.get("id")): _text(user.get("role")) for user in _records(ticket.get("users"))}
    copied = _copied(ticket)
    said = [
        Said(customer=person == requester, person=person, text=_body(c), at=_text(c.get("created_at")))
        for c in _records(comments)
        if c.get("public", True) and _at(c, "via", "channel") != "chat_transcript"
        for person in [_text(c.get("author_id") or _at(c, "author", "id"))]
        for role in [_text(_at(c, "author", "role")) or roles.get(person, "")]
        if person == requester or (role != "end-user" if role else person not in copied)
    ]
    bad = _at(ticket, "satisfaction_rating", "score") == "bad"
    approved = status in ("", "solved", "closed") and not bad
    return _turns(f"zendesk-{number}", said, approved=approved, subject=_text(ticket.get("subject")))


def _copied(ticket: Json) -> frozenset[str]:
    """Who was copied in on a Zendesk ticket. Followers, who are agents, may be listed among the collaborators, too; so may
    whoever has the ticket assigned.
    """

    def ids(name: str) -> frozenset[str]:
        return frozenset(map(_text, found)) if isinstance(found := ticket.get(name), list) else frozenset()

    agents = ids("follower_ids") | {_text(ticket.get("assignee_id"))}
    return (ids("email_cc_ids") | ids("collaborator_ids")) - agents


def intercom_rows(talk: Json) -> list[Row]:
    """Approved are conversations that the customer did not rate with one or two of five."""
    number, parts = (
        _need(talk, "id", "Intercom conversation"),
        _need(talk, "conversation_parts", "Intercom conversation"),
    )
    source = talk.get("source")
    opening: Json = source if isinstance(source, dict) else {}
    messages = [{"part_type": "open", "created_at": talk.get("created_at"), **opening}, *_records(parts)]
    said = [
        Said(customer=kind in ("user", "lead", "contact"), person=_text(_at(m, "author", "id")), text=_body(m),
             at=_moment(m.get("created_at")))
        for m in messages
        for kind in [_at(m, "author", "type")]
        if m["part_type"] in SPOKEN and kind in ("user", "lead", "contact", "admin", "team")
    ]  # fmt: skip
    rating = _at(talk, "conversation_rating", "rating")
    approved = not (isinstance(rating, int) and rating <= 2)
    return _turns(f"intercom-{number}", said, approved=approved, subject=_text(opening.get("subject")))


def _turns(number: str, said: Sequence[Said], *, approved: bool, subject: str) -> list[Row]:
    """Question and answer by turn. What agents say before the customer has spoken answers nothing."""
    rows: list[Row] = []
    asked, replied = list[Said](), list[Said]()
    for one in [*said, None]:
        if (one is None or one.customer) and asked and replied:
            rows.append(_row(number, len(rows) + 1, asked, replied, approved, subject if not rows else ""))
            asked, replied = [], []
        if one is not None and one.text:
            if one.customer:
                asked.append(one)
            elif asked:
                replied.append(one)
    return rows


def _row(number: str, turn: int, asked: Sequence[Said], replied: Sequence[Said], approved: bool, subject: str) -> Row:
    question = "\n".join(one.text for one in asked)
    if subject and html_to_text(subject).casefold() not in question.casefold():
        question = f"{html_to_text(subject)}\n{question}"
    return {
        "ticket_id": f"{number}-{turn}",
        "conversation_id": number,
        "question": question,
        "answer": "\n".join(one.text for one in replied),
        "created_at": asked[0].at,
        "approved": "yes" if approved else "no",
        "customer": asked[0].person,
        "agent": replied[0].person,
    }


def _body(message: Mapping[str, Any]) -> str:
    """A message as plain text: Zendesk's `plain_body`, else HTML. Zendesk's `body` is plain where `html_body` is beside it."""
    plain = message.get("plain_body") or ("html_body" in message and message.get("body"))
    return unescape(_text(plain)).strip() if plain else html_to_text(_text(message.get("body")))


class _Reader(HTMLParser):
    """Text with line breaks at blocks; a link keeps its address, so that the lint sees it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.silent = 0
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.silent += tag in SILENT
        if tag in BLOCKS:
            self.parts.append("\n- " if tag == "li" else "\n")
        if tag == "a":
            self.links.append(dict(attrs).get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        self.silent = max(0, self.silent - (tag in SILENT))
        if tag in BLOCKS:
            self.parts.append("\n")
        if tag == "a" and self.links:
            address = self.links.pop()
            if address.startswith("http") and address not in "".join(self.parts[-3:]):
                self.parts.append(f" ({address})")

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.parts.append(data.replace("\n", " "))


def html_to_text(text: str) -> str:
    """HTML as text: no tags, no scripts, one line break between blocks. Total.

    Word's marks (<![if …]>) go; any other "<![" is a letter like others: at one that it does not know, HTMLParser gives up.
    """
    reader = _Reader()
    reader.feed(WORDS_MARK.sub("", text).replace("<![", "&lt;!["))
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).split("\n"))
    return "\n".join(line for line in lines if line not in ("", "-"))


def _records(value: Any) -> Iterator[Json]:
    """The records of a list, or of an API page that wraps it under the same name."""
    if isinstance(value, dict):
        value = next((v for v in value.values() if isinstance(v, list)), [])
    for record in value if isinstance(value, list) else ():
        if isinstance(record, dict):
            yield {"part_type": "", **record}


def _need(record: Json, name: str, what: str) -> Any:
    if name not in record:
        raise UsageError(f"no {what}: {name!r} is missing; it has {', '.join(list(record)[:8]) or 'nothing'}.")
    return record[name]


def _at(record: Mapping[str, Any], *path: str) -> Any:
    found: Any = record
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _text(value: Any) -> str:
    return "" if value is None or isinstance(value, (dict, list)) else str(value)


def _moment(value: Any) -> str:
    """Intercom's seconds since 1970 as ISO 8601; "" when they are none."""
    try:
        return to_text(datetime.fromtimestamp(float(value), UTC))
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
