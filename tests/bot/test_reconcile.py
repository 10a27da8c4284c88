"""What Slack never delivered is found again, and a line that is open and silent is replaced."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from bot.app import build_bot
from bot.reconcile import Reconcile
from bot.run import socket_mode
from bot.slack import make_client, who_am_i
from bot.socket_watch import SocketWatch
from bot.workspace.running import running_workspace
from storage.forgetting import forget
from storage.ledger import Ledger
from storage.settings import Settings
from tests.bot.conftest import ASK, SUPPORT, Live
from tests.bot.model_server import ModelServer
from tests.bot.test_answering import bots, final


@pytest.fixture
def ledger(live: Live) -> Ledger:
    return live.ledger


@pytest.fixture
def pass_over(slack: Any, live: Live, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have the bot's own worker make one whole pass and wait for its end: a second reader beside it would race it."""
    reconcile, begun, ended, real = live.bot.reconcile, [0], [0], Reconcile.pass_over

    def counted(self: Reconcile) -> int:
        begun[0] += 1
        try:
            return real(self)
        finally:
            ended[0] += 1

    def idle() -> bool:
        return not reconcile._wanted.is_set() and begun == ended

    def once() -> None:
        slack.wait_for(idle)
        before = ended[0]
        reconcile.again()
        slack.wait_for(lambda: idle() and ended[0] > before)

    monkeypatch.setattr(Reconcile, "pass_over", counted)
    return once


def asked(slack: Any) -> tuple[str, str]:
    ts = slack.say("U0MIA", SUPPORT, ASK)
    return ts, final(slack, SUPPORT, ts)[0]["ts"]


def reactions(ledger: Ledger, answer: str) -> set[tuple[str, str]]:
    return ledger.ratings.reactions_on("T0DEMO", SUPPORT, answer)


def test_replies_mentions_and_reactions_of_an_outage_are_taken_in(slack: Any, live: Live, engine: ModelServer) -> None:
    ts, answer = asked(slack)
    slack.react("U0TOM", SUPPORT, answer, "-1")
    slack.wait_for(lambda: ("U0TOM", "-1") in reactions(live.ledger, answer))
    with slack.deaf_period():
        slack.say("U0MIA", SUPPORT, "and on Windows?", thread_ts=ts)
        new = slack.say("U0JONAS", SUPPORT, ASK)
        slack.react("U0ASHA", SUPPORT, answer, "+1")
        slack.unreact("U0TOM", SUPPORT, answer, "-1")
    live.bot.reconcile.again()

    final(slack, SUPPORT, ts, count=2)
    final(slack, SUPPORT, new)
    slack.wait_for(lambda: reactions(live.ledger, answer) == {("U0ASHA", "+1")})
    slack.wait_for(live.quiet)
    before = len(engine.calls("tuned"))
    live.bot.reconcile.again()
    time.sleep(1.2)
    slack.wait_for(live.quiet)
    assert len(engine.calls("tuned")) == before and len(bots(slack, SUPPORT, ts)) == 2


def test_what_a_person_has_answered_meanwhile_is_left_alone(
    slack: Any, live: Live, pass_over: Callable[[], None]
) -> None:
    ts, _ = asked(slack)
    with slack.deaf_period():
        slack.say("U0MIA", SUPPORT, "and on Windows?", thread_ts=ts)
        slack.say("U0ASHA", SUPPORT, "The same way, Mia.", thread_ts=ts)
    pass_over()
    slack.wait_for(live.quiet)

    assert len(bots(slack, SUPPORT, ts)) == 1
    assert live.ledger.threads.get("T0DEMO", SUPPORT, ts).state == "person"


def test_a_place_that_slack_refuses_stops_no_other(slack: Any, live: Live, pass_over: Callable[[], None]) -> None:
    ts, _ = asked(slack)
    slack.fault("conversations.history", "error", code="not_in_channel")
    with slack.deaf_period():
        slack.say("U0MIA", SUPPORT, "and on Windows?", thread_ts=ts)
    pass_over()

    assert len(final(slack, SUPPORT, ts, count=2)) == 2


