"""The review queue at its edges: sessions left and resumed, cards out of date, roles lost, locks, hostile texts, blindness."""

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

from bot.review_order import disagreement, frequency, ranked, valued
from bot.review_view import CHOICES, NOT_YOU, OUTDATED, PICK, UNKNOWN, Session, card, first_of, session_from, verdict_of
from storage.ledger import Ledger
from storage.picks import Candidate, drawn
from storage.records import Answer, Exchange, Question, Role
from tests.bot.conftest import OPS, SUPPORT, Live

ADAPTER, BASE = "a" * 64, "b" * 64
SPOKEN = {"tuned": "Wren", "base": "Crow"}  # what each of the two says in these tests, and nobody else
_numbers = count(1)


@pytest.fixture
def queue(live: Live) -> Iterator[Live]:
    """The running bot without a question; open modals and remembered roles are cleared before and after."""

    def clear() -> None:
        with live.ledger.connections.write() as db:
            for table in ("picks", "corrections", "answers", "messages", "exchanges"):
                db.execute(f"DELETE FROM {table}")
        for user in ("U0ASHA", "U0TOM", "U0INES", "U0MIA"):
            while view := live.slack.view(user):
                live.slack.close(user, view["id"])
        live.bot.reactions.roles._known.clear()

    clear()
    yield live
    live.slack.set_user("U0ASHA", is_restricted=False)
    clear()


def question(ledger: Ledger, text: str = "", **more: Any) -> int:
    """An answered question with two answers of different words."""
    n = next(_numbers)
    text, now = text or f"How do I use part {chr(97 + n % 26)}{n}?", datetime.now(UTC) - timedelta(minutes=5)
    asked = Question(
        team="T0DEMO", channel=SUPPORT, thread_ts=f"{n}.1", ts=f"{n}.1", asker="U0MIA", text=text,
        messages=({"role": "user", "content": text},), asked_at=now)  # fmt: skip
    number = ledger.exchanges.open(replace(asked, **more))
    voices: tuple[tuple[Role, str | None], ...] = (("tuned", ADAPTER), ("base", None))
    for role, adapter in voices:
        said = Answer(role=role, status="ok", text=f"{SPOKEN[role]} says {n}.", base_digest=BASE,
                      adapter_digest=adapter, answered_at=now + timedelta(microseconds=7 * n))  # fmt: skip
        ledger.exchanges.record(number, said)
    ledger.exchanges.close(number, "answered")
    return number


def modal(slack: Any, user: str, *words: str) -> dict[str, Any]:
    """The modal that this user looks at once it holds these words."""

    def find() -> Any:
        view = slack.view(user)
        return view and all(word in json.dumps(view["blocks"], ensure_ascii=False) for word in words) and view

    return dict(slack.wait_for(find, timeout=5))


def begin(slack: Any, user: str = "U0ASHA", *words: str) -> dict[str, Any]:
    assert slack.command(user, "/review", "", OPS) is not None
    return modal(slack, user, *(words or ("Answer A",)))


def texts(view: dict[str, Any]) -> list[str]:
    return [e["text"] for e in walk(view["blocks"]) if e.get("type") == "mrkdwn"]


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)


def shown_number(view: dict[str, Any]) -> int:
    """The exchange of this card."""
    return int(next(e["value"] for e in walk(view["blocks"]) if e.get("action_id") == f"{PICK}a"))


def first_speaker(view: dict[str, Any]) -> Role:
    """Who a person who knows the two voices hears in answer A."""
    said = texts(view)
    return "tuned" if SPOKEN["tuned"] in said[said.index("*Answer A*") + 1] else "base"


def stored(ledger: Ledger) -> list[tuple[Any, ...]]:
    rows = ledger.connections.db.execute(
        "SELECT exchange_id, reviewer, role, first, verdict FROM picks ORDER BY pick_id"
    )
    return list(rows.fetchall())


def press(slack: Any, view: dict[str, Any], choice: str, user: str = "U0ASHA") -> None:
    assert slack.click_in_view(user, view["id"], f"{PICK}{choice}")


# A session


