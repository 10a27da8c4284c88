"""Who has the word in a thread: the bot, a person who was called, a person who took over; and how to get rid of it all."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bot.arrivals import BACK_ACTION, RESOLVE_ACTION, TAKE_ACTION
from bot.people import People, summary
from storage.ledger import Ledger
from tests.bot.conftest import ASK, OPS, SUPPORT, Live
from tests.bot.model_server import ModelServer
from tests.bot.test_answering import bots, final


@pytest.fixture
def ledger(live: Live) -> Ledger:
    return live.ledger


@pytest.fixture
def people(live: Live) -> Iterator[Live]:
    """The bot with a usergroup to call and a channel for direct messages' calls."""
    before = live.bot.people.settings
    changed = before.model_copy(update={"support_group": "S0AGENTS", "ops_channel": OPS})
    object.__setattr__(live.bot.people, "settings", changed)
    yield live
    object.__setattr__(live.bot.people, "settings", before)


def asked(slack: Any, user: str = "U0MIA", text: str = ASK) -> tuple[str, str]:
    """(question's ts, answer's ts)."""
    ts = slack.say(user, SUPPORT, text)
    return ts, final(slack, SUPPORT, ts)[0]["ts"]


def state(ledger: Ledger, ts: str, channel: str = SUPPORT) -> str:
    return ledger.threads.get("T0DEMO", channel, ts).state


def called(slack: Any, people: Live) -> tuple[str, dict[str, Any]]:
    """(question's ts, the message that calls a person)."""
    ts, answer = asked(slack)
    slack.click("U0MIA", SUPPORT, answer, "evenkeel_person")
    slack.wait_for(lambda: len(bots(slack, SUPPORT, ts)) == 2)
    slack.wait_for(lambda: people.ledger.threads.get("T0DEMO", SUPPORT, ts).note_ts)
    return ts, bots(slack, SUPPORT, ts)[1]


def test_a_person_is_called_once_with_a_summary_and_the_bot_falls_silent(
    slack: Any, people: Live, engine: ModelServer
) -> None:
    ts, call = called(slack, people)
    answer = bots(slack, SUPPORT, ts)[0]["ts"]
    slack.click("U0MIA", SUPPORT, answer, "evenkeel_person")  # pressed once more
    slack.say("U0MIA", SUPPORT, "are you there?", thread_ts=ts)
    slack.wait_for(people.quiet)

    assert call["text"].startswith("<!subteam^S0AGENTS> <@U0MIA> asks for a person")
    assert "How do I reset my password?" in str(call["blocks"]) and engine.text in str(call["blocks"])
    assert len(bots(slack, SUPPORT, ts)) == 2 and state(people.ledger, ts) == "waiting"
    assert any("called a person" in note["text"] for note in slack.ephemerals("U0MIA"))
    assert len(engine.calls("tuned")) == 1


def test_the_summary_cannot_ping_anybody(slack: Any, people: Live, ledger: Ledger) -> None:
    ts, _ = asked(slack, text="<@U0EVENKEEL> <!channel> <@U0INES> help me please")
    (exchange,) = ledger.exchanges.in_thread("T0DEMO", SUPPORT, ts)

    assert "<" not in summary((exchange,), ledger)
    assert summary((), ledger) == "_Nothing was asked in this thread before._"


def test_taking_resolving_and_handing_back_change_who_answers(slack: Any, people: Live, engine: ModelServer) -> None:
    ts, call = called(slack, people)
    value = f"{SUPPORT}:{ts}"

    slack.click("U0ASHA", SUPPORT, call["ts"], TAKE_ACTION, value)
    slack.wait_for(lambda: state(people.ledger, ts) == "person")
    slack.wait_for(lambda: "takes care of it" in bots(slack, SUPPORT, ts)[1]["text"])
    slack.click("U0ASHA", SUPPORT, call["ts"], RESOLVE_ACTION, value)
    slack.wait_for(lambda: state(people.ledger, ts) == "resolved")
    slack.wait_for(lambda: "marked it as resolved" in bots(slack, SUPPORT, ts)[1]["text"])
    assert "evenkeel_resolve" not in str(bots(slack, SUPPORT, ts)[1]["blocks"])

    slack.say("U0MIA", SUPPORT, "and on Windows?", thread_ts=ts)
    assert len(final(slack, SUPPORT, ts, count=3)) == 3


