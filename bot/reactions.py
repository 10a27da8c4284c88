"""From an emoji or a button to a rating event, with the role that the rater had at the time.

Promise: every add and removal on our messages is kept, also before the answer's row exists; who counts is decided
by those who read the ratings. Who says 👎 is asked why (bot/reasons.py).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from bot.reasons import Reasons
from bot.roles import Roles
from storage.errors import LostLease
from storage.ledger import Ledger
from storage.records import InboxItem, RaterRole, RatingEvent
from storage.settings import Settings

log = structlog.get_logger()
SAME_EMOJI = {"thumbsup": "+1", "thumbsdown": "-1"}
LEASE_S = 60.0
MAX_ATTEMPTS = 5


def canonical(reaction: str) -> str:
    """One name for each emoji, skin tone kept: `thumbsup::skin-tone-3` → `+1::skin-tone-3`."""
    name, tone = _halves(reaction)
    return SAME_EMOJI.get(name, name) + tone


def sign_of(reaction: str, up: Sequence[str], down: Sequence[str]) -> int:
    """+1, -1, or 0 for an emoji outside the settings' map; skin tones and aliases mean the same."""
    name = _halves(canonical(reaction))[0]
    return int(name in map(canonical, up)) - int(name in map(canonical, down))


def _halves(reaction: str) -> tuple[str, str]:
    found = re.fullmatch(r"(.+?)((?:::skin-tone-[2-6])*)", reaction)
    return (found[1], found[2]) if found else (reaction, "")


def events_of(item: InboxItem, role: RaterRole, settings: Settings) -> tuple[RatingEvent, ...]:
    """The rating events of one stored payload. A press on one feedback button takes back the other."""
    payload = item.payload
    user, at = payload["user"], payload["event_ts"]

    def event(suffix: str, reaction: str, sign: int, action: str, source: str) -> RatingEvent:
        return RatingEvent(
            event_id=item.event_id + suffix,
            team=item.team,
            channel=item.channel,
            ts=item.ts,
            user=user,
            reaction=reaction,
            sign=sign,
            action="add" if action == "add" else "remove",
            event_ts=at,
            role=role,
            source=source,
        )

    if "button" in payload:
        pressed, sign = payload["button"], 1 if payload["button"] == "up" else -1
        other = "down" if pressed == "up" else "up"
        return (
            event(":other", f"feedback:{other}", -sign, "remove", "button"),
            event("", f"feedback:{pressed}", sign, "add", "button"),
        )
    name = canonical(payload["reaction"])
    return (event("", name, sign_of(name, settings.emoji_up, settings.emoji_down), payload["action"], "reaction"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reactions:
    """The worker of ratings."""

    settings: Settings
    ledger: Ledger
    roles: Roles
    reasons: Reasons

    def step(self) -> bool:
        """Store the oldest open rating; False when there is none."""
        item = self.ledger.inbox.claim(owner_kinds=("reaction",), lease_s=LEASE_S)
        if item is None:
            return False
        try:
            self.settle(item)
        except LostLease:
            log.warning("lease_lost", inbox_id=item.inbox_id)
        return True

    def settle(self, item: InboxItem) -> None:
        exchange = self.ledger.exchanges.find(item.team, item.channel, item.ts)
        if exchange is None and not item.payload["author_known"]:
            self.ledger.inbox.finish(item, note="not on a message of ours")
            return
        role = self.roles.role_of(item.payload["user"])
        if role == "unknown" and item.attempts < MAX_ATTEMPTS:
            self.ledger.inbox.put_back(
                item, delay_s=2.0**item.attempts, reason="the rater's role could not be looked up"
            )
            return
        events = events_of(item, role, self.settings)
        new = [self.ledger.ratings.add(event) for event in events][-1]
        self.ledger.inbox.finish(item)
        verdict = events[-1]
        log.info(
            "rated", sign=verdict.sign, action=verdict.action, role=role, exchange_id=exchange and exchange.exchange_id
        )
        shown = exchange is not None and exchange.tuned is not None and exchange.tuned.status == "ok"
        if new and shown and verdict.sign < 0 and verdict.action == "add":
            assert exchange is not None
            self.reasons.ask(exchange, verdict, role)
