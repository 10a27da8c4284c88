"""What Slack and its people feel: what is lost or said twice, how soon the bot acks and answers, what it can carry.

    python benchmarks/delivery.py [--quick] [--json]

The bot is the real process under `evenkeel bot`; the model server answers at once, in a process of its own; the
workspace runs in the benchmark's own process. An ack counts from the moment at which the workspace hands the envelope
over to the one at which it reads the ack; an answer from the moment at which the question stands in Slack to the one at
which its final form does. What is measured: lost, duplicates: after random SIGKILLs under load (the bot is forked from a
process that has imported it, so that a start takes no second). ack_p99_ms, retrain_ack_p99_ms: the worst of 50 questions
at once, the model server down, and the ledger locked by another process, with two answer workers (the default); speed and
memory are measured with eight. Everything is made anew in a temporary folder.
"""

import sys
from pathlib import Path

if not __package__:  # run by its path: this folder has files that are named as packages are
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
import json
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.chaos.kills import random_kills
from benchmarks.chaos.stage import CHANNELS, Stage, is_final, stage
from benchmarks.process import resident
from benchmarks.sequences import mismatched

PEOPLE = ("U0MIA", "U0JONAS", "U0ASHA", "U0TOM")
ADMIN, OPS = "U0INES", "C0OPS"
AT_ONCE = 50
LOCK_S = 2.0
LOCK = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
db.execute("BEGIN " + sys.argv[2])
print("locked", flush=True)
time.sleep(float(sys.argv[3]))
db.execute("ROLLBACK")
"""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is done."""

    kills: int
    rounds: int  # of each situation in which acks are timed
    alone: int  # questions asked one at a time
    seconds: float  # of questions as fast as they are answered
    warm_up: int  # events before the memory is looked at for the first time
    events: int  # events until it is looked at again
    sequences: int


QUICK = Size(kills=10, rounds=1, alone=40, seconds=8.0, warm_up=2_000, events=4_000, sequences=1_000)
FULL = Size(kills=1_000, rounds=10, alone=300, seconds=60.0, warm_up=2_000, events=20_000, sequences=10_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"about two minutes: {QUICK}")
    parser.add_argument("--json", action="store_true", help="one array of rows")
    asked = parser.parse_args()
    rows = measure(QUICK if asked.quick else FULL)
    print(json.dumps(rows, indent=2) if asked.json else table(rows))


def measure(size: Size) -> list[Row]:
    return [*kills(size), *acks(size), *speed(size), memory(size), sequences(size)]


# Killed


def kills(size: Size) -> list[Row]:
    with stage(ack_timeout_s=1.0, engine_s=0.05, ANSWER_WORKERS="4") as here:
        found = random_kills(here, kills=size.kills, seed=random.randrange(10**6), say=tell)
    tell(f"{size.kills} kills: {found}")
    broken = len(found.faults)
    return [
        row("lost", len(found.lost), "questions", found.questions, at_most=0, also=not broken),
        row("duplicates", len(found.duplicates), "questions", found.questions, at_most=0, also=not broken),
    ]


# Acks


def acks(size: Size) -> list[Row]:
    """The worst situation's 99th percentile; the spread is from the best situation's to the worst's."""
    situations: dict[str, Callable[[Stage], None]] = {
        "50 at once": fifty_at_once,
        "engine down": engine_down,
        "locked for writing": lambda here: locked(here, "IMMEDIATE"),
        "locked for all": lambda here: locked(here, "EXCLUSIVE"),
    }
    events, commands = dict[str, list[float]](), dict[str, list[float]]()
    with stage(ANSWER_WORKERS="2") as here, here.bot():
        for name, situation in situations.items():
            first = len(here.watch.acks)
            for _ in range(size.rounds):
                situation(here)
                settle(here)
            made = here.watch.acks[first:]
            limit = here.slack._workspace.sockets._ack_timeout_s
            ms = [(a.kind, 1000 * (limit if a.seconds is None else a.seconds)) for a in made]
            events[name] = [t for kind, t in ms if kind == "events_api"]
            commands[name] = [t for kind, t in ms if kind == "slash_commands"]
            tell(f"{name}: acks p99 {p99(events[name]):.0f} ms, n={len(events[name])}; "
                 f"/retrain p99 {p99(commands[name]):.0f} ms, n={len(commands[name])}")  # fmt: skip
    return [worst("ack_p99_ms", events), worst("retrain_ack_p99_ms", commands)]


