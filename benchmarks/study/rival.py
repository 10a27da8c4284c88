"""lm-eval's way: base and candidate over the whole of the same multiple-choice tasks, then its comparator's rule.

The cost is timed on a sample with lm-eval's own model class at its best batch size, of the base without an adapter (which
favours it), and scaled up to the whole pools, twice. The rule is that of scripts/model_comparator.py: an unpaired z-test of
each accuracy at α = 0.05, over the items that the truth measured.
"""

import math
import time
from pathlib import Path
from typing import Any

from scipy import stats

from benchmarks.multiple_choice import TRIED, asked_of, fastest, their_sides
from bot.engine.model import best_dtype
from eval.benchmark import read_rows
from eval.local_tasks import local_tasks
from storage.records import Scorecard, Verdict
from storage.settings import Settings

ALPHA = 0.05


def full_cost(settings: Settings, base: Path, sample: int) -> dict[str, Any]:
    """Items and seconds of two whole passes over the general tasks, from `sample` items of each."""
    tasks = local_tasks(settings)
    requests = {name: asked_of(tasks[name], sample) for name in settings.general_tasks}
    tried = [request for found in requests.values() for request in found[:TRIED]]
    batch, side = fastest(their_sides(base, best_dtype()), tried)
    items, seconds = 0, 0.0
    for name, found in requests.items():
        began, pool = time.perf_counter(), len(read_rows(tasks[name].rows))
        side(found)
        seconds += 2 * pool * (time.perf_counter() - began) / len({request.doc_id for request in found})
        items += 2 * pool
    return {"items": items, "seconds": seconds, "batch": batch}


def comparator(base: Scorecard, candidate: Scorecard, tasks: tuple[str, ...]) -> Verdict:
    """REFUSE where an accuracy differs significantly for the worse, or is no number; else there is nothing against it."""
    for task in tasks:
        one, other = base.get(task, "acc"), candidate.get(task, "acc")
        if one is None:
            continue
        if other is None:
            return "REFUSE"
        error = math.hypot(one.stderr, other.stderr)
        p = 2 * stats.norm.sf(abs(one.value - other.value) / error) if error else 1.0
        if p <= ALPHA and other.value < one.value:
            return "REFUSE"
    return "PROMOTE"
