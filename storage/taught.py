"""What agents taught: a question and a person's reply to it, one lesson for each reply; and why answers were disliked.

Promise: a removed lesson is gone from training and stays on record; teaching the same reply again replaces it.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from storage.clock import Clock, to_text
from storage.database import Connections
from storage.lessons import BEGAN, at_of_ts
from storage.messages import conversation
from storage.records import Lesson, RaterRole

Reason = Literal["wrong", "outdated", "incomplete", "tone", "person"]
_TRUSTED = "role IN ('agent','admin')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Something that a person wrote for the bot: a correction or a taught reply. `removed`: taken back. `replaced`: a later
    one, of this person or another, counts in its place.
    """

    kind: Literal["correction", "taught"]
    number: int
    question: str
    text: str
    at: str
    removed: bool
    replaced: bool


class Taught:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def teach(
        self, *, team: str, channel: str, thread_ts: str, ts: str, question: str, answer: str, language: str | None,
        asker: str, author: str, teacher: str, role: RaterRole,
    ) -> int:  # fmt: skip
        """Store the reply with this ts as the answer to a question; what was taught from it before is replaced.

        `asker` and `author` said the two in Slack ("" where nobody is known); `teacher` makes them a lesson.
        """
        now = to_text(self._clock())
        with self._connections.write() as db:
            db.execute(
                "UPDATE taught SET removed_at=? WHERE team=? AND channel=? AND ts=? AND removed_at IS NULL",
                (now, team, channel, ts),
            )
            made = db.execute(
                "INSERT INTO taught(team, channel, thread_ts, ts, question, answer, language, asker, author, teacher, role, at)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                (team, channel, thread_ts, ts, question, answer, language, asker, author, teacher, role, now),
            ).lastrowid
        return int(made or 0)

    def take_back(self, kind: str, number: int, *, by: str) -> bool:
        """Remove what this person wrote: a taught reply, or all their corrections of one answer. False if there is none."""
        now = to_text(self._clock())
        with self._connections.write() as db:
            if kind == "taught":
                sql = "UPDATE taught SET removed_at=? WHERE taught_id=? AND teacher=? AND removed_at IS NULL"
            else:
                sql = (
                    "UPDATE corrections SET removed_at=? WHERE exchange_id = (SELECT exchange_id FROM corrections WHERE"
                    " correction_id=?) AND author=? AND removed_at IS NULL"
                )
            return bool(db.execute(sql, (now, number, by)).rowcount)

    def lessons(self, system_prompt: str, without: Collection[str] = ()) -> tuple[Lesson, ...]:
        """Every taught reply that stands, as training sees it; none that one of `without` wrote or taught."""
        rows = self._connections.db.query(
            f"SELECT t.*, {BEGAN.format('t')} AS began FROM taught t WHERE removed_at IS NULL AND {_TRUSTED} AND NOT EXISTS"
            " (SELECT 1 FROM json_each(?) WHERE value IN (t.author, t.teacher)) ORDER BY taught_id",
            (json.dumps(sorted(without)),),
        )
        return tuple(_lesson(row, system_prompt) for row in rows)

    def of_author(self, user: str, limit: int = 5) -> tuple[Written, ...]:
        """What this person wrote last, newest first."""
        rows = self._connections.db.query(
            "WITH mine AS (SELECT 'correction' AS kind, correction_id AS number, text, at, removed_at FROM corrections"
            "  WHERE author=:user UNION ALL SELECT 'taught', taught_id, answer, at, removed_at FROM taught"
            "  WHERE teacher=:user ORDER BY at DESC, number DESC LIMIT :limit)"
            " SELECT m.kind, m.number AS number, e.text AS question, m.text, m.at AS at, m.removed_at IS NOT NULL AS removed, EXISTS"
            "  (SELECT 1 FROM corrections n WHERE n.exchange_id = c.exchange_id AND n.correction_id > c.correction_id"
            f"  AND n.{_TRUSTED} AND n.removed_at IS NULL) AS replaced"
            " FROM mine m JOIN corrections c ON m.kind='correction' AND c.correction_id = m.number JOIN exchanges e USING (exchange_id)"
            " UNION ALL SELECT m.kind, m.number, t.question, m.text, m.at, m.removed_at IS NOT NULL, EXISTS"
            "  (SELECT 1 FROM taught n WHERE (n.team, n.channel, n.ts) = (t.team, t.channel, t.ts) AND n.taught_id > t.taught_id)"
            " FROM mine m JOIN taught t ON m.kind='taught' AND t.taught_id = m.number ORDER BY at DESC, number DESC",
            {"user": user, "limit": limit},
        )
        return tuple(Written(**{**r, "removed": bool(r["removed"]), "replaced": bool(r["replaced"])}) for r in rows)

    # Why an answer was disliked

    def give_reason(self, exchange_id: int, *, user: str, role: RaterRole, reason: Reason) -> None:
        """A person's reason; the newest one counts. Nothing when the answer is forgotten by now."""
        with self._connections.write() as db:
            db.execute(
                "INSERT INTO reasons(exchange_id, user, role, reason, at)"
                " SELECT exchange_id, ?, ?, ?, ? FROM exchanges WHERE exchange_id=?"
                " ON CONFLICT DO UPDATE SET reason=excluded.reason, role=excluded.role, at=excluded.at",
                (user, role, reason, to_text(self._clock()), exchange_id),
            )

    def reasons(self) -> dict[Reason, int]:
        """How often each reason stands: only of people whose 👎 stands, too."""
        rows = self._connections.db.execute(
            "SELECT s.reason, count(*) FROM reasons s WHERE EXISTS (SELECT 1 FROM ratings r WHERE r.exchange_id ="
            " s.exchange_id AND r.user = s.user AND r.sign < 0) GROUP BY s.reason ORDER BY count(*) DESC, s.reason"
        ).fetchall()
        return dict(rows)


def _lesson(row: dict[str, Any], system_prompt: str) -> Lesson:
    return Lesson(
        lesson_id=f"taught-{row['taught_id']}",
        source="taught",
        conversation_id=f"{row['team']}:{row['channel']}:{row['thread_ts']}",
        messages=conversation(system_prompt, (), row["question"]),
        answer=row["answer"],
        language=row["language"] or "",
        author=row["teacher"],
        customer=row["asker"],
        origin=f"reply {row['ts']} in {row['channel']}" + (f" by {row['author']}" if row["author"] else ""),
        consent="LEARN_FROM_SLACK",
        at=row["at"],
        began=row["began"] if row["began"] is not None else at_of_ts(row["thread_ts"]),
    )
