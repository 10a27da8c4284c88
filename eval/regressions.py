"""The items that the candidate lost most on: what a worse number means, one case at a time.

Knows the ledger's scorecards and the dataset's holdout file (redacted text); knows no Slack.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import pstdev
from typing import Any

from storage.ledger import Ledger
from storage.records import Decision, Run, Score

SUPPORT = "support"  # eval/target.py NAME, which cannot be imported here: a report needs no model library

MOST, OF_ONE_BENCHMARK = 5, 2
TEXT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One item: `size` is the loss in spreads of the base's items, so that losses of different units can be ranked."""

    size: float
    score: Score  # of the base
    item_id: str
    before: float
    after: float


def regressions(ledger: Ledger, run: Run, decision: Decision) -> list[dict[str, Any]]:
    """The five worst, as plain JSON: benchmark, item_id, before, after, text ("" where none is at hand).

    Only of scores that the gate asks; an item counts once a benchmark, and a benchmark gives two at most, since five
    times the same fault says less. Empty without scorecards, and when no item got worse.
    """
    base, candidate = (ledger.scores.card(run.run_id, subject) for subject in ("base", "candidate"))
    if base is None or candidate is None:
        return []
    asked = {(c.benchmark, c.metric) for c in decision.comparisons if c.gates}
    found: list[Loss] = []
    for score in base.scores:
        after = candidate.get(score.benchmark, score.metric)
        if after is not None and (score.benchmark, score.metric) in asked:
            found += losses(score, after)
    texts = questions(ledger, run)
    return [
        {
            "benchmark": f"{loss.score.benchmark.replace('_', ' ')} · {loss.score.metric.replace('_', ' ')}",
            "item_id": loss.item_id,
            "before": said(loss.before, loss.score),
            "after": said(loss.after, loss.score),
            "text": texts.get(loss.item_id, "")[:TEXT] if loss.score.benchmark == SUPPORT else "",
        }
        for loss in worst(found)
    ]


def losses(before: Score, after: Score) -> Iterator[Loss]:
    """Every item of both that got worse."""
    values = {item.item_id: item.value for item in after.items}
    spread = pstdev([item.value for item in before.items]) if before.items else 0.0
    for item in before.items:
        if item.item_id in values:
            change = values[item.item_id] - item.value
            loss = change if before.direction == "lower" else -change
            if loss > 0:
                size = loss / (spread or 1.0)
                yield Loss(size=size, score=before, item_id=item.item_id, before=item.value, after=values[item.item_id])


def worst(found: list[Loss]) -> list[Loss]:
    """The largest first; ties in the order of names, so that the same run always shows the same five."""
    ranked = sorted(found, key=lambda x: (-x.size, x.score.benchmark, x.score.metric, x.item_id))
    shown: list[Loss] = []
    for loss in ranked:
        of_it = [other for other in shown if other.score.benchmark == loss.score.benchmark]
        if len(of_it) < OF_ONE_BENCHMARK and loss.item_id not in {other.item_id for other in of_it}:
            shown.append(loss)
    return shown[:MOST]


def questions(ledger: Ledger, run: Run) -> dict[str, str]:
    """The held-out questions of the run's dataset by lesson, as they were kept: redacted. Empty when the file is gone."""
    path = ledger.lessons.dataset_path(run.dataset_digest) if run.dataset_digest else None
    try:
        lines = (Path(path) / "holdout.jsonl").read_text(encoding="utf-8").split("\n") if path else []
    except OSError:
        return {}
    rows = [json.loads(line) for line in lines if line]
    return {row["lesson_id"]: row["messages"][-1]["content"] for row in rows}


def said(value: float, score: Score) -> str:
    """An item's number for people: right or wrong, a share, or a number with its unit."""
    if score.unit == "share":
        words = {0.0: "wrong", 1.0: "right"} if score.chance is not None or score.metric == "pass" else {}
        return words.get(value, f"{value:.2f}")
    return f"{value:.2f} {score.unit}"
