"""Ticket files into the ledger: CSV, JSONL, or an export of Zendesk or Intercom; all rows or none.

The format is recognised by the file's end and its first record, or named. Columns of plain rows are named by a map. Knows
file formats and what a usable ticket is. Redaction and splitting happen when a dataset is built, so that a better rule
helps old tickets, too.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import py3langid

from storage.consent import known_as
from storage.digests import digest_of, digest_of_file
from storage.errors import UsageError
from storage.ledger import Ledger
from storage.records import Ticket
from training.exports import Export, recognised, rows_of

FIELDS = (
    "question", "answer", "conversation_id", "category", "language", "ticket_id", "approved", "created_at", "customer", "agent"
)  # fmt: skip
REQUIRED = ("question", "answer")
FORMATS = ("csv", "jsonl", "zendesk", "intercom")
JSON_FILES = (".jsonl", ".ndjson", ".json")
LONGEST = 8_000
SHOWN_FAULTS = 20
YES, NO = frozenset({"", "yes", "y", "true", "1", "approved"}), frozenset({"no", "n", "false", "0", "rejected"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of a file's rows. `changed`: of the known ones, those of which the file says something new.
    `forgotten`: left out because they are of people who asked to be forgotten.
    `unusable`: conversations of an export without a public reply of a person, and turns that are too long.
    """

    format: str
    added: int
    known: int
    changed: int
    forgotten: int
    unusable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tickets:
    """The usable rows of a file."""

    format: str
    rows: tuple[Ticket, ...]
    unusable: int


def import_file(
    path: Path, columns: Mapping[str, str], *, ledger: Ledger, actor: str, format: str | None = None
) -> Imported:
    """Read and store a ticket file. Raises UsageError: then nothing was stored."""
    found, digest = read_tickets(path, columns, format), digest_of_file(path)
    with ledger.connections.write():  # nobody is forgotten between the look and the rows
        barred = ledger.consent.barred()
        kept = [t for t in found.rows if barred.reason(t.customer, t.agent) != "forgotten person"]
        forgotten = len(found.rows) - len(kept)
        added, known, changed = ledger.lessons.import_tickets(
            kept, file=path.name, file_digest=digest, columns=columns, actor=actor, format=found.format,
            left_out=forgotten)  # fmt: skip
    return Imported(
        format=found.format, added=added, known=known, changed=changed, forgotten=forgotten, unusable=found.unusable
    )


def read_tickets(path: Path, columns: Mapping[str, str], format: str | None = None) -> Tickets:
    """All tickets of a file; `columns` maps our field names to the file's column names (missing: the same name).

    A plain file with a faulty row is refused, for a person can mend it; of an export the turns that cannot be used are
    left out and counted. Raises UsageError naming the file, the column or every faulty row (the first 20), and what is
    allowed.
    """
    unknown = sorted(set(columns) - set(FIELDS))
    if unknown:
        raise UsageError(f"--map {unknown[0]}=… is no field. Fields: {', '.join(FIELDS)}.")
    if format is not None and format not in FORMATS:
        raise UsageError(f"--format {format} is not known. Formats: {', '.join(FORMATS)}.")
    text = _read(path)
    if format == "csv" or (format is None and path.suffix.lower() == ".csv"):
        return _plain(path, list(_csv_rows(path, text)), columns, "csv")
    if format is None and path.suffix.lower() not in JSON_FILES:
        raise UsageError(
            f"{path} is neither .csv nor .jsonl, .ndjson or .json. Next: export as one of them, or name its --format."
        )
    records = list(_records(path, text))
    seen = format or (recognised(records[0][1]) if records else None) or "jsonl"
    if seen != "jsonl":
        return _exported(path, records, columns, "zendesk" if seen == "zendesk" else "intercom")
    return _plain(path, [(place, _as_row(record)) for place, record in records], columns, "jsonl")


def _plain(path: Path, rows: list[tuple[str, dict[str, str]]], columns: Mapping[str, str], format: str) -> Tickets:
    names = {field: columns.get(field, field) for field in FIELDS}
    if not rows:
        raise UsageError(f"{path} has no rows. Next: export the tickets again.")
    _require_columns(path, rows[0][1], names, columns)
    faults = [f"  {place}: {fault}" for place, row in rows if (fault := _fault(row, names))]
    if faults:
        more = f"\n  … and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
        shown = "\n".join(faults[:SHOWN_FAULTS])
        raise UsageError(
            f"{path}: {len(faults)} of {len(rows)} rows cannot be used, so none was imported:\n{shown}{more}\nNext: mend or remove them."
        )
    return Tickets(format=format, rows=tuple(_ticket(row, names, place) for place, row in rows), unusable=0)


