"""Approve, Keep current and Try ten questions, as admins and others press them in the workspace."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.app import Bot
from bot.report_card import APPROVE_ACTION, KEEP_ACTION, TRY_ACTION
from storage.errors import GateSaidNo
from storage.ledger import Ledger
from storage.records import Run, Ticket
from tests.bot.conftest import OPS, Live
from tests.bot.model_server import ModelServer
from tests.bot.test_commands import decided
from tests.storage.test_ledger import question

VIEW = {"meaning": "better at support", "rows": [], "candidate": "aaa", "champion": "none", "regressions": []}


@pytest.fixture
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """That of the running bot, cleared of runs and versions at the end; of its own for a test that steps a still one."""
    if "still" in request.fixturenames:
        own = Ledger(tmp_path / "own.db")
        yield own
        own.close()
        return
    live: Live = request.getfixturevalue("live")
    yield live.ledger
    with live.ledger.connections.write() as db:
        db.execute("UPDATE runs SET state='cancelled', finished_at='2020-01-01T00:00:00.000000+00:00'")
        for table in ("promotions", "decisions", "audit"):
            db.execute(f"DELETE FROM {table}")


def waiting(ledger: Ledger, digest: str = "a" * 64, verdict: Any = "PROMOTE") -> Run:
    """A run that ended with this decision, its report published."""
    run_id = ledger.runs.request(reason="command", requested_by="U0INES", overrides={}, channel=OPS)
    run = ledger.runs.claim(owner="worker", lease_s=60)
    assert run is not None
    decision_id = decided(ledger, verdict, digest, run_id)
    ledger.runs.advance(run, state="scoring", lease_s=60, decision_id=decision_id)
    ledger.add_report(run_id, VIEW, html_path="x", png_path="none")
    return ledger.runs.advance(run, state="decided", lease_s=60)


def card(slack: Any, ledger: Ledger, run: Run, words: str) -> dict[str, Any]:
    """The run's message once it says so."""

    def find() -> Any:
        now = ledger.runs.get(run.run_id)
        found = [m for m in slack.messages(OPS) if now and m["ts"] == now.message_ts and words in str(m.get("blocks"))]
        return found and found[0]

    return dict(slack.wait_for(find, timeout=5))


def said_to(slack: Any, user: str, words: str) -> None:
    slack.wait_for(lambda: any(words in m["text"] for m in slack.ephemerals(user)), timeout=5)


def test_an_admin_approves_once_and_the_buttons_give_way_to_a_name_and_a_time(slack: Any, ledger: Ledger) -> None:
    run = waiting(ledger)
    ts = card(slack, ledger, run, "waits for an admin")["ts"]

    for user, words in (("U0MIA", "Only admins"), ("U0ASHA", "Only admins")):
        assert slack.click(user, OPS, ts, APPROVE_ACTION)
        said_to(slack, user, words)
    assert ledger.promotions.champion() is None and ledger.audits(1)[0]["action"] == "approve_refused"
    assert slack.click("U0INES", OPS, ts, APPROVE_ACTION)

    after = card(slack, ledger, run, "*v1 is live*, approved by <@U0INES> at 20")
    assert "actions" not in [block["type"] for block in after["blocks"]]
    champion = ledger.promotions.champion()
    assert champion is not None and (champion.version, champion.actor) == (1, "U0INES")


def test_keeping_the_current_model_is_recorded_and_shown(slack: Any, ledger: Ledger) -> None:
    run = waiting(ledger)
    ts = card(slack, ledger, run, "waits for an admin")["ts"]

    slack.click("U0INES", OPS, ts, KEEP_ACTION)

    after = card(slack, ledger, run, "*The current model stays*: decided by <@U0INES> at 20")
    assert "actions" not in [block["type"] for block in after["blocks"]]
    kept = ledger.audits(1)[0]
    assert (kept["actor"], kept["action"], kept["detail"]["decision_id"]) == ("U0INES", "keep_current", run.decision_id)
    assert ledger.promotions.champion() is None


