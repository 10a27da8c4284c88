"""What agents write: why an answer was bad, what it should have been, and what a person's reply can teach."""

from typing import Any

import pytest

from bot.reasons import disputed
from bot.roles import Roles
from storage.ledger import Ledger
from tests.bot.conftest import ASK, SUPPORT, Live
from tests.bot.model_server import ModelServer
from tests.bot.test_answering import exchange, final


@pytest.fixture
def ledger(live: Live) -> Ledger:
    return live.ledger


def disliked(slack: Any, user: str, *, base: bool = False) -> tuple[str, dict[str, Any]]:
    """(question's ts, the private note after this person's 👎)."""
    ts = slack.say("U0MIA", SUPPORT, ASK)
    answer = final(slack, SUPPORT, ts)[0]["ts"]
    before = len(slack.ephemerals(user))
    slack.react(user, SUPPORT, answer, "-1")
    slack.wait_for(lambda: len(slack.ephemerals(user)) > before, timeout=5)
    return ts, dict(slack.ephemerals(user)[-1])


def form_of(slack: Any, user: str, note: dict[str, Any]) -> dict[str, Any]:
    slack.click(user, SUPPORT, note["ts"], "evenkeel_correct")
    slack.wait_for(lambda: slack.view(user), timeout=5)
    return dict(slack.view(user))


def typed(view: dict[str, Any], text: str, label: str = "answer") -> dict[str, Any]:
    block = next(b for b in view["blocks"] if b["type"] == "input" and label in b["label"]["text"].lower())
    return {block["block_id"]: {"answer": {"type": "plain_text_input", "value": text}}}


def told(slack: Any, user: str, words: str) -> dict[str, Any]:
    """The newest private note with these words."""
    slack.wait_for(lambda: any(words in m["text"] for m in slack.ephemerals(user)), timeout=5)
    return dict(next(m for m in reversed(slack.ephemerals(user)) if words in m["text"]))


# Reasons


@pytest.mark.parametrize(("user", "may_write"), [("U0MIA", False), ("U0ASHA", True)])
def test_after_a_thumb_down_everybody_may_say_why_and_agents_may_write(
    slack: Any, ledger: Ledger, user: str, may_write: bool
) -> None:
    before = ledger.taught.reasons().get("outdated", 0)
    ts, note = disliked(slack, user)
    assert ("evenkeel_correct" in str(note["blocks"])) is may_write

    slack.click(user, SUPPORT, note["ts"], "evenkeel_reason_wrong")
    told(slack, user, "“Wrong” is noted")
    slack.wait_for(lambda: ledger.taught.reasons().get("wrong", 0) >= 1)
    slack.unreact(user, SUPPORT, final(slack, SUPPORT, ts)[0]["ts"], "-1")
    slack.wait_for(lambda: ledger.inbox.depth() == 0)
    assert ledger.taught.reasons().get("outdated", 0) == before


def test_the_newest_reason_counts_and_none_without_a_thumb_down(slack: Any, live: Live, ledger: Ledger) -> None:
    ts, _ = disliked(slack, "U0TOM")
    number = str(exchange(slack, ledger, ts).exchange_id)
    before = ledger.taught.reasons()

    assert "“Tone” is noted" in live.bot.reactions.reasons.give("U0TOM", "tone", number)
    assert "“Incomplete” is noted" in live.bot.reactions.reasons.give("U0TOM", "incomplete", number)
    assert ledger.taught.reasons().get("tone", 0) == before.get("tone", 0)
    assert ledger.taught.reasons()["incomplete"] == before.get("incomplete", 0) + 1
    for user, value in (("U0JONAS", number), ("U0TOM", "999999"), ("U0TOM", "x")):
        assert "no 👎 of yours" in live.bot.reactions.reasons.give(user, "tone", value)


