"""What a benchmark is: a name, what it will measure, the digest of everything that it depends on, and how to measure.

A frozen record instead of a base class: harness.py, own.py and target.py each make some, suite.py measures them.
"""

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.engine.model import LoadedModel
from storage.errors import ConfigurationError
from storage.records import Direction, Domain, ItemScore, Message

DATA = Path(__file__).parent / "data"
Row = dict[str, Any]
Tell = Callable[[int, int], None]  # (done, total) within one benchmark


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerer:
    """Who is measured: one copy of the weights, and the adapter that speaks (None: the base alone)."""

    model: LoadedModel
    adapter: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One metric of one benchmark, items and all. `value` and `stderr` None: the mean of the items."""

    benchmark: str
    metric: str
    items: tuple[ItemScore, ...]
    direction: Direction = "higher"
    unit: str = "share"
    chance: float | None = None
    value: float | None = None
    stderr: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A measurement that can be made.

    `expects` names each (benchmark, metric) that a whole measurement gives; `digest` covers rows, prompts and settings;
    `cost` is about how many characters the model reads (one that it writes counts as five): cheap ones come first.
    """

    name: str
    domain: Domain
    expects: tuple[tuple[str, str], ...]
    digest: str
    cost: int
    measure: Callable[[Answerer, Tell], Iterable[Measured]]


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


def asked(system_prompt: str, prompt: str) -> tuple[Message, ...]:
    """The messages of one question, as the bot would send them."""
    return ({"role": "system", "content": system_prompt}, {"role": "user", "content": prompt})
