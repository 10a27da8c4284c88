"""After a 👎: why? The vote is stored already; a reason and a better answer are offered, and nothing depends on them."""

from dataclasses import dataclass
from typing import Any, cast, get_args

import structlog
from slack_bolt import Ack, App, Respond
from slack_sdk import WebClient

from bot.answer_view import actions, button, section
from bot.commands import number
from bot.roles import Roles
from bot.slack import SLACK_ERRORS, trouble_of
from storage.ledger import Ledger
from storage.records import Exchange, RaterRole, RatingEvent
from storage.taught import Reason

log = structlog.get_logger()
CORRECT_ACTION = "evenkeel_correct"
REASON_ACTION = "evenkeel_reason_"  # and the reason
REASONS: dict[Reason, str] = {
    "wrong": "Wrong",
    "outdated": "Outdated",
    "incomplete": "Incomplete",
    "tone": "Tone",
    "person": "Needed a person",
}
TRUSTED = ("agent", "admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasons:
    ledger: Ledger
    client: WebClient
    roles: Roles

    def listen(self, app: App) -> None:
        for reason in get_args(Reason):
            app.action(f"{REASON_ACTION}{reason}")(self._on_reason)

    def ask(self, exchange: Exchange, verdict: RatingEvent, role: RaterRole) -> None:
        """A private note under the answer. It is a courtesy: when it fails, the rating stands."""
        text = "Thank you, that is noted. What was wrong with it?"
        if role in TRUSTED and (votes := disputed(self.ledger.ratings.split(exchange.exchange_id))):
            text += f"\n_{votes} by agents so far._"
        value = str(exchange.exchange_id)
        rows = [actions(*(button(label, f"{REASON_ACTION}{name}", value) for name, label in REASONS.items()))]
        if role in TRUSTED:
            rows.append(actions(button("Write a better answer", CORRECT_ACTION, value)))
        try:
            self.client.chat_postEphemeral(
                channel=verdict.channel,
                user=verdict.user,
                thread_ts=exchange.question.thread_ts,
                text=text,
                blocks=[section(text), *rows],
            )
        except SLACK_ERRORS as error:
            log.warning("reason_not_asked", code=trouble_of(error).code)

    def _on_reason(self, ack: Ack, body: dict[str, Any], action: dict[str, Any], respond: Respond) -> None:
        ack()
        said = self.give(body["user"]["id"], action["action_id"].removeprefix(REASON_ACTION), action.get("value") or "")
        try:
            respond(text=said, replace_original=True)
        except SLACK_ERRORS as error:
            log.info("reason_not_thanked", code=trouble_of(error).code)

    def give(self, user: str, reason: str, value: str) -> str:
        """Store the reason of somebody whose 👎 stands; returns what they read."""
        exchange_id = number(value) or 0
        mine = [r for r in self.ledger.ratings.of(exchange_id) if r.user == user and r.sign < 0]
        if not mine:
            return "There is no 👎 of yours on that answer any more, so there is nothing to explain."
        role = self.roles.role_of(user)
        self.ledger.taught.give_reason(exchange_id, user=user, role=role, reason=cast(Reason, reason))
        return f"Thank you: “{REASONS[cast(Reason, reason)]}” is noted."


def disputed(split: tuple[int, int]) -> str:
    """`2 👍 1 👎` where agents disagree, else nothing."""
    up, down = split
    return f"{up} 👍 {down} 👎" if up and down else ""
