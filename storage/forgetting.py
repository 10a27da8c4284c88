"""Forgetting a person: what the ledger and the datasets hold of them goes, and a receipt says what went.

Promise: after `forget` returned, no question, answer, rating, reason, taught reply or ticket of theirs is left in the ledger
and no built dataset holds a row of their conversations, or one that they judged, nor does the report of a run on it; the keys of
their events stay, so that a late delivery brings nothing back, and so does the audit of what they did to others. Adapters that
learned from them are named: the next run trains without them. Backups and Slack itself are not ours.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlite_utils import Database

from storage.clock import to_text
from storage.digests import digest_of
from storage.exchanges import drop_history
from storage.ledger import Ledger

_THREADS = """
SELECT team, channel, thread_ts FROM exchanges WHERE asker=:user
UNION SELECT team, channel, thread_ts FROM taught WHERE :user IN (asker, author, teacher)
UNION SELECT e.team, e.channel, e.thread_ts FROM corrections c JOIN exchanges e USING (exchange_id) WHERE c.author=:user
"""

_THEIRS = "? IN (customer, agent)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was forgotten, in numbers."""

    questions: int
    ratings: int
    taught: int
    tickets: int
    datasets: int
    adapters: tuple[str, ...]


def forget(ledger: Ledger, datasets_dir: Path, user: str, *, actor: str) -> Receipt:
    """Forget this person. The datasets go before the commit: a crash in between is made up for by calling it again."""
    with ledger.connections.write() as db:
        ledger.connections.delete_for_good()
        threads = {":".join(row) for row in db.execute(_THREADS, {"user": user}).fetchall()}
        threads |= {
            r[0] for r in db.execute(f"SELECT conversation_id FROM tickets WHERE {_THEIRS}", (user,)).fetchall()
        }
        _forget_context(db, user)
        questions = db.execute("DELETE FROM exchanges WHERE asker=?", (user,)).rowcount
        ratings = db.execute("DELETE FROM rating_events WHERE user=?", (user,)).rowcount
        db.execute("DELETE FROM reasons WHERE user=?", (user,))
        taught = db.execute("DELETE FROM taught WHERE ? IN (asker, author, teacher)", (user,)).rowcount
        taught += db.execute("DELETE FROM corrections WHERE author=?", (user,)).rowcount
        tickets = db.execute(f"DELETE FROM tickets WHERE {_THEIRS}", (user,)).rowcount
        db.execute("DELETE FROM picks WHERE reviewer=?", (user,))
        db.execute("DELETE FROM exclusions WHERE person=?", (user,))
        db.execute("UPDATE threads SET person='' WHERE person=?", (user,))
        db.execute(
            "UPDATE inbox SET payload='{}', asker='', state=CASE WHEN state IN ('new','leased') THEN 'failed' ELSE state END,"
            " lease_until=NULL, note='forgotten' WHERE asker=?",
            (user,),
        )
        found = _datasets_with(datasets_dir, threads, user)
        adapters = tuple(
            row[0]
            for digest in found
            for row in db.execute("SELECT digest FROM adapters WHERE dataset_digest=?", (digest,)).fetchall()
        )
        receipt = Receipt(
            questions=questions, ratings=ratings, taught=taught, tickets=tickets, datasets=len(found),
            adapters=tuple(sorted(adapters)))  # fmt: skip
        body, by = {**asdict(receipt), "subject": digest_of(user)}, "themselves" if actor == user else actor
        db.execute(
            "INSERT INTO erasures(at, actor, receipt) VALUES (?,?,?)", (to_text(ledger.clock()), by, json.dumps(body))
        )
        ledger.audit(by, "forget", asdict(receipt))
        for digest in found:
            _clear_reports(db, digest)
            shutil.rmtree(datasets_dir / digest)
    return receipt


def is_forgotten(ledger: Ledger, user: str) -> bool:
    """Whether this person was ever forgotten: what of them is read again from Slack must not come back."""
    found = ledger.connections.db.execute(
        "SELECT 1 FROM erasures WHERE json_extract(receipt, '$.subject') = ?", (digest_of(user),)
    ).fetchone()
    return found is not None


def _forget_context(db: Database, user: str) -> None:
    """Other people's questions in the same threads lose what was said before them: it holds the person's words."""
    rows = db.execute(
        "SELECT o.exchange_id, o.messages FROM exchanges o WHERE o.asker<>? AND EXISTS (SELECT 1 FROM exchanges e WHERE"
        " e.asker=? AND (e.team, e.channel, e.thread_ts) = (o.team, o.channel, o.thread_ts))",
        (user, user),
    ).fetchall()
    drop_history(db, rows)


def _clear_reports(db: Database, dataset: str) -> None:
    """Reports quote held-out questions: those of this dataset lose them, and their pages, which `evenkeel report` makes anew."""
    of_it = "run_id IN (SELECT run_id FROM runs WHERE dataset_digest=?)"
    for (page,) in db.execute(f"SELECT html_path FROM reports WHERE {of_it}", (dataset,)).fetchall():
        for path in Path(page).parent.glob("report.*"):
            path.unlink()
    db.execute(f"UPDATE reports SET view=json_remove(view, '$.regressions', '$.items') WHERE {of_it}", (dataset,))


def _datasets_with(datasets_dir: Path, conversations: set[str], user: str) -> list[str]:
    """The built datasets that hold a row of these conversations, or one that this person asked, wrote or judged."""
    if not datasets_dir.is_dir():
        return []
    folders = (folder for folder in datasets_dir.iterdir() if folder.is_dir())
    return sorted(folder.name for folder in folders if _holds(folder, conversations, user))


def _holds(folder: Path, conversations: set[str], user: str) -> bool:
    for file in folder.glob("*.jsonl"):
        with file.open(encoding="utf-8") as lines:
            for row in (json.loads(line) for line in lines if line.strip()):
                if row.get("conversation_id") in conversations or user in (
                    row.get("author"),
                    row.get("customer"),
                    *row.get("judges", ()),
                ):
                    return True
    return False
