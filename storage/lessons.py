"""Where lessons come from: imported tickets, answers that agents liked, answers that agents wrote.

Knows tables, not datasets: what is kept, redacted and split is decided in training/dataset.py.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from storage.clock import Clock, from_text, to_text
from storage.database import Connections
from storage.digests import digest_of
from storage.outlook import look_ahead
from storage.records import Adapter, Lesson, Message, Ticket

_TRUSTED = "('agent','admin')"


class Lessons:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def import_tickets(
        self, tickets: Iterable[Ticket], *, file: str, file_digest: str, columns: Mapping[str, str], actor: str
    ) -> tuple[int, int]:
        """Store all tickets or none; returns (added, already known). A ticket is known by its content."""
        rows = [(digest_of([t.ticket_id, t.conversation_id, t.question, t.answer]), t) for t in tickets]
        with self._connections.write() as db:
            import_id = db.execute(
                "INSERT INTO imports(file, file_digest, columns, rows, added, known, actor, at) VALUES (?,?,?,?,0,0,?,?)",
                (file, file_digest, json.dumps(dict(columns)), len(rows), actor, to_text(self._clock())),
            ).lastrowid
            added = 0
            for digest, t in rows:
                added += db.execute(
                    "INSERT OR IGNORE INTO tickets VALUES (?,?,?,?,?,?,?,?,?,?)",
                    (
                        digest,
                        import_id,
                        t.ticket_id,
                        t.conversation_id,
                        t.question,
                        t.answer,
                        t.category,
                        t.language,
                        int(t.approved),
                        t.created_at,
                    ),
                ).rowcount
            db.execute("UPDATE imports SET added=?, known=? WHERE import_id=?", (added, len(rows) - added, import_id))
        return added, len(rows) - added

    def tickets(self) -> tuple[Ticket, ...]:
        """All tickets, approved or not, in the order of their ids."""
        rows = self._connections.db.query(
            "SELECT ticket_id, conversation_id, question, answer, category, language, approved, created_at FROM tickets"
            " ORDER BY ticket_id, content_digest"
        )
        return tuple(Ticket(**{**row, "approved": bool(row["approved"])}) for row in rows)

    def correct(self, exchange_id: int, *, author: str, role: str, text: str, started_from: str = "tuned") -> int:
        """Store an answer that a person wrote in place of the bot's; the newest of an agent that stands counts."""
        with self._connections.write() as db:
            return int(
                db.execute(
                    "INSERT INTO corrections(exchange_id, author, role, text, at, started_from) VALUES (?,?,?,?,?,?)",
                    (exchange_id, author, role, text, to_text(self._clock()), started_from),
                ).lastrowid
                or 0
            )

    def corrections(self) -> tuple[Lesson, ...]:
        """The newest correction of an agent or admin for each exchange, but those that were taken back."""
        rows = self._connections.db.query(
            "SELECT c.correction_id, c.author, c.text AS answer, e.exchange_id, e.team, e.channel, e.thread_ts, e.messages, e.language"
            f" FROM corrections c JOIN exchanges e USING (exchange_id) WHERE c.role IN {_TRUSTED} AND c.correction_id ="
            f" (SELECT max(n.correction_id) FROM corrections n WHERE n.exchange_id=c.exchange_id AND n.role IN {_TRUSTED}"
            "  AND n.removed_at IS NULL)"
            " ORDER BY c.correction_id"
        )
        return tuple(_lesson(row, "correction", f"correction-{row['correction_id']}") for row in rows)

    def liked(self) -> tuple[Lesson, ...]:
        """Tuned answers with an agent's 👍 and no agent's 👎, and no correction."""
        rows = self._connections.db.query(
            "SELECT e.exchange_id, e.team, e.channel, e.thread_ts, e.messages, e.language, a.text AS answer, min(r.user) AS author"
            " FROM exchanges e JOIN answers a ON a.exchange_id=e.exchange_id AND a.role='tuned' AND a.status='ok'"
            f" JOIN ratings r ON r.exchange_id=e.exchange_id AND r.role IN {_TRUSTED}"
            f" WHERE NOT EXISTS (SELECT 1 FROM corrections c WHERE c.exchange_id=e.exchange_id AND c.role IN {_TRUSTED}"
            "  AND c.removed_at IS NULL)"
            " GROUP BY e.exchange_id HAVING min(r.sign) = 1 ORDER BY e.exchange_id"
        )
        return tuple(_lesson(row, "rating", f"exchange-{row['exchange_id']}") for row in rows)

    def count_since_last_run(self) -> int:
        """Lessons that arrived after the last run was requested, however it ended: what a cancelled or failed run had
        seen does not ask for the next one. A dry run is no run.
        """
        return sum(look_ahead(self._connections).new.values())

    def add_dataset(self, digest: str, path: str, manifest: Mapping[str, Any]) -> None:
        with self._connections.write() as db:
            db.execute(
                "INSERT OR IGNORE INTO datasets VALUES (?,?,?,?)",
                (digest, path, json.dumps(manifest), to_text(self._clock())),
            )

    def dataset_manifest(self, digest: str) -> dict[str, Any] | None:
        found = self._connections.db.execute("SELECT manifest FROM datasets WHERE digest=?", (digest,)).fetchone()
        return None if found is None else dict(json.loads(found[0]))

    def dataset_path(self, digest: str) -> str | None:
        found = self._connections.db.execute("SELECT path FROM datasets WHERE digest=?", (digest,)).fetchone()
        return None if found is None else str(found[0])

    def add_adapter(self, adapter: Adapter) -> None:
        with self._connections.write() as db:
            db.execute(
                "INSERT OR IGNORE INTO adapters VALUES (?,?,?,?,?,?,?,?)",
                (
                    adapter.digest,
                    adapter.base_digest,
                    adapter.dataset_digest,
                    adapter.path,
                    json.dumps(adapter.recipe),
                    adapter.run_id,
                    json.dumps(adapter.stats),
                    to_text(adapter.created_at),
                ),
            )

    def adapter(self, digest: str) -> Adapter | None:
        row = next(self._connections.db.query("SELECT * FROM adapters WHERE digest=?", (digest,)), None)
        return None if row is None else _adapter(row)

    def adapters(self) -> tuple[Adapter, ...]:
        return tuple(_adapter(row) for row in self._connections.db.query("SELECT * FROM adapters ORDER BY created_at"))


def _adapter(row: dict[str, Any]) -> Adapter:
    return Adapter(
        **{
            **row,
            "recipe": json.loads(row["recipe"]),
            "stats": json.loads(row["stats"]),
            "created_at": from_text(row["created_at"]),
        }
    )


def _lesson(row: dict[str, Any], source: Any, lesson_id: str) -> Lesson:
    messages: list[Message] = json.loads(row["messages"])
    return Lesson(
        lesson_id=lesson_id,
        source=source,
        conversation_id=f"{row['team']}:{row['channel']}:{row['thread_ts']}",
        messages=tuple(messages),
        answer=row["answer"],
        language=row["language"] or "",
        author=row["author"],
    )
