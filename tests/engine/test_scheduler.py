"""Who speaks when: the passes that the scheduler plans, over a decoder that writes them down."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bot.engine.cache import Cache
from bot.engine.layers import Interrupted, Segment
from bot.engine.pairing import Pairing
from bot.engine.rows import Ask, End
from bot.engine.scheduler import DEADLINE_S, PIECE, QUEUE, Full, Scheduler
from storage.errors import WeightsError
from tests.engine.conftest import wait

END, WORD = 9, 3
RENDERER: Any = SimpleNamespace(end_ids=frozenset({END}), decode=lambda ids: "x" * len(ids), prompt=lambda _: [1, 2])


@dataclass
class Script:
    """A decoder that says WORD for ever. `gate`: each pass takes one permit; what a pass held goes to `passes`."""

    passes: list[list[tuple[str, int]]] = field(default_factory=list)
    gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    broken: set[str | None] = field(default_factory=set)
    silent: set[str | None] = field(default_factory=set)
    idle: set[str | None] = field(default_factory=set)  # adapters that change nothing
    full: bool = False  # no room for a further row
    interrupted: int = 0
    adapters: set[str] = field(default_factory=set)
    shares = False

    def new_cache(self, capacity: int) -> Cache:
        if self.full:
            raise RuntimeError("CUDA out of memory")
        return Cache(torch.empty(0), torch.empty(0))

    def forward(self, segments: list[Segment], *, interrupt: Any = None) -> torch.Tensor:
        while not self.gate.acquire(timeout=0.005):
            if interrupt is not None and interrupt():
                self.interrupted += 1
                raise Interrupted
        self.passes.append([(str(s.adapter), len(s.ids)) for s in segments])
        if self.broken & {s.adapter for s in segments}:
            raise RuntimeError("out of memory")
        logits = torch.zeros(sum(s.speaks for s in segments), 12)
        logits[:, WORD] = 1.0
        for place, segment in enumerate(s for s in segments if s.speaks):
            logits[place, 0] = 0.5 * (segment.adapter not in (None, *self.idle))
            if segment.adapter in self.silent:
                logits[place, 0] = float("nan")
        return logits


@dataclass
class Heard:
    """What came of an ask."""

    ask: Ask
    events: list[str | End] = field(default_factory=list)

    @property
    def end(self) -> End | None:
        return next((e for e in self.events if isinstance(e, End)), None)


@pytest.fixture
def script() -> Script:
    return Script()


def scheduler_with(script: Script, mode: Any) -> Scheduler:
    return Scheduler(script, RENDERER, Pairing(mode=mode, ratio=1.0, room=4, reach=4))  # type: ignore[arg-type]


@pytest.fixture
def paired(script: Script) -> Iterator[Scheduler]:
    yield from closing(scheduler_with(script, "paired"), script)


@pytest.fixture
def deferred(script: Script) -> Iterator[Scheduler]:
    yield from closing(scheduler_with(script, "deferred"), script)


def closing(scheduler: Scheduler, script: Script) -> Iterator[Scheduler]:
    yield scheduler
    script.gate.release(10_000)
    scheduler.close()


def submit(scheduler: Scheduler, role: Any, name: str, *, prompt: int = 2, tokens: int = 3) -> Heard:
    events: list[str | End] = []
    ask = Ask(role=role, adapter=name, prompt=[1] * prompt, max_new_tokens=tokens, emit=events.append)
    scheduler.submit(ask)
    return Heard(ask, events)


def run(script: Script, count: int) -> list[list[tuple[str, int]]]:
    """The next passes."""
    first = len(script.passes)
    script.gate.release(count)
    wait(lambda: len(script.passes) == first + count)
    return script.passes[first:]


def live(scheduler: Scheduler, role: str, count: int) -> None:
    wait(lambda: scheduler.depths()[f"{role}_live"] == count)


def test_a_user_is_read_alone_and_the_shadow_is_read_beside_the_answer(paired: Scheduler, script: Script) -> None:
    user = submit(paired, "user", "u", prompt=5, tokens=6)
    live(paired, "user", 1)
    shadow = submit(paired, "shadow", "s", prompt=5, tokens=4)

    assert run(script, 6) == [
        [("u", 5)], [("u", 1), ("s", 3)], [("u", 1), ("s", 2)], *[[("u", 1), ("s", 1)]] * 3]  # fmt: skip
    wait(lambda: user.end and shadow.end)
    assert (user.end.reason, user.end.tokens, shadow.end.tokens) == ("length", 6, 4)  # type: ignore[union-attr]


def test_a_deferred_shadow_speaks_when_no_user_does(deferred: Scheduler, script: Script) -> None:
    submit(deferred, "user", "u", tokens=3)
    live(deferred, "user", 1)
    submit(deferred, "shadow", "s", tokens=2)

    assert run(script, 5) == [[("u", 2)], [("u", 1)], [("u", 1)], [("s", 2)], [("s", 1)]]


def test_a_user_who_comes_ends_the_shadows_pass_and_it_is_made_again(paired: Scheduler, script: Script) -> None:
    shadow = submit(paired, "shadow", "s", tokens=5)
    live(paired, "shadow", 1)
    run(script, 1)
    user = submit(paired, "user", "u", tokens=1)
    wait(lambda: script.interrupted >= 1)

    assert run(script, 1) == [[("u", 2)]]
    wait(lambda: user.end)
    script.gate.release(100)
    wait(lambda: shadow.end)
    assert shadow.end is not None and shadow.end.tokens == 5


def test_a_long_prompt_is_read_in_turns_with_other_answers_and_shadows_pause(paired: Scheduler, script: Script) -> None:
    submit(paired, "user", "a", tokens=50)
    live(paired, "user", 1)
    run(script, 1)
    submit(paired, "shadow", "s", prompt=2, tokens=50)
    run(script, 2)
    submit(paired, "user", "b", prompt=2 * PIECE["user"] + 1, tokens=50)
    wait(lambda: paired.depths()["user_waiting"] == 1)
    passes = run(script, 9)
    begun = next(n for n, each in enumerate(passes) if ("b", PIECE["user"]) in each)

    assert begun <= 1
    assert passes[begun : begun + 6] == [
        [("b", PIECE["user"])], [("a", 1)], [("b", PIECE["user"])], [("a", 1)], [("b", 1)], [("a", 1)]]  # fmt: skip
    assert passes[begun + 6] == [("a", 1), ("b", 1), ("s", 1)]


@pytest.mark.parametrize(
    ("fault", "detail"),
    [("broken", "RuntimeError while generating"), ("silent", "the model's numbers are not finite")],
)
def test_what_goes_wrong_in_one_row_ends_that_row_and_no_other(
    paired: Scheduler, script: Script, fault: str, detail: str
) -> None:
    setattr(script, fault, {"bad"})
    good, bad = submit(paired, "user", "good", tokens=3), submit(paired, "user", "bad", tokens=3)
    script.gate.release(50)

    wait(lambda: good.end and bad.end)
    assert good.end is not None and good.end.reason == "length"
    assert bad.end is not None and (bad.end.reason, bad.end.detail) == ("error", detail)


def test_who_finds_no_room_ends_with_the_reason_and_the_next_is_answered(paired: Scheduler, script: Script) -> None:
    script.full = True
    users = [submit(paired, role, "u") for role in ("user", "shadow")]
    wait(lambda: all(user.end for user in users))
    script.full = False
    later = submit(paired, "user", "u")
    script.gate.release(50)

    wait(lambda: later.end)
    assert {(user.end.reason, user.end.detail) for user in users if user.end} == {
        ("error", "RuntimeError before generating")
    }
    assert later.end is not None and later.end.reason == "length"
    assert paired.alive and sum(paired.depths().values()) == 0


def test_an_answer_that_cannot_be_remembered_still_ends(
    paired: Scheduler, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(*_: Any) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(script, "shares", True, raising=False)
    monkeypatch.setattr(paired._prefixes, "keep", keep)
    user = submit(paired, "user", "u")
    script.gate.release(50)

    wait(lambda: user.end)
    assert user.end is not None and user.end.reason == "length" and paired.alive


def test_what_breaks_between_two_passes_ends_who_is_answered_and_never_the_thread(
    paired: Scheduler, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(*_: Any) -> None:
        raise RuntimeError("CUDA out of memory")

    with monkeypatch.context() as broken:
        broken.setattr("bot.engine.scheduler.choose", choose)
        user = submit(paired, "user", "u")
        script.gate.release(1)
        wait(lambda: user.end)
    later = submit(paired, "user", "u")
    script.gate.release(50)

    wait(lambda: later.end)
    assert user.end is not None and user.end.detail == "RuntimeError between two passes"
    assert later.end is not None and later.end.reason == "length"


def test_who_leaves_or_comes_too_late_frees_the_place_also_while_waiting(
    paired: Scheduler, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [submit(paired, "shadow", f"s{n}", tokens=500) for n in range(6)]
    live(paired, "shadow", 1)
    rows[0].ask.cancelled.set()
    rows[5].ask.cancelled.set()
    script.gate.release(3)
    wait(lambda: rows[0].end and rows[5].end)
    assert rows[5].end is not None and rows[5].end.reason == "cancelled"

    monkeypatch.setitem(DEADLINE_S, "shadow", 0.0)
    script.gate.release(10)
    wait(lambda: all(row.end for row in rows))
    assert "not answered within" in rows[4].end.detail  # type: ignore[union-attr]
    assert sum(paired.depths().values()) == 0


def test_too_many_rows_of_a_role_are_refused_and_the_other_role_is_not(
    paired: Scheduler, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(QUEUE, "shadow", 1)
    submit(paired, "shadow", "s", tokens=50)
    live(paired, "shadow", 1)
    submit(paired, "shadow", "s", tokens=50)

    with pytest.raises(Full, match="1 shadow questions"):
        submit(paired, "shadow", "s")
    assert submit(paired, "user", "u").end is None


@pytest.fixture
def removed(script: Script) -> list[str]:
    """What was detached; the script has adapters that are their names."""
    gone: list[str] = []
    script.read_adapter = lambda folder: folder.name  # type: ignore[attr-defined]
    script.attach = lambda name: script.adapters.add(name) or name  # type: ignore[attr-defined,func-returns-value]
    script.remove_adapter = lambda name: (gone.append(name), script.adapters.discard(name))  # type: ignore[attr-defined]
    return gone


def test_an_adapter_lives_as_long_as_a_row_that_speaks_with_it(
    tmp_path: Path, script: Script, removed: list[str]
) -> None:
    scheduler = scheduler_with(script, "paired")
    script.gate.release(1)
    assert scheduler.crown(tmp_path / "one") == "one"
    events: list[str | End] = []
    ask = Ask(role="user", adapter=None, prompt=[1], max_new_tokens=4, emit=events.append)
    assert scheduler.submit(ask, champion=True) == "one"
    script.gate.release(1)
    wait(lambda: events)

    crowned = threading.Thread(target=scheduler.crown, args=(tmp_path / "two",))
    crowned.start()
    wait(lambda: not scheduler._calls.empty())  # it is read and waits for the end of the pass
    script.gate.release(2)
    crowned.join()
    assert scheduler.champion == "two" and removed == []
    script.gate.release(5)
    wait(lambda: any(isinstance(e, End) for e in events))
    wait(lambda: removed == ["one"])
    answers = [[name for name, length in each if length == 1] for each in script.passes]
    assert [name for names in answers for name in names] == ["one"] * 4
    scheduler.close()


def test_the_canary_is_read_in_the_pass_of_whoever_is_answered(
    tmp_path: Path, script: Script, removed: list[str]
) -> None:
    scheduler = scheduler_with(script, "paired")
    events: list[str | End] = []
    scheduler.submit(Ask(role="user", adapter=None, prompt=[1], max_new_tokens=9, emit=events.append))
    script.gate.release(1)
    wait(lambda: events)

    crowned = threading.Thread(target=scheduler.crown, args=(tmp_path / "one",))
    crowned.start()
    wait(lambda: not scheduler._calls.empty())
    script.gate.release(2)
    crowned.join()

    assert scheduler.champion == "one" and removed == []
    assert script.passes == [[("None", 1)], [("None", 1)], [("None", 1), ("None", 2), ("one", 2)]]
    script.gate.release(9)
    scheduler.close()


@pytest.mark.parametrize(
    ("fault", "says"),
    [("idle", "exactly as the base does"), ("silent", "not finite"), ("broken", "ended in RuntimeError")],
)
def test_an_adapter_whose_canary_fails_is_detached_and_who_served_goes_on(
    tmp_path: Path, script: Script, removed: list[str], fault: str, says: str
) -> None:
    scheduler = scheduler_with(script, "paired")
    script.gate.release(99)
    scheduler.crown(tmp_path / "good")
    getattr(script, fault).add("bad")
    asked = submit(scheduler, "user", "u", tokens=3)

    with pytest.raises(WeightsError, match=says):
        scheduler.crown(tmp_path / "bad")

    wait(lambda: asked.end)
    assert asked.end is not None and asked.end.reason == "length"
    assert scheduler.champion == "good" and removed == ["bad"] and scheduler._canaries == []
    scheduler.close()


def test_what_a_swap_freed_goes_back_to_the_system_also_when_the_adapter_is_refused(
    tmp_path: Path, script: Script, removed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[int] = []
    trim = SimpleNamespace(malloc_trim=given_back.append)
    monkeypatch.setattr("bot.engine.scheduler.ctypes.CDLL", lambda _: trim)
    scheduler = scheduler_with(script, "paired")
    script.gate.release(99)
    script.idle.add("bad")

    scheduler.crown(tmp_path / "good")
    with pytest.raises(WeightsError):
        scheduler.crown(tmp_path / "bad")
    scheduler.fetch(tmp_path / "named")
    scheduler.fetch(tmp_path / "named")  # it is there: nothing is read and nothing freed

    assert given_back == [0, 0, 0]
    scheduler.close()