def test_agents_who_disagree_are_told_so(slack: Any, ledger: Ledger) -> None:
    ts = slack.say("U0MIA", SUPPORT, ASK)
    answer = final(slack, SUPPORT, ts)[0]["ts"]
    slack.react("U0TOM", SUPPORT, answer, "+1")
    slack.wait_for(lambda: ledger.ratings.split(exchange(slack, ledger, ts).exchange_id) == (1, 0))
    slack.react("U0ASHA", SUPPORT, answer, "-1")

    assert "1 👍 1 👎 by agents so far" in told(slack, "U0ASHA", "What was wrong")["text"]
    assert disputed((2, 0)) == "" and disputed((2, 1)) == "2 👍 1 👎"


# Better answers


def test_a_better_answer_starts_from_either_model_and_can_be_taken_back(
    slack: Any, live: Live, engine: ModelServer, ledger: Ledger
) -> None:
    ts, note = disliked(slack, "U0ASHA")
    exchange(slack, ledger, ts, base=True)
    view = form_of(slack, "U0ASHA", note)
    assert engine.text in str(view["blocks"]) and "SECRET BASE ANSWER" not in str(view["blocks"])

    slack.click_in_view("U0ASHA", view["id"], "evenkeel_start_from_base")
    slack.wait_for(lambda: "SECRET BASE ANSWER" in str(slack.view("U0ASHA")["blocks"]), timeout=5)
    assert slack.submit("U0ASHA", view["id"], typed(slack.view("U0ASHA"), "See id.example.")) == {}
    thanks = told(slack, "U0ASHA", "your answer is kept")
    kept = ledger.lessons.corrections()[-1]
    assert kept.answer == "See id.example."
    row = ledger.connections.db.execute("SELECT started_from FROM corrections ORDER BY correction_id DESC").fetchone()
    assert row[0] == "base"

    slack.click("U0ASHA", SUPPORT, thanks["ts"], "evenkeel_take_back")
    told(slack, "U0ASHA", "Taken back")
    assert kept.lesson_id not in {lesson.lesson_id for lesson in ledger.lessons.corrections()}
    (newest, *_) = ledger.taught.of_author("U0ASHA")
    assert newest.removed and newest.text == "See id.example."


def test_writing_again_replaces_and_taking_back_removes_all_of_it(slack: Any, live: Live, ledger: Ledger) -> None:
    ts, note = disliked(slack, "U0TOM")
    number = exchange(slack, ledger, ts).exchange_id
    for text in ("First.", "Second."):
        view = form_of(slack, "U0TOM", note)
        slack.submit("U0TOM", view["id"], typed(view, text))
    mine = [c for c in ledger.lessons.corrections() if c.answer in ("First.", "Second.")]
    assert [c.answer for c in mine] == ["Second."]

    corrections = ledger.taught.of_author("U0TOM")
    assert not ledger.taught.take_back("correction", corrections[0].number, by="U0ASHA")
    assert ledger.taught.take_back("correction", corrections[0].number, by="U0TOM")
    assert number and not [c for c in ledger.lessons.corrections() if c.answer in ("First.", "Second.")]
    assert not ledger.taught.take_back("correction", corrections[0].number, by="U0TOM")


def test_an_empty_correction_is_sent_back(slack: Any, ledger: Ledger) -> None:
    _, note = disliked(slack, "U0TOM")
    kept, view = ledger.lessons.corrections(), form_of(slack, "U0TOM", note)

    reply = slack.submit("U0TOM", view["id"], typed(view, " \u200b "))
    assert "Please write" in str(reply) and ledger.lessons.corrections() == kept


def test_who_has_lost_the_role_writes_nothing(slack: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    _, note = disliked(slack, "U0TOM")
    kept, view = ledger.lessons.corrections(), form_of(slack, "U0TOM", note)
    monkeypatch.setattr(Roles, "role_of", lambda self, user: "customer")

    assert "Only support agents" in str(slack.submit("U0TOM", view["id"], typed(view, "Mine.")))
    assert ledger.lessons.corrections() == kept


# Teach the bot


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
