"""The form for a better answer at its edges: who, for which answer, from what, and how long."""

from typing import Any

import pytest

from bot.corrections import LONGEST, Corrections
from bot.roles import Roles
from storage.ledger import Ledger
from tests.bot.conftest import SUPPORT, Live
from tests.bot.model_server import ModelServer
from tests.bot.test_answering import exchange, final
from tests.bot.test_lessons_of_agents import disliked, form_of, told, typed


@pytest.fixture
def ledger(live: Live) -> Ledger:
    return live.ledger


def field_of(view: dict[str, Any]) -> dict[str, Any]:
    return dict(next(block["element"] for block in view["blocks"] if block["type"] == "input"))


def offers(view: dict[str, Any]) -> set[str]:
    """The other answers that this form can start from."""
    return {e["action_id"] for block in view["blocks"] for e in block.get("elements", ()) if "action_id" in e}


def row(ledger: Ledger, text: str) -> dict[str, Any]:
    return dict(next(iter(ledger.connections.db.query("SELECT * FROM corrections WHERE text=?", (text,)))))


@pytest.mark.parametrize("forged", ["999999", "-1", "1 OR 1=1", "½", "", "9" * 40])
def test_a_button_of_an_answer_that_nobody_knows_opens_no_form(slack: Any, ledger: Ledger, forged: str) -> None:
    _, note = disliked(slack, "U0TOM")
    shown = slack.view("U0TOM")

    slack.click("U0TOM", SUPPORT, note["ts"], "evenkeel_correct", forged)

    told(slack, "U0TOM", "no longer known here")
    assert slack.view("U0TOM") == shown


def test_an_answer_that_was_forgotten_while_somebody_wrote_takes_no_correction(slack: Any, ledger: Ledger) -> None:
    ts, note = disliked(slack, "U0TOM")
    view = form_of(slack, "U0TOM", note)
    gone = exchange(slack, ledger, ts, base=True).exchange_id
    with ledger.connections.write() as db:
        db.execute("DELETE FROM exchanges WHERE exchange_id=?", (gone,))

    assert "no longer known here" in str(slack.submit("U0TOM", view["id"], typed(view, "Too late.")))
    slack.click("U0TOM", SUPPORT, note["ts"], "evenkeel_reason_wrong")
    told(slack, "U0TOM", "no 👎 of yours")
    assert ledger.verify() == ()


@pytest.mark.parametrize(("role", "words"), [("customer", "Only support agents"), ("unknown", "could not check")])
def test_who_is_no_agent_at_the_click_gets_no_form(
    slack: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, role: str, words: str
) -> None:
    _, note = disliked(slack, "U0ASHA")
    shown = slack.view("U0ASHA")
    monkeypatch.setattr(Roles, "role_of", lambda self, user: role)

    slack.click("U0ASHA", SUPPORT, note["ts"], "evenkeel_correct")

    told(slack, "U0ASHA", words)
    assert slack.view("U0ASHA") == shown


