"""“Delete my data”: a person's own word is enough, for their own data. And “Talk to a person” where there is no thread."""

from dataclasses import dataclass
from typing import Any

import structlog
from slack_bolt import Ack, App

from bot.answer_view import section
from bot.delivery import Delivery, NotNow
from bot.intake import Intake
from bot.slack import PacedClient, persist
from storage.forgetting import Receipt, forget
from storage.ledger import Ledger
from storage.settings import Settings

log = structlog.get_logger()
FORGET_ACTION, FORGET_VIEW, PERSON_HOME_ACTION = "evenkeel_forget_me", "evenkeel_forget", "evenkeel_person_home"
ASK = (
    "This deletes every question that you asked me, my answers to them, your ratings and what was learned from your words "
    "for the next training. It cannot be undone.\nYour messages in Slack stay: they are yours to delete there. A model that "
    "has learned from them already is replaced by the next training run."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    settings: Settings
    ledger: Ledger
    client: PacedClient
    intake: Intake
    delivery: Delivery

    def listen(self, app: App) -> None:
        app.action(FORGET_ACTION)(self._ask)
        app.view(FORGET_VIEW)(self._forget)
        app.action(PERSON_HOME_ACTION)(self._person)

    def _ask(self, ack: Ack, body: dict[str, Any]) -> None:
        ack()
        view = _modal(ASK, submit="Delete my data")
        self.client.views_open(trigger_id=body["trigger_id"], view=view)

    def _forget(self, ack: Ack, body: dict[str, Any]) -> None:
        """Before the ack: what could not be deleted must not look deleted. After it, what nobody ends any more goes, too."""
        user = body["user"]["id"]
        with self.ledger.connections.write():
            begun = self.ledger.exchanges.under_way(user)
            receipt = forget(self.ledger, self.settings.datasets_dir, user, actor=user)
        ack(response_action="update", view=_modal(receipt_text(receipt)))
        try:
            self.delivery.remove(begun)
        except NotNow as error:
            log.warning("begun_answer_stays", code=str(error))

    def _person(self, ack: Ack, body: dict[str, Any]) -> None:
        """From the App Home: the call is kept like any other press, for the direct message with this person."""
        user = body["user"]["id"]
        channel = str(persist(lambda: self.client.conversations_open(users=user), for_s=2.0)["channel"]["id"])
        at = body["actions"][0]["action_ts"]
        threads = self.ledger.exchanges.recent_threads(max_age_s=86_400, limit=50)
        thread_ts = next((ts for place, ts in threads if place == channel), at)
        self.intake.call_person(user, channel, thread_ts, at)
        ack()


def receipt_text(receipt: Receipt) -> str:
    lines = [
        "*Deleted.*",
        f"• questions with their answers: {receipt.questions}",
        f"• ratings: {receipt.ratings}",
        f"• taught replies and corrections: {receipt.taught}",
        f"• training sets that held your words: {receipt.datasets}",
    ]
    if receipt.tickets:
        lines.append(f"• imported tickets: {receipt.tickets}")
    if receipt.adapters:
        lines.append(f"• trained versions that learned from them, to be replaced: {len(receipt.adapters)}")
    return "\n".join(lines)


def _modal(text: str, submit: str | None = None) -> dict[str, Any]:
    return {
        "type": "modal",
        "callback_id": FORGET_VIEW,
        "title": {"type": "plain_text", "text": "Delete my data"},
        "close": {"type": "plain_text", "text": "Close"},
        **({"submit": {"type": "plain_text", "text": submit}} if submit else {}),
        "blocks": [section(text)],
    }
