"""Measured numbers with their items. A score is kept under the digest of all that it depends on."""

import json
from typing import Any

from storage.clock import Clock, to_text
from storage.database import Connections
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
                " value, stderr, n, chance, seconds, signature, items, scored_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
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
                    json.dumps([[i.item_id, i.cluster, i.value] for i in score.items]),
                    to_text(self._clock()),
                ),
            )

    def add_card(self, card: Scorecard, *, run_id: int | None, subject: str) -> None:
        """Bind a run's base, champion or candidate to its scores (already added)."""
        with self._connections.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO scorecards(run_id, subject, base_digest, adapter_digest, suite_digest, score_keys, at)"
                " VALUES (?,?,?,?,?,?,?)",
                (
                    run_id,
                    subject,
                    card.base_digest,
                    card.adapter_digest,
                    card.suite_digest,
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
            scores=tuple(s for s in found if s is not None),
        )


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
        )
    }
    return Score(**kept, items=items)