def test_a_press_on_a_call_that_stands_but_is_not_noted_yet_is_kept_and_counts(
    slack: Any, people: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    say, pressed = People._say_call, threading.Event()

    def say_and_dawdle(*args: Any, **more: Any) -> str:
        note_ts = say(*args, **more)
        assert pressed.wait(10)
        return note_ts

    monkeypatch.setattr(People, "_say_call", say_and_dawdle)
    ts, answer = asked(slack)
    slack.wait_for(people.quiet)
    slack.click("U0MIA", SUPPORT, answer, "evenkeel_person")
    slack.wait_for(lambda: len(bots(slack, SUPPORT, ts)) == 2)
    for action in (TAKE_ACTION, RESOLVE_ACTION):
        slack.click("U0ASHA", SUPPORT, bots(slack, SUPPORT, ts)[1]["ts"], action)
    assert state(people.ledger, ts) == "bot" and people.ledger.inbox.depth() == 3
    pressed.set()

    slack.wait_for(lambda: "marked it as resolved" in bots(slack, SUPPORT, ts)[1]["text"])
    slack.wait_for(people.quiet)
    assert state(people.ledger, ts) == "resolved"
    assert [a["action"] for a in people.ledger.audits()[:3]] == ["thread_resolved", "thread_person", "person_called"]


def test_a_customer_may_resolve_their_own_call_and_nothing_else(slack: Any, people: Live) -> None:
    ts, call = called(slack, people)
    value = f"{SUPPORT}:{ts}"

    slack.click("U0JONAS", SUPPORT, call["ts"], RESOLVE_ACTION, value)
    slack.click("U0MIA", SUPPORT, call["ts"], BACK_ACTION, value)
    slack.wait_for(lambda: any("Only support agents" in n["text"] for n in slack.ephemerals("U0JONAS")))
    slack.wait_for(lambda: any("Only support agents" in n["text"] for n in slack.ephemerals("U0MIA")))
    assert state(people.ledger, ts) == "waiting"

    slack.click("U0MIA", SUPPORT, call["ts"], RESOLVE_ACTION, value)
    slack.wait_for(lambda: state(people.ledger, ts) == "resolved")


def test_after_a_matter_is_resolved_a_person_can_be_called_again(slack: Any, people: Live) -> None:
    ts, call = called(slack, people)
    slack.click("U0ASHA", SUPPORT, call["ts"], RESOLVE_ACTION, f"{SUPPORT}:{ts}")
    slack.wait_for(lambda: state(people.ledger, ts) == "resolved")
    slack.click("U0MIA", SUPPORT, bots(slack, SUPPORT, ts)[0]["ts"], "evenkeel_person")
    slack.wait_for(lambda: len(bots(slack, SUPPORT, ts)) == 3)
    slack.wait_for(people.quiet)

    assert state(people.ledger, ts) == "waiting" and "asks for a person" in bots(slack, SUPPORT, ts)[2]["text"]


def test_a_lost_response_does_not_call_twice(slack: Any, people: Live) -> None:
    ts, answer = asked(slack)
    slack.fault("chat.postMessage", "lost_response")
    slack.click("U0MIA", SUPPORT, answer, "evenkeel_person")
    slack.wait_for(lambda: people.ledger.threads.get("T0DEMO", SUPPORT, ts).note_ts, timeout=15)

    assert len(bots(slack, SUPPORT, ts)) == 2


def test_from_a_direct_message_the_call_goes_to_the_team(slack: Any, people: Live) -> None:
    channel = slack.dm("U0JONAS")
    ts = slack.say("U0JONAS", channel, "How do I reset my password?")
    slack.wait_for(lambda: "evenkeel_person" in str(bots(slack, channel, ts)))
    before = len(slack.messages(OPS))
    slack.click("U0JONAS", channel, bots(slack, channel, ts)[0]["ts"], "evenkeel_person")
    slack.wait_for(lambda: len(slack.messages(OPS)) > before)

    assert "<@U0JONAS> asks for a person in a direct message" in slack.messages(OPS)[-1]["text"]
    slack.wait_for(lambda: any("told the support team" in n["text"] for n in slack.ephemerals("U0JONAS")))
    assert slack.thread(channel, ts).get("session") in (None, "suspended")


def with_settings(people: Live, **changes: str) -> None:
    changed = people.bot.people.settings.model_copy(update=changes)
    object.__setattr__(people.bot.people, "settings", changed)


def told(slack: Any, user: str, words: str, since: int) -> None:
    slack.wait_for(lambda: words in str([n["text"] for n in slack.ephemerals(user)[since:]]))


@pytest.mark.parametrize("room", ["", "C0NOWHERE"])
def test_where_no_call_can_stand_the_customer_is_told_and_the_bot_goes_on(slack: Any, people: Live, room: str) -> None:
    with_settings(people, ops_channel=room)
    channel, since = slack.dm("U0MIA"), len(slack.ephemerals("U0MIA"))
    ts = slack.say("U0MIA", channel, "How do I reset my password?")
    slack.click("U0MIA", channel, final(slack, channel, ts)[0]["ts"], "evenkeel_person")

    told(slack, "U0MIA", "cannot reach the team", since)
    slack.say("U0MIA", channel, "and on Windows?", thread_ts=ts)
    assert len(final(slack, channel, ts, count=2)) == 2 and state(people.ledger, ts, channel) == "bot"


def test_a_call_that_fails_for_good_is_told_and_leaves_the_thread_with_the_bot(
    slack: Any, people: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    ts, answer = asked(slack)
    since = len(slack.ephemerals("U0MIA"))
    monkeypatch.setattr("bot.people.MAX_ATTEMPTS", 1)
    slack.fault("chat.postMessage", "http_500")
    slack.click("U0MIA", SUPPORT, answer, "evenkeel_person")

    told(slack, "U0MIA", "cannot reach the team", since)
    slack.wait_for(people.quiet)
    assert state(people.ledger, ts) == "bot" and len(bots(slack, SUPPORT, ts)) == 1


def test_without_a_group_to_call_nobody_is_said_to_be_called(slack: Any, people: Live) -> None:
    with_settings(people, support_group="")
    since = len(slack.ephemerals("U0MIA"))
    ts, call = called(slack, people)

    told(slack, "U0MIA", "left a call for the team in this thread", since)
    assert call["text"] == "<@U0MIA> asks for a person." and state(people.ledger, ts) == "waiting"


def test_who_asked_in_a_thread_goes_on_there_while_another_question_is_open(
    slack: Any, people: Live, engine: ModelServer
) -> None:
    engine.mode = "held"
    ts = slack.say("U0MIA", SUPPORT, ASK)
    for depth, (user, text) in enumerate(
        [("U0ASHA", "@Evenkeel and on Windows?"), ("U0ASHA", "the newest one")], start=2
    ):
        slack.say(user, SUPPORT, text, thread_ts=ts)
        slack.wait_for(lambda depth=depth: people.ledger.inbox.depth() == depth)
    engine.release.release(3)

    assert len(final(slack, SUPPORT, ts, count=3)) == 3 and state(people.ledger, ts) == "bot"


def test_an_agent_who_writes_takes_over_and_a_mention_wakes_the_bot(
    slack: Any, people: Live, engine: ModelServer
) -> None:
    ts, _ = asked(slack)
    slack.say("U0ASHA", SUPPORT, "I will look after this.", thread_ts=ts)
    slack.wait_for(lambda: state(people.ledger, ts) == "person")
    slack.say("U0MIA", SUPPORT, "thank you", thread_ts=ts)
    slack.wait_for(people.quiet)
    assert len(bots(slack, SUPPORT, ts)) == 1
    assert any("You have the word" in n["text"] for n in slack.ephemerals("U0ASHA"))

    slack.say("U0MIA", SUPPORT, "@Evenkeel what do you say?", thread_ts=ts)
    assert len(final(slack, SUPPORT, ts, count=2)) == 2


def test_another_customers_remark_is_neither_answered_nor_a_takeover(slack: Any, people: Live) -> None:
    ts, _ = asked(slack)
    slack.say("U0JONAS", SUPPORT, "same here", thread_ts=ts)
    slack.wait_for(people.quiet)

    assert len(bots(slack, SUPPORT, ts)) == 1 and state(people.ledger, ts) == "bot"


@pytest.mark.parametrize("who", ["U0MIA", "U0ASHA"])
def test_stop_stops_and_what_was_said_stays(slack: Any, people: Live, engine: ModelServer, who: str) -> None:
    engine.text, engine.delay_s = "word " * 400, 0.02
    ts = slack.say("U0MIA", SUPPORT, ASK)
    slack.wait_for(lambda: "word word" in str(bots(slack, SUPPORT, ts)))
    slack.click(who, SUPPORT, bots(slack, SUPPORT, ts)[0]["ts"], "evenkeel_stop")
    slack.wait_for(lambda: "Stopped" in bots(slack, SUPPORT, ts)[0]["text"], timeout=3)

    (exchange,) = people.ledger.exchanges.in_thread("T0DEMO", SUPPORT, ts)
    assert (
        exchange.tuned is not None
        and exchange.tuned.status == "skipped"
        and exchange.tuned.reason == f"stopped by {who}"
    )
    assert 1 < exchange.tuned.text.count("word") < 400
    assert "evenkeel_feedback" not in str(bots(slack, SUPPORT, ts))


def test_a_stranger_to_the_question_cannot_stop_it(slack: Any, people: Live, engine: ModelServer) -> None:
    engine.text, engine.delay_s = "word " * 60, 0.02
    ts = slack.say("U0MIA", SUPPORT, ASK)
    slack.wait_for(lambda: bots(slack, SUPPORT, ts))
    slack.click("U0JONAS", SUPPORT, bots(slack, SUPPORT, ts)[0]["ts"], "evenkeel_stop")

    assert final(slack, SUPPORT, ts)[0]["text"].count("word") == 60
    assert any("can stop this answer" in n["text"] for n in slack.ephemerals("U0JONAS"))


def test_an_agents_stop_is_kept_while_slack_cannot_say_who_they_are(
    slack: Any, people: Live, engine: ModelServer
) -> None:
    engine.text, engine.delay_s = "word " * 400, 0.02
    ts = slack.say("U0MIA", SUPPORT, ASK)
    slack.wait_for(lambda: "word word" in str(bots(slack, SUPPORT, ts)))
    people.bot.people.roles._known.clear()
    slack.fault("usergroups.users.list", "http_500")
    slack.click("U0ASHA", SUPPORT, bots(slack, SUPPORT, ts)[0]["ts"], "evenkeel_stop")

    slack.wait_for(lambda: "Stopped" in bots(slack, SUPPORT, ts)[0]["text"], timeout=7)


def test_who_cannot_be_checked_reads_that_and_not_that_they_may_not(slack: Any, people: Live) -> None:
    ts, call = called(slack, people)
    since = len(slack.ephemerals("U0ASHA"))
    people.bot.people.roles._known.clear()
    slack.fault("usergroups.users.list", "http_500")
    slack.click("U0ASHA", SUPPORT, call["ts"], TAKE_ACTION, f"{SUPPORT}:{ts}")

    told(slack, "U0ASHA", "could not check", since)
    assert state(people.ledger, ts) == "waiting"


def test_slacks_own_stop_button_stops_a_stream(slack: Any, people: Live, engine: ModelServer) -> None:
    engine.text, engine.delay_s = "word " * 400, 0.02
    channel = slack.dm("U0MIA")
    ts = slack.say("U0MIA", channel, "How do I reset my password?")
    slack.wait_for(lambda: "word word" in str(bots(slack, channel, ts)))
    slack.stop("U0MIA", channel, ts)
    slack.wait_for(lambda: "Stopped" in bots(slack, channel, ts)[0]["text"], timeout=5)

    assert bots(slack, channel, ts)[0]["text"].count("word") < 400


def test_a_model_that_hangs_before_its_first_word_can_be_stopped(slack: Any, people: Live, engine: ModelServer) -> None:
    engine.mode = "hang"
    ts = slack.say("U0MIA", SUPPORT, ASK)
    slack.wait_for(lambda: bots(slack, SUPPORT, ts))
    slack.click("U0MIA", SUPPORT, bots(slack, SUPPORT, ts)[0]["ts"], "evenkeel_stop")
    slack.wait_for(lambda: "Stopped" in bots(slack, SUPPORT, ts)[0]["text"], timeout=3)


def test_a_deleted_question_takes_its_answer_along_and_is_forgotten(slack: Any, people: Live) -> None:
    ts, answer = asked(slack)
    slack.wait_for(people.quiet)
    slack.delete(SUPPORT, ts)
    slack.wait_for(lambda: not bots(slack, SUPPORT, ts))
    slack.wait_for(people.quiet)

    assert people.ledger.exchanges.at("T0DEMO", SUPPORT, ts) is None
    assert people.ledger.exchanges.find("T0DEMO", SUPPORT, answer) is None
    found = people.ledger.connections.db.execute("SELECT payload FROM inbox WHERE kind='question' AND ts=?", (ts,))
    assert found.fetchone()[0] == "{}"


def test_a_question_deleted_while_it_is_answered_leaves_nothing(slack: Any, people: Live, engine: ModelServer) -> None:
    engine.text, engine.delay_s = "word " * 200, 0.02
    ts = slack.say("U0MIA", SUPPORT, ASK)
    slack.wait_for(lambda: "word word" in str(bots(slack, SUPPORT, ts)))
    slack.delete(SUPPORT, ts)
    slack.wait_for(people.quiet, timeout=8)

    assert not bots(slack, SUPPORT, ts) and people.ledger.exchanges.at("T0DEMO", SUPPORT, ts) is None


def test_an_edit_that_names_the_bot_asks_and_any_other_edit_does_not(slack: Any, people: Live) -> None:
    ts = slack.say("U0MIA", SUPPORT, "How do I reset my password?")
    slack.edit("U0MIA", SUPPORT, ts, "<@U0EVENKEEL> How do I reset my password?")
    final(slack, SUPPORT, ts)
    slack.edit("U0MIA", SUPPORT, ts, "<@U0EVENKEEL> How do I reset my old password?")
    slack.wait_for(people.quiet)

    assert len(bots(slack, SUPPORT, ts)) == 1
