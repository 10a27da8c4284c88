"""Where lessons come from: imported tickets, answers that agents liked, answers that agents wrote.

Knows tables, not datasets: what is kept, redacted and split is decided in training/dataset.py.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlite_utils import Database

from storage.clock import Clock, from_text, to_text
from storage.database import Connections
from storage.digests import digest_of
from storage.outlook import look_ahead
from storage.records import Adapter, Lesson, Message, Source, Ticket

_TRUSTED = "('agent','admin')"
BEGAN = "(SELECT k.began FROM conversations k WHERE k.conversation_id = {0}.team || ':' || {0}.channel || ':' || {0}.thread_ts)"
ASKED = (
    "e.exchange_id, e.team || ':' || e.channel || ':' || e.thread_ts AS conversation_id, e.thread_ts, e.asker, e.messages,"
    f" e.language, {BEGAN.format('e')} AS began"
)
_ADD_TICKET = """
INSERT OR IGNORE INTO tickets(content_digest, import_id, ticket_id, conversation_id, question, answer, category, language,
  approved, created_at, customer, agent, row)
VALUES (:digest, :import_id, :ticket_id, :conversation_id, :question, :answer, :category, :language,
  :approved, :created_at, :customer, :agent, :row)
"""
_CHANGE_TICKET = """
UPDATE tickets SET import_id=:import_id, approved=:approved, language=:language, row=:row,
  category=coalesce(nullif(:category, ''), category), created_at=coalesce(nullif(:created_at, ''), created_at),
  customer=coalesce(nullif(:customer, ''), customer), agent=coalesce(nullif(:agent, ''), agent)
WHERE content_digest=:digest AND (:replaced OR approved <> :approved OR language <> :language
  OR :category NOT IN ('', category) OR :created_at NOT IN ('', created_at) OR :customer NOT IN ('', customer)
  OR :agent NOT IN ('', agent))