def test_a_session_shows_ten_cards_stores_each_pick_at_once_and_ends_with_what_it_changed(queue: Live) -> None:
    slack, ledger = queue.slack, queue.ledger
    for _ in range(12):
        question(ledger)
    choices = ["a", "b", "a", "both", "neither", "skip", "a", "b", "b", "a"]
    expected = []

    begin(slack)
    for place, choice in enumerate(choices, start=1):
        view = modal(slack, "U0ASHA", f"{place} of 10")
        first, number = first_speaker(view), shown_number(view)
        second = "base" if first == "tuned" else "tuned"
        expected.append((number, "U0ASHA", "agent", first, {"a": first, "b": second}.get(choice, choice)))
        press(slack, view, choice)
        slack.wait_for(lambda: stored(ledger) == expected, timeout=5)

    end = modal(slack, "U0ASHA", "Thank you")
    rate = ledger.picks.win_rate()
    whole = "\n".join(texts(end))
    assert "9 answer pairs judged, 1 card skipped" in whole and "7 preference pairs came of it" in whole
    assert rate.n == sum(drawn(number) for number, *_, verdict in expected if verdict != "skip") >= 1
    assert rate.share is not None
    span = f"{100 * rate.share:.0f} % for tuned (95 % interval {100 * rate.low:.0f} to {100 * rate.high:.0f} %, n = {rate.n})"
    assert span in whole
    assert len({number for number, *_ in expected}) == 10

    slack.click_in_view("U0ASHA", end["id"], "evenkeel_review")
    assert "1 of 2" in texts(modal(slack, "U0ASHA", "1 of 2"))


def test_a_session_can_be_left_and_goes_on_where_it_was(queue: Live) -> None:
    slack = queue.slack
    seen = {question(queue.ledger) for _ in range(3)}
    view = begin(slack)
    press(slack, view, "both")
    modal(slack, "U0ASHA", "2 of 3")
    slack.close("U0ASHA", view["id"])

    again = begin(slack)
    assert "1 of 2" in texts(again) and shown_number(again) in seen - {shown_number(view)}


def test_two_reviewers_are_asked_the_same_and_a_third_is_not(queue: Live) -> None:
    number = question(queue.ledger)
    for user in ("U0ASHA", "U0INES"):
        press(queue.slack, begin(queue.slack, user), "neither", user)
        modal(queue.slack, user, "Thank you")

    begin(queue.slack, "U0TOM", "Nothing to review")
    assert [(row[0], row[2]) for row in stored(queue.ledger)] == [(number, "agent"), (number, "admin")]


def test_an_empty_queue_says_what_is_needed_and_looks_again(queue: Live) -> None:
    view = begin(queue.slack, "U0ASHA", "Nothing to review now")

    question(queue.ledger)
    queue.slack.click_in_view("U0ASHA", view["id"], "evenkeel_review")
    modal(queue.slack, "U0ASHA", "1 of 1")


def test_write_a_better_one_opens_the_form_above_the_next_card_and_is_no_verdict(queue: Live) -> None:
    slack, ledger = queue.slack, queue.ledger
    question(ledger)
    question(ledger)
    view = begin(slack)
    number = shown_number(view)

    press(slack, view, "edit")
    form = slack.wait_for(
        lambda: (v := slack.view("U0ASHA")) and v["callback_id"] == "evenkeel_correction" and v, timeout=5
    )
    assert [row[4] for row in stored(ledger)] == ["skip"]
    field = next(b for b in form["blocks"] if b["type"] == "input" and b["element"]["type"] == "plain_text_input")
    typed = {"type": "plain_text_input", "value": "Robin says it best."}
    slack.submit("U0ASHA", form["id"], {field["block_id"]: {field["element"]["action_id"]: typed}})

    after = modal(slack, "U0ASHA", "2 of 2")
    assert after["id"] == view["id"] and shown_number(after) != number
    rows = ledger.connections.db.execute("SELECT exchange_id, author, text FROM corrections").fetchall()
    assert list(rows) == [(number, "U0ASHA", "Robin says it best.")]


