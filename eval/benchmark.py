"""What a benchmark is: a name, what it will measure, the digest of everything that it depends on, and how to measure.

A frozen record instead of a base class: harness.py, own.py and target.py each make some, suite.py measures them.
"""

import json
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.engine.model import LoadedModel
from eval.hosted import HostedModel
from storage.digests import digest_of
from storage.errors import ConfigurationError
from storage.records import Direction, Domain, ItemScore, Message

DATA = Path(__file__).parent / "data"
Row = dict[str, Any]
Tell = Callable[[int, int], None]  # (done, total) within one benchmark
SEALED_FROM = 500  # rows that a pool needs so that a part of it can be put away
ONE_IN = 5  # rows of such a pool is sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerer:
    """Who is measured: one copy of the weights here or at a server, and the adapter that speaks (None: the base alone)."""

    model: LoadedModel | HostedModel
    adapter: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One metric of one benchmark, items and all. `value` and `stderr` None: the mean of the items. `said`: the text that
    each item had generated, in their order; none for what is only read, and once for all metrics of the same texts."""

    benchmark: str
    metric: str
    items: tuple[ItemScore, ...]
    direction: Direction = "higher"
    unit: str = "share"
    chance: float | None = None
    value: float | None = None
    stderr: float | None = None
    signature: str = ""
    said: tuple[str, ...] = ()


Measure = Callable[[Answerer, Tell], Iterable[Measured]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A measurement that can be made.

    `expects` names each (benchmark, metric) that a whole measurement gives; `digest` covers rows, prompts and settings;
    `cost` is about how many characters the model reads (one that it writes counts as five): cheap ones come first.
    `left_out` names the drawn items that nobody is asked, since the run's training rows hold them; `emptied` each part that
    lost too many of them to be asked at all. `rounds`, where the items can be asked in slices (eval/slices.py): one
    measurement a look, which together have the items of `measure`.
    """

    name: str
    domain: Domain
    expects: tuple[tuple[str, str], ...]
    digest: str
    cost: int
    measure: Measure
    left_out: tuple[str, ...] = ()
    emptied: tuple[str, ...] = ()
    rounds: tuple[Measure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """The rows of one pool that are asked, the ids of those that training has seen, and the pool's name where too few are
    left to ask."""

    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    emptied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """Which rows of each pool a run is asked: hands of `items`, dealt without replacement.

    Turn 0 gets the first hand of a seeded order, turn 1 the next, and so on; the last hand is filled up from the first.
    Then the same hands come again, so that what the base scored on them is still known. A pool that is smaller than a
    hand is asked whole.
    A pool of SEALED_FROM rows has a sealed part, one row in ONE_IN by the digest of its id: `sealed` deals from it alone,
    every other deal from the rest. Only the final look of a candidate that would be promoted is a sealed one.
    `known(row)`: whether the run's training rows hold this row; it leaves its hand and nothing takes its place, since
    all other rows must stay where they are. Sources: Dwork et al. 2015, arXiv 1506.02629 (why a sealed part).
    """

    items: int
    seed: int
    turn: int = 0
    sealed: bool = False
    known: Callable[[Row], bool] = lambda _: False

    def hand(self, name: str, rows: Sequence[Row]) -> Hand:
        """Rows in the order of the pool; none when it has nothing sealed, or fewer than two are left."""
        pool = [i for i, row in enumerate(rows) if self._is_open(name, row, len(rows)) is not self.sealed]
        random.Random(f"{self.seed}:{name}").shuffle(pool)
        hands = max(math.ceil(len(pool) / self.items), 1)
        start = self.items * (self.turn % hands)
        places = [(start + n) % len(pool) for n in range(min(self.items, len(pool)))]
        chosen = [rows[i] for i in sorted(pool[place] for place in places)]
        kept = tuple(row for row in chosen if not self.known(row))
        gone = tuple(str(row["id"]) for row in chosen if row not in kept)
        if len(kept) > 1:
            return Hand(rows=kept, left_out=gone)
        return Hand(rows=(), left_out=gone, emptied=(name,) if gone else ())

    def _is_open(self, name: str, row: Row, size: int) -> bool:
        return size < SEALED_FROM or int(digest_of(["sealed", name, str(row["id"])]), 16) % ONE_IN > 0


def nothing(name: str, hand: Hand) -> Benchmark:
    """A benchmark of which nothing is left to ask."""
    return Benchmark(
        name=name, domain="general", expects=(), digest="", cost=0, measure=lambda *_: (), left_out=hand.left_out,
        emptied=hand.emptied)  # fmt: skip


def draw(count: int, wanted: int, *, seed: int, name: str) -> list[int]:
    """Positions of a seeded slice, ascending. A larger slice of the same seed holds every smaller one."""
    order = list(range(count))
    random.Random(f"{seed}:{name}").shuffle(order)
    return sorted(order[:wanted])


def read_rows(path: Path) -> list[Row]:
    """Rows of a JSONL file. Raises ConfigurationError that names the file and the line."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")  # not splitlines: texts hold U+2028
    except OSError as error:
        raise ConfigurationError(f"benchmark file {path.name} cannot be read ({error.strerror}).") from None
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigurationError(f"benchmark file {path.name}, line {number}: no JSON ({error}).") from None
        if not isinstance(row, dict) or "id" not in row:
            raise ConfigurationError(f"benchmark file {path.name}, line {number}: no object with an id.")
        rows.append(row)
    return rows


def cluster_of(row: Row) -> str:
    """What the row belongs together with; itself where it names nothing."""
    return str(row.get("cluster") or row["id"])


def asked(system_prompt: str, prompt: str) -> tuple[Message, ...]:
    """The messages of one question, as the bot would send them."""
    return ({"role": "system", "content": system_prompt}, {"role": "user", "content": prompt})
