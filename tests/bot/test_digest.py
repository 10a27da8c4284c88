"""The Monday digest: what it says, when it is silent, and that it is said once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.digest import Digest, change, digest, last_monday
from bot.once import Once
from bot.slack import SLACK_ERRORS, make_client
from bot.workspace import limits
from storage.ledger import Ledger
from storage.notices import SILENT
from storage.overview import Period
from storage.settings import Settings
from tests.bot.conftest import OPS
from tests.bot.facts import answered, days, vote, votes
from tests.bot.test_commands import decided

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
NOTHING = Period(questions=0, votes=(0, 0), by_language={}, corrections={}, taught=0, promotions=(), runs=())
Make = Callable[..., "Office"]


@dataclass
class Office:
    """A ledger whose clock the test sets, and the digest over it."""

    path: Path
    slack: Any
    settings: Settings
    now: datetime
    stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.path, clock=lambda: self.now)
        self.stack.callback(self.ledger.close)

    def bot(self, lease_s: float = 60.0) -> Digest:
        client = make_client(self.settings.slack_bot_token.get_secret_value(), self.settings.slack_api_url)
        once = Once(ledger=self.ledger, client=client, lease_s=lease_s)
        return Digest(settings=self.settings, ledger=self.ledger, once=once)

    def said(self) -> list[str]:
        """The digests of this test's week in the channel."""
        key = f"digest:{last_monday(self.now) - days(7):%Y-%m-%d}"
        marks = [(m, (m.get("metadata") or {}).get("event_payload") or {}) for m in self.slack.messages(OPS)]
        return [str(m["blocks"]) for m, mark in marks if mark.get("key") == key]


@pytest.fixture
def make(slack: Any, settings: Settings, tmp_path: Path) -> Any:
    """An office `weeks` ago, since the workspace remembers what other tests said."""
    with ExitStack() as stack:

        def office(weeks: int, **changes: Any) -> Office:
            now = MONDAY - days(7 * weeks) + timedelta(hours=8)
            asked = settings.model_copy(update={"ops_channel": OPS, **changes})
            return Office(tmp_path / "own.db", slack, asked, now, stack)

        yield office


@pytest.mark.parametrize(
    ("now", "monday"),
    [
        (MONDAY + timedelta(hours=7, minutes=59), MONDAY - days(7)),
        (MONDAY + timedelta(hours=8), MONDAY),
        (MONDAY + days(3), MONDAY),
        (MONDAY + days(7) + timedelta(hours=1), MONDAY),
    ],
)
def test_a_week_is_told_from_eight_on_mondays_and_later_when_nobody_ran(now: datetime, monday: datetime) -> None:
    assert last_monday(now) == monday


def test_the_week_is_told_once_with_what_happened_in_it(make: Make) -> None:
    office = make(0)
    week, before = office.now - days(2), office.now - days(9)
    votes(office.ledger, 16, 4, at=week)
    votes(office.ledger, 1, 5, at=week, language="de")
    votes(office.ledger, 2, 1, at=week, language="fr")
    votes(office.ledger, 9, 3, at=before)
    office.ledger.lessons.correct(answered(office.ledger, at=week), author="U0ASHA", role="agent", text="Better")
    with office.ledger.connections.write() as db:
        db.execute("UPDATE corrections SET at=?", (week.isoformat(timespec="microseconds"),))

    for _ in range(3):
        assert office.bot().step() is False

    (text,) = office.said()
    assert "Week of 9 November to 15 November 2026: 30 questions" in text
    assert "30 (the week before: 12)" in text and "66 % 👍 (47 to 80 %, n = 29)" in text
    assert "75 % 👍 (47 to 91 %, n = 12)" in text and "No clear change" in text
    assert "*Worst-rated languages*: de 17 % 👍 (3 to 56 %, n = 6); en 80 %" in text and "fr" not in text
    assert "*Corrections*: 1, by <@U0ASHA> 1" in text


def test_a_week_with_nothing_to_say_is_silent_for_good(make: Make) -> None:
    office = make(1)
    answered(office.ledger, at=office.now - days(8))
    calls = len(office.slack.journal)

    office.bot().step()
    answered(office.ledger, at=office.now - days(1))
    office.bot().step()

    assert len(office.slack.journal) == calls and not office.said()
    (notice,) = office.ledger.notices.under("digest:")
    assert notice.ts == SILENT


