"""What reviewers picked, blind, between the tuned answer and the base's.

Promise: one pick a reviewer and exchange, and the first one stands. Only agents' and admins' picks are read back.
Knows who spoke; what a reviewer is shown of it is decided in bot/review_view.py.
"""

import math
from datetime import timedelta

from storage.clock import Clock, to_text
from storage.database import Connections
from storage.exchanges import Exchanges
from storage.records import Exchange, Pair, PickVerdict, Role, WinRate

Z95 = 1.959963984540054  # the standard normal's 97.5 % point
ENOUGH_PICKS = 2  # an exchange with so many verdicts is not asked about again
LOOK_BACK = timedelta(days=30)
_TRUSTED = "('agent','admin')"


class Picks:
    def __init__(self, connections: Connections, clock: Clock, exchanges: Exchanges) -> None:
        self._connections, self._clock, self._exchanges = connections, clock, exchanges

    def add(self, exchange_id: int, *, reviewer: str, role: str, first: Role, verdict: PickVerdict) -> bool:
        """Store a pick; False (and nothing changes) if this reviewer has picked here, or the exchange was erased.

        `first` is the answer that the card showed as A.
        """
        with self._connections.write() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO picks(exchange_id, reviewer, role, first, verdict, at)"
                " SELECT exchange_id, ?, ?, ?, ?, ? FROM exchanges WHERE exchange_id=?",
                (reviewer, role, first, verdict, to_text(self._clock()), exchange_id),
            )
            return cursor.rowcount == 1

    def open_for(self, reviewer: str, *, limit: int = 1_000) -> tuple[Pair, ...]:
        """What this reviewer may still compare, newest first: of the last 30 days, both answers there and different,
        tuned spoken by an adapter, not picked by this reviewer and by fewer than two others (a skip is no verdict).
        """
        rows = self._connections.db.query(
            "SELECT e.exchange_id, e.text AS question, t.text AS tuned, b.text AS base,"
            " e.exchange_id IN (SELECT exchange_id FROM ratings WHERE sign < 0) AS disliked FROM exchanges e"
            " JOIN answers t ON t.exchange_id=e.exchange_id AND t.role='tuned' AND t.status='ok'"
            " JOIN answers b ON b.exchange_id=e.exchange_id AND b.role='base' AND b.status='ok'"
            " WHERE e.asked_at >= ? AND t.adapter_digest IS NOT NULL AND trim(t.text) <> trim(b.text)"
            " AND NOT EXISTS (SELECT 1 FROM picks p WHERE p.exchange_id=e.exchange_id AND p.reviewer=?)"
            " AND (SELECT count(*) FROM picks p WHERE p.exchange_id=e.exchange_id AND p.verdict <> 'skip') < ?"
            " ORDER BY e.exchange_id DESC LIMIT ?",
            (self._since(), reviewer, ENOUGH_PICKS, limit),
        )
        return tuple(Pair(**{**row, "disliked": bool(row["disliked"])}) for row in rows)

    def recent_questions(self, *, limit: int = 1_000) -> tuple[str, ...]:
        """What people asked in the last 30 days, newest first, reviewed or not: it says how often a question comes up."""
        rows = self._connections.db.execute(
            "SELECT text FROM exchanges WHERE asked_at >= ? ORDER BY exchange_id DESC LIMIT ?", (self._since(), limit)
        ).fetchall()
        return tuple(row[0] for row in rows)

    def win_rate(self, adapter_digest: str | None = None) -> WinRate:
        """Tuned against base over all picks, or over those on answers of one adapter. Skips are left out."""
        counts = dict(
            self._connections.db.execute(
                "SELECT p.verdict, count(*) FROM picks p JOIN answers t ON t.exchange_id=p.exchange_id AND t.role='tuned'"
                f" WHERE p.role IN {_TRUSTED} AND (:adapter IS NULL OR t.adapter_digest=:adapter) GROUP BY p.verdict",
                {"adapter": adapter_digest},
            ).fetchall()
        )
        ties = counts.get("both", 0) + counts.get("neither", 0)
        return win_rate_of(counts.get("tuned", 0), counts.get("base", 0), ties)

    def preferences(self) -> tuple[tuple[Exchange, Role], ...]:
        """Exchanges in which agents and admins preferred one answer, with its role; none on which they disagree."""
        rows = self._connections.db.execute(
            f"SELECT exchange_id, min(verdict) FROM picks WHERE role IN {_TRUSTED} AND verdict IN ('tuned','base')"
            " GROUP BY exchange_id HAVING count(DISTINCT verdict) = 1 ORDER BY exchange_id"
        ).fetchall()
        found = ((self._exchanges.get(exchange_id), role) for exchange_id, role in rows)
        return tuple((exchange, role) for exchange, role in found if exchange is not None)

    def last_of(self, reviewer: str, limit: int) -> tuple[PickVerdict, ...]:
        """This reviewer's newest verdicts, newest first."""
        rows = self._connections.db.execute(
            "SELECT verdict FROM picks WHERE reviewer=? ORDER BY pick_id DESC LIMIT ?", (reviewer, limit)
        ).fetchall()
        return tuple(row[0] for row in rows)

    def count_by(self, reviewer: str) -> int:
        """How many verdicts this reviewer has given. Skips are left out."""
        row = self._connections.db.execute(
            "SELECT count(*) FROM picks WHERE reviewer=? AND verdict <> 'skip'", (reviewer,)
        ).fetchone()
        return int(row[0])

    def _since(self) -> str:
        return to_text(self._clock() - LOOK_BACK)


def win_rate_of(wins: int, losses: int, ties: int) -> WinRate:
    """The share (wins + ties / 2) / n with its 95 % Wilson score interval.

    Source: Wilson (1927), the score interval without continuity correction. Each pick counts as one trial, so two
    reviewers of one exchange count as two. Differs in that a tie is half a success: its variance is smaller than the
    interval assumes, which errs on the wide side.
    """
    n = wins + losses + ties
    if n == 0:
        return WinRate(wins=0, losses=0, ties=0, n=0, share=None, low=0.0, high=1.0)
    share, squared = (wins + ties / 2) / n, Z95**2
    middle = (share + squared / (2 * n)) / (1 + squared / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + squared / (4 * n * n)) / (1 + squared / n)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return WinRate(wins=wins, losses=losses, ties=ties, n=n, share=share, low=low, high=high)
