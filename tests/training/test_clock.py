"""The clock asks once, makes up for one missed slot, and never doubles a run."""

import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.crontab import cron
from storage.errors import ConfigurationError
from storage.ledger import Ledger
from storage.records import Question, Ticket
from storage.settings import Settings, load_settings
from training.clock import ask, ask_for_lessons, ask_for_slot, missed, start_clock

MONDAY = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("last", "now", "expected"),
    [
        (MONDAY - timedelta(days=6), MONDAY + timedelta(hours=5), True),
        (MONDAY - timedelta(days=27), MONDAY + timedelta(hours=5), True),
        (MONDAY + timedelta(minutes=1), MONDAY + timedelta(days=6), False),
        (MONDAY - timedelta(days=6), MONDAY - timedelta(seconds=1), False),
    ],
    ids=["slot went by", "several went by", "not due yet", "a second early"],
)
def test_a_missed_slot_is_seen(last: datetime, now: datetime, expected: bool) -> None:
    assert missed(cron("0 3 * * 1"), last=last, now=now) is expected


@pytest.mark.parametrize("text", ["hello", "61 * * * *", "* * * *", "* * * * 5-2", "* * * * 8"])
def test_a_bad_crontab_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match="RETRAIN_CRON"):
        cron(text)


@pytest.mark.parametrize(
    ("weekdays", "days"),
    [
        ("1", [23]), ("1 ", [23]), ("0", [29]), ("7", [29]), ("2-4", [24, 25, 26]), ("fri", [27]), ("mon-wed", [23, 24, 25]),
        ("0-2", [23, 24, 29]), ("5-7", [27, 28, 29]), ("1,3-4", [23, 25, 26]), ("*/2", [24, 26, 28, 29]), ("1-5/2", [23, 25, 27]),
        ("*", list(range(23, 30))), ("0-6", list(range(23, 30))),
    ],
)  # fmt: skip
def test_weekdays_count_from_sunday_as_in_every_crontab(weekdays: str, days: list[int]) -> None:
    trigger, moment, found = cron(f"0 3 * * {weekdays}"), MONDAY, []
    while (due := trigger.get_next_fire_time(None, moment)) and due < MONDAY + timedelta(days=7):
        found.append(due.day)
        moment = due + timedelta(seconds=1)

    assert found == days


def test_a_crontab_may_be_written_with_tabs_and_spaces_around_it() -> None:
    assert str(cron(" 0\t3  * *\t1 ")) == str(cron("0 3 * * 1"))


def test_asking_twice_requests_one_run(ledger: Ledger) -> None:
    ask(ledger, "cron")
    ask(ledger, "lessons")

    assert [r.reason for r in ledger.runs.recent()] == ["cron"]


def settings(tmp_path: Path, **changes: object) -> Settings:
    return load_settings(_env_file=None, data_dir=tmp_path, **changes)


def test_enough_new_lessons_request_a_run_and_too_few_do_not(tmp_path: Path, ledger: Ledger) -> None:
    wanted = settings(tmp_path, retrain_after_lessons=3)
    tickets = [Ticket(ticket_id=f"t{n}", conversation_id=f"c{n}", question=f"q{n}", answer="a") for n in range(3)]
    ledger.lessons.import_tickets(tickets[:2], file="a", file_digest="a", columns={}, actor="me")
    ask_for_lessons(wanted, ledger)
    assert ledger.runs.recent() == ()
    ledger.lessons.import_tickets(tickets, file="b", file_digest="b", columns={}, actor="me")

    ask_for_lessons(wanted, ledger)

    assert [r.reason for r in ledger.runs.recent()] == ["lessons"]


def test_lessons_whose_run_was_cancelled_or_failed_do_not_ask_again_every_minute(
    ledger: Ledger, tmp_path: Path
) -> None:
    wanted = settings(tmp_path, retrain_after_lessons=3)

    def bring(name: str) -> None:
        tickets = [
            Ticket(ticket_id=f"{name}{n}", conversation_id=f"{name}{n}", question="q", answer="a") for n in range(3)
        ]
        ledger.lessons.import_tickets(tickets, file=name, file_digest=name, columns={}, actor="me")

    bring("first")
    for _ in range(3):
        ask_for_lessons(wanted, ledger)
        if ledger.runs.active():
            ledger.runs.cancel(1)
    assert [r.state for r in ledger.runs.recent()] == ["cancelled"]

    bring("second")
    ask_for_lessons(wanted, ledger)
    failing = ledger.runs.claim(owner="me", lease_s=60)
    assert failing and failing.run_id == 2
    ledger.runs.advance(failing, state="failed", lease_s=60, error="too little data")
    ask_for_lessons(wanted, ledger)

    assert [r.state for r in ledger.runs.recent()] == ["failed", "cancelled"]


