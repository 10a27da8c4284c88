"""After a promotion: what the team's votes say about the new champion, and what follows.

Promise: a champion is rolled back at most once and only while it still is the champion, to who served before it; whom an
admin has chosen since stays. Customers' votes only warn (a customer's thumb is a signal to look). Every look that saw
something new is a row of the ledger that it can be judged again from. Knows no Slack: the bot tells what it reads there.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import structlog

from eval.votes import MARGIN, Ballots, Finding, as_data, ballots_of, judge, told
from storage.ledger import Ledger
from storage.promotions import WATCH
from storage.records import Promotion
from storage.settings import Settings
from storage.watches import Votes

log = structlog.get_logger()
PATIENCE = timedelta(days=7)  # a champion that shares graduates after that without proof, if nothing speaks against it
POINTS = round(MARGIN * 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the votes show, what is to be done about it, and the row that says so."""

    verdict: Literal["watching", "rollback", "graduated"]
    said: str
    seen: dict[str, Any]


def look_after(settings: Settings, ledger: Ledger) -> None:
    """Look at the votes on the champion since its promotion; roll back, graduate, warn, or keep what was seen."""
    champion = ledger.promotions.champion()
    if champion is None or champion.kind != "promote":
        return
    bound = settings.watch_down_percent / 100
    look, customers = _looks(ledger, champion, bound)
    if look.verdict == "watching":
        ledger.watches.keep("votes", champion.promotion_id, verdict="watching", said=look.said, seen=look.seen)
    else:
        _act(ledger, champion, bound)
    _warn(ledger, champion, customers, bound)


def _looks(ledger: Ledger, champion: Promotion, bound: float) -> tuple[Look, Votes]:
    """The look at the team's votes, and the customers'."""
    before = ledger.promotions.before(champion)
    team, customers = ledger.watches.votes(champion, before.adapter_digest if before else None)
    ballots = _ballots(champion, team)
    finding = judge(ballots, bound=bound)
    said, seen = told(ballots, finding, bound=bound), as_data(ballots, finding, bound=bound)
    name = f"v{champion.version}"
    late = ledger.clock() - champion.at >= PATIENCE
    if finding.word == "rollback":
        return Look(
            verdict="rollback", said=f"{name} was taken back: {_why(finding, bound)} ({said})", seen=seen
        ), customers
    if not ledger.promotions.has_graduated(champion) and (late or finding.word == "graduated"):
        proven = f"no worse than who served before by more than {POINTS} points"
        why = proven if finding.word == "graduated" else f"nothing spoke against it in {PATIENCE.days} days"
        return Look(verdict="graduated", said=f"{name} answers everybody now: {why} ({said})", seen=seen), customers
    return Look(verdict="watching", said=f"{name} is watched: {said}", seen=seen), customers


def _act(ledger: Ledger, champion: Promotion, bound: float) -> None:
    """Do what the votes call for as they stand in this very transaction, if who is judged still serves."""
    with ledger.connections.write():
        if not ledger.promotions.serves(champion):
            return
        look, _ = _looks(ledger, champion, bound)
        ledger.watches.keep("votes", champion.promotion_id, verdict=look.verdict, said=look.said, seen=look.seen)
        if look.verdict == "rollback":
            ledger.promotions.rollback(actor=WATCH, reason=look.said)
    log.warning("watch", version=champion.version, verdict=look.verdict, said=look.said)


def _ballots(champion: Promotion, votes: Votes) -> Ballots:
    """Without a share nobody else speaks in the same time, so there is nothing to pair."""
    found = ballots_of(votes)
    return found if champion.percent < 100 else Ballots(own=found.own)


def _why(finding: Finding, bound: float) -> str:
    if finding.disliked >= finding.worse:
        return f"more than {bound:.0%} of the team's votes are 👎"
    return f"its share of 👎 is above that of who served before by more than {POINTS} points"


def _warn(ledger: Ledger, champion: Promotion, votes: Votes, bound: float) -> None:
    """Customers' votes: judged in the same way, told once, nothing done."""
    ballots, warned = _ballots(champion, votes), ledger.watches.last("customers", champion.promotion_id)
    if not ballots.own or (warned and warned.verdict == "alert"):
        return
    finding = judge(ballots, bound=bound)
    bad, said = finding.word == "rollback", told(ballots, finding, bound=bound)
    said = f"Customers dislike v{champion.version}: {said}. Nothing was done; look at their 👎." if bad else said
    seen = as_data(ballots, finding, bound=bound)
    ledger.watches.keep(
        "customers", champion.promotion_id, verdict="alert" if bad else "watching", said=said, seen=seen
    )
