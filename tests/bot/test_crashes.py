"""Killed between any two steps, the bot goes on where it stopped: one final answer, never two.

A crash is played by an exception that no code catches, at one point, in a bot whose steps the test calls; then a
second bot with empty hands takes over on the same ledger.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from bot.app import Bot, build_bot
from bot.slack import make_client, who_am_i
from storage.ledger import Ledger
from storage.settings import Settings
from tests.bot.conftest import SUPPORT
from tests.bot.model_server import ModelServer
from tests.bot.test_answering import bots, calls


class Killed(BaseException):
    """Nothing of ours catches this."""


def accept(ledger: Ledger, slack: Any, bot: Bot) -> str:
    """A question that was accepted by a bot that then did nothing else."""
    ts = slack.say("U0MIA", SUPPORT, "<@U0EVENKEEL> How do I reset my password?")
    payload = {"user": "U0MIA", "text": "<@U0EVENKEEL> How do I reset my password?", "thread_ts": ts, "files": 0}
    ledger.inbox.accept(event_id=f"Ev{ts}", kind="question", team="T0DEMO", channel=SUPPORT, ts=ts, payload=payload)
    return str(ts)


def later(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, seconds: float = 60) -> None:
    """So much later that every lease has run out."""
    for table in (ledger.inbox, ledger.exchanges):
        now = table._clock
        monkeypatch.setattr(table, "_clock", lambda now=now: now() + timedelta(seconds=seconds))


def kill_at(monkeypatch: pytest.MonkeyPatch, thing: Any, name: str, *, after: bool) -> None:
    """The process dies right before or right after this call."""
    real: Callable[..., Any] = getattr(thing, name)

    def dies(*args: Any, **kwargs: Any) -> Any:
        if after:
            real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(thing, name, dies)


POINTS = [
    ("exchanges", "open"),
    ("exchanges", "intend_message"),
    ("client", "chat_postMessage"),
    ("exchanges", "message_posted"),
    ("exchanges", "record"),
    ("client", "chat_update"),
    ("exchanges", "message_final"),
    ("exchanges", "close"),
    ("inbox", "finish"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("where", "name"), POINTS)
def test_a_crash_anywhere_ends_in_exactly_one_answer(
    slack: Any, engine: ModelServer, ledger: Ledger, settings: Settings, still: Bot, monkeypatch: pytest.MonkeyPatch,
    where: str, name: str, after: bool,
) -> None:  # fmt: skip
    engine.base_mode = "down"  # the shadow, in a thread of its own, keeps nothing: only the worker of questions dies
    ts = accept(ledger, slack, still)
    thing = still.asking.delivery.client if where == "client" else getattr(ledger, where)
    with monkeypatch.context() as deadly:
        kill_at(deadly, thing, name, after=after)
        with pytest.raises(Killed):
            still.asking.step()

    later(ledger, monkeypatch)
    client = make_client(settings.slack_bot_token.get_secret_value(), settings.slack_api_url)
    second = build_bot(settings, ledger, client, who_am_i(client))
    while second.asking.step():
        pass
    second.close()

    assert [m["text"] for m in bots(slack, SUPPORT, ts)] == [engine.text]
    assert len(calls(slack, "chat.postMessage", ts)) == 1
    assert ledger.inbox.depth() == 0 and ledger.verify() == ()
    (exchange,) = ledger.exchanges.recent()
    assert exchange.tuned is not None and exchange.tuned.status == "ok"


def test_a_question_that_always_breaks_us_is_failed_with_an_honest_note(
    slack: Any, ledger: Ledger, still: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    ts = accept(ledger, slack, still)
    monkeypatch.setattr(still.models, "ask", lambda *_, **__: 1 / 0)
    object.__setattr__(still.asking, "retry_s", 0.0)

    for _ in range(5):
        assert still.asking.step()

    assert not still.asking.step() and ledger.inbox.depth() == 0
    (note,) = bots(slack, SUPPORT, ts)
    assert note["text"].startswith("Sorry, I could not answer this") and "ZeroDivision" in note["text"]


def test_a_worker_that_lost_its_lease_writes_nothing(
    slack: Any, engine: ModelServer, ledger: Ledger, still: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zombie wakes up after another worker has taken the question over."""
    ts = accept(ledger, slack, still)
    ask = still.models.ask

    def slow(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(still.models, "ask", ask)
        later(ledger, monkeypatch)
        assert still.asking.step()  # the other worker
        return ask(*args, **kwargs)

    monkeypatch.setattr(still.models, "ask", slow)
    still.asking.step()

    assert [m["text"] for m in bots(slack, SUPPORT, ts)] == [engine.text]
    assert len(calls(slack, "chat.postMessage", ts)) == 1 and ledger.inbox.depth() == 0


def test_a_shadow_that_nobody_asked_in_time_is_skipped_with_a_reason(
    slack: Any, engine: ModelServer, ledger: Ledger, still: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.base_mode = "down"
    accept(ledger, slack, still)
    still.asking.step()
    later(ledger, monkeypatch, seconds=7200)

    assert still.shadow.step() is False
    base = ledger.exchanges.recent()[0].base
    assert base is not None and (base.status, base.reason) == ("skipped", "not asked within 60 minutes")


def test_a_shadow_waits_for_a_server_that_is_away(slack: Any, engine: ModelServer, ledger: Ledger, still: Bot) -> None:
    engine.base_mode = "down"
    accept(ledger, slack, still)
    still.asking.step()
    assert still.shadow.step() is False and ledger.exchanges.recent()[0].base is None

    engine.base_mode = "ok"
    assert still.shadow.step() is True and ledger.exchanges.shadow_coverage() == (1, 1)
