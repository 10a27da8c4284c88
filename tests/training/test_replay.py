"""Benchmarks never enter training: no replay row shares six words in a row with an item of the suite."""

import json
import re
from pathlib import Path

from training.dataset import load_replay

SUITE = Path(__file__).parents[2] / "eval" / "data"


def grams(text: str, size: int = 6) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}


def test_no_replay_row_overlaps_the_suite() -> None:
    items = [
        json.loads(line) for path in SUITE.glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()
    ]
    suite = {gram for item in items for text in item.values() if isinstance(text, str) for gram in grams(text)}

    shared = {row.lesson_id: (grams(row.question) | grams(row.answer)) & suite for row in load_replay()}

    assert len(items) >= 300
    assert {name: found for name, found in shared.items() if found} == {}
