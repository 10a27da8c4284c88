"""What people thought: an append-only log of adds and removals, and its fold.

Promise: the fold equals Slack's state whatever the order, the repeats and the time of arrival, also when the
reaction came before the answer's row. All votes are kept; who counts is decided by the reader.
"""

from collections import Counter

from storage.clock import Clock, to_text
from storage.database import Connections
from storage.records import Rating, RatingEvent


class Ratings:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def add(self, event: RatingEvent) -> bool:
        """Store one event; False if its event_id is known."""
        with self._connections.write() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO rating_events(event_id, team, channel, ts, user, reaction, sign, action, event_ts,"
                " role, source, stored_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    event.event_id,
                    event.team,
                    event.channel,
                    event.ts,
                    event.user,
                    event.reaction,
                    event.sign,
                    event.action,
                    event.event_ts,
                    event.role,
                    event.source,
                    to_text(self._clock()),
                ),
            )
            return cursor.rowcount == 1

    def of(self, exchange_id: int) -> tuple[Rating, ...]:
        """The verdicts that stand now, oldest first."""
        rows = self._connections.db.query(
            "SELECT exchange_id, user, role, reaction, sign FROM ratings WHERE exchange_id=? ORDER BY event_ts",
            (exchange_id,),
        )
        return tuple(Rating(**row) for row in rows)

    def split(self, exchange_id: int) -> tuple[int, int]:
        """(👍, 👎) of agents and admins, each counted once: they disagree where both are above 0. Who says both in equal
        parts is for neither.
        """
        sums: Counter[str] = Counter()
        for rating in self.of(exchange_id):
            sums[rating.user] += rating.sign if rating.role in ("agent", "admin") else 0
        return sum(n > 0 for n in sums.values()), sum(n < 0 for n in sums.values())

    def last_event_ts(self, team: str, channel: str, ts: str) -> str:
        """When the newest stored event on this message happened, by Slack's clock; "0" without any."""
        found = self._connections.db.execute(
            "SELECT max(event_ts) FROM rating_events WHERE (team, channel, ts) = (?,?,?)", (team, channel, ts)
        ).fetchone()
        return found[0] or "0"

    def reactions_on(self, team: str, channel: str, ts: str) -> set[tuple[str, str]]:
        """(user, emoji) of all reactions that stand on one message, whatever they mean. Pending events count too late."""
        rows = self._connections.db.execute(
            "SELECT user, reaction FROM rating_events e WHERE (team, channel, ts) = (?,?,?) AND source='reaction'"
            " AND action='add' AND NOT EXISTS (SELECT 1 FROM rating_events l WHERE"
            " (l.team, l.channel, l.ts, l.user, l.reaction) = (e.team, e.channel, e.ts, e.user, e.reaction)"
            " AND (l.event_ts, l.rating_event_id) > (e.event_ts, e.rating_event_id))",
            (team, channel, ts),
        ).fetchall()
        return {(row[0], row[1]) for row in rows}

    def counts(self) -> dict[str, int]:
        """Standing verdicts by "role:sign", for status and the App Home."""
        rows = self._connections.db.execute("SELECT role, sign, count(*) FROM ratings GROUP BY role, sign").fetchall()
        return {f"{role}:{'up' if sign > 0 else 'down'}": count for role, sign, count in rows}
