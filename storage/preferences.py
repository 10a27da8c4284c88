"""What agents and admins said of answers, beside the lessons: who picked, liked and disliked, and what was only disliked.

Knows tables, not datasets: what is learned from it is decided in training/preferences.py.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from storage.database import Connections
from storage.lessons import ASKED, slack_lesson
from storage.records import Lesson

_TRUSTED = "('agent','admin')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """On one exchange: both answers ("" for one that failed), and who picked one of them blind, liked or disliked tuned."""

    tuned: str
    base: str
    picked: tuple[str, ...]
    liked: tuple[str, ...]
    disliked: tuple[str, ...]


class Preferences:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def verdicts(self, without: Collection[str] = ()) -> dict[str, Verdicts]:
        """By the origin that a lesson names ("exchange 7"), what was said of its answers; nothing of the people `without`."""
        found = self._connections.db.query(
            "WITH said AS (SELECT exchange_id, user, CASE WHEN sign > 0 THEN 'liked' ELSE 'disliked' END AS what"
            f"  FROM ratings WHERE role IN {_TRUSTED}"
            f" UNION SELECT exchange_id, reviewer, 'picked' FROM picks WHERE role IN {_TRUSTED} AND verdict IN ('tuned','base'))"
            " SELECT s.exchange_id, s.what, s.user, coalesce(t.text, '') AS tuned, coalesce(b.text, '') AS base FROM said s"
            " LEFT JOIN answers t ON t.exchange_id = s.exchange_id AND t.role = 'tuned' AND t.status = 'ok'"
            " LEFT JOIN answers b ON b.exchange_id = s.exchange_id AND b.role = 'base' AND b.status = 'ok'"
            " WHERE s.user NOT IN (SELECT value FROM json_each(?)) ORDER BY s.exchange_id, s.what, s.user",
            (json.dumps(sorted(without)),),
        )
        grouped = groupby(found, key=lambda row: row["exchange_id"])
        return {f"exchange {number}": _verdicts(list(rows)) for number, rows in grouped}

    def disliked(self, without: Collection[str] = ()) -> tuple[Lesson, ...]:
        """Tuned answers with an agent's 👎 and no agent's 👍, each as a lesson that nobody should learn: its author is one
        of those who disliked it. `without`: people whose votes are as if they had never been.
        """
        rows = self._connections.db.query(
            f"SELECT a.text AS answer, min(r.user) AS author, max(CAST(r.event_ts AS REAL)) AS at, {ASKED}"
            " FROM exchanges e JOIN answers a ON a.exchange_id=e.exchange_id AND a.role='tuned' AND a.status='ok'"
            f" JOIN ratings r ON r.exchange_id=e.exchange_id AND r.role IN {_TRUSTED}"
            "  AND r.user NOT IN (SELECT value FROM json_each(?))"
            " GROUP BY e.exchange_id HAVING max(r.sign) = -1 ORDER BY e.exchange_id",
            (json.dumps(sorted(without)),),
        )
        return tuple(slack_lesson(row, "rating", f"disliked-{row['exchange_id']}") for row in rows)


def _verdicts(rows: Sequence[dict[str, Any]]) -> Verdicts:
    people = {
        what: tuple(row["user"] for row in rows if row["what"] == what) for what in ("picked", "liked", "disliked")
    }
    return Verdicts(tuned=rows[0]["tuned"], base=rows[0]["base"], **people)
