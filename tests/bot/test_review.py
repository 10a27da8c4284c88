"""The review queue as agents meet it: blind cards, one pick each, an honest count at the end."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from bot.review_order import disagreement, ranked, valued
from bot.review_view import first_of, rate_text, session_from, verdict_of
from bot.roles import Roles
from storage.ledger import Ledger
from storage.picks import Candidate, WinRate, drawn, lot
from storage.records import Answer, Question
from storage.shares import wilson
from tests.bot.conftest import SUPPORT, Live

ADAPTER = "a" * 64


@pytest.fixture
def ledger(live: Live) -> Ledger:
    return live.ledger


@pytest.fixture
def pairs(live: Live) -> Iterator[Ledger]:
    """Twelve questions with different answers, and nothing else to review."""
    ledger = live.ledger
    ledger.connections.db.execute("DELETE FROM exchanges")
    for n in range(12):
        pair(ledger, n)
    yield ledger
    ledger.connections.db.execute("DELETE FROM exchanges")


def pair(ledger: Ledger, n: int, **changes: Any) -> int:
    text = changes.get("question", f"How do I change setting number {n}?")
    now = ledger.clock()
    exchange_id = ledger.exchanges.open(
        Question(
            team="T0DEMO", channel=SUPPORT, thread_ts=f"{n}.000001", ts=f"{n}.000001", asker="U0MIA", text=text,
            messages=({"role": "user", "content": text},), asked_at=now,
        )
    )  # fmt: skip
    tuned = changes.get("tuned", f"Open Settings and press button {n}.")
    base = changes.get("base", f"I am a language model and cannot know number {n}.")
    ledger.exchanges.record(
        exchange_id,
        Answer(role="tuned", status="ok", text=tuned, base_digest="b", adapter_digest=changes.get("adapter", ADAPTER)),
    )
    ledger.exchanges.record(exchange_id, Answer(role="base", status="ok", text=base, base_digest="b"))
    ledger.exchanges.close(exchange_id, "answered")
    return exchange_id


def opened(slack: Any, user: str = "U0ASHA") -> dict[str, Any]:
    slack.command(user, "/review", "", SUPPORT)
    slack.wait_for(lambda: "One moment" not in str(slack.view(user) or "One moment"))
    return dict(slack.view(user))


def press(slack: Any, choice: str, user: str = "U0ASHA") -> dict[str, Any]:
    """The view after pressing this button of the card."""
    before = slack.view(user)
    slack.click_in_view(user, before["id"], f"evenkeel_pick_{choice}")
    slack.wait_for(lambda: slack.view(user) and slack.view(user)["hash"] != before["hash"])
    return dict(slack.view(user))


def test_a_session_of_ten_ends_with_what_it_changed(slack: Any, pairs: Ledger) -> None:
    view = opened(slack)
    assert "1 of 10" in str(view["blocks"])
    for choice in ("a", "b", "a", "b", "a", "b", "both", "neither", "skip"):
        view = press(slack, choice)
    assert "10 of 10" in str(view["blocks"])
    view = press(slack, "a")

    text = str(view["blocks"])
    assert "9 answer pairs judged, 1 card skipped" in text and "7 preference pairs came of it" in text
    assert "drawn by lot" in text
    judged = pairs.connections.db.execute("SELECT exchange_id FROM picks WHERE verdict <> 'skip'").fetchall()
    assert pairs.picks.win_rate().n == sum(drawn(row[0]) for row in judged)
    assert (len(judged), len(pairs.picks.preferences())) == (9, 7)

    slack.click_in_view("U0ASHA", view["id"], "evenkeel_review")
    slack.wait_for(lambda: "1 of 2" in str(slack.view("U0ASHA")))


def test_a_card_does_not_tell_who_spoke(slack: Any, pairs: Ledger) -> None:
    view = opened(slack)
    said = str({k: view[k] for k in ("blocks", "private_metadata", "callback_id", "external_id")}).lower()
    assert not any(word in said for word in ("tuned", '"base"', "'base'", "v1", "adapter", ADAPTER[:12]))

    everyone = list(pairs.exchanges.recent(12))
    assert {first_of(e, "U0ASHA") for e in everyone} == {"tuned", "base"}
    assert [first_of(e, "U0ASHA") for e in everyone] == [first_of(e, "U0ASHA") for e in everyone]
    assert [first_of(e, "U0ASHA") for e in everyone] != [first_of(e, "U0TOM") for e in everyone]


def test_a_pick_is_stored_as_who_it_meant(slack: Any, pairs: Ledger) -> None:
    view = opened(slack)
    session = session_from(view["private_metadata"])
    assert session is not None
    exchange = pairs.exchanges.get(session.queue[0])
    assert exchange is not None and exchange.tuned is not None
    blocks = str(view["blocks"])
    tuned_is_a = blocks.index(exchange.tuned.text) < blocks.index("I am a language model")
    press(slack, "a")

    assert pairs.picks.preferences() == ((exchange.exchange_id, "tuned" if tuned_is_a else "base"),)


def test_customers_guests_and_who_has_lost_the_role_pick_nothing(
    slack: Any, pairs: Ledger, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    slack.command("U0MIA", "/review", "", SUPPORT)
    slack.wait_for(lambda: any("Only support agents" in n["text"] for n in slack.ephemerals("U0MIA")))
    assert slack.view("U0MIA") is None
    assert [row["action"] for row in live.ledger.audits(1)] == ["review_refused"]

    opened(slack, "U0TOM")
    monkeypatch.setattr(Roles, "role_of", lambda self, user: "customer")
    view = press(slack, "a", "U0TOM")
    assert "Only support agents" in str(view["blocks"]) and pairs.picks.win_rate().n == 0

    monkeypatch.setattr(Roles, "role_of", lambda self, user: "unknown")
    slack.command("U0ASHA", "/review", "", SUPPORT)
    slack.wait_for(lambda: any("could not check" in n["text"] for n in slack.ephemerals("U0ASHA")))


def test_a_card_whose_question_was_erased_gives_way_to_the_next(slack: Any, pairs: Ledger) -> None:
    view = opened(slack)
    session = session_from(view["private_metadata"])
    assert session is not None
    pairs.exchanges.erase(session.queue[0])

    view = press(slack, "a")
    assert "2 of 10" in str(view["blocks"]) and pairs.picks.win_rate().n == 0


def test_a_better_answer_is_written_on_top_of_the_card(slack: Any, pairs: Ledger) -> None:
    view = opened(slack)
    session = session_from(view["private_metadata"])
    assert session is not None
    slack.click_in_view("U0ASHA", view["id"], "evenkeel_pick_edit")
    slack.wait_for(lambda: slack.view("U0ASHA")["callback_id"] == "evenkeel_correction")
    form = slack.view("U0ASHA")
    field = next(b for b in form["blocks"] if b["type"] == "input")
    values = {field["block_id"]: {field["element"]["action_id"]: {"type": "plain_text_input", "value": "Better."}}}
    assert slack.submit("U0ASHA", form["id"], values).get("errors") is None

    assert [c.answer for c in pairs.lessons.corrections()] == ["Better."]
    assert "2 of 10" in str(slack.view("U0ASHA")["blocks"]) and pairs.picks.win_rate().n == 0


def test_what_is_not_worth_comparing_is_not_shown(pairs: Ledger, slack: Any) -> None:
    pairs.connections.db.execute("DELETE FROM exchanges")
    pair(pairs, 50, tuned="the same", base="the same")
    pair(pairs, 51, adapter=None)
    assert "Nothing to review" in str(opened(slack)["blocks"])

    seen = pair(pairs, 52)
    for reviewer in ("U1", "U2"):
        pairs.picks.add(seen, reviewer=reviewer, role="agent", first="tuned", verdict="tuned")
    assert pairs.picks.candidates("U0ASHA", max_age_s=3600) == ()


def test_only_the_first_pick_of_a_reviewer_counts_and_only_agents_do(pairs: Ledger) -> None:
    newest = next(e for e in pairs.exchanges.recent(12) if drawn(e.exchange_id))
    assert pairs.picks.add(newest.exchange_id, reviewer="U0ASHA", role="agent", first="tuned", verdict="base")
    assert not pairs.picks.add(newest.exchange_id, reviewer="U0ASHA", role="agent", first="tuned", verdict="tuned")
    pairs.picks.add(newest.exchange_id, reviewer="U0MIA", role="customer", first="tuned", verdict="tuned")

    assert (pairs.picks.win_rate().wins, pairs.picks.win_rate().losses) == (0, 1)
    assert pairs.picks.win_rate(ADAPTER).n == 1 and pairs.picks.win_rate("c" * 64).n == 0


def one(n: int, question: str = "", tuned: str = "a b c", base: str = "x y z", disliked: bool = False) -> Candidate:
    return Candidate(exchange_id=n, question=question or f"question {n}", tuned=tuned, base=base, disliked=disliked)


def test_disagreement_frequency_and_dislike_come_first() -> None:
    near = one(1, question="unlike all others here", base="a b c d")
    often = [one(n, question="how do I reset my password please") for n in (2, 3, 4)]
    disliked = one(5, question="where is the invoice page now", disliked=True)
    alone = one(6, question="something quite different again")

    asked = [near, alone, disliked, *often]
    assert valued(asked, [c.question for c in asked]) == (4, 3, 2, 5, 6, 1)


def test_every_third_card_comes_by_lot_and_the_rest_by_value() -> None:
    asked = [one(n, question=f"{n} {n * n} {n * 7}") for n in range(1, 61)]
    order = ranked(asked, [])
    by_lot = sorted((n for n in range(1, 61) if drawn(n)), key=lot)

    assert sorted(order) == list(range(1, 61)) and 12 <= len(by_lot) <= 28
    assert [n for n in order if drawn(n)] == by_lot
    assert all(drawn(n) for n in order[0:30:3]) and not any(drawn(n) for n in (*order[1:30:3], *order[2:30:3]))


def test_the_win_rate_is_that_of_all_though_the_queue_prefers_the_disliked(ledger: Ledger) -> None:
    """Tuned is right on three of four, and each wrong answer of it has a 👎: the cards by value are all losses."""
    ledger.connections.db.execute("DELETE FROM exchanges")
    wrong = {pair(ledger, n): n % 4 == 0 for n in range(400)}
    asked = [one(n, question=f"{n} {n * n}", disliked=wrong[n]) for n in wrong]
    for number in ranked(asked, [])[:150]:
        verdict = "base" if wrong[number] else "tuned"
        ledger.picks.add(number, reviewer="U0ASHA", role="agent", first="tuned", verdict=verdict)
    rate, every = ledger.picks.win_rate(), dict(ledger.picks.preferences())

    assert rate.low < 0.75 < rate.high and 40 <= rate.n <= 60
    assert sum(role == "tuned" for role in every.values()) / len(every) < 0.6
    ledger.connections.db.execute("DELETE FROM exchanges")


def test_two_reviewers_of_one_exchange_are_one_trial(pairs: Ledger) -> None:
    first, second = [e.exchange_id for e in pairs.exchanges.recent(12) if drawn(e.exchange_id)][:2]
    for reviewer, verdict in (("U0ASHA", "tuned"), ("U0TOM", "tuned")):
        pairs.picks.add(first, reviewer=reviewer, role="agent", first="tuned", verdict=verdict)
    for reviewer, verdict in (("U0ASHA", "tuned"), ("U0TOM", "base")):
        pairs.picks.add(second, reviewer=reviewer, role="agent", first="tuned", verdict=verdict)

    rate = pairs.picks.win_rate()
    assert (rate.wins, rate.losses, rate.ties) == (1, 0, 1)


def test_answers_that_look_alike_make_no_card(slack: Any, pairs: Ledger) -> None:
    pairs.connections.db.execute("DELETE FROM exchanges")
    pair(pairs, 60, tuned="Press <F5>.\u200b", base="Press <F5>.")
    pair(pairs, 61, tuned="\u200b", base="Press F5.")

    assert "Nothing to review" in str(opened(slack)["blocks"])


@given(st.text(max_size=60), st.text(max_size=60))
def test_disagreement_lies_between_nothing_and_all_and_is_mutual(left: str, right: str) -> None:
    assert 0 <= disagreement(left, right) <= 1
    assert disagreement(left, right) == disagreement(right, left)
    assert disagreement(left, left) == 0


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_interval_is_wilsons(hits: int, misses: int) -> None:
    n = hits + misses
    if not n:
        assert wilson(0, 0) == (0.0, 1.0)
        return
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((theirs.low, theirs.high), abs=1e-5)


@pytest.mark.parametrize(("choice", "verdict"), [("a", "tuned"), ("b", "base"), ("both", "both"), ("edit", "skip")])
def test_a_press_means_who_was_there(choice: str, verdict: str) -> None:
    assert verdict_of(choice, "tuned") == verdict
    other = {"tuned": "base", "base": "tuned"}.get(verdict, verdict)
    assert verdict_of(choice, "base") == other


@pytest.mark.parametrize("text", [None, "", "x", "[]", '{"queue": "1"}', '{"queue": []}', '{"queue": [true]}', 5])
def test_a_forged_session_is_none(text: object) -> None:
    assert session_from(text) is None


def test_a_rate_says_how_sure_it_is() -> None:
    low, high = wilson(6.5, 10)
    rate = WinRate(wins=6, losses=3, ties=1, share=0.65, low=low, high=high)
    assert rate_text(rate) == "65 % for tuned (95 % interval 35 to 86 %, n = 10). Both fine and both bad count half."
