"""Who waits is told where, who asks too much is told politely, and one person's flood does not drown the others."""

from collections.abc import Iterator
from typing import Any

import pytest

from storage.ledger import Ledger
from tests.bot.conftest import ASK, SUPPORT, Live
from tests.bot.model_server import ModelServer
from tests.bot.test_answering import bots, final


@pytest.fixture
def ledger(live: Live) -> Ledger:
    return live.ledger


@pytest.fixture
def limits(live: Live) -> Iterator[Any]:
    """Sets how much one person and one channel may ask in a minute."""
    intake = live.bot.intake
    before = intake._settings

    def few(user: int = 10_000, channel: int = 10_000) -> None:
        changed = {"user_questions_per_minute": user, "channel_questions_per_minute": channel}
        intake._settings = before.model_copy(update=changed)
        object.__setattr__(live.bot.people, "settings", live.bot.people.settings.model_copy(update=changed))

    yield few
    intake._settings = before


def in_line(slack: Any, live: Live, *users: str) -> list[str]:
    """Each asks once the one before is in the queue, since Slack's own events arrive in any order; the questions' ts."""
    asked = list[str]()
    for user in users:
        asked.append(slack.say(user, SUPPORT, ASK))
        slack.wait_for(lambda: live.ledger.inbox.depth() == len(asked))
    return asked


def test_who_waits_sees_their_place_and_moves_up(slack: Any, live: Live, engine: ModelServer) -> None:
    live.set(answer_deadline_s=60)
    engine.mode, engine.text = "held", "word " * 40
    asked = in_line(slack, live, "U0MIA", "U0JONAS", "U0ASHA", "U0TOM", "U0MIA")

    for place in (3, 2, 1):
        slack.wait_for(lambda place=place: f"no. {place} in the queue" in str(bots(slack, SUPPORT, asked[4])))
        assert "evenkeel_stop" in str(bots(slack, SUPPORT, asked[4])[0]["blocks"])
        engine.release.release()
    engine.release.release(2)

    for ts in asked:
        (answer,) = final(slack, SUPPORT, ts)
        assert answer["text"].count("word") == 40


def test_a_question_that_waits_can_be_stopped(slack: Any, live: Live, engine: ModelServer) -> None:
    live.set(answer_deadline_s=60)
    engine.mode = "held"
    asked = in_line(slack, live, "U0MIA", "U0MIA", "U0MIA")
    slack.wait_for(lambda: bots(slack, SUPPORT, asked[2]))
    slack.click("U0MIA", SUPPORT, bots(slack, SUPPORT, asked[2])[0]["ts"], "evenkeel_stop")
    engine.release.release(2)

    slack.wait_for(lambda: "Stopped" in bots(slack, SUPPORT, asked[2])[0]["text"])
    slack.wait_for(live.quiet)
    assert len(engine.calls("tuned")) == 2


def test_one_person_above_the_limit_is_told_once_and_others_are_served(
    slack: Any, live: Live, limits: Any, engine: ModelServer
) -> None:
    live.ledger.connections.db.execute("UPDATE inbox SET received_at='2000-01-01T00:00:00.000000+00:00'")
    limits(user=2)
    before = len(slack.ephemerals("U0MIA"))
    mine = [slack.say("U0MIA", SUPPORT, ASK) for _ in range(5)]
    slack.wait_for(lambda: len(slack.ephemerals("U0MIA")) > before)
    other = slack.say("U0JONAS", SUPPORT, ASK)

    assert final(slack, SUPPORT, other)[0]["text"] == engine.text
    slack.wait_for(live.quiet)
    assert sorted(len(bots(slack, SUPPORT, ts)) for ts in mine) == [0, 0, 0, 1, 1]
    told = slack.ephemerals("U0MIA")[before:]
    assert len(told) == 1 and "at most 2 questions a minute" in told[0]["text"]


def test_a_channel_has_a_limit_of_its_own(slack: Any, live: Live, limits: Any) -> None:
    live.ledger.connections.db.execute("UPDATE inbox SET received_at='2000-01-01T00:00:00.000000+00:00'")
    limits(channel=1)
    first = slack.say("U0MIA", SUPPORT, ASK)
    final(slack, SUPPORT, first)
    second = slack.say("U0TOM", SUPPORT, ASK)
    slack.wait_for(lambda: slack.ephemerals("U0TOM"))
    slack.wait_for(live.quiet)

    assert (len(bots(slack, SUPPORT, first)), len(bots(slack, SUPPORT, second))) == (1, 0)
    assert "in one channel" in slack.ephemerals("U0TOM")[-1]["text"]


def test_a_question_above_the_limit_is_not_answered_in_its_other_shape(slack: Any, live: Live, limits: Any) -> None:
    long_ago = "UPDATE inbox SET received_at='2000-01-01T00:00:00.000000+00:00'"
    live.ledger.connections.db.execute(long_ago)
    limits(user=1)
    final(slack, SUPPORT, slack.say("U0MIA", SUPPORT, ASK))
    since = len(slack.ephemerals("U0MIA"))
    ts = slack.say("U0MIA", SUPPORT, ASK)
    slack.wait_for(lambda: len(slack.ephemerals("U0MIA")) > since)
    slack.wait_for(live.quiet)
    live.ledger.connections.db.execute(long_ago)  # the minute is over

    body = {"type": "event_callback", "event_id": f"again{ts}", "team_id": "T0DEMO", "event": {
        "type": "app_mention", "user": "U0MIA", "text": ASK, "channel": SUPPORT, "ts": ts}}  # fmt: skip
    live.bot.intake.take_in(body)
    slack.wait_for(live.quiet)

    assert not bots(slack, SUPPORT, ts)


def test_questions_of_one_thread_are_answered_in_order(slack: Any, live: Live, engine: ModelServer) -> None:
    engine.delay_s = 0.02
    ts = slack.say("U0MIA", SUPPORT, ASK)
    for n in range(4):
        slack.say("U0MIA", SUPPORT, f"follow-up number {n}", thread_ts=ts)
    final(slack, SUPPORT, ts, count=5)
    slack.wait_for(live.quiet)

    asked = [call["messages"][-1]["content"] for call in engine.calls("tuned")]
    assert asked == ["How do I reset my password?", *(f"follow-up number {n}" for n in range(4))]
    assert [len(call["messages"]) for call in engine.calls("tuned")] == [2, 4, 6, 8, 10]


def test_every_step_of_a_question_is_in_its_history(slack: Any, live: Live) -> None:
    ts = slack.say("U0MIA", SUPPORT, ASK)
    final(slack, SUPPORT, ts)
    slack.wait_for(live.quiet)
    row = live.ledger.connections.db.execute(
        "SELECT inbox_id FROM inbox WHERE kind='question' AND ts=?", (ts,)
    ).fetchone()

    assert [step["what"] for step in live.ledger.inbox.history(row[0])] == ["claimed", "done"]


def test_slack_is_not_asked_again_before_its_pause_is_over(slack: Any, live: Live, engine: ModelServer) -> None:
    slack.fault("chat.update", "ratelimited", retry_after=1)
    asked = [slack.say(user, SUPPORT, ASK) for user in ("U0MIA", "U0JONAS", "U0TOM")]
    for ts in asked:
        assert final(slack, SUPPORT, ts)[0]["text"] == engine.text

    calls = [c for c in slack.journal if c["method"] == "chat.update"]
    limited = next(c for c in reversed(calls) if c.get("error") == "ratelimited")
    after = [c["at"] - limited["at"] for c in calls if c["at"] > limited["at"] + 0.1]  # others were under way already
    assert min(after) >= 0.9
