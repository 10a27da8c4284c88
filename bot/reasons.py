"""After a 👎: why? The vote is stored already; a reason and a better answer are offered, and nothing depends on them.

Promise: everybody is asked once, privately, in the language of the question; the newest reason of a person counts, and
only while their 👎 stands.
"""

from dataclasses import dataclass
from typing import Any, cast, get_args

import structlog
from slack_bolt import Ack, App, Respond
from slack_sdk import WebClient

from bot.answer_view import actions, button, section
from bot.commands import number
from bot.phrases import phrase
from bot.roles import TEAM, Roles
from bot.slack import SLACK_ERRORS, trouble_of
from storage.errors import Busy
from storage.ledger import Ledger
from storage.records import Exchange, RaterRole, RatingEvent
from storage.taught import Reason

log = structlog.get_logger()
Blocks = list[dict[str, Any]]
CORRECT_ACTION = "evenkeel_correct"
REASON_ACTION = "evenkeel_reason_"  # and the reason
REASONS: dict[Reason, str] = {reason: phrase(f"reason_{reason}", "en") for reason in get_args(Reason)}
LOCKED = "The ledger is in use by another process, so nothing was kept. Please try again in a few seconds."


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasons:
    ledger: Ledger
    client: WebClient
    roles: Roles

    def listen(self, app: App) -> None:
        for reason in get_args(Reason):
            app.action(f"{REASON_ACTION}{reason}")(self._on_reason)

    def ask(self, exchange: Exchange, verdict: RatingEvent, role: RaterRole) -> None:
        """A private note under the answer. It is a courtesy: when it fails, the rating stands.

        Nobody is asked whose 👎 is gone by now, or who has another one on this answer already.
        """
        if len(self._against(exchange, verdict.user)) != 1:
            return
        language = None if role in TEAM else exchange.question.language
        text = phrase("why", language)
        if role in TEAM and (votes := disputed(self.ledger.ratings.split(exchange.exchange_id))):
            text += f"\n_{votes} by agents so far._"
        value = str(exchange.exchange_id)
        why = (button(phrase(f"reason_{reason}", language), f"{REASON_ACTION}{reason}", value) for reason in REASONS)
        try:
            self.client.chat_postEphemeral(
                channel=verdict.channel,
                user=verdict.user,
                thread_ts=exchange.question.thread_ts,
                text=text,
                blocks=[section(text), actions(*why), *_better(role, value)],
            )
        except SLACK_ERRORS as error:
            log.warning("reason_not_asked", code=trouble_of(error).code)

    def _on_reason(self, ack: Ack, body: dict[str, Any], action: dict[str, Any], respond: Respond) -> None:
        ack()
        user, value = body["user"]["id"], action.get("value") or ""
        try:
            said, kept = self.give(user, action["action_id"].removeprefix(REASON_ACTION), value), True
        except Busy:
            said, kept = LOCKED, False
        try:
            shown = [section(said), *_better(self.roles.role_of(user), value)]
            respond(text=said, blocks=shown, response_type="ephemeral", replace_original=kept)
        except SLACK_ERRORS as error:
            log.info("reason_not_thanked", code=trouble_of(error).code)

    def give(self, user: str, reason: str, value: str) -> str:
        """Store the reason of somebody whose 👎 stands; returns what they read. Raises Busy."""
        exchange, role = self.ledger.exchanges.get(number(value) or 0), self.roles.role_of(user)
        language = None if exchange is None or role in TEAM else exchange.question.language
        if exchange is None or not self._against(exchange, user):
            return phrase("reason_gone", language)
        self.ledger.taught.give_reason(exchange.exchange_id, user=user, role=role, reason=cast(Reason, reason))
        noted = phrase("reason_noted", language, reason=phrase(f"reason_{reason}", language))
        if reason != "person" or role in TEAM:
            return noted
        return f"{noted} {phrase('reason_call', language, person=phrase('person', language))}"

    def _against(self, exchange: Exchange, user: str) -> list[str]:
        """What stands of this person's against the answer."""
        found = self.ledger.ratings.of(exchange.exchange_id)
        return [rating.reaction for rating in found if rating.user == user and rating.sign < 0]


def _better(role: RaterRole, value: str) -> Blocks:
    """The way to the form, for those who may use it."""
    return [actions(button("Write a better answer", CORRECT_ACTION, value))] if role in TEAM else []


def disputed(split: tuple[int, int]) -> str:
    """`2 👍 1 👎` where agents disagree, else nothing."""
    up, down = split
    return f"{up} 👍 {down} 👎" if up and down else ""
