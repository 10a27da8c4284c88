"""After a promotion: the team's votes take a champion back, once, and nobody else's word is undone."""

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from eval.votes import Ballots, judge
from storage.errors import GateSaidNo
from storage.ledger import Ledger
from storage.records import RaterRole
from storage.settings import Settings, load_settings
from tests.bot.facts import NOW, answered, vote
from tests.bot.test_commands import decided
from training.after import PATIENCE, look_after
from training.clock import start_clock

A, B, C = "a" * 64, "c" * 64, "d" * 64
TEAM = ("U0ASHA", "U0TOM", "U0INES")


class Office:
    """A ledger whose clock the test sets."""

    def __init__(self, path: Path) -> None:
        self.now: datetime = NOW
        self.ledger = Ledger(path, clock=lambda: self.now)
        self.settings: Settings = load_settings(_env_file=None)

    def promote(self, digest: str, *, actor: str = "gate", percent: int = 100) -> int:
        made = decided(self.ledger, digest=digest)
        return self.ledger.promotions.promote(made, actor=actor, reason="", percent=percent).promotion_id

    def votes(
        self, adapter: str | None, sign: int, many: int, *, role: RaterRole = "agent", users: tuple[str, ...] = TEAM
    ) -> None:
        with self.ledger.connections.write():  # one commit
            for user, _ in itertools.product(users, range(many)):
                vote(self.ledger, answered(self.ledger, adapter=adapter, at=self.now), sign, user=user, role=role)

    def look(self) -> None:
        look_after(self.settings, self.ledger)

    def serving(self) -> tuple[str | None, str]:
        champion = self.ledger.promotions.champion()
        assert champion is not None
        return champion.adapter_digest, champion.actor


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "own.db")
    yield made
    made.ledger.close()


def test_a_disliked_champion_goes_back_to_who_served_before_with_numbers_in_words(office: Office) -> None:
    office.promote(A)
    office.promote(B)
    office.votes(B, -1, 7)

    office.look()

    champion = office.ledger.promotions.champion()
    row = office.ledger.watches.last("votes", 2)
    assert champion is not None and row is not None
    assert (champion.adapter_digest, champion.version, champion.kind, champion.actor) == (A, 1, "rollback", "watch")
    assert "v2 was taken back: more than 50% of the team's votes are 👎 (21 votes of 3 people, 21 👎" in champion.reason
    assert row.verdict == "rollback" and row.said == champion.reason
    assert office.ledger.audits(1)[0]["actor"] == "watch" and office.ledger.verify() == ()


def test_it_is_rolled_back_once_and_the_one_that_came_back_is_not_watched(office: Office) -> None:
    office.promote(A)
    office.promote(B)
    office.votes(B, -1, 7)
    office.look()
    office.votes(A, -1, 9)

    for _ in range(3):
        office.look()

    assert [p.actor for p in office.ledger.promotions.history()] == ["gate", "gate", "watch"]


def test_the_first_champion_goes_back_to_the_base(office: Office) -> None:
    office.promote(A)
    office.votes(A, -1, 7)
    office.look()

    assert office.serving() == (None, "watch")


def test_it_goes_back_to_who_served_and_not_to_a_version_that_an_admin_left(office: Office) -> None:
    office.promote(A)
    office.promote(B)
    office.ledger.promotions.rollback(actor="U0INES", reason="", to_version=1)
    office.promote(C)
    office.votes(C, -1, 7)

    office.look()

    assert office.serving() == (A, "watch")


def test_votes_on_earlier_answers_of_others_and_of_customers_roll_nothing_back(office: Office) -> None:
    office.votes(None, -1, 9)
    office.now += timedelta(seconds=1)
    office.promote(A)
    office.votes(B, -1, 9)
    office.votes(A, -1, 9, role="customer", users=("U0MIA", "U0JONAS", "U0SAM"))

    office.look()
    office.look()

    warned = office.ledger.watches.last("customers", 1)
    assert office.serving() == (A, "gate")
    assert warned and warned.verdict == "alert" and "Customers dislike v1: 27 votes of 3 people" in warned.said
    assert [row.verdict for row in office.ledger.watches.news(NOW)] == ["alert"]


def test_one_person_can_not_force_it(office: Office) -> None:
    office.promote(A)
    office.votes(A, -1, 60, users=("U0ASHA",))
    office.look()

    assert office.serving() == (A, "gate")


def test_a_vote_that_was_taken_back_counts_no_more(office: Office) -> None:
    office.promote(A)
    office.votes(A, -1, 7)
    with office.ledger.connections.write() as db:
        db.execute(
            "INSERT INTO rating_events(event_id, team, channel, ts, user, reaction, sign, action, event_ts, role, source,"
            " stored_at) SELECT event_id || '-', team, channel, ts, user, reaction, sign, 'remove', '9' || event_ts, role,"
            " source, stored_at FROM rating_events WHERE user <> 'U0TOM'"
        )
    office.look()

    row = office.ledger.watches.last("votes", 1)
    assert office.serving() == (A, "gate") and row and row.seen["own"] == [[0, 7]]


