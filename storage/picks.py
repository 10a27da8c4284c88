"""Blind picks of the review queue: which of two unlabelled answers a reviewer found better.

Promise: one pick a reviewer and exchange, never changed; nobody is asked about an answer whose speaker they have seen;
only picks of agents and admins count. The win rate is that of a third of the exchanges, drawn by lot and served in the
lot's order: what is asked about does not depend on what was said.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from storage.clock import Clock, to_text
from storage.database import Connections
from storage.digests import digest_of
from storage.lessons import ASKED, slack_lesson
from storage.records import Lesson, RaterRole, Role
from storage.shares import wilson

PickVerdict = Literal["tuned", "base", "both", "neither", "skip"]
ONE_IN = 3  # exchanges is drawn for the win rate
ENOUGH = 2  # picks that an exchange needs; skips do not count
_TEAM = "p.role IN ('agent','admin')"
_WANTED = (
    "NOT EXISTS (SELECT 1 FROM picks p WHERE p.exchange_id = e.exchange_id AND p.reviewer = :reviewer)"
    " AND (SELECT count(*) FROM picks p WHERE p.exchange_id = e.exchange_id AND p.verdict <> 'skip') < :enough"
)
_UNSEEN = (
    "e.asker <> :reviewer"
    " AND e.exchange_id NOT IN (SELECT r.exchange_id FROM ratings r WHERE r.user = :reviewer)"
    " AND e.exchange_id NOT IN (SELECT c.exchange_id FROM corrections c WHERE c.author = :reviewer)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An exchange that a reviewer may be asked about."""

    exchange_id: int
    question: str
    tuned: str
    base: str
    disliked: bool  # a 👎 of anybody stands


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate:
    """How often tuned was picked over base: `share` = (wins + ties / 2) / n, with its 95 % interval.

    Counted are exchanges. A tie is “both fine”, “both bad”, or reviewers who contradict each other; skips count nowhere.
    Without a pick the share is None and the interval 0 to 1.
    """

    wins: int
    losses: int
    ties: int
    share: float | None
    low: float
    high: float

    @property
    def n(self) -> int:
        return self.wins + self.losses + self.ties


