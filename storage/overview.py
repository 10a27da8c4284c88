"""How things stand, for the App Home and the weekly digest: counts over questions, votes, shadows and corrections.

Knows tables; says nothing. Votes are counted once a person and answer, as they stand now.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from storage.clock import to_text
from storage.database import Connections

Votes = tuple[int, int]  # (👍, 👎)
_TEAM = "('agent','admin')"
_VOTES = (
    "(SELECT r.exchange_id, r.user, max(r.role) IN ('agent','admin') AS team, sum(r.sign) AS verdict"
    " FROM ratings r GROUP BY r.exchange_id, r.user)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disliked:
    """An answer with a 👎 that stands."""

    exchange_id: int
    question: str
    up: int
    down: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What an admin should look at. `covered` of the last `answered` answers have the base's beside them."""

    open_late: int
    failed: int
    covered: int
    answered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What happened between two moments. Votes are those on the answers of that time."""

    questions: int
    votes: Votes
    by_language: Mapping[str, Votes]
    corrections: Mapping[str, int]  # by author, most first
    taught: int
    promotions: tuple[tuple[str, int, str], ...]  # (promote or rollback, version, actor), in order
    runs: tuple[tuple[int, str, str], ...]  # (run, how it ended, verdict or ""), in order
    watched: tuple[str, ...] = ()  # what the watch did or warned of, in words


def votes_on(connections: Connections, adapter_digest: str | None) -> tuple[Votes, Votes]:
    """The team's votes and the customers', on what this adapter (None: the base alone) has said."""
    rows = connections.db.execute(
        f"SELECT v.team, sum(v.verdict > 0), sum(v.verdict < 0) FROM {_VOTES} v JOIN answers a"
        " ON a.exchange_id = v.exchange_id AND a.role = 'tuned' AND a.status = 'ok'"
        " WHERE a.adapter_digest IS ? GROUP BY v.team",
        (adapter_digest,),
    ).fetchall()
    found = {bool(team): (int(up), int(down)) for team, up, down in rows}
    return found.get(True, (0, 0)), found.get(False, (0, 0))


def disliked(connections: Connections, *, limit: int) -> tuple[Disliked, ...]:
    """The newest answers that somebody dislikes, with all their votes."""
    rows = connections.db.query(
        "SELECT e.exchange_id, e.text AS question, sum(v.verdict > 0) AS up, sum(v.verdict < 0) AS down"
        f" FROM {_VOTES} v JOIN exchanges e USING (exchange_id) GROUP BY e.exchange_id HAVING down > 0"
        " ORDER BY e.exchange_id DESC LIMIT ?",
        (limit,),
    )
    return tuple(Disliked(**row) for row in rows)


def trouble(connections: Connections, *, now: datetime, late_s: float, newest: int) -> Trouble:
    """Questions that wait longer than `late_s`, those that failed within a day, and the shadows of the `newest` answers.

    What was not to be answered did not fail: a greeting, a text too long, an answer that was stopped or held back.
    """
    db = connections.db
    late = db.execute(
        "SELECT count(*) FROM inbox WHERE kind='question' AND state IN ('new','leased') AND received_at < ?",
        (to_text(now - timedelta(seconds=late_s)),),
    ).fetchone()
    failed = db.execute(
        "SELECT count(*) FROM exchanges e WHERE state='failed' AND asked_at >= ? AND NOT EXISTS (SELECT 1 FROM answers t"
        " WHERE t.exchange_id = e.exchange_id AND t.role='tuned' AND t.status='skipped')",
        (to_text(now - timedelta(days=1)),),
    ).fetchone()
    answered, covered = db.execute(
        "SELECT count(*), count(b.answer_id) FROM (SELECT t.exchange_id FROM answers t JOIN exchanges e USING"
        " (exchange_id) WHERE t.role='tuned' AND t.status='ok' AND e.shadowed=1 ORDER BY t.exchange_id DESC LIMIT ?) l"
        " LEFT JOIN answers b ON b.exchange_id = l.exchange_id AND b.role='base' AND b.status='ok'",
        (newest,),
    ).fetchone()
    return Trouble(open_late=int(late[0]), failed=int(failed[0]), covered=int(covered), answered=int(answered))


def period(connections: Connections, start: datetime, end: datetime) -> Period:
    """From `start` to before `end`."""
    db, span = connections.db, (to_text(start), to_text(end))
    questions = db.execute("SELECT count(*) FROM exchanges WHERE asked_at >= ? AND asked_at < ?", span).fetchone()
    votes = db.execute(
        f"SELECT coalesce(e.language, ''), sum(v.verdict > 0), sum(v.verdict < 0) FROM {_VOTES} v"
        " JOIN exchanges e USING (exchange_id) WHERE e.asked_at >= ? AND e.asked_at < ? GROUP BY 1",
        span,
    ).fetchall()
    corrections = db.execute(
        f"SELECT author, count(*) FROM corrections WHERE role IN {_TEAM} AND removed_at IS NULL AND at >= ? AND at < ?"
        " GROUP BY author ORDER BY count(*) DESC, author",
        span,
    ).fetchall()
    taught = db.execute("SELECT count(*) FROM taught WHERE removed_at IS NULL AND at >= ? AND at < ?", span).fetchone()
    promotions = db.execute(
        "SELECT kind, version, actor FROM promotions WHERE at >= ? AND at < ? ORDER BY promotion_id", span
    ).fetchall()
    runs = db.execute(
        "SELECT r.run_id, r.state, coalesce(d.verdict, '') FROM runs r LEFT JOIN decisions d USING (decision_id)"
        " WHERE r.finished_at >= ? AND r.finished_at < ? AND json_extract(r.overrides, '$.dry_run') IS NULL"
        " ORDER BY r.run_id",
        span,
    ).fetchall()
    watched = db.execute(
        "SELECT said FROM watches WHERE verdict <> 'watching' AND at >= ? AND at < ? ORDER BY watch_id", span
    ).fetchall()
    return Period(
        questions=int(questions[0]),
        votes=(sum(up for _, up, _ in votes), sum(down for _, _, down in votes)),
        by_language={language: (int(up), int(down)) for language, up, down in votes if language},
        corrections=dict(corrections),
        taught=int(taught[0]),
        promotions=tuple(promotions),
        runs=tuple(runs),
        watched=tuple(row[0] for row in watched),
    )
