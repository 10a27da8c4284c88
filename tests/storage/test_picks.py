"""Blind picks: who is asked about what, what is kept once, and what the picks add up to."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from bot.review_order import ranked
from storage.ledger import Ledger
from storage.picks import PickVerdict, drawn, win_rate
from storage.records import Answer, AnswerStatus, Question, RaterRole, RatingEvent

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
MONTH_S = 30 * 86_400.0
_numbers = count(1)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "evenkeel.db", clock=lambda: NOW)
    yield opened
    opened.close()


def exchange(
    ledger: Ledger, *, tuned: str = "Press F5.", base: str = "Try to reload.", adapter: str | None = "a" * 64,
    asker: str = "U0MIA", days_ago: float = 1.0, base_status: AnswerStatus = "ok", text: str = "How do I reload?",
) -> int:  # fmt: skip
    """An answered question with both answers, its message posted."""
    ts, at = f"{next(_numbers)}.5", NOW - timedelta(days=days_ago)
    number = ledger.exchanges.open(
        Question(team="T", channel="C", thread_ts=ts, ts=ts, asker=asker, text=text,
                 messages=({"role": "user", "content": text},), asked_at=at))  # fmt: skip
    said = Answer(role="tuned", status="ok", text=tuned, base_digest="b", adapter_digest=adapter, answered_at=at)
    ledger.exchanges.record(number, said)
    ledger.exchanges.record(number, Answer(role="base", status=base_status, text=base, base_digest="b"))
    message, _ = ledger.exchanges.intend_message(number, 1, team="T", channel="C")
    ledger.exchanges.message_posted(message.message_id, f"{number}.9")
    return number


def by_lot(ledger: Ledger, *, adapter: str = "a" * 64) -> int:
    """The next exchange that is drawn for the win rate."""
    while not drawn(number := exchange(ledger, adapter=adapter)):
        pick(ledger, number, "base")
    return number


def rate(ledger: Ledger, number: int, user: str, sign: int) -> None:
    n = next(_numbers)
    ledger.ratings.add(
        RatingEvent(event_id=f"v{n}", team="T", channel="C", ts=f"{number}.9", user=user, reaction="x", sign=sign,
                    action="add", event_ts=f"{n}.0", role="customer"))  # fmt: skip


def pick(ledger: Ledger, number: int, verdict: PickVerdict, *, by: str = "U0ASHA", role: RaterRole = "agent") -> bool:
    return ledger.picks.add(number, reviewer=by, role=role, first="tuned", verdict=verdict)


def asked(ledger: Ledger, reviewer: str = "U0ASHA") -> list[int]:
    return [c.exchange_id for c in ledger.picks.candidates(reviewer, max_age_s=MONTH_S)]


def test_a_second_pick_of_the_same_person_changes_nothing(ledger: Ledger) -> None:
    number = exchange(ledger)

    assert pick(ledger, number, "tuned") and not pick(ledger, number, "base")
    assert ledger.picks.preferences() == ((number, "tuned"),)
    assert pick(ledger, number, "tuned", by="U0TOM")


def test_a_pick_of_an_exchange_that_was_erased_is_not_stored(ledger: Ledger) -> None:
    number = exchange(ledger)
    pick(ledger, number, "tuned")
    ledger.exchanges.erase(number)

    assert not pick(ledger, number, "tuned", by="U0TOM")
    assert ledger.picks.win_rate().n == 0 and ledger.verify() == ()


def test_asked_is_only_what_can_be_compared(ledger: Ledger) -> None:
    good = exchange(ledger)
    exchange(ledger, adapter=None)
    exchange(ledger, base=" Press F5. ")
    exchange(ledger, base_status="timeout")
    exchange(ledger, days_ago=31)

    assert asked(ledger) == [good]
    assert asked(ledger, "U0TOM") == [good]


def test_nobody_is_asked_twice_nor_about_answers_whose_speaker_they_saw(ledger: Ledger) -> None:
    picked, own, rated, corrected, fresh = (
        exchange(ledger), exchange(ledger, asker="U0ASHA"), exchange(ledger), exchange(ledger), exchange(ledger)
    )  # fmt: skip
    pick(ledger, picked, "skip")
    rate(ledger, rated, "U0ASHA", -1)
    ledger.lessons.correct(corrected, author="U0ASHA", role="agent", text="Better.")

    assert asked(ledger) == [fresh]
    assert asked(ledger, "U0TOM") == [fresh, corrected, rated, own, picked]
    assert [c.disliked for c in ledger.picks.candidates("U0TOM", max_age_s=MONTH_S)] == [
        False,
        False,
        True,
        False,
        False,
    ]


def test_two_picks_are_enough_and_skips_are_none(ledger: Ledger) -> None:
    number = exchange(ledger)
    pick(ledger, number, "skip", by="U1")
    pick(ledger, number, "skip", by="U2")
    pick(ledger, number, "both", by="U3")
    assert asked(ledger) == [number] and ledger.picks.still_wanted("U0ASHA", (number, 999)) == {number}

    pick(ledger, number, "tuned", by="U4")
    assert asked(ledger) == [] and ledger.picks.still_wanted("U0ASHA", (number,)) == frozenset()


def test_the_win_rate_counts_the_team_only_ties_half_and_skips_not_at_all(ledger: Ledger) -> None:
    for verdict in ("tuned", "tuned", "tuned", "base", "both", "neither", "skip"):
        pick(ledger, by_lot(ledger), verdict)
    pick(ledger, by_lot(ledger), "base", by="U0MIA", role="customer")
    pick(ledger, by_lot(ledger, adapter="c" * 64), "base", by="U0INES", role="admin")

    every, one = ledger.picks.win_rate(), ledger.picks.win_rate("a" * 64)
    assert (one.wins, one.losses, one.ties, one.n, one.share) == (3, 1, 2, 6, 4 / 6)
    assert (every.losses, every.n, every.share) == (2, 7, 4 / 7)
    assert ledger.picks.win_rate("d" * 64) == win_rate(0, 0, 0)


def test_without_a_pick_nothing_is_known() -> None:
    nothing = win_rate(0, 0, 0)

    assert nothing.share is None and (nothing.low, nothing.high) == (0.0, 1.0)


@given(wins=st.integers(0, 300), losses=st.integers(0, 300), pairs_of_ties=st.integers(0, 50))
def test_the_interval_is_that_of_scipy(wins: int, losses: int, pairs_of_ties: int) -> None:
    found = win_rate(wins, losses, 2 * pairs_of_ties)
    if not found.n:
        return

    expected = binomtest(wins + pairs_of_ties, found.n).proportion_ci(method="wilson")
    assert found.low == pytest.approx(expected.low, abs=1e-6)
    assert found.high == pytest.approx(expected.high, abs=1e-6)


def test_preferences_are_what_agents_and_admins_agree_on(ledger: Ledger) -> None:
    agreed, disputed, tied, customers, one = (exchange(ledger) for _ in range(5))
    twice: tuple[tuple[int, PickVerdict, PickVerdict], ...] = (
        (agreed, "base", "base"), (disputed, "tuned", "base"), (tied, "both", "neither"),
    )  # fmt: skip
    for number, first, second in twice:
        pick(ledger, number, first)
        pick(ledger, number, second, by="U0INES", role="admin")
    pick(ledger, customers, "tuned", by="U0MIA", role="customer")
    pick(ledger, one, "tuned")

    assert ledger.picks.preferences() == ((agreed, "base"), (one, "tuned"))
    assert ledger.picks.count_by("U0ASHA") == 4
    assert ledger.picks.verdicts_of("U0ASHA", (disputed, one, 999)) == ("tuned", "tuned")


def test_a_thousand_exchanges_are_found_and_ranked_in_as_many_statements_as_one(ledger: Ledger) -> None:
    """What an agent waits for does not grow by a round to the file for each exchange."""
    draw, words = random.Random(7), [f"word{n}" for n in range(400)]

    def say(most: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(5, most)))

    def statements() -> tuple[int, int]:
        made: list[str] = []
        ledger.connections.db.conn.set_trace_callback(made.append)
        found = ledger.picks.candidates("U0ASHA", max_age_s=MONTH_S)
        order = ranked(found, ledger.picks.recent_questions(max_age_s=MONTH_S))
        ledger.connections.db.conn.set_trace_callback(None)
        return len(order), len(made)

    exchange(ledger, text=say(20), tuned=say(80), base=say(80))
    assert (one := statements())[0] == 1 and one[1] > 0
    with ledger.connections.write():
        for n in range(999):
            number = exchange(ledger, text=say(20), tuned=say(80), base=say(80))
            if n % 20 == 0:
                rate(ledger, number, "U0JONAS", -1)

    assert statements() == (1_000, one[1])