class Picks:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def add(self, exchange_id: int, *, reviewer: str, role: RaterRole, first: Role, verdict: PickVerdict) -> bool:
        """Store a pick. False, and nothing changes, when this reviewer has picked already or the exchange is gone.

        `first`: who was shown as answer A.
        """
        with self._connections.write() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO picks(exchange_id, reviewer, role, first, verdict, at)"
                " SELECT exchange_id, ?, ?, ?, ?, ? FROM exchanges WHERE exchange_id=?",
                (reviewer, role, first, verdict, to_text(self._clock()), exchange_id),
            )
            return cursor.rowcount == 1

    def candidates(self, reviewer: str, *, max_age_s: float, limit: int = 1_000) -> tuple[Candidate, ...]:
        """What this reviewer may be asked about, newest first: both answers ok and different, tuned spoken by an adapter,
        no older than `max_age_s`, picked by fewer than two, and not by them; not their own question, and none that they
        rated or corrected, for then they know who spoke.
        """
        rows = self._connections.db.query(
            "WITH disliked AS (SELECT DISTINCT exchange_id FROM ratings WHERE sign < 0)"
            " SELECT e.exchange_id, e.text AS question, t.text AS tuned, b.text AS base,"
            " e.exchange_id IN (SELECT exchange_id FROM disliked) AS disliked FROM exchanges e"
            " JOIN answers t ON t.exchange_id = e.exchange_id AND t.role = 'tuned' AND t.status = 'ok'"
            " JOIN answers b ON b.exchange_id = e.exchange_id AND b.role = 'base' AND b.status = 'ok'"
            " WHERE e.asked_at >= :since AND t.adapter_digest IS NOT NULL AND trim(t.text) <> trim(b.text)"
            f" AND {_WANTED} AND {_UNSEEN} ORDER BY e.exchange_id DESC LIMIT :most",
            {"reviewer": reviewer, "since": self._since(max_age_s), "enough": ENOUGH, "most": limit},
        )
        return tuple(Candidate(**{**row, "disliked": bool(row["disliked"])}) for row in rows)

    def recent_questions(self, *, max_age_s: float, limit: int = 1_000) -> tuple[str, ...]:
        """What was asked lately, newest first, whoever answered."""
        rows = self._connections.db.execute(
            "SELECT text FROM exchanges WHERE asked_at >= ? ORDER BY exchange_id DESC LIMIT ?",
            (self._since(max_age_s), limit),
        ).fetchall()
        return tuple(row[0] for row in rows)

    def still_wanted(self, reviewer: str, exchange_ids: Sequence[int]) -> frozenset[int]:
        """Those of them that are still known, not picked by this reviewer and picked by fewer than two."""
        rows = self._connections.db.execute(
            f"SELECT e.exchange_id FROM exchanges e WHERE e.exchange_id IN (SELECT value FROM json_each(:ids)) AND {_WANTED}",
            {"reviewer": reviewer, "ids": json.dumps(list(exchange_ids)), "enough": ENOUGH},
        ).fetchall()
        return frozenset(row[0] for row in rows)

    def verdicts_of(self, reviewer: str, exchange_ids: Sequence[int]) -> tuple[PickVerdict, ...]:
        """What this reviewer said about them, in the order of saying."""
        rows = self._connections.db.execute(
            "SELECT verdict FROM picks WHERE reviewer=? AND exchange_id IN (SELECT value FROM json_each(?)) ORDER BY pick_id",
            (reviewer, json.dumps(list(exchange_ids))),
        ).fetchall()
        return tuple(row[0] for row in rows)

    def count_by(self, reviewer: str) -> int:
        """How many exchanges this person has judged; skips do not count."""
        found = self._connections.db.execute(
            "SELECT count(*) FROM picks WHERE reviewer=? AND verdict <> 'skip'", (reviewer,)
        ).fetchone()
        return int(found[0])

    def win_rate(self, adapter_digest: str | None = None) -> WinRate:
        """Tuned against base over the picked exchanges that were drawn by lot, of all adapters or of this one.

        It holds for questions of which both models made an answer, and a different one.
        """
        rows = self._connections.db.execute(
            "SELECT p.exchange_id, sum((p.verdict = 'tuned') - (p.verdict = 'base')) FROM picks p JOIN answers t"
            f" ON t.exchange_id = p.exchange_id AND t.role = 'tuned' WHERE {_TEAM} AND p.verdict <> 'skip'"
            " AND (:adapter IS NULL OR t.adapter_digest = :adapter) GROUP BY p.exchange_id",
            {"adapter": adapter_digest},
        ).fetchall()
        points = [found for exchange_id, found in rows if drawn(exchange_id)]
        return win_rate(sum(p > 0 for p in points), sum(p < 0 for p in points), points.count(0))

    def preferences(self) -> tuple[tuple[int, Role], ...]:
        """(exchange_id, chosen role) where agents and admins agree that one answer is better, in order of exchanges."""
        rows = self._connections.db.execute(
            f"SELECT p.exchange_id, min(p.verdict) FROM picks p WHERE {_TEAM} AND p.verdict IN ('tuned','base')"
            " GROUP BY p.exchange_id HAVING min(p.verdict) = max(p.verdict) ORDER BY p.exchange_id"
        ).fetchall()
        return tuple((row[0], row[1]) for row in rows)

    def lessons(self, without: Collection[str] = ()) -> tuple[Lesson, ...]:
        """The answer that agents and admins agree is the better one, where nobody of them corrected or disliked the exchange.

        `without`: people whose picks, corrections and votes are as if they had never been.
        """
        rows = self._connections.db.query(
            f"SELECT a.text AS answer, min(p.reviewer) AS author, max(p.at) AS at, {ASKED}"
            " FROM picks p JOIN exchanges e USING (exchange_id)"
            " JOIN answers a ON a.exchange_id = e.exchange_id AND a.role = p.verdict AND a.status = 'ok'"
            f" WHERE {_TEAM} AND p.reviewer NOT IN (SELECT value FROM json_each(:without))"
            " AND p.exchange_id NOT IN (SELECT o.exchange_id FROM picks o WHERE o.role IN ('agent','admin')"
            "  AND o.reviewer NOT IN (SELECT value FROM json_each(:without)) AND o.verdict NOT IN ('skip', p.verdict))"
            " AND NOT EXISTS (SELECT 1 FROM corrections c WHERE c.exchange_id = e.exchange_id AND c.role IN ('agent','admin')"
            "  AND c.removed_at IS NULL AND c.author NOT IN (SELECT value FROM json_each(:without)))"
            " AND (p.verdict = 'base' OR NOT EXISTS (SELECT 1 FROM ratings r WHERE r.exchange_id = e.exchange_id AND r.sign < 0"
            "  AND r.role IN ('agent','admin') AND r.user NOT IN (SELECT value FROM json_each(:without))))"
            " GROUP BY e.exchange_id ORDER BY e.exchange_id",
            {"without": json.dumps(sorted(without))},
        )
        return tuple(slack_lesson(row, "pick", f"pick-{row['exchange_id']}") for row in rows)

    def _since(self, max_age_s: float) -> str:
        return to_text(self._clock() - timedelta(seconds=max_age_s))


def lot(exchange_id: int) -> int:
    """Its place in an order that nobody has chosen. Pure."""
    return int(digest_of([exchange_id, "lot"]), 16)


def drawn(exchange_id: int) -> bool:
    """Whether this exchange is one of those that the win rate is measured on. Pure."""
    return lot(exchange_id) % ONE_IN == 0


def win_rate(wins: int, losses: int, ties: int) -> WinRate:
    """The share and its Wilson interval, a tie as half a success. Pure."""
    n, points = wins + losses + ties, wins + ties / 2
    low, high = wilson(points, n)
    return WinRate(wins=wins, losses=losses, ties=ties, share=points / n if n else None, low=low, high=high)
