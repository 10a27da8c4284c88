"""What became of corrections: which of them an adapter's answers pass. Who passes is decided in eval/learned.py."""

import json
from dataclasses import dataclass
from typing import Any

from storage.clock import Clock, to_text
from storage.database import Connections
from storage.records import Message

_STANDS = "role IN ('agent','admin') AND removed_at IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """A correction that stands, its question as the models were sent it, and the answer that it replaced."""

    correction_id: int
    author: str
    messages: tuple[Message, ...]
    text: str
    before: str


class Learned:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def unchecked(self, adapter_digest: str, *, newest: int, per_author: int) -> tuple[Corrected, ...]:
        """Of the `newest` standing corrections, at most `per_author` of one person, those that this adapter was not
        checked on yet; newest first. A correction stands while it is an exchange's last and nobody took it back.
        """
        rows = self._connections.db.query(
            "WITH standing AS (SELECT max(correction_id) AS correction_id FROM corrections"
            f" WHERE {_STANDS} GROUP BY exchange_id),"
            " ranked AS (SELECT c.*, row_number() OVER (PARTITION BY c.author ORDER BY c.correction_id DESC) AS place"
            " FROM corrections c JOIN standing USING (correction_id)),"
            " chosen AS (SELECT * FROM ranked WHERE place <= :per_author ORDER BY correction_id DESC LIMIT :newest)"
            " SELECT c.correction_id, c.author, c.text, e.messages, coalesce(a.text, '') AS before"
            " FROM chosen c JOIN exchanges e USING (exchange_id)"
            " LEFT JOIN answers a ON a.exchange_id = c.exchange_id AND a.role = 'tuned'"
            " WHERE NOT EXISTS (SELECT 1 FROM correction_checks k WHERE k.correction_id = c.correction_id"
            " AND k.adapter_digest = :adapter) ORDER BY c.correction_id DESC",
            {"newest": newest, "per_author": per_author, "adapter": adapter_digest},
        )
        return tuple(_corrected(row) for row in rows)

    def keep(self, correction_id: int, adapter_digest: str, *, passed: bool, similarity: float) -> None:
        """Store one check; nothing when the correction was erased meanwhile."""
        with self._connections.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO correction_checks(correction_id, adapter_digest, passed, similarity, at)"
                " SELECT correction_id, ?, ?, ?, ? FROM corrections WHERE correction_id=?",
                (adapter_digest, int(passed), similarity, to_text(self._clock()), correction_id),
            )

    def of(self, author: str, adapter_digest: str, *, newest: int = 10) -> tuple[int, int]:
        """(passed, checked) of a person's newest corrections that this adapter was checked on and that stand."""
        row = self._connections.db.execute(
            "SELECT coalesce(sum(passed), 0), count(*) FROM (SELECT k.passed FROM correction_checks k"
            f" JOIN corrections c USING (correction_id) WHERE c.author = ? AND k.adapter_digest = ? AND c.{_STANDS}"
            " ORDER BY c.correction_id DESC LIMIT ?)",
            (author, adapter_digest, newest),
        ).fetchone()
        return int(row[0]), int(row[1])


def _corrected(row: dict[str, Any]) -> Corrected:
    return Corrected(**{**row, "messages": tuple(json.loads(row["messages"]))})