@pytest.mark.parametrize("first", [APPROVE_ACTION, KEEP_ACTION])
@pytest.mark.parametrize("second", [APPROVE_ACTION, KEEP_ACTION])
def test_a_second_click_does_nothing_and_says_who_was_first(
    still: Bot, own: Ledger, press: Any, first: str, second: str
) -> None:
    run = waiting(own)
    still.watch.step()
    assert press(run, first) == ""
    history, audits = own.promotions.history(), own.audits()

    said = press(run, second)

    assert said.startswith("Nothing was done:") and "<@U0INES>" in said
    assert own.promotions.history() == history and own.audits() == audits


@pytest.mark.parametrize("action", [APPROVE_ACTION, KEEP_ACTION])
def test_a_newer_decision_voids_the_older_card(slack: Any, still: Bot, own: Ledger, press: Any, action: str) -> None:
    old = waiting(own)
    still.watch.step()
    new = waiting(own, "c" * 64, "HOLD")

    said = press(old, action)

    assert f"run {new.run_id} was decided since" in said and own.promotions.champion() is None
    assert "keep_current" not in {a["action"] for a in own.audits()}
    shown = card(slack, own, old, f"*Void*: run {new.run_id}")
    assert "actions" not in [block["type"] for block in shown["blocks"]]


def test_the_command_line_is_told_the_same(ledger: Ledger) -> None:
    old, new = waiting(ledger), waiting(ledger, "c" * 64, "REFUSE")

    with pytest.raises(GateSaidNo, match=f"void: run {new.run_id} has ended with REFUSE since"):
        ledger.promotions.promote(old.decision_id or 0, actor="cli", reason="")


def test_a_changed_champion_voids_it_too(still: Bot, own: Ledger, press: Any) -> None:
    run = waiting(own)
    still.watch.step()
    own.promotions.promote(decided(own, digest="e" * 64), actor="cli", reason="")

    assert "another model serves now" in press(run, APPROVE_ACTION)
    assert [p.adapter_digest for p in own.promotions.history()] == ["e" * 64]


def test_a_forged_value_decides_nothing(still: Bot, own: Ledger, press: Any) -> None:
    first, second = waiting(own), waiting(own, "c" * 64)
    still.watch.step()
    values = (
        f"{second.decision_id}:{'c' * 64}",  # of another run, on this run's card
        f"{first.decision_id}:{'c' * 64}",
        f"{first.decision_id}:",
        "", "x", ":", "9" * 30 + ":a", "1:2:3", f"{first.decision_id}:{'a' * 63}",
    )  # fmt: skip
    for value in values:
        for action in (APPROVE_ACTION, KEEP_ACTION, TRY_ACTION):
            assert "belongs to no decision" in press(first, action, value)
    assert own.promotions.champion() is None and not own.notices.under("try:") and not own.audits()


def test_a_role_that_cannot_be_looked_up_decides_nothing(slack: Any, still: Bot, own: Ledger, press: Any) -> None:
    run = waiting(own)
    still.watch.step()
    slack.fault("users.info", "http_500", times=1)

    assert "could not check" in press(run, APPROVE_ACTION) and own.promotions.champion() is None


def test_a_card_whose_update_was_lost_is_drawn_again(slack: Any, still: Bot, own: Ledger, press: Any) -> None:
    """Approved, but Slack was away when the card should have said so."""
    run = waiting(own)
    still.watch.step()
    own.promotions.promote(run.decision_id or 0, actor="U0INES", reason="")

    still.watch.step()

    assert "<@U0INES>" in str(card(slack, own, run, "*v1 is live*"))
    own.promotions.rollback(actor="U0INES", reason="")
    still.watch.step()
    assert card(slack, own, run, "*v1 went live*")


@pytest.fixture
def own(still: Bot) -> Ledger:
    """The ledger of the bot that stands still."""
    return still.watch.ledger


@pytest.fixture
def press(still: Bot, own: Ledger) -> Any:
    """A click by the admin on a run's card, as the listener hands it on."""

    def click(run: Run, action: str, value: str | None = None, user: str = "U0INES") -> str:
        now, decision = own.runs.get(run.run_id), own.promotions.decision(run.decision_id or 0)
        assert now is not None and decision is not None
        bound = f"{run.decision_id}:{decision.candidate_digest}" if value is None else value
        return still.approval.press(user, action, OPS, now.message_ts or "", bound)

    return click


# Ten questions