def test_a_follow_up_that_came_before_its_late_question_is_found(
    slack: Any, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slack.deaf_period():
        ts = slack.say("U0MIA", SUPPORT, ASK)
        slack.say("U0MIA", SUPPORT, "and on Windows?", thread_ts=ts)
    body = {"type": "event_callback", "event_id": f"late{ts}", "team_id": "T0DEMO", "event": {
        "type": "app_mention", "user": "U0MIA", "text": ASK, "channel": SUPPORT, "ts": ts}}  # fmt: skip
    monkeypatch.setattr("bot.intake.LATE_S", 0.0)
    live.bot.intake.take_in(body)

    assert len(final(slack, SUPPORT, ts, count=2)) == 2


def test_who_was_forgotten_is_not_read_back(
    slack: Any, live: Live, tmp_path: Any, pass_over: Callable[[], None]
) -> None:
    ts, answer = asked(slack)
    slack.react("U0TOM", SUPPORT, answer, "+1")
    slack.wait_for(lambda: reactions(live.ledger, answer) == {("U0TOM", "+1")})
    slack.wait_for(live.quiet)

    receipt = forget(live.ledger, tmp_path, "U0TOM", actor="U0TOM")
    pass_over()
    slack.wait_for(live.quiet)

    assert receipt.ratings >= 1 and reactions(live.ledger, answer) == set()


def test_votes_after_being_forgotten_are_kept(
    slack: Any, live: Live, tmp_path: Any, pass_over: Callable[[], None]
) -> None:
    _, answer = asked(slack)
    slack.wait_for(live.quiet)
    forget(live.ledger, tmp_path, "U0JONAS", actor="U0JONAS")
    slack.react("U0JONAS", SUPPORT, answer, "+1")
    slack.wait_for(lambda: reactions(live.ledger, answer) == {("U0JONAS", "+1")})

    pass_over()
    slack.wait_for(live.quiet)

    assert reactions(live.ledger, answer) == {("U0JONAS", "+1")}


@contextmanager
def locked(slack: Any, ledger: Ledger) -> Iterator[None]:
    """Another process writes to the ledger."""
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@contextmanager
def unreadable(slack: Any, ledger: Ledger) -> Iterator[None]:
    """Slack reads no thread and no channel."""
    for method in ("conversations.replies", "conversations.history"):
        slack.fault(method, "http_500", times=99)
    yield
    slack.forget_faults()


@pytest.mark.parametrize("trouble", [locked, unreadable])
def test_what_a_pass_could_not_take_in_is_found_by_the_next_although_newer_events_came(
    slack: Any, live: Live, monkeypatch: pytest.MonkeyPatch, trouble: Any, pass_over: Callable[[], None]
) -> None:
    monkeypatch.setattr("bot.reconcile.OVERLAP", timedelta(0))
    monkeypatch.setattr("bot.reconcile.PATIENCE_S", 0.01)
    ts, _ = asked(slack)
    slack.wait_for(live.quiet)
    with slack.deaf_period():
        slack.say("U0MIA", SUPPORT, "and on Windows?", thread_ts=ts)
    with trouble(slack, live.ledger):
        pass_over()
    asked(slack)
    assert len(bots(slack, SUPPORT, ts)) == 1

    live.bot.reconcile.again()

    assert len(final(slack, SUPPORT, ts, count=2)) == 2


@pytest.mark.parametrize("trouble", [locked, unreadable])
def test_what_failed_is_tried_again_by_itself_after_a_pause(
    slack: Any, live: Live, monkeypatch: pytest.MonkeyPatch, trouble: Any
) -> None:
    monkeypatch.setattr("bot.reconcile.PATIENCE_S", 0.01)
    monkeypatch.setattr("bot.reconcile.AGAIN_S", 1.0)
    with slack.deaf_period():
        ts = slack.say("U0MIA", SUPPORT, ASK)
        slack.say("U0MIA", SUPPORT, "and on Windows?", thread_ts=ts)
    body = {"type": "event_callback", "event_id": f"late{ts}", "team_id": "T0DEMO", "event": {
        "type": "app_mention", "user": "U0MIA", "text": ASK, "channel": SUPPORT, "ts": ts}}  # fmt: skip
    live.bot.intake.take_in(body)
    final(slack, SUPPORT, ts)
    with trouble(slack, live.ledger):
        live.bot.intake.late(SUPPORT, ts)
        slack.wait_for(lambda: live.bot.reconcile._left)
        slack.wait_for(lambda: any(since.tries for since in live.bot.reconcile._left.values()))

    assert len(final(slack, SUPPORT, ts, count=2)) == 2
    slack.wait_for(lambda: not live.bot.reconcile._left)


def test_what_fails_for_ever_is_not_tried_for_ever(
    slack: Any, live: Live, monkeypatch: pytest.MonkeyPatch, pass_over: Callable[[], None]
) -> None:
    monkeypatch.setattr("bot.reconcile.PATIENCE_S", 0.01)
    monkeypatch.setattr("bot.reconcile.TRIES", 2)
    asked(slack)
    slack.wait_for(live.quiet)
    with unreadable(slack, live.ledger):
        pass_over()
        assert live.bot.reconcile._left
        pass_over()

    assert not live.bot.reconcile._left


@dataclass
class Session:
    session_id: str
    last_ping_pong_time: float | None = 1.0


@dataclass
class Client:
    current_session: Session | None
    renewed: int = 0

    def connect_to_new_endpoint(self, force: bool = False) -> None:
        self.renewed += 1


def test_silence_is_noticed_within_a_minute_whatever_the_wall_clock_says() -> None:
    now, changed = [0.0], []
    client = Client(Session("one"))
    watch = SocketWatch(client=client, changed=lambda: changed.append(1), monotonic=lambda: now[0])  # type: ignore[arg-type]

    for second in range(0, 30, 5):
        now[0] = second
        client.current_session = Session("one", float(second))
        watch.step()
    assert client.renewed == 0

    for second in range(30, 90, 5):
        now[0] = second
        watch.step()
    assert client.renewed == 1

    client.current_session = Session("two", 100.0)
    watch.step()
    assert changed == [1]


def test_a_half_open_socket_is_healed_and_events_arrive_again(
    slack: Any, settings: Settings, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "own.db")
    client = make_client(slack.bot_token, slack.api_url)
    bot = build_bot(settings, ledger, client, who_am_i(client))
    with running_workspace() as own:
        changed = {"slack_api_url": own.api_url}
        with socket_mode(settings.model_copy(update=changed), bot) as watch:
            own.wait_for(lambda: own.connections == 1)
            monkeypatch.setattr(watch, "silence_s", 0.3)
            own.silence(True)
            dead = watch.client.current_session
            until = time.monotonic() + 10
            while watch.client.current_session is dead and time.monotonic() < until:
                watch.step()
                time.sleep(0.1)
            own.say("U0MIA", SUPPORT, ASK)
            own.wait_for(lambda: ledger.inbox.depth() == 1)
    bot.close()
    ledger.close()