def test_without_a_channel_nothing_is_said_or_noted(make: Make) -> None:
    office = make(2, ops_channel="")
    answered(office.ledger, at=office.now - days(1))

    office.bot().step()

    assert not office.ledger.notices.under("digest:")


@pytest.mark.parametrize(("weeks", "kind"), [(3, "lost_response"), (4, "http_500"), (5, "ratelimited")])
def test_a_lost_response_or_an_outage_does_not_double_it(make: Make, weeks: int, kind: Any) -> None:
    office = make(weeks)
    answered(office.ledger, at=office.now - days(1))
    office.slack.fault("chat.postMessage", kind, times=1)
    with pytest.raises(SLACK_ERRORS):
        office.bot().step()

    office.bot().step()
    office.bot().step()

    assert len(office.said()) == 1


def test_a_bot_that_died_after_posting_is_followed_by_one_that_finds_it(make: Make) -> None:
    office = make(6)
    answered(office.ledger, at=office.now - days(1))
    office.bot().step()
    with office.ledger.connections.write() as db:  # it died before it could note where
        db.execute("UPDATE notices SET ts=NULL")
    office.bot().step()
    assert not office.ledger.notices.is_settled(office.ledger.notices.under("digest:")[0].key), "the first has a minute"
    office.now += timedelta(minutes=2)

    office.bot().step()

    assert len(office.said()) == 1 and office.ledger.notices.under("digest:")[0].ts not in (None, SILENT)


def test_of_four_bots_at_the_same_time_one_speaks(make: Make) -> None:
    office = make(7)
    answered(office.ledger, at=office.now - days(1))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda bot: bot.step(), [office.bot() for _ in range(4)]))

    assert len(office.said()) == 1


def test_a_channel_that_refuses_it_is_not_asked_again(make: Make) -> None:
    office = make(8, ops_channel="C0NOWHERE")
    answered(office.ledger, at=office.now - days(1))
    office.bot().step()
    calls = len(office.slack.journal)

    office.bot().step()

    assert len(office.slack.journal) == calls


def test_models_and_runs_are_news(make: Make) -> None:
    office = make(9)
    office.now -= days(1)
    made = office.ledger.promotions.promote(decided(office.ledger), actor="gate", reason="")
    office.ledger.promotions.rollback(actor="U0INES", reason="")
    run_id = office.ledger.runs.request(reason="cron", requested_by="clock", overrides={})
    run = office.ledger.runs.claim(owner="w", lease_s=60)
    assert run is not None and made.version == 1
    office.ledger.runs.advance(run, state="failed", lease_s=60, error="Too little data")
    office.now += days(1)

    office.bot().step()

    (text,) = office.said()
    assert "v1 went live, by gate; rolled back to the base model, by <@U0INES>" in text
    assert f"run {run_id}: failed" in text and "0 questions" in text and "no votes yet" in text


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [
        ((9, 0), (40, 40), "Too few votes"),
        ((90, 10), (3, 2), "Too few votes"),
        ((90, 10), (60, 40), "Clearly up"),
        ((60, 40), (90, 10), "Clearly down"),
        ((8, 2), (6, 4), "No clear change"),
    ],
)
def test_a_change_is_called_one_only_when_the_intervals_part(now: Any, before: Any, said: str) -> None:
    assert change(now, before).startswith(said)


def test_a_crowded_week_stays_within_slacks_limits() -> None:
    many = {f"U{n:09}": 9 for n in range(500)}
    week = Period(
        questions=9_999, votes=(1, 9), by_language={"<!here>" * 20: (0, 9)}, corrections=many, taught=3,
        promotions=(("promote", 3, "x" * 200),) * 99, runs=((1, "decided", "HOLD"),) * 99)  # fmt: skip

    part = digest(week, NOTHING, MONDAY)

    assert part is not None and "(and 188 before)" in str(part.blocks) and "<!" not in str(part.blocks)
    assert "*Replies taught*: 3" in str(part.blocks)
    limits.check_blocks(list(part.blocks), most=limits.MESSAGE_BLOCKS)
    assert digest(NOTHING, week, MONDAY) is None


def test_a_persons_two_reactions_are_one_vote(make: Make) -> None:
    office = make(10)
    exchange = answered(office.ledger, at=office.now - days(1))
    for _ in range(3):
        vote(office.ledger, exchange, 1, user="U0JONAS")

    office.bot().step()

    assert "n = 1)" in office.said()[0]