def _exported(path: Path, records: list[tuple[str, Any]], columns: Mapping[str, str], export: Export) -> Tickets:
    if columns:
        raise UsageError(
            f"--map is for plain rows; {path.name} is read as an export of {export}, whose fields are known."
        )
    names, tickets, unusable = {field: field for field in FIELDS}, list[Ticket](), 0
    for place, record in records:
        try:
            rows = rows_of(export, record)
        except UsageError as error:
            raise UsageError(f"{path}: {place}: {error} Next: export again, or name its --format.") from None
        usable = [row for row in rows if _fault(row, names) is None]
        unusable += len(rows) - len(usable) or not rows
        tickets += [_ticket(row, names, f"ticket {row['ticket_id']}") for row in usable]
    if not tickets:
        raise UsageError(
            f"{path}: none of {len(records)} records has a question with a public reply of a person. Next: export with comments."
        )
    return Tickets(format=export, rows=tuple(tickets), unusable=unusable)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start}). Next: export it as UTF-8.") from None


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(row number after the header, column → text) of each record."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for number, row in enumerate(reader, start=1):
            if None in row or None in row.values():
                width = sum(v is not None for k, v in row.items() if k is not None) + len(row.get(None) or [])
                raise UsageError(
                    f"{path}: row {number} has {width} columns, the header has {len(reader.fieldnames or [])}."
                )
            yield f"row {number}", row
    except csv.Error as error:
        raise UsageError(f"{path}: broken CSV near line {reader.line_num}: {error}.") from None


def _records(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, record) of JSON lines, of one list, or of API pages that hold their list as `tickets` or `conversations`."""
    whole = _parsed(text)
    documents: list[tuple[str, Any]]
    if isinstance(whole, (dict, list)):
        documents = [("line 1", whole)]
    else:
        documents = []
        for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: a text may hold U+2028
            if line.strip():
                documents.append((f"line {number}", _parsed(line, path, number)))
    for place, document in documents:
        pages = document if isinstance(document, list) else _page(document)
        inside = [(place, document)] if pages is None else [(f"record {n}", x) for n, x in enumerate(pages, start=1)]
        for where, record in inside:
            if not isinstance(record, dict):
                raise UsageError(f"{path}: {where} is {type(record).__name__}, not an object.")
            yield where, record


def _page(document: Any) -> list[Any] | None:
    """The records that an API page wraps, or None when the document is a record itself."""
    if not isinstance(document, dict) or recognised(document):
        return None
    inside = next(
        (document[name] for name in ("tickets", "conversations") if isinstance(document.get(name), list)), None
    )
    users = document.get("users")  # Zendesk's, told once a page: a ticket reads the roles of its authors there
    if inside is None or not isinstance(users, list):
        return inside
    return [{"users": users, **record} if isinstance(record, dict) else record for record in inside]


def _parsed(text: str, path: Path | None = None, number: int = 0) -> Any:
    """JSON; what is none raises UsageError, or without a path gives None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if path is None:
            return None
        raise UsageError(f"{path}: line {number} is not JSON: {error}.") from None


def _as_row(record: Mapping[str, Any]) -> dict[str, str]:
    return {str(k): _as_text(v) for k, v in record.items()}


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _require_columns(path: Path, row: Mapping[str, str], names: Mapping[str, str], columns: Mapping[str, str]) -> None:
    for field in (*REQUIRED, *columns):
        if names[field] not in row:
            raise UsageError(
                f"{path} has no column {names[field]!r} for {field}. Columns: {', '.join(row)}. "
                f"Next: --map {field}=COLUMN."
            )


def _fault(row: Mapping[str, str], names: Mapping[str, str]) -> str | None:
    """Why a row is no ticket, or None."""
    for field in REQUIRED:
        text = row.get(names[field], "").strip()
        if not text:
            return f"{field} is empty"
        if len(text) > LONGEST:
            return f"{field} has {len(text):,} characters, at most {LONGEST:,} are allowed"
        if "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text):
            return f"{field} holds characters that are no text (NUL or half a surrogate pair)"
    approved = row.get(names["approved"], "").strip().lower()
    if approved not in YES | NO:
        return f"approved is {approved[:20]!r}, allowed: yes or no"
    return None


def _ticket(row: Mapping[str, str], names: Mapping[str, str], place: str) -> Ticket:
    field = {name: row.get(column, "").strip() for name, column in names.items()}
    ticket_id = field["ticket_id"] or "row-" + digest_of([field["question"], field["answer"]])[:12]
    return Ticket(
        ticket_id=ticket_id,
        conversation_id=field["conversation_id"] or ticket_id,
        question=field["question"],
        answer=field["answer"],
        category=field["category"],
        language=field["language"] or language_of(field["question"]),
        approved=field["approved"].lower() in YES,
        created_at=field["created_at"],
        customer=known_as(field["customer"]),
        agent=known_as(field["agent"]),
        row=place,
    )


def language_of(text: str) -> str:
    """ISO 639-1 code by py3langid; a guess on short texts."""
    return str(py3langid.classify(text)[0])
