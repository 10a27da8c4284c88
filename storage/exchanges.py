"""Questions with both answers, and the Slack messages that carry them.

Promise: one exchange a question, one answer a role, and neither is ever overwritten.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlite_utils import Database

from storage.clock import Clock, from_text, to_text
from storage.database import Connections
from storage.messages import alone
from storage.records import Answer, Exchange, Message, PostedMessage, Question


class Exchanges:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def open(self, question: Question) -> int:
        """The exchange of this question, made at the first call: its key is (team, channel, ts)."""
        with self._connections.write() as db:
            db.execute(
                "INSERT OR IGNORE INTO exchanges(team, channel, thread_ts, ts, asker, text, messages, language, source, asked_at)"
                " VALUES (?,?,?,?,?,?,?,?,?,?)",
                (
                    question.team,
                    question.channel,
                    question.thread_ts,
                    question.ts,
                    question.asker,
                    question.text,
                    json.dumps(question.messages),
                    question.language,
                    question.source,
                    to_text(question.asked_at),
                ),
            )
            found = db.execute(
                "SELECT exchange_id FROM exchanges WHERE team=? AND channel=? AND ts=?",
                (question.team, question.channel, question.ts),
            ).fetchone()
        return int(found[0])

    def record(self, exchange_id: int, answer: Answer) -> bool:
        """Store one role's answer; False (and nothing changes) if that role has spoken already."""
        with self._connections.write() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO answers(exchange_id, role, status, text, reason, base_digest, adapter_digest,"
                " template_digest, prompt_digest, params, tokens_in, tokens_out, ttft_s, latency_s, answered_at)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    exchange_id,
                    answer.role,
                    answer.status,
                    answer.text,
                    answer.reason,
                    answer.base_digest,
                    answer.adapter_digest,
                    answer.template_digest,
                    answer.prompt_digest,
                    json.dumps(answer.params),
                    answer.tokens_in,
                    answer.tokens_out,
                    answer.ttft_s,
                    answer.latency_s,
                    to_text(answer.answered_at or self._clock()),
                ),
            )
            if answer.role == "base":
                db.execute("UPDATE exchanges SET shadowed=1 WHERE exchange_id=?", (exchange_id,))
            return cursor.rowcount == 1

    def close(self, exchange_id: int, state: str) -> None:
        """The customer has the final word: state is answered or failed."""
        with self._connections.write() as db:
            db.execute("UPDATE exchanges SET state=? WHERE exchange_id=?", (state, exchange_id))

    def get(self, exchange_id: int) -> Exchange | None:
        row = next(self._connections.db.query("SELECT * FROM exchanges WHERE exchange_id=?", (exchange_id,)), None)
        return None if row is None else self._exchange(row)

    def find(self, team: str, channel: str, message_ts: str) -> Exchange | None:
        """The exchange whose answer is carried by this Slack message, whichever part."""
        found = self._connections.db.execute(
            "SELECT exchange_id FROM messages WHERE team=? AND channel=? AND ts=?", (team, channel, message_ts)
        ).fetchone()
        return None if found is None else self.get(found[0])

    def recent(self, limit: int = 20) -> tuple[Exchange, ...]:
        rows = self._connections.db.query("SELECT * FROM exchanges ORDER BY exchange_id DESC LIMIT ?", (limit,))
        return tuple(self._exchange(row) for row in list(rows))

    def at(self, team: str, channel: str, ts: str) -> Exchange | None:
        """The exchange of the question with this ts."""
        found = self._connections.db.execute(
            "SELECT exchange_id FROM exchanges WHERE team=? AND channel=? AND ts=?", (team, channel, ts)
        ).fetchone()
        return None if found is None else self.get(found[0])

    def askers(self, team: str, channel: str, thread_ts: str) -> frozenset[str]:
        """Who asked the bot something in this thread, answered or not: what nobody took up yet has no exchange."""
        rows = self._connections.db.execute(
            "SELECT asker FROM exchanges WHERE team=:team AND channel=:channel AND thread_ts=:ts UNION SELECT asker FROM"
            " inbox INDEXED BY inbox_open WHERE state IN ('new','leased') AND kind='question' AND team=:team AND"
            " channel=:channel AND json_extract(payload, '$.thread_ts')=:ts",
            {"team": team, "channel": channel, "ts": thread_ts},
        ).fetchall()
        return frozenset(row[0] for row in rows)

    def in_thread(self, team: str, channel: str, thread_ts: str) -> tuple[Exchange, ...]:
        """All exchanges of a thread, oldest first."""
        rows = self._connections.db.query(
            "SELECT * FROM exchanges WHERE team=? AND channel=? AND thread_ts=? ORDER BY exchange_id",
            (team, channel, thread_ts),
        )
        return tuple(self._exchange(row) for row in list(rows))

    def recent_threads(self, *, max_age_s: float, limit: int) -> tuple[tuple[str, str], ...]:
        """(channel, thread_ts) of Slack threads in which something was asked lately, newest first."""
        since = to_text(self._clock() - timedelta(seconds=max_age_s))
        rows = self._connections.db.execute(
            "SELECT channel, thread_ts FROM exchanges WHERE source='slack' AND asked_at >= ?"
            " GROUP BY channel, thread_ts ORDER BY max(exchange_id) DESC LIMIT ?",
            (since, limit),
        ).fetchall()
        return tuple((row[0], row[1]) for row in rows)

    def erase(self, exchange_id: int) -> None:
        """Forget a question with all that hangs on it: answers, message rows, corrections, reasons, picks. What was asked
        later in its thread loses what was said before it."""
        with self._connections.write() as db:
            self._connections.delete_for_good()
            later = db.execute(
                "SELECT l.exchange_id, l.messages FROM exchanges l JOIN exchanges e USING (team, channel, thread_ts)"
                " WHERE e.exchange_id=? AND l.ts > e.ts",
                (exchange_id,),
            ).fetchall()
            drop_history(db, later)
            db.execute("DELETE FROM exchanges WHERE exchange_id=?", (exchange_id,))

    def history(self, team: str, channel: str, thread_ts: str, *, before_ts: str, turns: int) -> tuple[Message, ...]:
        """The last `turns` questions and tuned answers of a thread, oldest first, as messages."""
        rows = list(
            self._connections.db.query(
                "SELECT e.text AS question, a.text AS answer FROM exchanges e JOIN answers a USING (exchange_id)"
                " WHERE e.team=? AND e.channel=? AND e.thread_ts=? AND e.ts < ? AND a.role='tuned' AND a.status='ok'"
                " ORDER BY e.ts DESC LIMIT ?",
                (team, channel, thread_ts, before_ts, turns),
            )
        )
        pairs = [
            ({"role": "user", "content": r["question"]}, {"role": "assistant", "content": r["answer"]}) for r in rows
        ]
        return tuple(message for pair in reversed(pairs) for message in pair)

    def awaiting_shadow(self, *, max_age_s: float, limit: int = 1) -> tuple[Exchange, ...]:
        """Closed exchanges whose base answer is still missing, oldest first, no older than `max_age_s`."""
        since = to_text(self._clock() - timedelta(seconds=max_age_s))
        return self._without_base("e.asked_at >= ?", since, limit)

    def shadow_overdue(self, *, max_age_s: float, limit: int = 100) -> tuple[Exchange, ...]:
        """Closed exchanges that waited longer than that for their base answer: to be recorded as skipped."""
        since = to_text(self._clock() - timedelta(seconds=max_age_s))
        return self._without_base("e.asked_at < ?", since, limit)

    def _without_base(self, condition: str, since: str, limit: int) -> tuple[Exchange, ...]:
        rows = self._connections.db.query(
            f"SELECT e.* FROM exchanges e WHERE e.shadowed = 0 AND e.state <> 'open' AND {condition}"
            " ORDER BY e.exchange_id LIMIT ?",
            (since, limit),
        )
        return tuple(self._exchange(row) for row in list(rows))

    def languages(self) -> dict[str, int]:
        """How many questions were asked in each language, where it is known."""
        rows = self._connections.db.execute(
            "SELECT language, count(*) FROM exchanges WHERE language <> '' GROUP BY language ORDER BY language"
        ).fetchall()
        return dict(rows)

    def shadow_coverage(self) -> tuple[int, int]:
        """(exchanges with an ok base answer, closed exchanges with an ok tuned answer)."""
        row = self._connections.db.execute(
            "SELECT count(b.answer_id), count(*) FROM answers t LEFT JOIN answers b ON b.exchange_id = t.exchange_id"
            " AND b.role='base' AND b.status='ok' WHERE t.role='tuned' AND t.status='ok'"
        ).fetchone()
        return int(row[0]), int(row[1])

    # The Slack messages of an answer

    def intend_message(
        self, exchange_id: int, part: int, *, team: str, channel: str, kind: str = "post"
    ) -> tuple[PostedMessage, bool]:
        """The row of one part, made before it is posted, and whether it is new: an old one without a ts is the trace
        of a post that may have reached Slack.
        """
        with self._connections.write() as db:
            new = db.execute(
                "INSERT OR IGNORE INTO messages(exchange_id, part, team, channel, state, kind) VALUES (?,?,?,?,'intended',?)",
                (exchange_id, part, team, channel, kind),
            ).rowcount
            row = next(db.query("SELECT * FROM messages WHERE exchange_id=? AND part=?", (exchange_id, part)))
        return PostedMessage(**row), bool(new)

    def repost(self, message_id: int) -> None:
        """The row's post did not reach Slack as a stream; it will be posted as a message."""
        with self._connections.write() as db:
            db.execute("UPDATE messages SET kind='post' WHERE message_id=? AND state='intended'", (message_id,))

    def is_known(self, team: str, channel: str, ts: str) -> bool:
        """Whether this Slack message carries (a part of) an answer."""
        found = self._connections.db.execute(
            "SELECT 1 FROM messages WHERE team=? AND channel=? AND ts=?", (team, channel, ts)
        ).fetchone()
        return found is not None

    def message_posted(self, message_id: int, ts: str) -> None:
        with self._connections.write() as db:
            db.execute(
                "UPDATE messages SET ts=?, state='posted' WHERE message_id=? AND state='intended'", (ts, message_id)
            )

    def message_final(self, message_id: int) -> None:
        with self._connections.write() as db:
            db.execute("UPDATE messages SET state='final' WHERE message_id=? AND state='posted'", (message_id,))

    def messages(self, exchange_id: int) -> tuple[PostedMessage, ...]:
        rows = self._connections.db.query("SELECT * FROM messages WHERE exchange_id=? ORDER BY part", (exchange_id,))
        return tuple(PostedMessage(**row) for row in rows)

    def under_way(self, asker: str) -> tuple[PostedMessage, ...]:
        """What stands in Slack of this person's answers that are not final."""
        rows = self._connections.db.query(
            "SELECT m.* FROM messages m JOIN exchanges e USING (exchange_id) WHERE e.asker=? AND e.state='open'"
            " AND m.ts IS NOT NULL ORDER BY m.message_id",
            (asker,),
        )
        return tuple(PostedMessage(**row) for row in rows)

    def _exchange(self, row: dict[str, Any]) -> Exchange:
        answers = {
            r["role"]: _answer(r)
            for r in self._connections.db.query("SELECT * FROM answers WHERE exchange_id=?", (row["exchange_id"],))
        }
        return Exchange(
            exchange_id=row["exchange_id"],
            question=_question(row),
            tuned=answers.get("tuned"),
            base=answers.get("base"),
        )


