"""Multiple choice against lm-eval's own model class: the same weights, the same requests, the same machine.

    python benchmarks/multiple_choice.py [--quick] [--json]

Ours reads a question once for all of its choices and makes logits for the choices alone (eval/prefix.py); theirs is
lm-eval's HFLM with the fastest of three batch sizes, tried before on a few requests. Both in float32, so that the two
can be held against each other: every log-likelihood within NOISE, every item the same answer. Rounds alternate and nothing is
cached between them. Base and benchmarks are fetched into CACHE_DIR when they are not there.
"""

import sys
from pathlib import Path

if not __package__:  # run by its path: this folder has files that are named as packages are
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

import evenkeel  # noqa: F401  (sets how threads wait)
from bot.engine.base import prepare_base
from bot.engine.model import LoadedModel, loaded
from eval.benchmark import Answerer, Deal, read_rows
from eval.harness import quiet
from eval.lm import AnswererLM
from eval.local_tasks import LocalTask, local_tasks, made_task
from eval.suite_fetch import fetch_suite
from storage.settings import load_settings

TASKS = ("arc_easy", "piqa", "sciq", "hellaswag")  # those of the default settings
BATCHES = (1, 4, 16)  # the first is lm-eval's own default
TRIED = 8  # requests of each task that a batch size is tried on
BAR = 3.0
NOISE = 0.01  # nats of a whole continuation: float32 sums in another order
SEED = 17
Row = dict[str, Any]
Side = Callable[[list[Instance]], list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="6 items a task and 3 rounds instead of 48 and 5")
    parser.add_argument("--json", action="store_true", help="one array of rows")
    asked = parser.parse_args()
    rows = measure(quick=asked.quick)
    print(json.dumps(rows, indent=2) if asked.json else table(rows))


def measure(*, quick: bool) -> list[Row]:
    items, rounds = (6, 3) if quick else (48, 5)
    settings = load_settings(base_model="embedded")
    folder = prepare_base(settings, lambda text: print(text, file=sys.stderr))
    fetch_suite(settings, lambda text: print(text, file=sys.stderr))
    requests = {name: asked_of(local_tasks(settings)[name], items) for name in TASKS}
    tried = [request for found in requests.values() for request in found[:TRIED]]
    ours, (batch, theirs) = our_side(folder), fastest(their_sides(folder), tried)
    ours(tried)  # the first pass of a process asks for its memory
    told, seconds = dict[tuple[str, str], list[float]](), dict[tuple[str, str], list[float]]()
    for number in range(rounds):
        pair = [("ours", ours), ("theirs", theirs)]
        for who, side in pair if number % 2 == 0 else reversed(pair):
            for name in TASKS:
                began = time.perf_counter()
                told[who, name] = side(requests[name])
                seconds.setdefault((who, name), []).append(time.perf_counter() - began)
    gaps = [abs(a - b) for name in TASKS for a, b in zip(told["ours", name], told["theirs", name], strict=True)]
    moved = sum(choices_that_moved(requests[name], told["ours", name], told["theirs", name]) for name in TASKS)
    return [
        speed("mc_speed_over_lm_eval", seconds, TASKS, bar=BAR),
        *(speed(f"mc_speed_{name}", seconds, (name,), bar=None) for name in TASKS),
        plain("mc_largest_gap", max(gaps), "nats", bar=NOISE, n=len(gaps), spread=(median(gaps), max(gaps))),
        plain("mc_their_batch", batch, "rows", bar=None, n=len(BATCHES), spread=(min(BATCHES), max(BATCHES))),
        plain("mc_choices_moved", moved, "items", bar=0, n=items * len(TASKS), spread=(moved, moved)),
    ]


def asked_of(task: LocalTask, items: int) -> list[Instance]:
    """lm-eval's own requests for a seeded hand of the task's pool."""
    hand = Deal(items=items, seed=SEED).hand(task.name, read_rows(task.rows))
    with quiet():
        made = made_task(task.config, task.name, hand.rows)
        made.build_all_requests(rank=0, world_size=1)
    return list(made.instances)


def our_side(folder: Path) -> Side:
    ours = AnswererLM(Answerer(model=LoadedModel.load(folder, dtype=torch.float32), adapter=None), lambda *_: None)
    return lambda requests: [value for value, _ in ours.loglikelihood(requests)]


def their_sides(folder: Path, dtype: torch.dtype = torch.float32) -> dict[int, Side]:
    """One for each batch size, over a copy of the weights that is theirs alone."""
    model, renderer = loaded(folder, dtype=dtype)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)

    def side(batch: int) -> Side:
        theirs = HFLM(pretrained=model, tokenizer=renderer.tokenizer, batch_size=batch)
        return lambda requests: [value for value, _ in theirs.loglikelihood(requests, disable_tqdm=True)]

    return {batch: side(batch) for batch in BATCHES}


def fastest(sides: dict[int, Side], requests: list[Instance]) -> tuple[int, Side]:
    took: dict[int, float] = {}
    sides[BATCHES[0]](requests[:TRIED])
    for batch, side in sides.items():
        began = time.perf_counter()
        side(requests)
        took[batch] = time.perf_counter() - began
    best = min(took, key=lambda batch: took[batch])
    return best, sides[best]


def choices_that_moved(requests: Sequence[Instance], ours: Sequence[float], theirs: Sequence[float]) -> int:
    """Items whose likeliest choice is another one, but for choices that are equally likely within NOISE."""
    items: dict[Any, list[int]] = {}
    for i, request in enumerate(requests):
        items.setdefault(request.doc_id, []).append(i)
    best = ((max(found, key=lambda i: ours[i]), max(found, key=lambda i: theirs[i])) for found in items.values())
    return sum(a != b and abs(theirs[a] - theirs[b]) > NOISE for a, b in best)


def speed(figure: str, seconds: dict[tuple[str, str], list[float]], names: Sequence[str], *, bar: float | None) -> Row:
    """Theirs over ours: the ratio of the median times of a whole round, and the ratios of the rounds as spread."""
    ours, theirs = (
        [sum(times) for times in zip(*(seconds[who, name] for name in names), strict=True)]
        for who in ("ours", "theirs")
    )
    ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    value = median(theirs) / median(ours)
    row = plain(figure, value, "times", bar=None, n=len(ratios), spread=(ratios[0], ratios[-1]))
    return row | {"bar": bar, "holds": None if bar is None else value >= bar}


def plain(figure: str, value: float, unit: str, *, bar: float | None, n: int, spread: tuple[float, float]) -> Row:
    return {
        "figure": figure, "value": round(value, 5), "unit": unit, "bar": bar, "holds": None if bar is None else value <= bar,
        "n": n, "spread": [round(number, 5) for number in spread],
    }  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    said = {True: "holds", False: "DOES NOT HOLD", None: ""}
    return "\n".join(
        f"{r['figure']:24} {r['value']:10.4f} {r['unit']:6} bar {r['bar']!s:6} {said[r['holds']]:14} n={r['n']:<5} "
        f"{r['spread'][0]:.4f} to {r['spread'][1]:.4f}"
        for r in rows
    )


if __name__ == "__main__":
    main()
