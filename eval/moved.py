"""The items that moved most: what a worse or a better number means, one case at a time.

Knows the ledger's scorecards, the dataset's holdout file (redacted text) and what was said (eval/said.py); knows no Slack.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import pstdev
from typing import Any

from eval.quoting import cut
from eval.said import find_said
from storage.ledger import Ledger
from storage.records import Decision, Run, Score, Scorecard

SUPPORT = "support"  # eval/target.py NAME, which cannot be imported here: a report needs no model library
DATA = Path(__file__).parent / "data"
FILES = {"over_refusal": "refusal"}  # whose rows are in a file of another name

MOST, OF_ONE_BENCHMARK = 5, 2
TEXT, SLACK_TEXT = 600, 300
Texts = Mapping[tuple[str, str], str]  # by (benchmark, item id)
Item = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One item: `size` is the gain in spreads of the base's items, below zero a loss, so that different units can be ranked."""

    size: float
    score: Score  # of the base
    item_id: str
    before: float
    after: float


def moved(ledger: Ledger, run: Run, decision: Decision) -> dict[str, Any]:
    """{"lost", "gained"}: the five largest of each as plain JSON: benchmark, item_id, before, after, question, approved (answer),
    and what base and candidate said; "" for a text that is not at hand, and both are "" where only one of them is. "said": how
    many there are of each, in a sentence.

    Only of scores that the gate asks; an item counts once a benchmark, and a benchmark gives two at most, since five
    times the same fault says less. Empty without scorecards.
    """
    base, candidate = (ledger.scores.card(run.run_id, subject) for subject in ("base", "candidate"))
    if base is None or candidate is None:
        return {"lost": [], "gained": [], "said": ""}
    pairs = list(asked(base, candidate, decision))
    found = [move for before, after in pairs for move in moves(before, after)]
    path = ledger.lessons.dataset_path(run.dataset_digest) if run.dataset_digest else None
    lessons = held_out(Path(path)) if path else {}
    said = [find_said(Path(path).parent, card) for card in (base, candidate)] if path else [{}, {}]
    return {
        "lost": [_item(move, lessons, *said) for move in largest(m for m in found if m.size < 0)],
        "gained": [_item(move, lessons, *said) for move in largest(m for m in found if m.size > 0)],
        "said": _tally(pairs, found),
    }


def texts(item: Item) -> list[tuple[str, str]]:
    """(who, text) of what is at hand of an item, in the order in which it is read."""
    who = {"asked": "question", "approved": "approved", "base said": "base", "candidate said": "candidate"}
    return [(name, item[what]) for name, what in who.items() if item[what]]


def _tally(pairs: Sequence[tuple[Score, Score]], found: Sequence[Move]) -> str:
    """How many items moved at all, each counted once a benchmark; on both sides where its metrics disagree."""
    lost, gained = ({(m.score.benchmark, m.item_id) for m in found if (m.size < 0) == worse} for worse in (True, False))
    of = {(before.benchmark, item.item_id) for before, _ in pairs for item in before.items}
    return f"Of {len(of)} items, {len(lost)} lost and {len(gained)} gained, however little." if lost or gained else ""


def regressions(lost: list[Item]) -> list[Item]:
    """The lost items as Slack shows them: benchmark, item_id, before, after, text of the question."""
    kept = ("benchmark", "item_id", "before", "after")
    return [{name: item[name] for name in kept} | {"text": cut(item["question"], SLACK_TEXT)} for item in lost]


def asked(base: Scorecard, candidate: Scorecard, decision: Decision) -> Iterator[tuple[Score, Score]]:
    """The scores of both that the gate asks."""
    gating = {(c.benchmark, c.metric) for c in decision.comparisons if c.gates}
    for before in base.scores:
        after = candidate.get(before.benchmark, before.metric)
        if after is not None and (before.benchmark, before.metric) in gating:
            yield before, after


def moves(before: Score, after: Score) -> Iterator[Move]:
    """Every item of both that got worse or better."""
    values = {item.item_id: item.value for item in after.items}
    spread = pstdev([item.value for item in before.items]) if before.items else 0.0
    for item in before.items:
        change = values.get(item.item_id, item.value) - item.value
        if change:
            size = (-change if before.direction == "lower" else change) / (spread or 1.0)
            yield Move(size=size, score=before, item_id=item.item_id, before=item.value, after=values[item.item_id])


def largest(found: Iterator[Move]) -> list[Move]:
    """The largest first; ties in the order of names, so that the same run always shows the same five."""
    shown: list[Move] = []
    for move in sorted(found, key=lambda x: (-abs(x.size), x.score.benchmark, x.score.metric, x.item_id)):
        of_it = [other.item_id for other in shown if other.score.benchmark == move.score.benchmark]
        if len(of_it) < OF_ONE_BENCHMARK and move.item_id not in of_it:
            shown.append(move)
    return shown[:MOST]


def _item(move: Move, lessons: Mapping[str, tuple[str, str]], base: Texts, candidate: Texts) -> Item:
    score, name = move.score, (move.score.benchmark, move.item_id)
    question, approved = lessons.get(move.item_id, ("", "")) if score.benchmark == SUPPORT else own_row(*name)
    both = name in base and name in candidate
    at_hand = {
        "question": question,
        "approved": approved,
        "base": base[name] if both else "",
        "candidate": candidate[name] if both else "",
    }
    return {
        "benchmark": f"{score.benchmark.replace('_', ' ')} · {score.metric.replace('_', ' ')}",
        "item_id": move.item_id,
        "before": said(move.before, score),
        "after": said(move.after, score),
    } | {what: cut(text, TEXT) for what, text in at_hand.items()}


def held_out(dataset: Path) -> dict[str, tuple[str, str]]:
    """(question, approved answer) of each held-out lesson, as they were kept: redacted. Empty when the file is gone."""
    return {
        row["lesson_id"]: (row["messages"][-1]["content"], row.get("answer", ""))
        for row in _rows(dataset / "holdout.jsonl")
    }


def own_row(benchmark: str, item_id: str) -> tuple[str, str]:
    """(question, good answer) of an item of the project's own benchmarks; "" for what is not in their files."""
    name = benchmark.split(".")[0]
    for row in _rows(DATA / f"{FILES.get(name, name)}.jsonl"):
        if row["id"] == item_id:
            good = row["choices"][row["answer"]] if "choices" in row else row.get("answer") or row.get("right", "")
            return row.get("prompt") or row.get("text", ""), good
    return "", ""


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; none when it is gone or cannot be read."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError):
        return []


def said(value: float, score: Score) -> str:
    """An item's number for people: right or wrong, a share, or a number with its unit."""
    if score.unit == "share":
        words = {0.0: "wrong", 1.0: "right"} if score.chance is not None or score.metric == "pass" else {}
        return words.get(value, f"{value:.2f}")
    return f"{value:.2f} {score.unit}"
