"""Whether a shadow speaks beside its user is measured, and an admin may decide otherwise."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from bot.engine.layers import Segment
from bot.engine.pairing import SIZES, measured


class Clock:
    """A decoder whose pass takes as long as `seconds` says of its rows, by a clock that nothing else moves."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds, self.now = seconds, 0.0

    def perf_counter(self) -> float:
        return self.now

    def new_cache(self, capacity: int) -> Any:
        return SimpleNamespace(capacity=capacity)

    def forward(self, segments: Sequence[Segment]) -> None:
        self.now += self.seconds[len(segments)]


def clock(monkeypatch: pytest.MonkeyPatch, *ratios: float) -> Clock:
    made = Clock({size: 0.02 * ratio for size, ratio in zip(SIZES, ratios, strict=True)})
    monkeypatch.setattr("bot.engine.pairing.time", made)
    return made


def test_where_a_second_row_is_nearly_free_shadows_speak_beside_users_as_many_as_are_bearable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = measured(clock(monkeypatch, 1.0, 1.04, 1.12, 1.25, 1.6), "auto")

    assert (found.mode, found.ratio, found.room, found.reach) == ("paired", 1.04, 4, 6)


def test_where_it_is_not_they_wait_and_an_admin_may_say_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    dear = (1.0, 1.5, 2.1, 3.0, 4.0)

    assert measured(clock(monkeypatch, *dear), "auto").mode == "deferred"
    wanted = measured(clock(monkeypatch, *dear), "paired")
    assert (wanted.mode, wanted.ratio, wanted.room, wanted.reach) == ("paired", 1.5, 2, 2)
    assert measured(clock(monkeypatch, 1.0, 1.0, 1.0, 1.0, 1.0), "deferred").mode == "deferred"
