"""Messages of our own that may be said once: who is saying it, and where it stands once it was said.

Promise: of all that try at the same time, in however many processes, one at a time holds a notice; whoever takes it up
after another learns that it may have been said already.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from storage.clock import Clock, from_text, to_text
from storage.database import Connections

SILENT = "-"  # the ts of a notice that was settled without a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """`ts` None: begun, not known to be said. `at`: since when somebody is at it, or when it was settled."""

    key: str
    channel: str
    ts: str | None
    at: datetime


class Notices:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def get(self, key: str) -> Notice | None:
        return next(iter(self._rows("key=?", key)), None)

    def under(self, prefix: str) -> tuple[Notice, ...]:
        """Those whose key begins so, in the order of their keys."""
        return self._rows("substr(key, 1, ?) = ? ORDER BY key", len(prefix), prefix)

    def is_settled(self, key: str) -> bool:
        found = self.get(key)
        return found is not None and found.ts is not None

    def begin(self, key: str, channel: str, *, lease_s: float) -> str:
        """ "new": it is yours to say. "again": yours, but another may have said it. "": settled, or another is at it."""
        now = self._clock()
        with self._connections.write() as db:
            row = (key, channel, to_text(now))
            if db.execute("INSERT OR IGNORE INTO notices(key, channel, at) VALUES (?,?,?)", row).rowcount:
                return "new"
            taken = db.execute(
                "UPDATE notices SET at=?, channel=? WHERE key=? AND ts IS NULL AND at < ?",
                (to_text(now), channel, key, to_text(now - timedelta(seconds=lease_s))),
            ).rowcount
        return "again" if taken else ""

    def let_go(self, key: str) -> None:
        """It could not be said for now: whoever comes next takes it up at once."""
        with self._connections.write() as db:
            db.execute(
                "UPDATE notices SET at=? WHERE key=? AND ts IS NULL", (to_text(datetime.fromtimestamp(0, UTC)), key)
            )

    def settle(self, key: str, channel: str, ts: str = SILENT) -> None:
        """It stands there, or it will never be said. What was settled first stays."""
        with self._connections.write() as db:
            db.execute(
                "INSERT INTO notices(key, channel, ts, at) VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET ts=excluded.ts,"
                " channel=excluded.channel, at=excluded.at WHERE notices.ts IS NULL",
                (key, channel, ts, to_text(self._clock())),
            )

    def _rows(self, condition: str, *values: object) -> tuple[Notice, ...]:
        rows = self._connections.db.query(f"SELECT key, channel, ts, at FROM notices WHERE {condition}", values)
        return tuple(Notice(**{**row, "at": from_text(row["at"])}) for row in rows)
