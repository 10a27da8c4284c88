"""“Teach the bot”: a person's reply in a thread becomes a lesson, once an agent has looked at it."""

from pathlib import Path
from typing import Any

import pytest

from bot.corrections import Corrections
from bot.roles import Roles
from bot.slack import Me
from bot.teaching import Teaching, question_before
from storage.errors import Busy
from storage.forgetting import forget
from storage.ledger import Ledger
from storage.records import Question
from tests.bot.conftest import ASK, SUPPORT, Live
from tests.bot.model_server import ModelServer
from tests.bot.test_answering import final
from tests.bot.test_lessons_of_agents import told, typed


@pytest.fixture
def ledger(live: Live) -> Ledger:
    return live.ledger


def teaching(live: Live) -> Teaching:
    """The bot's own, wired once more."""
    people, settings = live.bot.people, live.bot.asking.settings
    corrections = Corrections(
        settings=settings, ledger=live.ledger, client=people.client, roles=people.roles, show_home=print
    )
    return Teaching(ledger=live.ledger, client=people.client, me=live.bot.asking.me, corrections=corrections)


def taught(slack: Any, user: str = "U0ASHA", reply: str = "Open Billing, then Invoices.") -> tuple[str, dict[str, Any]]:
    """(the reply's ts, the form over it). A customer asks a person, and a person answers."""
    root = slack.say("U0JONAS", SUPPORT, "Where do I find my invoices?")
    ts = slack.say("U0TOM", SUPPORT, reply, thread_ts=root)
    slack.shortcut(user, SUPPORT, ts, "evenkeel_teach")
    slack.wait_for(lambda: "One moment" not in str(slack.view(user) or "One moment"), timeout=5)
    return ts, dict(slack.view(user))


def test_a_persons_reply_becomes_a_lesson_once_it_was_looked_at(slack: Any, live: Live, ledger: Ledger) -> None:
    ts, view = taught(slack)
    shown = str(view["blocks"])
    assert "Where do I find my invoices?" in shown and "Open Billing, then Invoices." in shown
    assert slack.submit("U0ASHA", view["id"], typed(view, "Open Billing, then Invoices. Pick a month.")) == {}
    thanks = told(slack, "U0ASHA", "your answer is kept")

    (lesson,) = [x for x in ledger.taught.lessons("Be brief.") if "Pick a month" in x.answer]
    assert lesson.question == "Where do I find my invoices?" and lesson.source == "taught"
    assert lesson.messages[0] == {"role": "system", "content": "Be brief."} and lesson.author == "U0ASHA"
    assert lesson.conversation_id.startswith(f"T0DEMO:{SUPPORT}:")

    slack.click("U0ASHA", SUPPORT, thanks["ts"], "evenkeel_take_back")
    told(slack, "U0ASHA", "Taken back")
    assert not [x for x in ledger.taught.lessons("") if "Pick a month" in x.answer]


def test_teaching_the_same_reply_again_replaces_the_lesson(slack: Any, ledger: Ledger) -> None:
    ts, view = taught(slack, reply="Look into the attic.")
    slack.submit("U0ASHA", view["id"], {})
    slack.shortcut("U0INES", SUPPORT, ts, "evenkeel_teach")
    slack.wait_for(lambda: "attic" in str(slack.view("U0INES") or ""), timeout=5)
    slack.submit("U0INES", slack.view("U0INES")["id"], typed(slack.view("U0INES"), "Look into the cellar."))

    found = [x for x in ledger.taught.lessons("") if "Look into the" in x.answer]
    assert [(x.answer, x.author) for x in found] == [("Look into the cellar.", "U0INES")]


def test_customers_teach_nothing(slack: Any, ledger: Ledger) -> None:
    root = slack.say("U0JONAS", SUPPORT, "Where is the door?")
    ts = slack.say("U0TOM", SUPPORT, "To the left.", thread_ts=root)
    slack.shortcut("U0MIA", SUPPORT, ts, "evenkeel_teach")

    told(slack, "U0MIA", "Only support agents")
    assert slack.view("U0MIA") is None


