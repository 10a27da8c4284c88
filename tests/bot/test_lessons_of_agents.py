"""What people say after a 👎: why, and what the answer should have been."""

import sqlite3
from typing import Any

import pytest

from bot.reasons import disputed
from bot.roles import Roles
from storage.errors import Busy
from storage.ledger import Ledger
from storage.taught import Taught
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
    before = ledger.taught.reasons().get("wrong", 0)
    ts, note = disliked(slack, user)
    assert ("evenkeel_correct" in str(note["blocks"])) is may_write

    slack.click(user, SUPPORT, note["ts"], "evenkeel_reason_wrong")
    told(slack, user, "“Wrong” is noted")
    assert ledger.taught.reasons()["wrong"] == before + 1
    slack.unreact(user, SUPPORT, final(slack, SUPPORT, ts)[0]["ts"], "-1")
    slack.wait_for(lambda: ledger.taught.reasons().get("wrong", 0) == before, timeout=5)
    (kept,) = ledger.connections.db.execute("SELECT count(*) FROM reasons WHERE user=?", (user,)).fetchone()
    assert kept, "the reason itself stays"


def test_customers_are_asked_in_the_language_of_their_question(slack: Any, live: Live, ledger: Ledger) -> None:
    ts = slack.say("U0JONAS", SUPPORT, "<@U0EVENKEEL> Wie kann ich mein Passwort zurücksetzen, bitte?")
    answer = final(slack, SUPPORT, ts)[0]["ts"]
    slack.react("U0JONAS", SUPPORT, answer, "-1")
    note = told(slack, "U0JONAS", "Was war daran nicht gut?")
    assert "Veraltet" in str(note["blocks"]) and "Outdated" not in str(note["blocks"])
    slack.click("U0JONAS", SUPPORT, note["ts"], "evenkeel_reason_person")
    told(slack, "U0JONAS", "„Mit einem Menschen sprechen“ unter der Antwort")

    before = len(slack.ephemerals("U0ASHA"))
    slack.react("U0ASHA", SUPPORT, answer, "-1")
    slack.wait_for(lambda: "What was wrong" in str(slack.ephemerals("U0ASHA")[before:]), timeout=5)


def test_who_said_why_can_still_write_a_better_answer(slack: Any, ledger: Ledger) -> None:
    _, note = disliked(slack, "U0ASHA")
    slack.click("U0ASHA", SUPPORT, note["ts"], "evenkeel_reason_outdated")
    thanks = told(slack, "U0ASHA", "“Outdated” is noted")

    assert thanks["ts"] == note["ts"] and "evenkeel_reason" not in str(thanks["blocks"])
    slack.click("U0ASHA", SUPPORT, thanks["ts"], "evenkeel_correct")
    slack.wait_for(lambda: "A better answer" in str(slack.view("U0ASHA")), timeout=5)


def test_a_second_thumb_down_of_the_same_person_is_kept_and_not_asked_about(
    slack: Any, live: Live, ledger: Ledger
) -> None:
    ts, _ = disliked(slack, "U0TOM")
    notes = len(slack.ephemerals("U0TOM"))
    answer = final(slack, SUPPORT, ts)[0]["ts"]
    slack.react("U0TOM", SUPPORT, answer, "x")
    slack.click("U0TOM", SUPPORT, answer, "evenkeel_feedback", "down")
    found = exchange(slack, ledger, ts).exchange_id
    slack.wait_for(lambda: len(ledger.ratings.of(found)) == 3, timeout=5)
    slack.wait_for(live.quiet)

    assert len(slack.ephemerals("U0TOM")) == notes and ledger.ratings.split(found) == (0, 1)


def test_a_reason_that_cannot_be_kept_is_not_thanked_for(
    slack: Any, live: Live, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, note = disliked(slack, "U0TOM")
    before = ledger.taught.reasons()

    def locked(*_: Any, **__: Any) -> None:
        raise Busy("locked")

    monkeypatch.setattr(Taught, "give_reason", locked)
    slack.click("U0TOM", SUPPORT, note["ts"], "evenkeel_reason_tone")
    told(slack, "U0TOM", "nothing was kept")
    assert ledger.taught.reasons() == before
    assert note["ts"] in [n["ts"] for n in slack.ephemerals("U0TOM") if "evenkeel_reason_tone" in str(n["blocks"])]


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

    assert "What was wrong" in told(slack, "U0ASHA", "1 👍 1 👎 by agents so far")["text"]
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


def test_a_form_that_slack_does_not_open_or_the_ledger_does_not_keep_says_so(
    slack: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, note = disliked(slack, "U0TOM")
    slack.fault("views.open", "error", code="expired_trigger_id")
    slack.click("U0TOM", SUPPORT, note["ts"], "evenkeel_correct")
    told(slack, "U0TOM", "did not open the form")

    kept, view = ledger.lessons.corrections(), form_of(slack, "U0TOM", note)
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    reply = slack.submit("U0TOM", view["id"], typed(view, "Mine."))
    other.execute("ROLLBACK")
    other.close()
    assert "nothing was kept" in str(reply["errors"]) and ledger.lessons.corrections() == kept
    assert slack.submit("U0TOM", view["id"], typed(view, "Mine.")) == {}
    assert [c.answer for c in ledger.lessons.corrections() if c not in kept] == ["Mine."]


def test_ones_lessons_say_what_became_of_them_and_a_press_in_the_home_shows_at_once(
    slack: Any, live: Live, ledger: Ledger
) -> None:
    slack.wait_for(live.quiet)
    ts, _ = disliked(slack, "U0ASHA")
    found = exchange(slack, ledger, ts).exchange_id
    for author, text in (("U0ASHA", "Old."), ("U0ASHA", "Mine."), ("U0TOM", "Tom's.")):
        ledger.lessons.correct(found, author=author, role="agent", text=text)
    assert [(w.text, w.replaced, w.removed) for w in ledger.taught.of_author("U0ASHA", 2)] == [
        ("Mine.", True, False),
        ("Old.", True, False),
    ]
    toms = ledger.taught.of_author("U0TOM")[0]
    assert ledger.taught.take_back("correction", toms.number, by="U0TOM")
    assert [w.replaced for w in ledger.taught.of_author("U0ASHA", 2)] == [False, True]
    assert ledger.lessons.corrections()[-1].answer == "Mine."

    slack.open_home("U0ASHA")
    slack.wait_for(lambda: "· replaced" in str(slack.home("U0ASHA")), timeout=5)
    number = ledger.taught.of_author("U0ASHA")[0].number
    slack.click_in_view("U0ASHA", slack.home("U0ASHA")["id"], "evenkeel_take_back", f"correction:{number}")
    slack.wait_for(lambda: f"correction:{number}" not in str(slack.home("U0ASHA")), timeout=5)
    assert all(w.removed for w in ledger.taught.of_author("U0ASHA", 2))
