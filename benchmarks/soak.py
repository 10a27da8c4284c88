"""Whether the engine is after a long time what it was before: memory, threads, outputs.

    python benchmarks/soak.py [--minutes 30] [--json]

Four people ask without a pause, some leave in the middle of an answer or while they wait; shadows are asked beside them and
some are given up; promotions come every few seconds, adapters are asked for by name. Before and after, the same questions are
asked of the idle engine, of base and of both adapters. soak_outputs_changed: answers that are not what they were.
soak_threads_left: threads more than before. soak_rss_ratio: resident memory at the end over that after the first tenth of the
time, in which caches fill. soak_failed: answers that ended with an error.
"""

import sys
from pathlib import Path

if not __package__:  # run by its path: this folder has files that are named as packages are
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
import json
import random
import tempfile
import threading
import time
from collections import Counter
from typing import Any

import evenkeel

evenkeel.wait_awake()  # as the engine's process does; read when torch is loaded

from benchmarks.engine import QUESTIONS, Answer, Side, adapter, table, tell
from benchmarks.process import resident
from bot.engine.base import prepare_base
from bot.engine.rows import Ask
from bot.engine.scheduler import apart
from storage.settings import load_settings

TOKENS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", action="store_true", help="one array of rows")
    asked = parser.parse_args()
    base = prepare_base(load_settings(_env_file=None), tell)
    with tempfile.TemporaryDirectory() as room:
        folders = apart(lambda: [adapter(base, Path(room), seed) for seed in (1, 2)])
        rows = soak(base, folders, seconds=60 * asked.minutes)
    print(json.dumps(rows, indent=2) if asked.json else table(rows))
    sys.exit(0 if all(row["holds"] for row in rows) else 1)


def soak(base: Path, folders: list[Path], *, seconds: float) -> list[dict[str, Any]]:
    side = Side(base, folders)
    side.scheduler.crown(folders[0])
    before, threads = outputs(side), threading.active_count()
    until, ends = time.monotonic() + seconds, Counter[str]()
    people = [threading.Thread(target=person, args=(side, seed, until, ends)) for seed in range(4)]
    people.append(threading.Thread(target=promoter, args=(side, folders, until)))
    for each in people:
        each.start()
    time.sleep(seconds / 10)
    warm = resident()
    for each in people:
        each.join()
    idle(side)
    after, grown = outputs(side), resident() / warm
    left = threading.active_count() - threads
    side.scheduler.close()
    tell(f"{sum(ends.values())} rows in {seconds / 60:.1f} minutes: {dict(ends)}; {warm / 1024:.0f} MiB after a tenth")
    changed, count = sum(before[key] != after[key] for key in before), sum(ends.values())
    return [
        row("soak_outputs_changed", changed, "answers", 0, len(before)),
        row("soak_threads_left", left, "threads", 0, 1),
        row("soak_rss_ratio", round(grown, 3), "ratio", 1.05, count),
        row("soak_failed", ends["error"], "answers", 0, count),
    ]


def outputs(side: Side) -> dict[tuple[str | None, str], str]:
    return {(who, q): side.ask("user", who, q, TOKENS).wait().text for who in (None, *side.digests) for q in QUESTIONS}


def person(side: Side, seed: int, until: float, ends: Counter[str]) -> None:
    """Asks, and sometimes leaves; a shadow is asked beside each answer."""
    dice = random.Random(seed)
    while time.monotonic() < until:
        question, role_of = dice.choice(QUESTIONS), {}
        for role, champion in (("user", True), ("shadow", False)):
            answer = Answer()
            prompt = side.renderer.prompt([{"role": "user", "content": question}])
            ask = Ask(role=role, adapter=None, prompt=prompt, max_new_tokens=dice.randint(1, TOKENS), emit=answer.hear)  # type: ignore[arg-type]
            side.scheduler.submit(ask, champion=champion)
            role_of[role] = (answer, ask)
        if dice.random() < 0.3:
            time.sleep(dice.uniform(0, 0.5))
            role_of[dice.choice(("user", "shadow"))][1].cancelled.set()
        for answer, _ in role_of.values():
            ends[answer.wait().ended.reason] += 1
        if dice.random() < 0.1:
            ends[side.ask("user", dice.choice(side.digests), question, 4).wait().ended.reason] += 1


def promoter(side: Side, folders: list[Path], until: float) -> None:
    number = 0
    while time.monotonic() < until:
        number += 1
        side.scheduler.crown(folders[number % 2])
        side.scheduler.fetch(folders[(number + 1) % 2])
        time.sleep(2.0)


def idle(side: Side) -> None:
    while any(side.scheduler.depths().values()):
        time.sleep(0.05)


def row(figure: str, value: float, unit: str, bar: float, n: int) -> dict[str, Any]:
    return {"figure": figure, "value": value, "unit": unit, "bar": bar, "holds": value <= bar, "n": n,
            "spread": [value, value], "note": ""}  # fmt: skip


if __name__ == "__main__":
    main()