def test_likes_in_slack_ask_for_a_run_only_where_it_may_learn_from_them(tmp_path: Path, ledger: Ledger) -> None:
    asked = Question(team="T", channel="C", thread_ts="1.1", ts="1.1", asker="U0MIA", text="How?", asked_at=ledger.clock(),
                     messages=({"role": "user", "content": "How?"},))  # fmt: skip
    ledger.lessons.correct(ledger.exchanges.open(asked), author="U0TOM", role="agent", text="So.")
    wanted = settings(tmp_path, retrain_after_lessons=1)
    ask_for_lessons(wanted, ledger)
    assert ledger.runs.recent() == ()

    ask_for_lessons(wanted.model_copy(update={"learn_from_slack": True}), ledger)

    assert [r.reason for r in ledger.runs.recent()] == ["lessons"]


class Weeks:
    """A ledger whose clock is set by hand, and the slot on Mondays at three."""

    def __init__(self, path: Path) -> None:
        self.now = MONDAY - timedelta(days=6)
        self.ledger = Ledger(path, clock=lambda: self.now)
        self.trigger, self.since = cron("0 3 * * 1"), self.now

    def look(self, now: datetime) -> list[str]:
        self.now = now
        ask_for_slot(self.trigger, self.since, self.ledger)
        return [run.reason for run in self.ledger.runs.recent(100) if not run.overrides.get("dry_run")]


@pytest.fixture
def weeks(tmp_path: Path) -> Iterator[Weeks]:
    made = Weeks(tmp_path / "weeks.db")
    yield made
    made.ledger.close()


def test_a_slot_beside_a_dry_run_is_made_up_when_it_has_ended(weeks: Weeks) -> None:
    dry = weeks.ledger.runs.request(reason="cli", requested_by="me", overrides={"dry_run": True})
    assert weeks.look(MONDAY + timedelta(minutes=1)) == []
    weeks.ledger.runs.cancel(dry)

    assert weeks.look(MONDAY + timedelta(minutes=9)) == ["cron"] == weeks.look(MONDAY + timedelta(minutes=10))


def test_a_slot_while_the_ledger_is_locked_is_made_up_a_minute_later(weeks: Weeks) -> None:
    other = sqlite3.connect(weeks.ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with weeks.ledger.connections.patience(0.05):
        assert weeks.look(MONDAY) == []
    other.execute("COMMIT")
    other.close()

    assert weeks.look(MONDAY + timedelta(minutes=1)) == ["cron"]


def test_twenty_dry_runs_do_not_hide_that_a_slot_was_missed(weeks: Weeks) -> None:
    weeks.ledger.runs.cancel(weeks.ledger.runs.request(reason="cli", requested_by="me", overrides={}))
    for _ in range(21):
        weeks.ledger.runs.cancel(
            weeks.ledger.runs.request(reason="cli", requested_by="me", overrides={"dry_run": True})
        )
    weeks.since = MONDAY + timedelta(days=1)  # the worker was away on Monday

    assert weeks.look(MONDAY + timedelta(days=1)) == ["cron", "cli"]


def test_a_run_that_is_active_at_the_slot_is_as_good(weeks: Weeks) -> None:
    number = weeks.ledger.runs.request(reason="cli", requested_by="me", overrides={})
    assert weeks.look(MONDAY + timedelta(minutes=1)) == ["cli"]
    weeks.ledger.runs.cancel(number)

    assert weeks.look(MONDAY + timedelta(days=2)) == ["cli"]
    assert weeks.look(MONDAY + timedelta(days=7)) == ["cron", "cli"]


def test_before_the_first_run_nothing_is_made_up_and_the_next_slot_is_kept(weeks: Weeks) -> None:
    weeks.since = MONDAY + timedelta(minutes=1)

    assert weeks.look(MONDAY + timedelta(minutes=2)) == []
    assert weeks.look(MONDAY + timedelta(days=7)) == ["cron"]


def test_the_clock_makes_up_for_one_missed_slot_at_start(tmp_path: Path) -> None:
    moment = [MONDAY - timedelta(days=20)]
    ledger = Ledger(tmp_path / "l.db", clock=lambda: moment[0])
    ledger.runs.request(reason="cli", requested_by="me", overrides={})
    ledger.runs.cancel(1)
    moment[0] = MONDAY + timedelta(hours=1)

    scheduler = start_clock(settings(tmp_path, retrain_cron="0 3 * * 1"), ledger)
    until = time.monotonic() + 10
    while len(ledger.runs.recent()) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    scheduler.shutdown()

    assert [r.reason for r in ledger.runs.recent()] == ["cron", "cli"]
    ledger.close()
