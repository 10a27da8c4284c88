"""Blind picks: which of two answers, unlabelled and in random order, an agent found better.

Promise: one pick for each reviewer and exchange, never changed; what is counted comes from agents and admins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from storage.clock import Clock, to_text
from storage.database import Connections
from storage.records import RaterRole, Role
from storage.shares import wilson

PickVerdict = Literal["tuned", "base", "both", "neither", "skip"]
_TRUSTED = "role IN ('agent','admin')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two answers that somebody may compare. `disliked`: an agent or customer gave the shown one a 👎 that stands."""

    exchange_id: int
    question: str
    tuned: str
    base: str
    disliked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate:
    """How often tuned was picked blind. `share` counts a tie (both fine, both bad) as half a win; `low`, `high`: its 95 %
    interval; `share` None while nothing was judged.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """One usable pair for later training: which answer was preferred."""

    exchange_id: int
    chosen: Role
    reviewer: str


class Picks:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def add(self, exchange_id: int, *, reviewer: str, role: RaterRole, first: Role, verdict: PickVerdict) -> bool:
        """Store a pick; False (and nothing changes) if this reviewer has picked here already."""
        with self._connections.write() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO picks(exchange_id, reviewer, role, first, verdict, at) VALUES (?,?,?,?,?,?)",
                (exchange_id, reviewer, role, first, verdict, to_text(self._clock())),
            )
            return cursor.rowcount == 1

    def open_for(self, reviewer: str, *, max_age_s: float, limit: int = 1_000) -> tuple[Pair, ...]:
        """Pairs that this reviewer has not seen and fewer than two have judged, newest first.

        Both answers are whole and differ, and the tuned one was spoken by an adapter.
        """
        rows = self._connections.db.query(
            "SELECT e.exchange_id, e.text AS question, t.text AS tuned, b.text AS base, EXISTS (SELECT 1 FROM ratings r"
            "  WHERE r.exchange_id = e.exchange_id AND r.sign < 0) AS disliked"
            " FROM exchanges e JOIN answers t ON t.exchange_id = e.exchange_id AND t.role = 'tuned' AND t.status = 'ok'"
            " JOIN answers b ON b.exchange_id = e.exchange_id AND b.role = 'base' AND b.status = 'ok'"
            " WHERE e.asked_at >= ? AND t.adapter_digest IS NOT NULL AND trim(t.text) <> trim(b.text)"
            " AND NOT EXISTS (SELECT 1 FROM picks p WHERE p.exchange_id = e.exchange_id AND p.reviewer = ?)"
            " AND (SELECT count(*) FROM picks p WHERE p.exchange_id = e.exchange_id AND p.verdict <> 'skip') < 2"
            " ORDER BY e.exchange_id DESC LIMIT ?",
            (to_text(self._clock() - timedelta(seconds=max_age_s)), reviewer, limit),
        )
        return tuple(Pair(**{**row, "disliked": bool(row["disliked"])}) for row in rows)

    def win_rate(self, adapter_digest: str | None = None) -> WinRate:
        """Over all adapters, or over the answers of one."""
        rows = self._connections.db.execute(
            "SELECT verdict, count(*) FROM picks p JOIN answers a ON a.exchange_id = p.exchange_id AND a.role = 'tuned'"
            f" WHERE p.{_TRUSTED} AND (? IS NULL OR a.adapter_digest = ?) GROUP BY verdict",
            (adapter_digest, adapter_digest),
        ).fetchall()
        counts = dict(rows)
        wins, losses, ties = (
            counts.get("tuned", 0),
            counts.get("base", 0),
            counts.get("both", 0) + counts.get("neither", 0),
        )
        n = wins + losses + ties
        low, high = wilson(wins + ties / 2, n)
        share = (wins + ties / 2) / n if n else None
        return WinRate(wins=wins, losses=losses, ties=ties, share=share, low=low, high=high)

    def preferences(self) -> tuple[Preference, ...]:
        """Every pick that prefers one answer, oldest first."""
        rows = self._connections.db.query(
            f"SELECT exchange_id, verdict AS chosen, reviewer FROM picks WHERE verdict IN ('tuned','base') AND {_TRUSTED}"
            " ORDER BY pick_id"
        )
        return tuple(Preference(**row) for row in rows)

    def verdicts_of(self, reviewer: str, exchange_ids: Sequence[int]) -> tuple[PickVerdict, ...]:
        """What this reviewer said about these exchanges."""
        marks = ",".join("?" * len(exchange_ids))
        rows = self._connections.db.execute(
            f"SELECT verdict FROM picks WHERE reviewer=? AND exchange_id IN ({marks}) ORDER BY pick_id",
            (reviewer, *exchange_ids),
        ).fetchall()
        return tuple(row[0] for row in rows)