def told(slack: Any, since: int) -> list[str]:
    """What the bot has said in the admin's direct messages, threads included."""
    posted = slack.calls("chat.postMessage")[since:]
    return [str(call["args"]) for call in posted if call["ok"] and call["args"]["channel"] == slack.dm("U0INES")]


def tickets(ledger: Ledger, count: int) -> None:
    rows = [
        Ticket(ticket_id=f"t{n}", conversation_id=f"c{n}", question=f"Question number {n}, <!here>?", answer="a")
        for n in range(count)
    ]
    ledger.lessons.import_tickets(rows, file="f", file_digest="d", columns={}, actor="cli")


def drain(bot: Bot) -> None:
    while bot.trial.step():
        pass


def test_ten_questions_are_asked_of_both_and_shown_side_by_side(
    slack: Any, engine: ModelServer, still: Bot, own: Ledger, press: Any
) -> None:
    tickets(own, 13)
    run = waiting(own)
    still.watch.step()
    engine.adapters = {f"adapter-{'a' * 12}": "a" * 64}
    before = len(slack.calls("chat.postMessage"))

    assert "10 questions" in press(run, TRY_ACTION)
    assert "already" in press(run, TRY_ACTION)
    drain(still)

    head, *pairs = told(slack, before)
    assert "10 questions to the candidate of run" in head and len(pairs) == 10
    for n, pair in enumerate(pairs, start=1):
        assert f"*{n} of 10*" in pair and "&lt;!here&gt;" in pair and "<!here>" not in pair
        assert f"*Candidate*\\nadapter-{'a' * 12} SAYS" in pair and "*Base model, serves now*\\nSECRET BASE" in pair
    assert len(engine.calls(f"adapter-{'a' * 12}")) == 10 and len(engine.calls("base")) == 10
    assert not engine.calls("tuned"), "nobody's question waits for these"
    assert own.audits(1)[0]["action"] == "try_ten"


def test_a_restart_in_the_middle_asks_and_says_nothing_twice(
    slack: Any, engine: ModelServer, still: Bot, own: Ledger, press: Any
) -> None:
    tickets(own, 4)
    run = waiting(own)
    still.watch.step()
    engine.adapters = {f"adapter-{'a' * 12}": "a" * 64}
    before = len(slack.calls("chat.postMessage"))
    press(run, TRY_ACTION)
    still.trial.step()
    still.trial.step()
    with own.connections.write() as db:  # died after two posts, before it could note the second one
        db.execute("UPDATE notices SET ts=NULL, at='2020-01-01' WHERE key LIKE 'try:%:02:%'")

    drain(still)

    assert [text.count("*Candidate*") for text in told(slack, before)] == [0, 1, 1, 1, 1]
    assert own.notices.under("try:")[0].ts is not None
    assert "4 questions" in press(run, TRY_ACTION), "a finished job may be asked for again"


def test_an_engine_that_is_away_is_said_once(
    slack: Any, engine: ModelServer, still: Bot, own: Ledger, press: Any
) -> None:
    tickets(own, 5)
    run = waiting(own)
    still.watch.step()
    engine.mode = engine.base_mode = "down"
    before = len(slack.calls("chat.postMessage"))

    press(run, TRY_ACTION)
    drain(still)

    assert len(told(slack, before)) == 3 and "this is where I stop" in told(slack, before)[-1]
    assert "No answer: the model server cannot be reached" in told(slack, before)[1]


def test_without_any_question_there_is_nothing_to_try(still: Bot, own: Ledger, press: Any) -> None:
    run = waiting(own)
    still.watch.step()

    assert "no question to try" in press(run, TRY_ACTION)


def test_people_s_newest_questions_come_first_and_erased_ones_are_left_out(
    slack: Any, engine: ModelServer, still: Bot, own: Ledger, press: Any
) -> None:
    ids = [own.exchanges.open(replace(question(ts=f"{n}.1"), text=f"How {n % 3}?")) for n in range(6)]
    tickets(own, 2)
    run = waiting(own)
    still.watch.step()
    engine.adapters = {f"adapter-{'a' * 12}": "a" * 64}
    before = len(slack.calls("chat.postMessage"))
    assert "3 questions" in press(run, TRY_ACTION)
    own.exchanges.erase(ids[-1])

    drain(still)

    said = str(told(slack, before))
    assert "How 1?" in said and "How 0?" in said and "How 2?" not in said and "Question number" not in said
