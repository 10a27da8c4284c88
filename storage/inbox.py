"""The durable inbox: what Slack saw us accept, claimed by one worker at a time.

Promise: a stored event is handed out until somebody finishes it; a worker whose lease ran out can no longer
finish it; every step leaves a line of history. Knows no Slack: payloads are opaque.
"""

import json
from datetime import datetime, timedelta
from typing import Any

from storage.clock import Clock, from_text, to_text
from storage.database import Connections
from storage.errors import LostLease
from storage.records import InboxItem


class Inbox:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def accept(self, *, event_id: str, kind: str, team: str, channel: str, ts: str, payload: dict[str, Any]) -> bool:
        """Store an event; True if it is new. The same event_id, or a second question with the same
        (team, channel, ts), changes nothing. Returns only after the commit: then it may be acked.
        """
        row = (event_id, kind, team, channel, ts, json.dumps(payload), to_text(self._clock()), payload.get("user", ""))
        with self._connections.write() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO inbox(event_id, kind, team, channel, ts, payload, received_at, asker)"
                " VALUES (?,?,?,?,?,?,?,?)",
                row,
            )
            return cursor.rowcount == 1

    def claim(self, *, owner_kinds: tuple[str, ...], lease_s: float, inbox_id: int | None = None) -> InboxItem | None:
        """The oldest open item of these kinds that nobody holds (or this one), leased to the caller, or None.

        The questions of one thread are handed out one after the other, in the order in which they were asked. What is
        pressed under a call for a person waits for earlier calls and presses of its thread.
        """
        now = self._clock()
        if self._claimable(owner_kinds, inbox_id, to_text(now)) is None:
            return None  # looked up without the write lock: an idle worker disturbs nobody
        with self._connections.write() as db:
            found = self._claimable(owner_kinds, inbox_id, to_text(now))
            if found is None:
                return None
            db.execute(
                "UPDATE inbox SET state='leased', lease_until=?, fence=fence+1, attempts=attempts+1 WHERE inbox_id=?",
                (to_text(now + timedelta(seconds=lease_s)), found),
            )
            item = _item(next(db.query("SELECT * FROM inbox WHERE inbox_id=?", (found,))))
            self._note(item, to_text(now), "claimed", f"attempt {item.attempts}")
        return item

    def _claimable(self, kinds: tuple[str, ...], inbox_id: int | None, now: str) -> int | None:
        marks = ",".join("?" * len(kinds))
        chosen = "" if inbox_id is None else " AND inbox_id = ?"
        found = self._connections.db.execute(
            f"SELECT inbox_id FROM inbox i WHERE state IN ('new','leased') AND kind IN ({marks})"
            " AND (not_before IS NULL OR not_before <= ?) AND (state = 'new' OR lease_until < ?)"
            " AND (kind NOT IN ('question','handover') OR NOT EXISTS (SELECT 1 FROM inbox e"
            "  WHERE e.state IN ('new','leased') AND e.channel = i.channel"
            "  AND json_extract(e.payload, '$.thread_ts') = json_extract(i.payload, '$.thread_ts')"
            "  AND CASE i.kind WHEN 'question' THEN e.kind = 'question' AND e.ts < i.ts"
            "      ELSE e.kind IN ('person','handover') AND e.inbox_id < i.inbox_id END))"
            f"{chosen} ORDER BY inbox_id LIMIT 1",
            (*kinds, now, now, *(() if inbox_id is None else (inbox_id,))),
        ).fetchone()
        return None if found is None else int(found[0])

    def extend(self, item: InboxItem, lease_s: float) -> None:
        """Hold the item longer. Raises LostLease."""
        self._fenced(item, "lease_until=?", to_text(self._clock() + timedelta(seconds=lease_s)))

    def finish(self, item: InboxItem, note: str = "") -> None:
        """The item is done for ever. Raises LostLease when another worker holds it."""
        self._fenced(item, "state='done', lease_until=NULL, note=?", note, said=("done", note))

    def fail(self, item: InboxItem, reason: str) -> None:
        """Give up on the item, visibly. Raises LostLease."""
        self._fenced(item, "state='failed', lease_until=NULL, note=?", reason, said=("failed", reason))

    def put_back(self, item: InboxItem, *, delay_s: float, reason: str, counts: bool = True) -> None:
        """Let anybody claim the item again after `delay_s`; not `counts`: the try was not the item's fault and is
        not counted among its attempts. Raises LostLease.
        """
        moment = to_text(self._clock() + timedelta(seconds=delay_s))
        attempts = "" if counts else ", attempts=attempts-1"
        change = f"state='new', lease_until=NULL, not_before=?, note=?{attempts}"
        self._fenced(item, change, moment, reason, said=("put back", reason))

    def _fenced(self, item: InboxItem, change: str, *values: str, said: tuple[str, str] | None = None) -> None:
        with self._connections.write() as db:
            cursor = db.execute(
                f"UPDATE inbox SET {change} WHERE inbox_id=? AND fence=? AND state='leased'",
                (*values, item.inbox_id, item.fence),
            )
            if cursor.rowcount != 1:
                raise LostLease(f"inbox item {item.inbox_id}: lease {item.fence} is no longer held")
            if said is not None:
                self._note(item, to_text(self._clock()), *said)

    def _note(self, item: InboxItem, at: str, what: str, note: str) -> None:
        self._connections.db.execute(
            "INSERT INTO inbox_history(inbox_id, at, fence, what, note) VALUES (?,?,?,?,?)",
            (item.inbox_id, at, item.fence, what, note),
        )

    def history(self, inbox_id: int) -> tuple[dict[str, Any], ...]:
        """What happened to an item since it was accepted: at, fence, what, note."""
        return tuple(
            self._connections.db.query(
                "SELECT at, fence, what, note FROM inbox_history WHERE inbox_id=? ORDER BY inbox_history_id",
                (inbox_id,),
            )
        )

    # Questions that wait

    def holds(self, team: str, channel: str, ts: str, *, kinds: tuple[str, ...] = ("question",)) -> bool:
        """Whether a message with this ts was ever taken in as one of these kinds, answered or not."""
        marks = ",".join("?" * len(kinds))
        found = self._connections.db.execute(
            f"SELECT 1 FROM inbox WHERE team=? AND channel=? AND ts=? AND kind IN ({marks})",
            (team, channel, ts, *kinds),
        ).fetchone()
        return found is not None

    def waiting(self, kind: str = "question", *, limit: int = 50) -> tuple[InboxItem, ...]:
        """Open items that nobody works on, in the order in which they will be taken up."""
        rows = self._connections.db.query(
            "SELECT * FROM inbox WHERE state IN ('new','leased') AND kind=? AND (state = 'new' OR lease_until < ?)"
            " ORDER BY inbox_id LIMIT ?",
            (kind, to_text(self._clock()), limit),
        )
        return tuple(_item(row) for row in rows)

    def asked_lately(self, *, seconds: float, user: str, channel: str) -> tuple[int, int]:
        """(questions of this person, questions in this channel) in the last `seconds`."""
        since = to_text(self._clock() - timedelta(seconds=seconds))
        row = self._connections.db.execute(
            "SELECT coalesce(sum(asker = ?), 0), coalesce(sum(channel = ?), 0) FROM inbox"
            " WHERE kind = 'question' AND received_at > ?",
            (user, channel, since),
        ).fetchone()
        return int(row[0]), int(row[1])

    def ask_to_stop(self, team: str, channel: str, thread_ts: str, *, by: str, ts: str | None = None) -> int:
        """Ask whoever works on this thread's open questions (or on the one with this `ts`) to stop; returns how many."""
        with self._connections.write() as db:
            return int(
                db.execute(
                    "UPDATE inbox SET stop_by=?, not_before=NULL WHERE kind='question' AND state IN ('new','leased')"
                    " AND team=? AND channel=? AND json_extract(payload, '$.thread_ts')=? AND ts=coalesce(?, ts)",
                    (by, team, channel, thread_ts, ts),
                ).rowcount
            )

    def stopped_by(self, inbox_id: int) -> str:
        """Who asked to stop this item; empty when nobody did."""
        found = self._connections.db.execute("SELECT stop_by FROM inbox WHERE inbox_id=?", (inbox_id,)).fetchone()
        return str(found[0]) if found else ""

    def open_at(self, team: str, channel: str, ts: str) -> bool:
        """Whether the question with this ts is still waiting or being worked on."""
        found = self._connections.db.execute(
            "SELECT 1 FROM inbox WHERE kind='question' AND team=? AND channel=? AND ts=? AND state IN ('new','leased')",
            (team, channel, ts),
        ).fetchone()
        return found is not None

    def told_lately(self, user: str, *, seconds: float) -> bool:
        """Whether this person was told in the last `seconds` that it was too much."""
        since = to_text(self._clock() - timedelta(seconds=seconds))
        found = self._connections.db.execute(
            "SELECT 1 FROM inbox WHERE kind='excess' AND asker=? AND note='told' AND received_at > ? LIMIT 1",
            (user, since),
        ).fetchone()
        return found is not None

    def blank(self, team: str, channel: str, ts: str) -> None:
        """Forget what a finished item said; its key stays, so that a late delivery changes nothing."""
        with self._connections.write() as db:
            db.execute(
                "UPDATE inbox SET payload='{}', asker='' WHERE team=? AND channel=? AND ts=? AND state IN ('done','failed')",
                (team, channel, ts),
            )

    def last_received(self) -> datetime | None:
        """When the newest event was stored."""
        found = self._connections.db.execute("SELECT max(received_at) FROM inbox").fetchone()[0]
        return from_text(found) if found else None

    def depth(self) -> int:
        """Items that are not finished."""
        return int(
            self._connections.db.execute("SELECT count(*) FROM inbox WHERE state IN ('new','leased')").fetchone()[0]
        )


def _item(row: dict[str, Any]) -> InboxItem:
    return InboxItem(
        inbox_id=row["inbox_id"],
        event_id=row["event_id"],
        kind=row["kind"],
        team=row["team"],
        channel=row["channel"],
        ts=row["ts"],
        payload=json.loads(row["payload"]),
        received_at=from_text(row["received_at"]),
        attempts=row["attempts"],
        fence=row["fence"],
    )