def test_a_form_that_slack_does_not_open_is_said_above_the_next_card(queue: Live) -> None:
    question(queue.ledger)
    view = begin(queue.slack)
    queue.slack.fault("views.push", "error", code="expired_trigger_id")

    press(queue.slack, view, "edit")
    modal(queue.slack, "U0ASHA", "did not open the form", "Thank you", "1 card skipped")


# Who may, and what is out of date


@pytest.mark.parametrize("guest", [False, True], ids=["customer", "guest"])
def test_others_are_refused_privately(queue: Live, guest: bool) -> None:
    question(queue.ledger)
    user = "U0ASHA" if guest else "U0MIA"
    queue.slack.set_user("U0ASHA", is_restricted=guest)
    before = len(queue.slack.ephemerals(user))

    queue.slack.command(user, "/review", "", SUPPORT)
    queue.slack.wait_for(lambda: [m["text"] for m in queue.slack.ephemerals(user)[before:]] == [NOT_YOU], timeout=5)
    assert queue.slack.view(user) is None and stored(queue.ledger) == []


def test_whoever_lost_the_role_since_the_card_opened_picks_nothing(queue: Live) -> None:
    question(queue.ledger)
    view = begin(queue.slack)
    queue.slack.set_user("U0ASHA", is_restricted=True)
    queue.bot.reactions.roles._known.clear()

    for choice in ("a", "edit"):
        press(queue.slack, view, choice)
        refused = modal(queue.slack, "U0ASHA", "Only support agents")
        queue.slack.close("U0ASHA", refused["id"])
        queue.slack.set_user("U0ASHA", is_restricted=False)
        queue.bot.reactions.roles._known.clear()
        view = begin(queue.slack)
        queue.slack.set_user("U0ASHA", is_restricted=True)
        queue.bot.reactions.roles._known.clear()
    assert stored(queue.ledger) == []


def test_a_role_that_cannot_be_looked_up_keeps_the_card_and_stores_nothing(queue: Live) -> None:
    number = question(queue.ledger)
    view = begin(queue.slack)
    queue.bot.reactions.roles._known.clear()
    queue.slack.fault("usergroups.users.list", "error", code="internal_error")

    press(queue.slack, view, "a")
    kept = modal(queue.slack, "U0ASHA", "could not check")
    assert UNKNOWN in "\n".join(texts(kept)) and shown_number(kept) == number and stored(queue.ledger) == []


def test_a_second_click_on_a_card_changes_nothing(queue: Live) -> None:
    slack, ledger = queue.slack, queue.ledger
    for _ in range(3):
        question(ledger)
    review, view = queue.bot, begin(slack)
    old = {"user": {"id": "U0ASHA"}, "view": view, "trigger_id": "x"}
    press(slack, view, "a")
    second = modal(slack, "U0ASHA", "2 of 3")
    before = stored(ledger)

    for choice in ("b", "edit", "skip"):
        reviewer(review).press(old, choice, str(shown_number(view)))
    now = slack.view("U0ASHA")
    assert stored(ledger) == before and shown_number(now) == shown_number(second) and now["id"] == view["id"]


def test_a_card_whose_question_was_erased_gives_way_to_the_next(queue: Live) -> None:
    slack, ledger = queue.slack, queue.ledger
    question(ledger)
    question(ledger)
    view = begin(slack)
    ledger.exchanges.erase(shown_number(view))

    press(slack, view, "a")
    assert shown_number(modal(slack, "U0ASHA", "2 of 2")) != shown_number(view)
    assert stored(ledger) == []


@pytest.mark.parametrize(
    "metadata", ["", "{", "[]", '{"queue": []}', '{"queue": ["1"]}', '{"queue": [true]}', "9" * 4_000]
)
def test_a_card_of_an_older_version_says_so(queue: Live, metadata: str) -> None:
    view = begin(queue.slack, "U0ASHA", "Nothing to review")
    number = question(queue.ledger)
    body = {"user": {"id": "U0ASHA"}, "view": {**view, "private_metadata": metadata}, "trigger_id": "x"}

    reviewer(queue.bot).press(body, "a", str(number))
    assert OUTDATED in texts(queue.slack.view("U0ASHA")) and stored(queue.ledger) == []