def test_an_admin_who_chose_since_is_not_overruled(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.promote(A)
    office.promote(B)
    office.votes(B, -1, 7)
    seen = office.ledger.promotions.champion()
    assert seen is not None
    office.ledger.promotions.rollback(actor="U0INES", reason="", to_version=0)
    real = office.ledger.promotions.champion
    answers = iter([seen])
    monkeypatch.setattr(office.ledger.promotions, "champion", lambda: next(answers, None) or real())

    office.look()  # judged what served a moment ago

    assert office.serving() == (None, "U0INES")


def test_after_that_the_gate_does_not_promote_the_same_adapter_but_an_admin_may(office: Office) -> None:
    office.promote(A)
    office.promote(B)
    office.votes(B, -1, 7)
    office.look()

    with pytest.raises(GateSaidNo, match="the watch took adapter cccccccccccc back"):
        office.promote(B)
    office.promote(B, actor="U0INES")
    office.ledger.promotions.rollback(actor="U0INES", reason="", to_version=1)
    office.promote(B)

    assert office.serving() == (B, "gate")


def test_a_look_that_sees_nothing_new_leaves_no_row_and_each_row_is_judged_again_to_the_same(office: Office) -> None:
    office.promote(A)
    office.votes(A, 1, 2)
    office.look()
    office.look()
    office.votes(A, -1, 1)
    office.look()

    rows = office.ledger.connections.db.execute("SELECT count(*) FROM watches").fetchone()
    row = office.ledger.watches.last("votes", 1)
    assert rows == (2,) and row is not None
    assert row.said.startswith("v1 is watched: 9 votes of 3 people, 3 👎; evidence that more than 50% are 👎: 0.")
    again = judge(Ballots(own=row.seen["own"], paired=row.seen["paired"]), bound=row.seen["bound"])
    assert (again.disliked, again.word) == (row.seen["disliked"], row.seen["word"])
    assert not any(user in str(row.seen) for user in TEAM)


def test_a_sharing_champion_that_does_worse_beside_the_other_is_taken_back(office: Office) -> None:
    office.promote(A)
    office.promote(B, percent=30)
    office.settings = load_settings(_env_file=None, watch_down_percent=95)
    office.votes(B, -1, 12)
    office.votes(A, 1, 12)

    office.look()

    champion = office.ledger.promotions.champion()
    assert office.serving() == (A, "watch") and champion
    assert "its share of 👎 is above that of who served before by more than 10 points" in champion.reason


def test_a_sharing_champion_that_is_no_worse_graduates_once(office: Office) -> None:
    office.promote(A)
    office.promote(B, percent=30)
    office.votes(B, 1, 30)
    office.votes(A, 1, 30)
    assert office.ledger.promotions.sharing() is not None

    office.look()
    office.look()

    (row,) = office.ledger.watches.news(NOW)
    assert row.verdict == "graduated" and "v2 answers everybody now: no worse" in row.said
    assert office.ledger.promotions.sharing() is None and office.serving() == (B, "gate")


def test_a_sharing_champion_graduates_after_a_week_without_a_word_against_it(office: Office) -> None:
    office.promote(A, percent=30)
    office.now += PATIENCE - timedelta(minutes=1)
    office.look()
    assert office.ledger.promotions.sharing() is not None
    office.now += timedelta(minutes=1)
    office.look()

    row = office.ledger.watches.last("votes", 1)
    assert office.ledger.promotions.sharing() is None and row and "nothing spoke against it in 7 days" in row.said


def test_one_that_never_graduated_is_not_who_served_before(office: Office) -> None:
    office.promote(A)
    office.promote(B, percent=30)
    office.promote(C, percent=30)

    sharing = office.ledger.promotions.sharing()

    assert sharing and (sharing.champion.adapter_digest, sharing.other) == (C, A)
    assert office.ledger.verify() == ()
    with office.ledger.connections.write() as db:
        db.execute("UPDATE promotions SET percent=99 WHERE promotion_id=2")
    assert office.ledger.verify()[0] == "promotion 2: the chain is broken here"


def test_the_clock_looks_every_minute(office: Office) -> None:
    clock = start_clock(office.settings, office.ledger)
    office.promote(A)
    office.votes(A, -1, 7)
    try:
        for job in clock.get_jobs():
            if "watch" in str(job.func.__code__.co_names):
                job.func()
    finally:
        clock.shutdown(wait=False)

    assert office.serving() == (None, "watch")