def _question(row: dict[str, Any]) -> Question:
    messages: Sequence[Message] = json.loads(row["messages"])
    return Question(
        team=row["team"],
        channel=row["channel"],
        thread_ts=row["thread_ts"],
        ts=row["ts"],
        asker=row["asker"],
        text=row["text"],
        messages=tuple(messages),
        asked_at=from_text(row["asked_at"]),
        source=row["source"],
        language=row["language"],
    )


def _answer(row: dict[str, Any]) -> Answer:
    return Answer(
        role=row["role"],
        status=row["status"],
        text=row["text"],
        reason=row["reason"],
        base_digest=row["base_digest"],
        adapter_digest=row["adapter_digest"],
        template_digest=row["template_digest"],
        prompt_digest=row["prompt_digest"],
        params=json.loads(row["params"]),
        tokens_in=row["tokens_in"],
        tokens_out=row["tokens_out"],
        ttft_s=row["ttft_s"],
        latency_s=row["latency_s"],
        answered_at=from_text(row["answered_at"]),
    )


def drop_history(db: Database, rows: Iterable[tuple[int, str]]) -> None:
    """These exchanges, as (id, messages), lose the turns that were said before their question."""
    for exchange_id, messages in rows:
        kept = json.dumps(alone(json.loads(messages)))
        db.execute("UPDATE exchanges SET messages=? WHERE exchange_id=?", (kept, exchange_id))