def test_the_bots_own_answer_is_corrected_and_a_first_message_teaches_nothing(
    slack: Any, ledger: Ledger, engine: ModelServer
) -> None:
    ts = slack.say("U0MIA", SUPPORT, ASK)
    answer = final(slack, SUPPORT, ts)[0]["ts"]
    slack.shortcut("U0ASHA", SUPPORT, answer, "evenkeel_teach")
    slack.wait_for(lambda: "A better answer" in str(slack.view("U0ASHA")), timeout=5)

    slack.shortcut("U0ASHA", SUPPORT, ts, "evenkeel_teach")
    slack.wait_for(lambda: "person's reply in a thread" in str(slack.view("U0ASHA")), timeout=5)


def test_an_emptied_form_is_sent_back_at_its_field(slack: Any, ledger: Ledger) -> None:
    _, view = taught(slack, reply="Use the side door.")
    question = next(b["block_id"] for b in view["blocks"] if b["type"] == "input" and b["label"]["text"] == "Question")

    reply = slack.submit("U0ASHA", view["id"], {question: {"answer": {"type": "plain_text_input", "value": " "}}})
    assert reply == {"errors": {question: "Please write a text here."}}
    assert not [x for x in ledger.taught.lessons("") if "side door" in x.answer]


def test_a_thread_that_cannot_be_read_leaves_the_question_to_the_agent(slack: Any, ledger: Ledger) -> None:
    slack.fault("conversations.replies", "error", code="not_in_channel")
    _, view = taught(slack, reply="Press the red key.")
    assert "I cannot read this thread" in str(view["blocks"]) and "Press the red key." in str(view["blocks"])

    assert "Please write" in str(slack.submit("U0ASHA", view["id"], {}))
    assert slack.submit("U0ASHA", view["id"], typed(view, "Which key?", "question")) == {}
    (lesson,) = [x for x in ledger.taught.lessons("") if "red key" in x.answer]
    assert lesson.question == "Which key?"


def test_a_lesson_that_cannot_be_kept_stays_in_its_form(
    slack: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, view = taught(slack, reply="Water the plant.")

    def locked(*_: Any, **__: Any) -> None:
        raise Busy("locked")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "audit", locked)
        assert "nothing was kept" in str(slack.submit("U0ASHA", view["id"], {})["errors"])
    assert not [x for x in ledger.taught.lessons("") if "plant" in x.answer]
    assert slack.submit("U0ASHA", view["id"], {}) == {}
    assert [x for x in ledger.taught.lessons("") if "plant" in x.answer]