"""


class Lessons:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def import_tickets(
        self, tickets: Iterable[Ticket], *, file: str, file_digest: str, columns: Mapping[str, str], actor: str,
        format: str = "", left_out: int = 0,
    ) -> tuple[int, int, int]:  # fmt: skip
        """Store all tickets or none; returns (added, known before, changed among the known). A ticket is known by its content.

        What the last file says of a known ticket counts: whether it is approved, its category and dates, whose it is; a name
        or date that the file lacks stays as it was. When a conversation began is kept as the first import saw it, so that a
        later one cannot move it across the holdout line. `left_out`: rows of people who were forgotten, for the record.
        """
        rows = [(digest_of([t.ticket_id, t.conversation_id, t.question, t.answer]), t) for t in tickets]
        with self._connections.write() as db:
            import_id = db.execute(
                "INSERT INTO imports(file, file_digest, columns, rows, added, known, actor, at, format, left_out)"
                " VALUES (?,?,?,?,0,0,?,?,?,?)",
                (
                    file,
                    file_digest,
                    json.dumps(dict(columns)),
                    len(rows),
                    actor,
                    to_text(self._clock()),
                    format,
                    left_out,
                ),
            ).lastrowid
            current, here, added, changed = _current_answers(db), {digest for digest, _ in rows}, 0, 0
            for digest, t in rows:
                values = {**asdict(t), "digest": digest, "import_id": import_id, "approved": int(t.approved)}
                if db.execute(_ADD_TICKET, values).rowcount:
                    added += 1
                else:
                    replaced = current.get((t.ticket_id, t.question), digest) not in here
                    changed += db.execute(_CHANGE_TICKET, {**values, "replaced": replaced}).rowcount
            db.execute("UPDATE imports SET added=?, known=? WHERE import_id=?", (added, len(rows) - added, import_id))
            db.execute(
                "INSERT OR IGNORE INTO conversations SELECT conversation_id, min(created_at) FROM tickets"
                " WHERE import_id=? GROUP BY conversation_id",
                (import_id,),
            )
        return added, len(rows) - added, changed

    def tickets(self) -> tuple[Ticket, ...]:
        """All tickets, approved or not, in the order of their ids and then of their imports."""
        rows = self._connections.db.query(
            "SELECT t.ticket_id, t.conversation_id, t.question, t.answer, t.category, t.language, t.approved, t.created_at,"
            " t.customer, t.agent, t.row, trim(i.file || ' ' || t.row) AS origin, 'imported by ' || i.actor AS consent,"
            " c.began FROM tickets t JOIN imports i USING (import_id) JOIN conversations c USING (conversation_id)"
            " ORDER BY t.ticket_id, t.import_id, t.content_digest"
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

    def corrections(self, without: Collection[str] = ()) -> tuple[Lesson, ...]:
        """The newest correction of an agent or admin for each exchange, but those that were taken back.

        `without`: people whose corrections are as if they had never been written.
        """
        rows = self._connections.db.query(
            f"SELECT c.correction_id, c.author, c.text AS answer, c.at, {ASKED}"
            f" FROM corrections c JOIN exchanges e USING (exchange_id) WHERE c.correction_id ="
            f" (SELECT max(n.correction_id) FROM corrections n WHERE n.exchange_id=c.exchange_id AND n.role IN {_TRUSTED}"
            "  AND n.removed_at IS NULL AND n.author NOT IN (SELECT value FROM json_each(?)))"
            " ORDER BY c.correction_id",
            (json.dumps(sorted(without)),),
        )
        return tuple(slack_lesson(row, "correction", f"correction-{row['correction_id']}") for row in rows)

    def liked(self, without: Collection[str] = ()) -> tuple[Lesson, ...]:
        """Tuned answers with an agent's 👍 and no agent's 👎, and no correction; `without` as in corrections()."""
        rows = self._connections.db.query(
            f"SELECT a.text AS answer, min(r.user) AS author, max(CAST(r.event_ts AS REAL)) AS at, {ASKED}"
            " FROM exchanges e JOIN answers a ON a.exchange_id=e.exchange_id AND a.role='tuned' AND a.status='ok'"
            f" JOIN ratings r ON r.exchange_id=e.exchange_id AND r.role IN {_TRUSTED}"
            "  AND r.user NOT IN (SELECT value FROM json_each(:without))"
            f" WHERE NOT EXISTS (SELECT 1 FROM corrections c WHERE c.exchange_id=e.exchange_id AND c.role IN {_TRUSTED}"
            "  AND c.removed_at IS NULL AND c.author NOT IN (SELECT value FROM json_each(:without)))"
            " GROUP BY e.exchange_id HAVING min(r.sign) = 1 ORDER BY e.exchange_id",
            {"without": json.dumps(sorted(without))},
        )
        return tuple(slack_lesson(row, "rating", f"exchange-{row['exchange_id']}") for row in rows)

    def count_since_last_run(self, *, with_slack: bool) -> int:
        """Lessons that arrived after the last run was requested, however it ended: what a cancelled or failed run had
        seen does not ask for the next one. A dry run is no run. `with_slack`: LEARN_FROM_SLACK, else tickets alone count.
        """
        new = look_ahead(self._connections).new
        return sum(count for source, count in new.items() if with_slack or source == "tickets")

    def add_dataset(self, digest: str, path: str, manifest: Mapping[str, Any]) -> None:
        with self._connections.write() as db:
            db.execute(
                "INSERT OR IGNORE INTO datasets VALUES (?,?,?,?)",
                (digest, path, json.dumps(manifest), to_text(self._clock())),
            )

    def conversations_of(self, people: Collection[str]) -> frozenset[str]:
        """The Slack conversations in which one of these people asked something."""
        rows = self._connections.db.execute(
            "SELECT DISTINCT team || ':' || channel || ':' || thread_ts FROM exchanges WHERE asker IN"
            " (SELECT value FROM json_each(?))",
            (json.dumps(sorted(people)),),
        ).fetchall()
        return frozenset(row[0] for row in rows)

    def known_contacts(self) -> frozenset[str] | None:
        """The digests of all contact details that a dataset was built with; None before the first dataset."""
        rows = self._connections.db.execute(
            "SELECT json_extract(manifest, '$.contacts') FROM datasets WHERE json_extract(manifest, '$.contacts') IS NOT NULL"
        ).fetchall()
        return frozenset(contact for row in rows for contact in json.loads(row[0])) if rows else None

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


def _current_answers(db: Database) -> dict[tuple[str, str], str]:
    """The content digest of the answer that counts, by ticket and question: the last import's."""
    rows = db.execute("SELECT ticket_id, question, content_digest FROM tickets ORDER BY import_id, content_digest")
    return {(ticket_id, question): digest for ticket_id, question, digest in rows.fetchall()}


def _adapter(row: dict[str, Any]) -> Adapter:
    return Adapter(
        **{
            **row,
            "recipe": json.loads(row["recipe"]),
            "stats": json.loads(row["stats"]),
            "created_at": from_text(row["created_at"]),
        }
    )


def slack_lesson(row: dict[str, Any], source: Source, lesson_id: str) -> Lesson:
    """A lesson about an exchange, from a row with ASKED, its answer, its author and when it came about."""
    messages: list[Message] = json.loads(row["messages"])
    return Lesson(
        lesson_id=lesson_id,
        source=source,
        conversation_id=row["conversation_id"],
        messages=tuple(messages),
        answer=row["answer"],
        language=row["language"] or "",
        author=row["author"],
        customer=row["asker"],
        origin=f"exchange {row['exchange_id']}",
        consent="LEARN_FROM_SLACK",
        at=row["at"] if isinstance(row["at"], str) else at_of_ts(row["at"]),
        began=row["began"] if row["began"] is not None else at_of_ts(row["thread_ts"]),
    )


def at_of_ts(ts: float | str) -> str:
    """A Slack timestamp as ISO 8601; "" when it is none."""
    try:
        return to_text(datetime.fromtimestamp(float(ts), UTC))
    except (ValueError, OverflowError, OSError):
        return ""
