"""What the numbered bad inputs share: a numbered list of cases, and a log in which nothing may stand that must not."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

SECRET_TEXT = "zebra-in-the-text"  # what people type in these cases; no log line may hold it
Act = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Cases:
    """Functions by the number of their input. A number may have several."""

    letter: str
    numbers: range
    found: list[tuple[int, str, Act]] = field(default_factory=list)

    def __call__(self, number: int, words: str) -> Callable[[Act], Act]:
        def add(act: Act) -> Act:
            self.found.append((number, words, act))
            return act

        return add

    def parametrize(self) -> pytest.MarkDecorator:
        rows = [pytest.param(act, id=f"{self.letter}{number:02d} {words}") for number, words, act in self.found]
        return pytest.mark.parametrize("act", rows)

    def missing(self) -> set[int]:
        return set(self.numbers) - {number for number, _, _ in self.found}


class Handler(logging.Handler):
    """Every line of the standard library's loggers, with its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def clean_log() -> Iterator[Sequence[Any]]:
    """Inside the block nobody logs a traceback, a text that people typed, a token or an error of our own."""
    handler, root = Handler(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        with capture_logs() as events:
            yield events
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    lines = [*handler.lines, *map(str, events)]
    for bad in (
        "Traceback",
        "exc_info",
        SECRET_TEXT,
        "xoxb-",
        "xapp-",
        "listener_failed",
        "step_failed",
        "question_failed",
    ):
        found = [line for line in lines if bad in line]
        assert not found, f"{bad}: {found[0][:300]}"
