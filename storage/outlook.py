"""What the next run would find: lessons by source, how many are new, and what speaks against starting now.

Knows tables, not datasets: the numbers are taken before redaction, duplicates and the split, so they are upper bounds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.clock import from_text
from storage.database import Connections
from storage.digests import NAMED

_TRUSTED = "('agent','admin')"
_CORRECTED = (  # beside max(), SQLite takes the other columns from the row that has it
    "SELECT exchange_id, author, at, max(correction_id) FROM corrections"
    f" WHERE role IN {_TRUSTED} AND removed_at IS NULL GROUP BY exchange_id"
)
_LESSONS = f"""
WITH corrected AS ({_CORRECTED}),
liked AS (
  SELECT exchange_id, max(CAST(event_ts AS REAL)) AS at FROM ratings WHERE role IN {_TRUSTED}
  AND exchange_id NOT IN (SELECT exchange_id FROM corrected) GROUP BY exchange_id HAVING min(sign) = 1)
SELECT 'tickets', count(*), count(*) FILTER (WHERE i.at > :text) FROM tickets t JOIN imports i USING (import_id)
  WHERE t.approved
UNION ALL SELECT 'likes', count(*), count(*) FILTER (WHERE at > :seconds) FROM liked
UNION ALL SELECT 'corrections', count(*), count(*) FILTER (WHERE at > :text) FROM corrected
UNION ALL SELECT 'taught', count(*), count(*) FILTER (WHERE at > :text) FROM taught
  WHERE role IN {_TRUSTED} AND removed_at IS NULL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """`total` and `new` (since the last run that trained was asked for) by source."""

    total: Mapping[str, int]
    new: Mapping[str, int]
    corrections: int
    busiest: tuple[str, int]  # who wrote most of the corrections, and how many; ("", 0) without any
    disputed: int  # answers that agents and admins disagree on
    champion_base: str  # digest of the base that the champion was made for; "" without a champion
    spoken_base: str  # digest of the base that spoke last; "" while none proved its digest

    @property
    def from_slack(self) -> int:
        """Lessons that only count while LEARN_FROM_SLACK is on."""
        return sum(count for source, count in self.total.items() if source != "tickets")


def look_ahead(connections: Connections) -> Facts:
    """Everything that the ledger can say about the next run."""
    db = connections.db

    def first(sql: str) -> Any:
        found = db.execute(sql).fetchone()
        return found[0] if found else ""

    last = first("SELECT coalesce(max(requested_at), '') FROM runs WHERE json_extract(overrides, '$.dry_run') IS NULL")
    seconds = from_text(last).timestamp() if last else 0.0
    lessons = db.execute(_LESSONS, {"text": last, "seconds": seconds}).fetchall()
    authors = db.execute(
        f"SELECT author, count(*) FROM ({_CORRECTED}) GROUP BY author ORDER BY count(*) DESC, author"
    ).fetchall()
    return Facts(
        total={source: total for source, total, _ in lessons},
        new={source: new for source, _, new in lessons},
        corrections=sum(count for _, count in authors),
        busiest=authors[0] if authors else ("", 0),
        disputed=first(
            f"SELECT count(*) FROM (SELECT exchange_id FROM ratings WHERE role IN {_TRUSTED} GROUP BY exchange_id"
            " HAVING min(sign) < 0 AND max(sign) > 0)"
        ),
        champion_base=first(
            "SELECT base_digest FROM promotions WHERE promotion_id=(SELECT max(promotion_id) FROM promotions)"
            " AND adapter_digest IS NOT NULL"
        ),
        spoken_base=first(
            f"SELECT base_digest FROM answers WHERE status='ok' AND base_digest NOT LIKE '{NAMED}%'"
            " ORDER BY answer_id DESC LIMIT 1"
        ),
    )
