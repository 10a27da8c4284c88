"""A benchmark that hangs is unknown, with its reason, as one that crashes is; whoever makes progress has all the time."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from bot.engine.model import LoadedModel
from eval import deadline
from eval.benchmark import Benchmark, Measured
from eval.deadline import moving
from eval.suite import Plan
from storage.errors import EvenkeelError
from storage.ledger import Ledger
from storage.records import Decision, ItemScore
from tests.eval.test_rounds import Trials, judged, suite


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody may stand still for long here; the alarm of whoever runs the tests is put aside."""
    handler, timer = signal.getsignal(signal.SIGALRM), signal.setitimer(signal.ITIMER_REAL, 0)
    monkeypatch.setattr(deadline, "STALL_S", 0.3)
    monkeypatch.setattr(deadline, "AGAIN_S", 0.1)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, *timer)


@pytest.fixture
def trials(tiny_model: LoadedModel, adapters: tuple[str, str], ledger: Ledger) -> Trials:
    return Trials(tiny_model, ledger)


def nobody(*_: object) -> None:
    return


def hang(*_: object) -> list[Measured]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        time.sleep(0.02)
    raise AssertionError("nobody ended it")


def hang_where_faults_are_passed_over(*_: object) -> list[Measured]:
    """A library that takes whatever one item raises for the item's own fault."""
    for _item in range(40):
        with contextlib.suppress(Exception):
            hang()
    raise AssertionError("nobody ended it")


def hang_again_after_all_was_swallowed(*_: object) -> list[Measured]:
    with contextlib.suppress(BaseException):
        hang()
    return hang()


def swallow_all_and_give_numbers(*_: object) -> list[Measured]:
    with contextlib.suppress(BaseException):
        hang()
    items = tuple(ItemScore(item_id=f"i{n}", cluster=f"i{n}", value=0.6) for n in range(20))
    return [Measured(benchmark=name, metric=metric, items=items) for name, metric in (("two", "p_correct"), ("written", "pass"))]  # fmt: skip


def swallow_all_and_go_on(_: object, tell: Callable[[int, int], None]) -> list[Measured]:
    with contextlib.suppress(BaseException):
        hang()
    tell(1, 2)
    return []


def swallow_all_and_trip(*_: object) -> list[Measured]:
    try:
        hang()
    except BaseException as error:
        raise KeyError("half an item") from error
    return []


HANGING = (
    hang,
    hang_where_faults_are_passed_over,
    hang_again_after_all_was_swallowed,
    swallow_all_and_give_numbers,
    swallow_all_and_go_on,
    swallow_all_and_trip,
)


def with_hanging(plan: Plan, name: str, how: Any) -> Plan:
    """The plan with one benchmark that hangs: in its second round, where it has rounds."""

    def spoiled(one: Benchmark) -> Benchmark:
        if one.rounds:
            return replace(one, rounds=(one.rounds[0], how, *one.rounds[2:]))
        return replace(one, measure=how)

    return replace(plan, general=tuple(spoiled(one) if one.name == name else one for one in plan.general))


def tried(trials: Trials, adapter: str, name: str, how: Any) -> Decision:
    plan = suite([])
    base = trials.base(plan)
    return judged(base, trials.candidate(with_hanging(plan, name, how), adapter, base))


@pytest.mark.parametrize("how", HANGING)
def test_a_candidate_whose_benchmark_hangs_is_held_and_the_history_says_why(
    how: Any, trials: Trials, adapters: tuple[str, str]
) -> None:
    decision = tried(trials, adapters[0], "two", how)

    assert decision.verdict == "HOLD"
    assert "two (p correct): unknown, not measured on the candidate" in decision.reasons
    assert "two is missing: TimeoutError: no progress for 0.005 minutes" in trials.said


def test_a_hang_outside_the_rounds_holds_just_so(trials: Trials, adapters: tuple[str, str]) -> None:
    decision = tried(trials, adapters[0], "written", hang)

    assert (decision.verdict, decision.reasons) == ("HOLD", ("written (pass): unknown, not measured on the candidate",))
    assert "written is missing: TimeoutError: no progress for" in trials.said


def test_a_base_whose_benchmark_hangs_fails_the_run_with_the_reason(trials: Trials) -> None:
    plan = suite([])
    hanging = tuple(replace(one, measure=hang) if one.name == "written" else one for one in plan.general)

    with pytest.raises(EvenkeelError, match="the base could not be measured: .*written is missing: .*no progress for"):
        trials.base(replace(plan, general=hanging))


def test_the_reason_names_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        monkeypatch.setattr(deadline, "STALL_S", 3_600.0)

    with pytest.raises(TimeoutError, match="^no progress for 60 minutes$"), moving(nobody):
        try:
            hang()
        finally:
            none_left()


def test_every_word_starts_the_time_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "STALL_S", 0.6)
    told: list[tuple[int, int]] = []

    with moving(lambda done, total: told.append((done, total))) as tell:
        for number in range(8):
            time.sleep(0.15)
            tell(number, 8)

    assert told == [(number, 8) for number in range(8)]


def work(*_: object) -> None:
    return


def trip(*_: object) -> None:
    raise KeyError("half an item")


@pytest.mark.parametrize(("does", "error"), [(work, None), (trip, KeyError), (hang, TimeoutError)])
def test_anothers_handler_and_timer_are_as_they_were(does: Any, error: Any) -> None:
    signal.signal(signal.SIGALRM, nobody)
    signal.setitimer(signal.ITIMER_REAL, 50, 7)

    with contextlib.suppress(*([error] if error else [])), moving(nobody):
        does()

    left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert signal.getsignal(signal.SIGALRM) is nobody and 0 < left <= 50 and interval == 7
    if does is hang:
        assert left <= 49.7


def test_anothers_timer_that_fell_due_meanwhile_rings_afterwards() -> None:
    rung: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, _: rung.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.05)

    with moving(nobody):
        time.sleep(0.15)
        assert rung == []
    time.sleep(0.05)

    assert rung == [signal.SIGALRM]


def test_nothing_rings_after_the_end() -> None:
    with moving(nobody):
        pass

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_outside_the_main_thread_nothing_is_limited() -> None:
    heard: list[bool] = []

    def patient() -> None:
        with moving(nobody) as tell:
            time.sleep(0.5)
        heard.append(tell is nobody)

    thread = threading.Thread(target=patient)
    thread.start()
    thread.join()

    assert heard == [True]
