"""The durable inbox: what Slack saw us accept, claimed by one worker at a time.

Promise: a stored event is handed out until somebody finishes it; a worker whose lease ran out can no longer
finish it. Knows no Slack: payloads are opaque.
"""

import json
from datetime import timedelta
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
        with self._connections.write() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO inbox(event_id, kind, team, channel, ts, payload, received_at) VALUES (?,?,?,?,?,?,?)",
                (event_id, kind, team, channel, ts, json.dumps(payload), to_text(self._clock())),
            )
            return cursor.rowcount == 1

    def claim(self, *, owner_kinds: tuple[str, ...], lease_s: float) -> InboxItem | None:
        """The oldest open item of these kinds that nobody holds, leased to the caller; None when there is none."""
        now = self._clock()
        marks = ",".join("?" * len(owner_kinds))
        with self._connections.write() as db:
            found = db.execute(
                f"SELECT inbox_id FROM inbox WHERE kind IN ({marks}) AND (not_before IS NULL OR not_before <= ?)"
                " AND (state = 'new' OR (state = 'leased' AND lease_until < ?)) ORDER BY inbox_id LIMIT 1",
                (*owner_kinds, to_text(now), to_text(now)),
            ).fetchone()
            if found is None:
                return None
            db.execute(
                "UPDATE inbox SET state='leased', lease_until=?, fence=fence+1, attempts=attempts+1 WHERE inbox_id=?",
                (to_text(now + timedelta(seconds=lease_s)), found[0]),
            )
            row = next(db.query("SELECT * FROM inbox WHERE inbox_id=?", (found[0],)))
        return _item(row)

    def extend(self, item: InboxItem, lease_s: float) -> None:
        """Hold the item longer. Raises LostLease."""
        self._fenced(item, "lease_until=?", to_text(self._clock() + timedelta(seconds=lease_s)))

    def finish(self, item: InboxItem, note: str = "") -> None:
        """The item is done for ever. Raises LostLease when another worker holds it."""
        self._fenced(item, "state='done', lease_until=NULL, note=?", note)

    def fail(self, item: InboxItem, reason: str) -> None:
        """Give up on the item, visibly. Raises LostLease."""
        self._fenced(item, "state='failed', lease_until=NULL, note=?", reason)

    def put_back(self, item: InboxItem, *, delay_s: float, reason: str, counts: bool = True) -> None:
        """Let anybody claim the item again after `delay_s`; not `counts`: the try was not the item's fault and is
        not counted among its attempts. Raises LostLease.
        """
        moment = to_text(self._clock() + timedelta(seconds=delay_s))
        attempts = "" if counts else ", attempts=attempts-1"
        self._fenced(item, f"state='new', lease_until=NULL, not_before=?, note=?{attempts}", moment, reason)

    def _fenced(self, item: InboxItem, change: str, *values: str) -> None:
        with self._connections.write() as db:
            cursor = db.execute(
                f"UPDATE inbox SET {change} WHERE inbox_id=? AND fence=? AND state='leased'",
                (*values, item.inbox_id, item.fence),
            )
            if cursor.rowcount != 1:
                raise LostLease(f"inbox item {item.inbox_id}: lease {item.fence} is no longer held")

    def holds_question(self, team: str, channel: str, ts: str) -> bool:
        """Whether a question with this ts was ever accepted, answered or not."""
        found = self._connections.db.execute(
            "SELECT 1 FROM inbox WHERE kind='question' AND team=? AND channel=? AND ts=?", (team, channel, ts)
        ).fetchone()
        return found is not None

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
