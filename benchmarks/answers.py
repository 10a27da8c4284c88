"""What the shadow costs the customer: answer time with and without it, alternating, one engine, one run.

    python benchmarks/answers.py [--quick] [--json]

"with shadow": the base is asked the same right after each answer, as the bot does, and the next question comes while it
still speaks. Medians over the questions; the spread is the middle half.
"""

import sys
from pathlib import Path

if not __package__:  # run by its path: this folder has files that are named as packages are
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
import json
import statistics
import tempfile
import threading
from typing import Any

import evenkeel  # noqa: F401  (sets how threads wait)
from bot.engine.base import prepare_base
from bot.models import Models
from storage.messages import conversation
from storage.processes import Actor, running
from storage.records import Answer
from storage.settings import load_settings

QUESTIONS = ("How do I reset my password?", "Where can I change the currency of an invoice?", "The timer does not stop. What now?",
             "How do I export my hours?", "Can I invite a client to the portal?", "Why was I charged for two seats?")  # fmt: skip
PORT = 8699


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds instead of eight")
    parser.add_argument("--json", action="store_true", help="one array of rows")
    asked = parser.parse_args()
    rows = measure(rounds=2 if asked.quick else 8)
    print(json.dumps(rows, indent=2) if asked.json else table(rows))


def measure(*, rounds: int) -> list[dict[str, Any]]:
    settings = load_settings(_env_file=None)
    prepare_base(settings, lambda text: print(text, file=sys.stderr))
    with tempfile.TemporaryDirectory() as room:
        environment = {
            "DATA_DIR": room,
            "CACHE_DIR": str(settings.cache_dir.absolute()),
            "ENGINE_URL": f"http://127.0.0.1:{PORT}/v1",
        }
        engine = Actor(name="engine", command=(sys.executable, "-m", "evenkeel", "engine"),
                       ready_url=f"http://127.0.0.1:{PORT}/healthz", log=Path(room, "engine.log"))  # fmt: skip
        with running((engine,), environment):
            models = Models(environment["ENGINE_URL"], "", max_new_tokens=48)
            models.ask("tuned", conversation("", (), "Hello"), deadline_s=120)
            alone, shadowed = list[Answer](), list[Answer]()
            for number in range(rounds):
                for side in (alone, shadowed) if number % 2 == 0 else (shadowed, alone):
                    side += play(models, settings.system_prompt, shadow=side is shadowed)
    return [*figures("ttft_s", alone, shadowed), *figures("latency_s", alone, shadowed)]


def play(models: Models, system: str, *, shadow: bool) -> list[Answer]:
    """The tuned answers to all questions, one after the other, each followed by its silent twin if `shadow`."""
    answers, twins = [], []
    for question in QUESTIONS:
        messages = conversation(system, (), question)
        answers.append(models.ask("tuned", messages, deadline_s=300))
        if shadow:
            twins.append(threading.Thread(target=models.ask, args=("base", messages), kwargs={"deadline_s": 300}))
            twins[-1].start()
    for twin in twins:
        twin.join()
    return answers


def figures(name: str, alone: list[Answer], shadowed: list[Answer]) -> list[dict[str, Any]]:
    sides = [[getattr(a, name) for a in side] for side in (alone, shadowed)]
    medians = [statistics.median(side) for side in sides]
    rows = [
        row(f"{name}_{label}", m, "s", side)
        for label, m, side in zip(("alone", "with_shadow"), medians, sides, strict=True)
    ]
    return [*rows, {**row(f"{name}_shadow_ratio", medians[1] / medians[0], "ratio", sides[1]), "spread": None}]


def row(figure: str, value: float, unit: str, values: list[float]) -> dict[str, Any]:
    low, _, high = statistics.quantiles(values, n=4)
    return {"figure": figure, "value": round(value, 4), "unit": unit, "bar": None, "holds": None, "n": len(values),
            "spread": [round(low, 4), round(high, 4)]}  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"{r['figure']:24} {r['value']:8.3f} {r['unit']:6} n={r['n']:<4} {r['spread'] or ''}" for r in rows
    )


if __name__ == "__main__":
    main()
