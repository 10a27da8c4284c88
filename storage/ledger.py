"""The ledger: one SQLite file that holds every record of the line, with its provenance.

Promises: what a method returned is on disk; a record is written once and never changed in place; `verify()`
re-derives what can be derived and names every row that disagrees.
"""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from storage.clock import Clock, from_text, to_text, utc_now
from storage.consent import Consent
from storage.database import Connections, create_private
from storage.digests import NAMED, digest_of
from storage.doubt import Doubt
from storage.errors import LedgerError
from storage.exchanges import Exchanges
from storage.inbox import Inbox
from storage.learned import Learned
from storage.lessons import Lessons
from storage.migrations import migrations
from storage.notices import Notices
from storage.picks import Picks
from storage.preferences import Preferences
from storage.promotions import Promotions
from storage.ratings import Ratings
from storage.requests import Requests
from storage.runs import Runs
from storage.scores import Scores
from storage.taught import Taught
from storage.threads import Threads
from storage.watches import Watches


class Ledger:
    """Opened once a process, used from any thread. Opening migrates an older schema and refuses a newer one."""

    def __init__(self, path: Path, *, clock: Clock = utc_now) -> None:
        self.path, self.clock = path, clock
        self.connections = Connections(path)
        self._migrate()
        self.inbox = Inbox(self.connections, clock)
        self.exchanges = Exchanges(self.connections, clock)
        self.requests = Requests(self.connections, clock)
        self.threads = Threads(self.connections, clock)
        self.ratings = Ratings(self.connections, clock)
        self.lessons = Lessons(self.connections, clock)
        self.taught = Taught(self.connections, clock)
        self.consent = Consent(self.connections, clock)
        self.runs = Runs(self.connections, clock)
        self.scores = Scores(self.connections, clock)
        self.doubt = Doubt(self.connections, clock)
        self.learned = Learned(self.connections, clock)
        self.promotions = Promotions(self.connections, clock)
        self.watches = Watches(self.connections, clock)
        self.notices = Notices(self.connections, clock)
        self.picks = Picks(self.connections, clock)
        self.preferences = Preferences(self.connections)

    def _migrate(self) -> None:
        known = {step.name for step in migrations.pending(Database(memory=True))}
        try:
            with self.connections.write() as db:
                newer = {step.name for step in migrations.applied(db)} - known
                if newer:
                    raise LedgerError(
                        f"{self.path} was written by a newer Evenkeel (steps {sorted(newer)}, this one knows "
                        f"{sorted(known)}). Next: update Evenkeel."
                    )
                migrations.apply(db)
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"{self.path} cannot be used as the ledger: {error}. Next: restore a backup.") from None

    def add_report(self, run_id: int, view: Mapping[str, Any], *, html_path: str, png_path: str) -> None:
        """The report card of a run as data, and where its page and picture lie."""
        with self.connections.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO reports VALUES (?,?,?,?,?)",
                (run_id, json.dumps(dict(view)), html_path, png_path, to_text(self.clock())),
            )

    def report(self, run_id: int) -> dict[str, Any] | None:
        """{"view", "html_path", "png_path"} of a run, or None while it has no report."""
        row = next(
            self.connections.db.query("SELECT view, html_path, png_path FROM reports WHERE run_id=?", (run_id,)), None
        )
        return None if row is None else {**row, "view": json.loads(row["view"])}

    def has_report(self, run_id: int) -> bool:
        return self.connections.db.execute("SELECT 1 FROM reports WHERE run_id=?", (run_id,)).fetchone() is not None

    def audit(self, actor: str, action: str, detail: Mapping[str, Any]) -> None:
        """Who did what, for ever. Never message text, never a secret."""
        with self.connections.write() as db:
            db.execute(
                "INSERT INTO audit(at, actor, action, detail) VALUES (?,?,?,?)",
                (to_text(self.clock()), actor, action, json.dumps(dict(detail))),
            )

    def audits(self, limit: int = 20) -> tuple[dict[str, Any], ...]:
        rows = self.connections.db.query("SELECT * FROM audit ORDER BY audit_id DESC LIMIT ?", (limit,))
        return tuple({**r, "at": from_text(r["at"]), "detail": json.loads(r["detail"])} for r in rows)

    def backup(self, target: Path) -> None:
        """A whole copy in one file, for us alone, taken while others write; nothing is left of one that failed.

        Raises LedgerError if the target exists or cannot be written.
        """
        if target.exists():
            raise LedgerError(f"{target} exists already. Next: name another file.")
        try:
            create_private(target)
        except LedgerError:
            raise LedgerError(f"{target} cannot be written. Next: name a file in a folder that you own.") from None
        try:
            self.connections.db.execute("VACUUM INTO ?", (str(target),))
        except sqlite3.DatabaseError as error:
            target.unlink()
            raise LedgerError(
                f"no copy was made at {target}: {error}. Next: name a file on a disk with room."
            ) from None

    def verify(self) -> tuple[str, ...]:
        """Every fault found, one line each; empty when the ledger is sound."""
        db = self.connections.db
        faults = [f"sqlite: {r[0]}" for r in db.execute("PRAGMA integrity_check").fetchall() if r[0] != "ok"]
        faults += [f"foreign key: {r[0]} row {r[1]}" for r in db.execute("PRAGMA foreign_key_check").fetchall()]
        return (
            *faults,
            *self._ticket_faults(),
            *self.promotions.faults(),
            *self._answer_faults(),
            *self._score_faults(),
            *self._champion_faults(),
        )

    def _ticket_faults(self) -> list[str]:
        rows = self.connections.db.query(
            "SELECT content_digest, ticket_id, conversation_id, question, answer FROM tickets"
        )
        return [
            f"ticket {r['ticket_id']}: content does not give its digest"
            for r in rows
            if digest_of([r["ticket_id"], r["conversation_id"], r["question"], r["answer"]]) != r["content_digest"]
        ]

    def _answer_faults(self) -> list[str]:
        rows = self.connections.db.query(
            "SELECT e.exchange_id FROM exchanges e WHERE e.state='answered' AND NOT EXISTS"
            " (SELECT 1 FROM answers a WHERE a.exchange_id=e.exchange_id AND a.role='tuned')"
        )
        faults = [f"exchange {r['exchange_id']}: answered, but no tuned answer is stored" for r in rows]
        rows = self.connections.db.query(
            "SELECT DISTINCT a.answer_id, a.adapter_digest FROM answers a WHERE a.adapter_digest IS NOT NULL"
            f" AND a.adapter_digest NOT LIKE '{NAMED}%'"
            " AND NOT EXISTS (SELECT 1 FROM adapters d WHERE d.digest=a.adapter_digest)"
        )
        return faults + [f"answer {r['answer_id']}: spoken by an unknown adapter {r['adapter_digest']}" for r in rows]

    def _score_faults(self) -> list[str]:
        rows = self.connections.db.query("SELECT key, benchmark, n, items FROM scores")
        return [
            f"score {r['benchmark']}: n={r['n']} but {len(json.loads(r['items']))} items"
            for r in rows
            if len(json.loads(r["items"])) != r["n"]
        ]

    def _champion_faults(self) -> list[str]:
        rows = self.connections.db.query(
            "SELECT p.promotion_id, d.verdict, d.body, p.adapter_digest FROM promotions p JOIN decisions d USING (decision_id)"
            " WHERE p.kind='promote'"
        )
        return [
            f"promotion {r['promotion_id']}: not backed by a PROMOTE decision for this adapter"
            for r in rows
            if r["verdict"] != "PROMOTE" or json.loads(r["body"])["candidate_digest"] != r["adapter_digest"]
        ]

    def close(self) -> None:
        self.connections.close()
