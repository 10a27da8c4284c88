"""Ticket files into the ledger: CSV with a header or JSONL, columns named by a map, all rows or none.

Knows file formats and what a usable ticket is. Redaction and splitting happen when a dataset is built, so that a better
rule helps old tickets, too.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import py3langid

from storage.digests import digest_of, digest_of_file
from storage.errors import UsageError
from storage.ledger import Ledger
from storage.records import Ticket

FIELDS = ("question", "answer", "conversation_id", "category", "language", "ticket_id", "approved", "created_at")
REQUIRED = ("question", "answer")
LONGEST = 8_000
SHOWN_FAULTS = 20
YES, NO = frozenset({"", "yes", "y", "true", "1", "approved"}), frozenset({"no", "n", "false", "0", "rejected"})


def import_file(path: Path, columns: Mapping[str, str], *, ledger: Ledger, actor: str) -> tuple[int, int]:
    """Read and store a ticket file; returns (added, already known). Raises UsageError: then nothing was stored."""
    tickets = read_tickets(path, columns)
    return ledger.lessons.import_tickets(
        tickets, file=path.name, file_digest=digest_of_file(path), columns=columns, actor=actor
    )


def read_tickets(path: Path, columns: Mapping[str, str]) -> tuple[Ticket, ...]:
    """All tickets of a file; `columns` maps our field names to the file's column names (missing: the same name).

    Raises UsageError naming the file, the column or every faulty row (the first 20), and what is allowed.
    """
    unknown = sorted(set(columns) - set(FIELDS))
    if unknown:
        raise UsageError(f"--map {unknown[0]}=… is no field. Fields: {', '.join(FIELDS)}.")
    names = {field: columns.get(field, field) for field in FIELDS}
    rows = list(_rows(path))
    if not rows:
        raise UsageError(f"{path} has no rows. Next: export the tickets again.")
    _require_columns(path, rows[0][1], names, columns)
    tickets, faults = [], []
    for number, row in rows:
        fault = _fault(row, names)
        if fault:
            faults.append(f"  row {number}: {fault}")
        else:
            tickets.append(_ticket(row, names))
    if faults:
        more = f"\n  … and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
        shown = "\n".join(faults[:SHOWN_FAULTS])
        raise UsageError(
            f"{path}: {len(faults)} of {len(rows)} rows cannot be used, so none was imported:\n{shown}{more}\nNext: mend or remove them."
        )
    return tuple(tickets)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(number, column → text) of each row; the number is the line for JSONL, the record after the header for CSV."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start}). Next: export it as UTF-8.") from None
    if path.suffix.lower() == ".csv":
        yield from _csv_rows(path, text)
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _json_rows(path, text)
    else:
        raise UsageError(f"{path} is neither .csv nor .jsonl. Next: export as one of them.")


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for number, row in enumerate(reader, start=1):
            if None in row or None in row.values():
                width = sum(v is not None for k, v in row.items() if k is not None) + len(row.get(None) or [])
                raise UsageError(
                    f"{path}: row {number} has {width} columns, the header has {len(reader.fieldnames or [])}."
                )
            yield number, row
    except csv.Error as error:
        raise UsageError(f"{path}: broken CSV near line {reader.line_num}: {error}.") from None


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}: line {number} is not JSON: {error}.") from None
        if not isinstance(row, dict):
            raise UsageError(f"{path}: line {number} is {type(row).__name__}, not an object.")
        yield number, {str(k): _as_text(v) for k, v in row.items()}


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


def _ticket(row: Mapping[str, str], names: Mapping[str, str]) -> Ticket:
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
    )


def language_of(text: str) -> str:
    """ISO 639-1 code by py3langid; a guess on short texts."""
    return str(py3langid.classify(text)[0])