def test_who_loses_the_role_does_not_see_the_base_models_answer(
    slack: Any, live: Live, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ts, note = disliked(slack, "U0TOM")
    exchange(slack, ledger, ts, base=True)
    view = form_of(slack, "U0TOM", note)
    monkeypatch.setattr(Roles, "role_of", lambda self, user: "customer")
    updates = len(slack.calls("views.update"))

    slack.click_in_view("U0TOM", view["id"], "evenkeel_start_from_base")

    slack.wait_for(live.quiet)
    assert "SECRET BASE ANSWER" not in str(slack.view("U0TOM")) and len(slack.calls("views.update")) == updates


def test_without_a_base_answer_there_is_nothing_else_to_start_from(
    slack: Any, ledger: Ledger, engine: ModelServer
) -> None:
    engine.base_mode = "empty"
    ts, note = disliked(slack, "U0ASHA")
    exchange(slack, ledger, ts, base=True)

    view = form_of(slack, "U0ASHA", note)

    assert field_of(view)["initial_value"] == engine.text and not offers(view)


def test_equal_answers_offer_no_choice(slack: Any, ledger: Ledger, engine: ModelServer) -> None:
    engine.text = "SECRET BASE ANSWER"
    ts, note = disliked(slack, "U0ASHA")
    exchange(slack, ledger, ts, base=True)

    assert not offers(form_of(slack, "U0ASHA", note))


def test_from_the_base_and_back_the_field_holds_the_bots_answer_and_the_row_says_so(
    slack: Any, ledger: Ledger, engine: ModelServer
) -> None:
    ts, note = disliked(slack, "U0ASHA")
    exchange(slack, ledger, ts, base=True)
    view = form_of(slack, "U0ASHA", note)
    for role, words in (("base", "SECRET BASE ANSWER"), ("tuned", engine.text)):
        slack.click_in_view("U0ASHA", view["id"], f"evenkeel_start_from_{role}")
        slack.wait_for(lambda words=words: field_of(slack.view("U0ASHA"))["initial_value"] == words, timeout=5)

    shown = slack.view("U0ASHA")
    assert slack.submit("U0ASHA", view["id"], typed(shown, "There and back.")) == {}
    assert row(ledger, "There and back.")["started_from"] == "tuned"


def test_the_same_start_twice_brings_its_answer_back_over_what_was_typed(slack: Any, ledger: Ledger) -> None:
    ts, note = disliked(slack, "U0TOM")
    exchange(slack, ledger, ts, base=True)
    view = form_of(slack, "U0TOM", note)
    slack.click_in_view("U0TOM", view["id"], "evenkeel_start_from_base")
    slack.wait_for(lambda: "SECRET BASE ANSWER" in str(slack.view("U0TOM")["blocks"]), timeout=5)
    before = slack.view("U0TOM")

    slack.click_in_view("U0TOM", view["id"], "evenkeel_start_from_base", values=typed(before, "half a thou"))
    slack.wait_for(lambda: slack.view("U0TOM")["hash"] != before["hash"], timeout=5)

    slack.submit("U0TOM", view["id"], {})
    assert row(ledger, "SECRET BASE ANSWER")["started_from"] == "base"


def test_a_long_answer_fits_its_field_is_said_to_be_cut_and_as_much_can_be_written(
    slack: Any, ledger: Ledger, engine: ModelServer
) -> None:
    engine.text = "word " * 800
    _, note = disliked(slack, "U0TOM")
    view = form_of(slack, "U0TOM", note)
    field = field_of(view)
    assert len(field["initial_value"]) == field["max_length"] == LONGEST == 3_000
    assert "its end is missing here" in str(view["blocks"])

    whole = "x" * LONGEST
    assert slack.submit("U0TOM", view["id"], typed(view, whole)) == {}
    assert row(ledger, whole)["author"] == "U0TOM"


def test_what_the_customer_wrote_is_shown_in_the_form_and_acts_on_nobody(slack: Any, ledger: Ledger) -> None:
    ts = slack.say(
        "U0MIA", SUPPORT, "<@U0EVENKEEL> <!channel> *why* <https://evil.example|here> & why not?" + " x" * 900
    )
    slack.react("U0ASHA", SUPPORT, final(slack, SUPPORT, ts)[0]["ts"], "-1")
    exchange(slack, ledger, ts)
    slack.wait_for(lambda: any(n.get("thread_ts") == ts for n in slack.ephemerals("U0ASHA")), timeout=5)

    view = form_of(slack, "U0ASHA", slack.ephemerals("U0ASHA")[-1])

    shown = view["blocks"][0]["text"]["text"]
    assert "&amp; why not" in shown and len(shown) < 3_000
    assert not any(live in shown for live in ("<!", "<@", "<http"))


def test_what_was_taken_back_twice_is_taken_back_once(slack: Any, live: Live, ledger: Ledger) -> None:
    _, note = disliked(slack, "U0TOM")
    view = form_of(slack, "U0TOM", note)
    slack.submit("U0TOM", view["id"], typed(view, "Only once."))
    value = f"correction:{row(ledger, 'Only once.')['correction_id']}"
    corrections = Corrections(
        settings=live.bot.asking.settings, ledger=ledger, client=live.bot.people.client, roles=live.bot.people.roles,
        show_home=print)  # fmt: skip

    assert "nothing of yours" in corrections.take_back("U0ASHA", value)
    assert "Taken back" in corrections.take_back("U0TOM", value)
    assert "nothing of yours" in corrections.take_back("U0TOM", value)
    for forged in ("", "correction", "correction:", "correction:x", "taught:0", "picks:1"):
        assert "nothing of yours" in corrections.take_back("U0TOM", forged)
