"""What came after a promotion: the votes since then, and what each look at them (and at other signs) found.

Promise: append-only, and a look that saw nothing new leaves no row. No person is named in a row.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from storage.clock import Clock, from_text, to_text
from storage.database import Connections
from storage.records import Message, Promotion, Watching

Votes = tuple[
    tuple[str, bool, int], ...
]  # (person, whether on the champion's answer, +1 or −1), in the order of their giving
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What the champion was asked, thread and all, and what it said."""

    exchange_id: int
    messages: tuple[Message, ...]
    text: str


class Watches:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def votes(self, champion: Promotion, other: str | None) -> tuple[Votes, Votes]:
        """The team's and the customers' votes that stand on answers to questions asked since the promotion.

        One a person and answer; who says both in equal parts says nothing. `other`: the adapter beside the champion (None:
        the base alone); what else has spoken since is left out, and so are questions that only the base answers because they
        are far: they would be no fair comparison.
        """
        rows = self._connections.db.execute(
            "SELECT r.user, a.adapter_digest IS :champion, sum(r.sign), max(r.role) IN ('agent','admin')"
            " FROM exchanges e JOIN answers a ON a.exchange_id=e.exchange_id AND a.role='tuned' AND a.status='ok'"
            " JOIN ratings r ON r.exchange_id=e.exchange_id"
            " WHERE e.asked_at >= :since AND json_extract(a.params, '$.far') IS NULL AND (a.adapter_digest IS :champion OR a.adapter_digest IS :other)"
            " GROUP BY e.exchange_id, r.user HAVING sum(r.sign) <> 0"
            " ORDER BY max(CAST(r.event_ts AS REAL)), e.exchange_id",
            {"champion": champion.adapter_digest, "other": other, "since": to_text(champion.at)},
        ).fetchall()
        found = [(team, (user, bool(own), 1 if sign > 0 else -1)) for user, own, sign, team in rows]
        return tuple(vote for team, vote in found if team), tuple(vote for team, vote in found if not team)

    def both_answers(
        self, adapter: str | None, *, since: datetime = FIRST, until: datetime = LAST, most: int
    ) -> tuple[tuple[str, str], ...]:
        """The newest (tuned, base) answers to the same questions where this adapter spoke, asked in that time."""
        rows = self._connections.db.execute(
            "SELECT t.text, b.text FROM exchanges e JOIN answers t ON t.exchange_id=e.exchange_id AND t.role='tuned'"
            " AND t.status='ok' JOIN answers b ON b.exchange_id=e.exchange_id AND b.role='base' AND b.status='ok'"
            " WHERE e.asked_at >= ? AND e.asked_at < ? AND t.adapter_digest IS ? ORDER BY e.asked_at DESC LIMIT ?",
            (to_text(since), to_text(until), adapter, most),
        ).fetchall()
        return tuple((tuned, base) for tuned, base in rows)

    def questions(self, since: datetime, until: datetime, *, most: int) -> tuple[tuple[str, str], ...]:
        """(text, language) of the newest questions of that time that came from Slack."""
        rows = self._connections.db.execute(
            "SELECT text, coalesce(language, '') FROM exchanges WHERE asked_at >= ? AND asked_at < ? AND source='slack'"
            " ORDER BY asked_at DESC LIMIT ?",
            (to_text(since), to_text(until), most),
        ).fetchall()
        return tuple((text, language) for text, language in rows)

    def answered_by(self, champion: Promotion, *, most: int) -> tuple[Answered, ...]:
        """The newest answers of this champion to questions from Slack since its promotion, one a conversation, newest first."""
        rows = self._connections.db.execute(
            "SELECT max(e.exchange_id), e.messages, t.text FROM exchanges e JOIN answers t ON t.exchange_id=e.exchange_id"
            " AND t.role='tuned' AND t.status='ok' WHERE e.asked_at >= ? AND t.adapter_digest IS ? AND e.source='slack'"
            " GROUP BY e.team, e.channel, e.thread_ts ORDER BY 1 DESC LIMIT ?",
            (to_text(champion.at), champion.adapter_digest, most),
        ).fetchall()
        return tuple(
            Answered(exchange_id=number, messages=tuple(json.loads(said)), text=text) for number, said, text in rows
        )

    def keep(self, kind: str, promotion_id: int | None, *, verdict: str, said: str, seen: Mapping[str, Any]) -> None:
        """Append what a look found, unless the last one of its kind found the same."""
        last = self.last(kind, promotion_id)
        if last and (last.seen, last.verdict) == (json.loads(json.dumps(dict(seen))), verdict):
            return
        with self._connections.write() as db:
            db.execute(
                "INSERT INTO watches(promotion_id, kind, verdict, said, seen, at) VALUES (?,?,?,?,?,?)",
                (promotion_id, kind, verdict, said, json.dumps(dict(seen)), to_text(self._clock())),
            )

    def last(self, kind: str, promotion_id: int | None) -> Watching | None:
        return next(
            iter(self._rows("kind=? AND promotion_id IS ? ORDER BY watch_id DESC LIMIT 1", kind, promotion_id)), None
        )

    def of(self, champion: Promotion | None) -> tuple[Watching, ...]:
        """The last look of each kind at this champion, and at the questions."""
        kinds = ("votes", "customers", "disagreement", "divergence")
        mine = [(kind, champion.promotion_id) for kind in kinds] if champion else []
        found = (self.last(kind, number) for kind, number in [*mine, ("drift", None)])
        return tuple(row for row in found if row)

    def news(self, since: datetime) -> tuple[Watching, ...]:
        """What was done or warned of since then, oldest first."""
        return self._rows("verdict <> 'watching' AND at >= ? ORDER BY watch_id", to_text(since))

    def _rows(self, condition: str, *values: object) -> tuple[Watching, ...]:
        rows = self._connections.db.query(f"SELECT * FROM watches WHERE {condition}", values)
        return tuple(Watching(**{**r, "seen": json.loads(r["seen"]), "at": from_text(r["at"])}) for r in rows)
