"""Measured numbers with their items. A score is kept under the digest of all that it depends on."""

import json
import math
from collections.abc import Iterable
from typing import Any

from storage.clock import Clock, to_text
from storage.database import Connections
from storage.digests import digest_of
from storage.errors import LedgerError
from storage.records import ItemScore, Score, Scorecard


class Scores:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def find(self, key: str) -> Score | None:
        """The stored measurement of this key: base scores are looked up here instead of measured again."""
        row = next(self._connections.db.query("SELECT * FROM scores WHERE key=?", (key,)), None)
        return None if row is None else _score(row)

    def add(self, score: Score, *, base_digest: str, adapter_digest: str | None) -> None:
        with self._connections.write() as db:
            db.execute(
                "INSERT OR IGNORE INTO scores(key, base_digest, adapter_digest, benchmark, metric, domain, direction, unit,"
                " value, stderr, n, chance, seconds, signature, look, items, scored_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    score.key,
                    base_digest,
                    adapter_digest,
                    score.benchmark,
                    score.metric,
                    score.domain,
                    score.direction,
                    score.unit,
                    score.value,
                    score.stderr,
                    score.n,
                    score.chance,
                    score.seconds,
                    score.signature,
                    score.look,
                    json.dumps([[i.item_id, i.cluster, i.value] for i in score.items]),
                    to_text(self._clock()),
                ),
            )

    def add_card(self, card: Scorecard, *, run_id: int | None, subject: str) -> None:
        """Bind a run's base, champion, candidate or the base measured again to its scores (already added)."""
        with self._connections.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO scorecards(run_id, subject, base_digest, adapter_digest, suite_digest, template_digest,"
                " score_keys, at) VALUES (?,?,?,?,?,?,?,?)",
                (
                    run_id,
                    subject,
                    card.base_digest,
                    card.adapter_digest,
                    card.suite_digest,
                    card.template_digest,
                    json.dumps([s.key for s in card.scores]),
                    to_text(self._clock()),
                ),
            )

    def runs_before(self, run_id: int) -> int:
        """How many earlier runs have measured a base: the place of this run's items in each pool, resumed or not."""
        found = self._connections.db.execute(
            "SELECT count(*) FROM scorecards WHERE subject='base' AND run_id < ?", (run_id,)
        ).fetchone()
        return int(found[0])

    def card(self, run_id: int, subject: str) -> Scorecard | None:
        row = next(
            self._connections.db.query("SELECT * FROM scorecards WHERE run_id=? AND subject=?", (run_id, subject)), None
        )
        if row is None:
            return None
        found = (self.find(key) for key in json.loads(row["score_keys"]))
        return Scorecard(
            base_digest=row["base_digest"],
            adapter_digest=row["adapter_digest"],
            suite_digest=row["suite_digest"],
            template_digest=row["template_digest"],
            scores=tuple(s for s in found if s is not None),
        )

    def cards(self, run_id: int, subjects: Iterable[str]) -> dict[str, Scorecard]:
        """Those of a run's cards that are there."""
        found = ((subject, self.card(run_id, subject)) for subject in subjects)
        return {subject: card for subject, card in found if card is not None}

    def earlier_looks(self, score: Score, *, base_digest: str, adapter_digest: str | None) -> tuple[Score, ...]:
        """What a score of a trial was at each look before the one that it ended at, first look first.

        Only of the same measurement: all of their items are items of `score`, value and all.
        """
        rows = self._connections.db.query(
            "SELECT * FROM scores WHERE base_digest=? AND adapter_digest IS ? AND benchmark=? AND metric=? AND look > 0"
            " AND look < ? ORDER BY look, key",
            (base_digest, adapter_digest, score.benchmark, score.metric, score.look),
        )
        known = set(score.items)
        return tuple(found for found in map(_score, rows) if known.issuperset(found.items))

    def judged(self, evidence: dict[str, Any]) -> Scorecard:
        """The card that a decision was made from. Raises LedgerError that names the score which is gone or was changed."""
        found = [(key, digest, self.find(key)) for key, digest in evidence["scores"]]
        if faults := [fault for key, digest, score in found if (fault := score_fault(key, digest, score))]:
            raise LedgerError("; ".join(faults))
        names = ("base_digest", "adapter_digest", "suite_digest", "template_digest")
        return Scorecard(**{name: evidence[name] for name in names}, scores=tuple(s for _, _, s in found if s))


def evidence_of(card: Scorecard) -> dict[str, Any]:
    """What a decision keeps of a card: its digests, and [key, digest] of each score."""
    return {
        "base_digest": card.base_digest,
        "adapter_digest": card.adapter_digest,
        "suite_digest": card.suite_digest,
        "template_digest": card.template_digest,
        "scores": [[score.key, score_digest(score)] for score in card.scores],
    }


def score_digest(score: Score) -> str:
    """Of all that a score says, items and all; how long it took is no part of it, and its look only where it has one."""
    words = [score.key, score.benchmark, score.metric, score.domain, score.direction, score.unit]
    numbers = [_exact(v) for v in (score.value, score.stderr, score.n, score.chance)]
    look = [score.look] if score.look else []
    return digest_of([words, numbers, [[i.item_id, i.cluster, _exact(i.value)] for i in score.items], *look])


def score_fault(key: str, digest: str, score: Score | None) -> str:
    """What is wrong with a stored score that a decision was made from, or nothing."""
    if score is None:
        return f"score {key[:12]} is gone"
    return (
        ""
        if score_digest(score) == digest
        else f"score {score.benchmark} ({score.metric}, {key[:12]}) was changed since"
    )


def _exact(value: float | None) -> str:
    """A number as text, so that 1 and 1.0 are one and NaN has a digest."""
    return "none" if value is None else "nan" if math.isnan(value) else repr(float(value))


def _score(row: dict[str, Any]) -> Score:
    items = tuple(ItemScore(item_id=i, cluster=c, value=v) for i, c, v in json.loads(row["items"]))
    kept = {
        k: row[k]
        for k in (
            "key",
            "benchmark",
            "metric",
            "domain",
            "direction",
            "unit",
            "value",
            "stderr",
            "n",
            "chance",
            "seconds",
            "signature",
            "look",
        )
    }
    return Score(**kept, items=items)
