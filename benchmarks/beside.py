"""What a training run costs the people who ask on the same machine.

    python benchmarks/beside.py [--quick] [--json]

The run's child trains as the worker starts it (training/child.py: only where nobody else wants to run), and is stopped and let
go on in turns. In both states the engine is asked the same questions, one after the other, each with its shadow. beside_p95 and
beside_median: seconds until the customer's answer is whole, beside the training over without it, the median
and spread of the rounds' own ratios.
"""

import sys
from pathlib import Path

if not __package__:  # run by its path: this folder has files that are named as packages are
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import evenkeel

evenkeel.wait_awake()  # as the engine's process does; read when torch is loaded

from benchmarks.engine import QUESTIONS, Row, Side, adapter, p95, plain_row, table, tell
from bot.engine.base import prepare_base
from bot.engine.scheduler import apart
from storage.recipe import Recipe
from storage.records import Dataset
from storage.settings import load_settings
from training.child import end, read_progress
from training.dataset import digest_of_rows, load_replay, save_dataset

TOKENS = 48
BAR = 1.2
WARM_S = 2.0  # until a child that goes on is in the middle of its work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds instead of ten")
    parser.add_argument("--json", action="store_true", help="one array of rows")
    asked = parser.parse_args()
    base = prepare_base(load_settings(_env_file=None), tell)
    with tempfile.TemporaryDirectory() as room:
        folders = apart(lambda: [adapter(base, Path(room), 1)])
        side = Side(base, folders)
        with training(base, Path(room)) as child:
            rows = measure(side, child, rounds=2 if asked.quick else 10)
        side.scheduler.close()
    print(json.dumps(rows, indent=2) if asked.json else table(rows))


@contextmanager
def training(base: Path, room: Path) -> Iterator[subprocess.Popen[str]]:
    """A run's child in the middle of a training that would go on for hours; it is gone afterwards."""
    rows = load_replay()
    dataset = save_dataset(Dataset(digest=digest_of_rows(rows, ()), train=rows, holdout=(), manifest={}), room)
    job_file = room / "job.json"
    settings = load_settings(_env_file=None, data_dir=room)
    job = {"step": "tune", "file": str(job_file), "result": str(room / "result.json"), "base": str(base), "run_id": 1,
           "settings": settings.model_dump(mode="json"), "dataset": str(dataset), "checkpoints": str(room / "checkpoints"),
           "recipe": Recipe(epochs=100.0, replay_share=0.0).to_dict()}  # fmt: skip
    job_file.write_text(json.dumps(job), encoding="utf-8")
    child = subprocess.Popen([sys.executable, "-m", "training.child", str(job_file)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, start_new_session=True)  # fmt: skip
    try:
        assert child.stdout is not None
        began = next((found for line in child.stdout if (found := read_progress(line))), None)
        if began is None:
            child.wait()
            sys.exit(f"the training ended before its first step: {(room / 'result.json').read_text(encoding='utf-8')}")
        tell(f"training: {began['text']}")
        threading.Thread(
            target=lambda: [None for _ in child.stdout or ()], daemon=True
        ).start()  # a full pipe would stop it
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGCONT)
        end(child)


def measure(side: Side, child: subprocess.Popen[str], *, rounds: int) -> list[Row]:
    found: dict[bool, list[list[float]]] = {False: [], True: []}
    for number in range(rounds + 1):
        for trains in random.sample((False, True), 2):
            if child.poll() is not None:
                sys.exit(f"the training ended with code {child.returncode}")
            os.killpg(child.pid, signal.SIGCONT if trains else signal.SIGSTOP)
            time.sleep(WARM_S)
            seconds = asked(side)
            if number:  # the first warms up
                found[trains].append(seconds)
        tell(f"round {number}: " + ", ".join(f"{p95(f[-1]):.2f} s" for f in found.values() if f))
    return figures(found)


def asked(side: Side) -> list[float]:
    """Seconds until each customer's answer was whole; the next question waits for the shadow, too."""
    seconds = []
    for question in QUESTIONS * 2:
        user = side.ask("user", side.digests[0], question, TOKENS)
        shadow = side.ask("shadow", None, question, TOKENS)
        seconds.append(user.wait().seconds)
        shadow.wait()
    return seconds


def figures(found: dict[bool, list[list[float]]]) -> list[Row]:
    def over(figure: str, of: Any, bar: float | None) -> Row:
        each = [of(with_) / of(without) for with_, without in zip(found[True], found[False], strict=True)]
        beside, alone = (of([s for one in found[trains] for s in one]) for trains in (True, False))
        value = statistics.median(each)  # what else happens on the machine falls into a round or two
        holds = None if bar is None else value <= bar
        return {**plain_row(figure, value, "ratio", f"{beside:.3g} / {alone:.3g} s"), "bar": bar, "holds": holds,
                "n": sum(map(len, found[True])), "spread": [round(min(each), 3), round(max(each), 3)]}  # fmt: skip

    return [over("beside_p95", p95, BAR), over("beside_median", statistics.median, None)]


if __name__ == "__main__":
    main()