def test_who_has_lost_the_role_teaches_nothing(slack: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    _, view = taught(slack, reply="Sing a song.")
    monkeypatch.setattr(Roles, "role_of", lambda self, user: "unknown")

    assert "could not check with Slack" in str(slack.submit("U0ASHA", view["id"], {}))
    assert not [x for x in ledger.taught.lessons("") if "song" in x.answer]


def test_nobody_takes_back_what_another_taught(slack: Any, live: Live, ledger: Ledger) -> None:
    _, view = taught(slack, reply="Ask the porter.")
    slack.submit("U0ASHA", view["id"], {})
    (newest, *_) = ledger.taught.of_author("U0ASHA")

    assert not ledger.taught.take_back("taught", newest.number, by="U0TOM")
    assert ledger.taught.take_back("taught", newest.number, by="U0ASHA")
    assert ledger.taught.of_author("U0ASHA")[0].removed and not ledger.taught.of_author("U0ASHA")[0].replaced


@pytest.mark.parametrize("person", ["U0JONAS", "U0TOM", "U0ASHA"])
def test_a_lesson_goes_with_whoever_asked_answered_or_taught(tmp_path: Path, person: str) -> None:
    ledger = Ledger(tmp_path / "evenkeel.db")
    ledger.taught.teach(
        team="T0DEMO", channel=SUPPORT, thread_ts="1.0", ts="2.0", question="My name is Jonas?", answer="Yes.",
        language="en", asker="U0JONAS", author="U0TOM", teacher="U0ASHA", role="agent")  # fmt: skip
    receipt = forget(ledger, tmp_path / "datasets", person, actor="U0INES")

    assert receipt.taught == 1 and ledger.taught.lessons("") == ()
    ledger.close()


ME = Me(team="T0DEMO", user="U0EVENKEEL", bot_id="B0EVENKEEL")
THREAD = (
    {"ts": "1.0", "bot_id": "B0TICKETS", "text": "a ticket from elsewhere"},
    {"ts": "2.0", "user": "U0EVENKEEL", "bot_id": "B0EVENKEEL", "text": "my guess"},
    {"ts": "3.0", "user": "U0TOM", "text": "let me see"},
    {"ts": "4.0", "user": "U0MIA", "text": "and how?"},
    {"ts": "5.0", "user": "U0JONAS", "text": "how long?"},
    {"ts": "6.0", "user": "U0TOM", "text": "like this"},
    {"ts": "7.0", "user": "U0MIA", "text": "thanks"},
)


@pytest.mark.parametrize(
    ("thread", "reply", "question"),
    [
        (THREAD, THREAD[5], "how long?"),
        (THREAD, THREAD[2], "a ticket from elsewhere"),
        (THREAD, THREAD[4], "and how?"),
        (THREAD[2:4], {"ts": "3.5", "user": "U0TOM"}, "let me see"),
        (THREAD[1:3], THREAD[2], None),
        ((), THREAD[2], None),
    ],
)
def test_the_question_is_the_newest_earlier_message_of_somebody_else(
    thread: Any, reply: dict[str, Any], question: str | None
) -> None:
    assert question_before(thread, reply, ME).get("text") == question


@pytest.mark.parametrize("author", [{"user": "U0OTHERBOT", "bot_id": "B0OTHERBOT"}, {"user": "USLACKBOT"}, {}])
def test_what_no_person_wrote_teaches_nothing(live: Live, ledger: Ledger, author: dict[str, str]) -> None:
    message = {"ts": "9.2", "thread_ts": "9.1", "text": "You have a reminder: water the plant.", **author}
    shown = teaching(live).preview(SUPPORT, message)
    assert "person's reply in a thread" in str(shown) and "submit" not in shown


def test_an_answer_of_ours_that_is_not_there_yet_cannot_be_corrected(live: Live, ledger: Ledger) -> None:
    asked = Question(
        team="T0DEMO", channel=SUPPORT, thread_ts="8.1", ts="8.1", asker="U0MIA", text="How?",
        messages=({"role": "user", "content": "How?"},), asked_at=ledger.clock())  # fmt: skip
    number = ledger.exchanges.open(asked)
    message, _ = ledger.exchanges.intend_message(number, 1, team="T0DEMO", channel=SUPPORT)
    ledger.exchanges.message_posted(message.message_id, "8.2")
    placeholder = {"ts": "8.2", "thread_ts": "8.1", "text": "One moment …", "user": "U0EVENKEEL"}

    assert "no answer that I remember" in str(teaching(live).preview(SUPPORT, placeholder))
    ledger.exchanges.close(number, "failed")


def test_where_the_bot_is_no_member_people_still_hear_why_not(slack: Any, ledger: Ledger) -> None:
    root = slack.say("U0JONAS", SUPPORT, "Where is the lift?")
    ts = slack.say("U0TOM", SUPPORT, "Behind the stairs.", thread_ts=root)
    before = len(slack.ephemerals("U0MIA"))
    slack.fault("chat.postEphemeral", "error", code="not_in_channel")
    slack.shortcut("U0MIA", SUPPORT, ts, "evenkeel_teach")

    slack.wait_for(lambda: len(slack.ephemerals("U0MIA")) > before, timeout=5)
    assert "Only support agents" in slack.ephemerals("U0MIA")[-1]["text"]


def test_a_long_reply_fits_its_field_and_is_said_to_be_cut(slack: Any, ledger: Ledger) -> None:
    _, view = taught(slack, reply="word " * 700)

    assert "its end is missing here" in str(view["blocks"])
    assert slack.submit("U0ASHA", view["id"], {}) == {}
    (lesson,) = [x for x in ledger.taught.lessons("") if x.answer.startswith("word word")]
    assert 2_990 < len(lesson.answer) <= 3_000