def worst(figure: str, situations: dict[str, list[float]]) -> Row:
    found = [p99(times) for times in situations.values()]
    count = sum(map(len, situations.values()))
    return row(figure, max(found), "ms", count, below=500, spread=[min(found), max(found)])


def fifty_at_once(here: Stage) -> None:
    asked = [ask(here, number) for number in range(AT_ONCE)]
    for _ in range(3):
        retrain(here)
    answered(here, asked)


def engine_down(here: Stage) -> None:
    here.stop_engine()
    asked = [ask(here, number) for number in range(AT_ONCE)]
    for _ in range(3):
        retrain(here)
        time.sleep(0.5)
    here.start_engine()
    answered(here, asked)


def locked(here: Stage, how: str) -> None:
    with ledger_locked(here.data / "evenkeel.db", how):
        asked = list[str]()
        for number in range(AT_ONCE):
            asked.append(ask(here, number))
            if number % 20 == 10:
                retrain(here)
            time.sleep(0.6 * LOCK_S / AT_ONCE)
    answered(here, asked)


@contextmanager
def ledger_locked(path: Path, how: str) -> Iterator[None]:
    """Another process holds the lock for LOCK_S from here on."""
    command = [sys.executable, "-c", LOCK, str(path), how, str(LOCK_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"locked\n"
        yield


def retrain(here: Stage) -> None:
    here.slack.command(ADMIN, "/retrain", "", OPS)


def ask(here: Stage, number: int) -> str:
    return here.ask(PEOPLE[number % len(PEOPLE)], CHANNELS[number % len(CHANNELS)])[0]


def answered(here: Stage, words: Sequence[str], seconds: float = 120.0) -> None:
    """Raises RuntimeError when one is not answered in time: then no figure means anything."""
    if not here.watch.await_shown(lambda: all(word in here.watch.shown for word in words), seconds):
        missing = [word for word in words if word not in here.watch.shown]
        raise RuntimeError(
            f"{len(missing)} of {len(words)} questions got no answer within {seconds:.0f} s: {missing[:5]}"
        )


def settle(here: Stage, seconds: float = 30.0) -> None:
    """Until the bot has acked everything."""
    here.slack.wait_for(lambda: not here.watch.undelivered, seconds)


# Speed


def speed(size: Size) -> list[Row]:
    with stage() as here, here.bot():
        one_after_the_other(here, 10)
        alone = one_after_the_other(here, size.alone)
        rates = as_fast_as_it_goes(here, size.seconds)
    return [
        row("overhead_p50_ms", statistics.median(alone), "ms", len(alone), at_most=30, spread=quartiles(alone)),
        row("questions_per_s", statistics.mean(rates), "1/s", len(rates), at_least=30, spread=quartiles(rates)),
    ]


def one_after_the_other(here: Stage, count: int) -> list[float]:
    """Milliseconds from the question to its final answer."""
    found = []
    for number in range(count):
        begun = time.perf_counter()
        word = ask(here, number)
        answered(here, [word], 10.0)
        found.append(1000 * (here.watch.shown[word] - begun))
        settle(here)
    return found


def as_fast_as_it_goes(here: Stage, seconds: float, *, window: int = 48) -> list[float]:
    """Answers in each second, while so many questions are always open; all of them must be answered."""
    asked, first = list[str](), len(here.watch.shown)
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        asked.append(ask(here, len(asked)))
        here.watch.await_shown(lambda: len(asked) - (len(here.watch.shown) - first) < window, seconds)
    ended = time.perf_counter()
    answered(here, asked)
    moments = [here.watch.shown[word] for word in asked]
    return [sum(begun + n <= m < begun + n + 1 for m in moments) for n in range(1, int(ended - begun))]


# Memory


def memory(size: Size) -> Row:
    """Resident memory after `events` events against that after the warm-up."""
    with stage() as here, here.bot() as process:
        mixed(here, size.warm_up)
        before = resident(process.pid)
        mixed(here, size.events)
        after = resident(process.pid)
    tell(
        f"memory: {before / 1024:.1f} MiB after {size.warm_up} events, {after / 1024:.1f} MiB after {size.events} more"
    )
    return row("rss_growth_ratio", after / before, "ratio", size.events, at_most=1.05)


def mixed(here: Stage, count: int) -> None:
    """So many events: questions, talk that is not for the bot, reactions that come and go, edits."""
    dice, until, number = random.Random(count), len(here.watch.acks) + count, 0
    places: list[tuple[str, str]] = []
    while len(here.watch.acks) < until:
        number += 1
        person, channel = PEOPLE[number % len(PEOPLE)], CHANNELS[number % len(CHANNELS)]
        kind = dice.random()
        if kind < 0.12 or not places:
            places = [*places[-20:], (channel, here.ask(person, channel)[1])]
        elif kind < 0.45:
            here.slack.say(person, channel, f"Lunch at {number}?")
        elif kind < 0.55:
            here.slack.edit(person, *places[-1], f"<@U0EVENKEEL> How do I reset my password? {number}")
        else:
            react(here, dice)(places[number % len(places)])
        while here.watch.undelivered > 32:
            time.sleep(0.002)
    answered(here, list(here.watch.shown))
    settle(here)


def react(here: Stage, dice: random.Random) -> Callable[[tuple[str, str]], None]:
    """Adds a reaction to an answer of that thread, or takes it back."""

    def act(place: tuple[str, str]) -> None:
        channel, thread_ts = place
        for answer in filter(is_final, here.slack.messages(channel, thread_ts)):
            person = dice.choice(PEOPLE)
            given = {user for r in answer.get("reactions") or () for user in r["users"]}
            (here.slack.unreact if person in given else here.slack.react)(person, channel, answer["ts"], "+1")

    return act


# Sequences


def sequences(size: Size) -> Row:
    """Random sequences of reactions after which the ledger is not what Slack is."""
    return row("sequences_mismatched", mismatched(size.sequences), "sequences", size.sequences, at_most=0)


# Rows


def p99(times: Sequence[float]) -> float:
    """The value that one in a hundred is above; of fewer than a hundred the largest."""
    return sorted(times)[max(0, -(-99 * len(times) // 100) - 1)]


def quartiles(values: Sequence[float]) -> list[float]:
    low, _, high = statistics.quantiles(values, n=4)
    return [low, high]


def row(figure: str, value: float, unit: str, n: int, *, at_most: float | None = None, at_least: float | None = None,
        below: float | None = None, spread: list[float] | None = None, also: bool = True) -> Row:  # fmt: skip
    """`also`: what else must be true for the figure to hold."""
    holds = also and (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    holds = holds and (below is None or value < below)
    bar = next((b for b in (at_most, at_least, below) if b is not None), None)
    low, high = spread or [value, value]
    return {"figure": figure, "value": round(value, 4), "unit": unit, "bar": bar, "holds": holds, "n": n,
            "spread": [round(low, 4), round(high, 4)]}  # fmt: skip


def table(rows: list[Row]) -> str:
    return "\n".join(f"{r['figure']:22} {r['value']:10.3f} {r['unit']:10} bar {r['bar']:<6} "
                     f"{'holds' if r['holds'] else 'DOES NOT HOLD':14} n={r['n']:<6} {r['spread']}" for r in rows)  # fmt: skip


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