def test_a_card_of_another_session_stores_nothing(queue: Live) -> None:
    other = question(queue.ledger, "Something else?")
    number = question(queue.ledger)
    view = begin(queue.slack)
    session = Session(queue=(number,), channel=OPS)
    body = {"user": {"id": "U0ASHA"}, "view": {**view, "private_metadata": session.to_text()}, "trigger_id": "x"}

    reviewer(queue.bot).press(body, "a", str(other))
    assert stored(queue.ledger) == [] and shown_number(queue.slack.view("U0ASHA")) == number


def test_while_the_ledger_is_locked_the_card_stays_and_says_so(queue: Live) -> None:
    number = question(queue.ledger)
    view = begin(queue.slack)
    other = sqlite3.connect(queue.ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with queue.ledger.connections.patience(0.1):
            body = {"user": {"id": "U0ASHA"}, "view": view, "trigger_id": "x"}
            reviewer(queue.bot).press(body, "a", str(number))
    finally:
        other.execute("ROLLBACK")
        other.close()

    kept = queue.slack.view("U0ASHA")
    assert "locked" in texts(kept)[0] and shown_number(kept) == number
    press(queue.slack, kept, "a")
    modal(queue.slack, "U0ASHA", "Thank you")
    assert len(stored(queue.ledger)) == 1


def test_the_app_home_button_opens_the_queue_and_refuses_others(queue: Live) -> None:
    question(queue.ledger)
    opened: list[dict[str, Any]] = []
    agent, customer = (
        {"user": {"id": user}, "view": {"type": "home"}, "trigger_id": "x"} for user in ("U0ASHA", "U0MIA")
    )
    review = reviewer(queue.bot, opened.append)

    review.button(agent)
    review.button(customer)
    assert "Answer A" in str(opened[1]["blocks"])
    assert NOT_YOU in str(opened[3]["blocks"]) and "Answer A" not in str(opened[3]["blocks"])


def reviewer(bot: Any, seen: Callable[[dict[str, Any]], None] | None = None) -> Any:
    """The running bot's review, to be called with a body of the test's own; with `seen`, its views go there."""
    from bot.review import Review

    class Screen:
        def views_open(self, *, trigger_id: str, view: dict[str, Any]) -> dict[str, Any]:
            seen(view)  # type: ignore[misc]
            return {"view": {"id": "V1"}}

        def views_update(self, *, view_id: str, view: dict[str, Any]) -> None:
            seen(view)  # type: ignore[misc]

    parts = bot.reactions
    client: Any = Screen() if seen else bot.asking.delivery.client
    return Review(settings=parts.settings, ledger=parts.ledger, client=client, roles=parts.roles)


# Blind


def pair(number: int, **more: Any) -> Exchange:
    asked = Question(
        team="T", channel="C", thread_ts="1.1", ts="1.1", asker="U0MIA", text="How?",
        messages=({"role": "user", "content": "How?"},), asked_at=datetime(2026, 3, 1, tzinfo=UTC))  # fmt: skip
    at = datetime(2026, 3, 1, 9, microsecond=number, tzinfo=UTC)
    tuned = Answer(role="tuned", status="ok", text="Wren.", base_digest=BASE, adapter_digest=ADAPTER, answered_at=at)
    base = Answer(role="base", status="ok", text="Crow.", base_digest=BASE, answered_at=at)
    return replace(Exchange(exchange_id=number, question=asked, tuned=tuned, base=base), **more)


def test_nothing_on_a_card_tells_who_spoke() -> None:
    """But for the answers' own words, the card of swapped answers is the same."""
    for number in range(1, 30):
        one = pair(number)
        assert one.tuned and one.base
        other = replace(one, tuned=replace(one.tuned, text=one.base.text), base=replace(one.base, text=one.tuned.text))
        session = Session(queue=(number,), channel="C")
        shown, swapped = (json.dumps(card(e, "U0ASHA", session)) for e in (one, other))
        assert shown.replace("Wren", "Owl").replace("Crow", "Wren").replace("Owl", "Crow") == swapped
        assert not re.search(r"tuned|base|adapter|champion|v\d|aaaa|bbbb", shown)


def test_the_order_is_stable_and_neither_number_nor_reviewer_gives_it_away() -> None:
    pairs = [pair(number) for number in range(1, 401)]
    orders = [first_of(e, "U0ASHA") for e in pairs]

    assert orders == [first_of(e, "U0ASHA") for e in pairs]
    assert 160 < Counter(orders)["tuned"] < 240
    assert sum(a != b for a, b in zip(orders, [first_of(e, "U0TOM") for e in pairs], strict=True)) > 150
    later = [replace(e, tuned=replace(e.tuned, answered_at=datetime(2026, 3, 2, tzinfo=UTC))) for e in pairs if e.tuned]
    assert sum(a != first_of(e, "U0ASHA") for a, e in zip(orders, later, strict=True)) > 150


def test_a_verdict_names_the_speaker_whichever_side_it_was_on() -> None:
    said = {choice: (verdict_of(choice, "tuned"), verdict_of(choice, "base")) for choice in CHOICES}

    assert said == {
        "a": ("tuned", "base"), "b": ("base", "tuned"), "both": ("both", "both"), "neither": ("neither", "neither"),
        "edit": ("skip", "skip"), "skip": ("skip", "skip"),
    }  # fmt: skip


def test_a_card_of_hostile_and_endless_texts_is_harmless_and_within_slacks_limits() -> None:
    bad = "<!channel> [x](https://evil.example) `a` &&& " + "<@U0INES> | **b**\n```\ncode\n```\n" * 900
    one = pair(3)
    assert one.tuned and one.base
    asked = replace(one.question, text=bad, messages=({"role": "user", "content": bad},) * 3)
    one = replace(one, question=asked, tuned=replace(one.tuned, text=bad), base=replace(one.base, text="\u200b"))

    view = card(one, "U0ASHA", Session(queue=tuple(range(1, 11)), channel="C" * 20), said="&lt;x&gt;")
    View(**view).validate_json()
    for block in view["blocks"]:
        parsed = Block.parse(block)
        assert parsed is not None
        parsed.validate_json()
    assert len(view["blocks"]) < 30 and all(0 < len(text) <= 3_000 for text in texts(view))
    assert not re.search(r"<[!@#]|<http", "".join(texts(view))) and "nothing printable" in str(view)


def test_a_session_survives_its_way_through_slack() -> None:
    session = Session(queue=tuple(range(10**9, 10**9 + 10)), channel="C0123456789")

    assert session_from(session.to_text()) == session and len(session.to_text()) < 300


# The order of the cards


def candidate(number: int, **more: Any) -> Candidate:
    fresh = Candidate(exchange_id=number, question=f"Question {chr(96 + number)}?", tuned="one two three", base="four five six",
                      disliked=False)  # fmt: skip
    return replace(fresh, **more)


def test_what_differs_more_is_asked_often_or_is_disliked_comes_first() -> None:
    alike = candidate(1, tuned="press the red button now", base="press the red button then")
    differs, disliked = candidate(2), candidate(3, disliked=True)
    often = candidate(4, question="How do I reset my password please?")
    recent = ["How do I reset my password please?"] * 5 + [c.question for c in (alike, differs, disliked)]

    assert valued((alike, differs, disliked, often), recent) == (4, 3, 2, 1)
    assert valued((), recent) == () == ranked((), recent)


def test_disagreement_is_one_minus_dice_over_word_pairs() -> None:
    assert disagreement("Press the button.", "press THE button") == 0
    assert disagreement("a b c", "x y z") == 1
    assert disagreement("a b c d", "a b c x") == pytest.approx(1 - 2 * 2 / 6)
    assert disagreement("", "") == 0 and disagreement("yes", "no") == 1 and disagreement("yes", "") == 1
    assert 0 < disagreement("設定を開く", "設定を閉じる") < 1


def test_near_questions_count_and_numbers_do_not_tell_them_apart() -> None:
    recent = ["Where is order 123 now?", "where is order 77 now", "How do I reset it?", "", "!!!", "!!!"]

    assert frequency(["Where is order 5 now?", "How do I reset it?", "!!!"], recent) == (2, 1, 1)
