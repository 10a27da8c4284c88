"""When the base is asked, and what becomes of its answer."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.app import Bot
from bot.shadow import Shadow
from storage.errors import Busy
from storage.ledger import Ledger
from storage.records import Answer, Exchange, Question
from tests.bot.model_server import ModelServer
from tests.bot.test_crashes import accept
from tests.storage.test_picks import NOW


def newest(ledger: Ledger) -> Exchange:
    return ledger.exchanges.recent()[0]


def settled(slack: Any, bot: Bot) -> None:
    slack.wait_for(lambda: not bot.shadow._speaking, timeout=10)


def test_the_base_is_asked_while_the_answer_is_still_being_said(
    slack: Any, engine: ModelServer, ledger: Ledger, still: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.mode, there = "slow", list[bool]()
    ask = still.models.ask

    def asked(role: Any, *args: Any, **kwargs: Any) -> Answer:
        if role == "base":
            there.append(newest(ledger).tuned is None)
        return ask(role, *args, **kwargs)

    monkeypatch.setattr(still.models, "ask", asked)
    accept(ledger, slack, still)
    still.asking.step()
    settled(slack, still)

    assert there == [True]
    assert newest(ledger).base is not None and newest(ledger).base.status == "ok"
    assert still.shadow.step() is False and len(engine.calls("base")) == 1


@pytest.mark.parametrize("mode", ["down", "empty"])
def test_no_base_is_asked_beside_an_answer_that_never_begins(
    slack: Any, engine: ModelServer, ledger: Ledger, still: Bot, mode: str
) -> None:
    engine.mode = mode
    accept(ledger, slack, still)
    still.asking.step()
    settled(slack, still)

    assert engine.calls("base") == [] and newest(ledger).base is None


def test_a_server_that_does_not_put_people_first_is_asked_for_the_base_afterwards(
    slack: Any, engine: ModelServer, ledger: Ledger, still: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(still.models), "puts_people_first", False)
    accept(ledger, slack, still)
    still.asking.step()
    assert engine.calls("base") == []

    assert still.shadow.step() is True
    assert len(engine.calls("base")) == 1 and newest(ledger).base is not None


def test_a_shadow_that_cannot_be_kept_is_asked_again_afterwards(
    slack: Any, engine: ModelServer, ledger: Ledger, still: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, refused = ledger.exchanges.record, list[str]()

    def locked_for_the_base(exchange_id: int, answer: Answer) -> bool:
        if answer.role == "base" and not refused:
            refused.append(answer.text)
            raise Busy("the ledger is locked")
        return record(exchange_id, answer)

    monkeypatch.setattr(ledger.exchanges, "record", locked_for_the_base)
    accept(ledger, slack, still)
    still.asking.step()
    settled(slack, still)
    assert refused == ["SECRET BASE ANSWER"] and newest(ledger).base is None

    assert still.shadow.step() is True
    assert newest(ledger).base is not None and ledger.exchanges.shadow_coverage() == (1, 1)


def exchange(ledger: Ledger, ts: str) -> Exchange:
    number = ledger.exchanges.open(
        Question(team="T", channel="C", thread_ts=ts, ts=ts, asker="U0MIA", text="How?",
                 messages=({"role": "user", "content": "How?"},), asked_at=NOW))  # fmt: skip
    found = ledger.exchanges.get(number)
    assert found is not None
    return found


class Held:
    """A server whose answers wait until they may come."""

    puts_people_first = True

    def __init__(self) -> None:
        self.may, self.asked = threading.Event(), threading.Semaphore(0)

    def ask(self, *_: Any, **__: Any) -> Answer:
        self.asked.release()
        assert self.may.wait(10)
        return Answer(role="base", status="ok", text="So!", base_digest="b")


def gone(shadow: Shadow) -> Callable[[], bool]:
    return lambda: not shadow._speaking


def test_so_many_shadows_speak_at_once_and_the_rest_waits_its_turn(tmp_path: Path, slack: Any) -> None:
    ledger, server = Ledger(tmp_path / "evenkeel.db", clock=lambda: NOW), Held()
    shadow = Shadow(ledger=ledger, models=server, deadline_s=1.0, most=2)  # type: ignore[arg-type]
    numbers = []
    for n in range(3):
        each = exchange(ledger, f"{n}.5")
        numbers.append(each.exchange_id)
        shadow.beside(each, lambda _: None)("So")
    assert server.asked.acquire(timeout=5) and server.asked.acquire(timeout=5)
    assert not server.asked.acquire(timeout=0.1)

    server.may.set()
    slack.wait_for(gone(shadow), timeout=5)
    for number in numbers:
        ledger.exchanges.record(number, Answer(role="tuned", status="ok", text="So.", base_digest="b"))
        ledger.exchanges.close(number, "answered")
    assert shadow.step() is True and shadow.step() is False
    assert ledger.exchanges.shadow_coverage() == (3, 3)
    ledger.close()


def test_what_a_shadow_says_while_the_bot_stops_is_not_kept_and_asked_again(tmp_path: Path, slack: Any) -> None:
    ledger, server = Ledger(tmp_path / "evenkeel.db", clock=lambda: NOW), Held()
    shadow = Shadow(ledger=ledger, models=server, deadline_s=1.0)  # type: ignore[arg-type]
    number = exchange(ledger, "1.5").exchange_id
    shadow.beside(newest(ledger), lambda _: None)("So")
    assert server.asked.acquire(timeout=5)

    shadow.close()
    server.may.set()
    slack.wait_for(gone(shadow), timeout=5)

    assert newest(ledger).base is None
    ledger.exchanges.close(number, "answered")
    assert [e.exchange_id for e in ledger.exchanges.awaiting_shadow(max_age_s=60)] == [number]
    ledger.close()


def test_an_answer_to_a_question_that_was_deleted_meanwhile_is_dropped(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "evenkeel.db", clock=lambda: NOW)
    number = exchange(ledger, "1.5").exchange_id
    ledger.exchanges.record(number, Answer(role="tuned", status="ok", text="So.", base_digest="b"))
    ledger.exchanges.close(number, "answered")

    class Deleting:
        def ask(self, *_: Any, **__: Any) -> Answer:
            ledger.exchanges.erase(number)
            return Answer(role="base", status="ok", text="So!", base_digest="b")

    shadow = Shadow(ledger=ledger, models=Deleting(), deadline_s=1.0)  # type: ignore[arg-type]
    assert shadow.step() and not shadow.step()
    assert ledger.exchanges.get(number) is None and ledger.verify() == ()
    ledger.close()
