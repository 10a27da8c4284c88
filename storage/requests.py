"""Which signed requests were let in: so that none acts twice, over a restart and among several processes.

Knows signatures and times; knows no HTTP.
"""

from datetime import timedelta

from storage.clock import Clock, to_text
from storage.database import Connections


class Requests:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def first(self, signature: str, *, keep_s: float) -> bool:
        """Whether nobody used this signature in the last `keep_s` seconds; the one who gets True has used it.

        Older ones are forgotten. Returns only after the commit. Raises Busy.
        """
        now = self._clock()
        with self._connections.write() as db:
            db.execute("DELETE FROM seen_requests WHERE at < ?", (to_text(now - timedelta(seconds=keep_s)),))
            cursor = db.execute(
                "INSERT OR IGNORE INTO seen_requests(signature, at) VALUES (?,?)", (signature, to_text(now))
            )
            return cursor.rowcount == 1

    def release(self, signature: str) -> None:
        """The request was not accepted: it may come again. Raises Busy."""
        with self._connections.write() as db:
            db.execute("DELETE FROM seen_requests WHERE signature=?", (signature,))

    def count(self) -> int:
        return int(self._connections.db.execute("SELECT count(*) FROM seen_requests").fetchone()[0])
