"""The clock asks once, makes up for one missed slot, and never doubles a run."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.errors import ConfigurationError
from storage.ledger import Ledger
from storage.records import Ticket
from storage.settings import Settings, load_settings
from training.clock import ask, ask_for_lessons, cron, missed, start_clock

MONDAY = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("last", "now", "expected"),
    [
        (MONDAY - timedelta(days=6), MONDAY + timedelta(hours=5), True),
        (MONDAY - timedelta(days=27), MONDAY + timedelta(hours=5), True),
        (MONDAY + timedelta(minutes=1), MONDAY + timedelta(days=6), False),
        (MONDAY - timedelta(days=6), MONDAY - timedelta(seconds=1), False),
        (None, MONDAY, False),
    ],
    ids=["slot went by", "several went by", "not due yet", "a second early", "never ran"],
)
def test_a_missed_slot_is_seen(last: datetime | None, now: datetime, expected: bool) -> None:
    assert missed(cron("0 3 * * 1"), last=last, now=now) is expected


@pytest.mark.parametrize("text", ["hello", "61 * * * *", "* * * *"])
def test_a_bad_crontab_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match="RETRAIN_CRON"):
        cron(text)


@pytest.mark.parametrize(("weekday", "day"), [("1", 23), ("0", 29), ("7", 29), ("2-4", 24), ("fri", 27), ("*/1", 23)])
def test_weekdays_count_from_sunday_as_in_every_crontab(weekday: str, day: int) -> None:
    due = cron(f"0 3 * * {weekday}").get_next_fire_time(None, MONDAY - timedelta(hours=2))

    assert due is not None and due.day == day


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


def test_the_clock_makes_up_for_one_missed_slot_at_start(tmp_path: Path) -> None:
    moment = [MONDAY - timedelta(days=20)]
    ledger = Ledger(tmp_path / "l.db", clock=lambda: moment[0])
    ledger.runs.request(reason="cli", requested_by="me", overrides={})
    ledger.runs.cancel(1)
    moment[0] = MONDAY + timedelta(hours=1)

    scheduler = start_clock(settings(tmp_path, retrain_cron="0 3 * * 1"), ledger)
    scheduler.shutdown(wait=False)

    assert [r.reason for r in ledger.runs.recent()] == ["cron", "cli"]
    ledger.close()
