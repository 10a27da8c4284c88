"""The form in which an agent writes the answer that the bot should have given.

Promise: only agents and admins write lessons, checked at the click and again when the form is sent.
"""

from dataclasses import dataclass
from typing import Any

from slack_sdk import WebClient

from bot.commands import number
from bot.replies import private
from bot.roles import Roles
from bot.safe_text import escape, printable
from storage.ledger import Ledger
from storage.records import Exchange
from storage.settings import Settings

CORRECTION_VIEW = "evenkeel_correction"
FIELD = "answer"
LONGEST = 3_000  # Slack's own limit of an input's value
NOT_YOU = "Only support agents can write better answers. If you should be one, ask an admin to add you to AGENTS."


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    settings: Settings
    ledger: Ledger
    client: WebClient
    roles: Roles

    def start(self, body: dict[str, Any], value: str) -> None:
        """A click on “Write a better answer”."""
        user, channel = body["user"]["id"], (body.get("container") or {}).get("channel_id", "")
        if not self._may(user):
            private(self.client, channel, user, NOT_YOU)
            return
        exchange = self.ledger.exchanges.get(number(value) or 0)
        if exchange is None or exchange.tuned is None:
            private(self.client, channel, user, "That answer is no longer known here, so it cannot be corrected.")
            return
        self.client.views_open(trigger_id=body["trigger_id"], view=form(exchange, channel))

    def refusal(self, body: dict[str, Any]) -> dict[str, str]:
        """What is wrong with a sent form, by field; empty when it can be kept."""
        if not self._may(body["user"]["id"]):
            return {FIELD: NOT_YOU}
        return {} if written(body) else {FIELD: "Please write the answer that the customer should have got."}

    def keep(self, body: dict[str, Any]) -> None:
        """Store the correction; call only when `refusal` is empty."""
        exchange_id, _, channel = body["view"]["private_metadata"].partition(" ")
        user = body["user"]["id"]
        self.ledger.lessons.correct(int(exchange_id), author=user, role=self.roles.role_of(user), text=written(body))
        self.ledger.audit(user, "correct", {"exchange_id": int(exchange_id)})

    def thank(self, body: dict[str, Any]) -> None:
        channel = body["view"]["private_metadata"].partition(" ")[2]
        will = (
            "The next training run can learn from it."
            if self.settings.learn_from_slack
            else "It becomes a lesson once an operator turns LEARN_FROM_SLACK on."
        )
        private(self.client, channel, body["user"]["id"], f"Thank you, your answer is kept. {will}")

    def _may(self, user: str) -> bool:
        return self.roles.role_of(user) in ("agent", "admin")


def written(body: dict[str, Any]) -> str:
    """The text in the form, cleaned; empty when there is none."""
    for block in body["view"]["state"]["values"].values():
        value = (block.get(FIELD) or {}).get("value")
        if isinstance(value, str):
            return printable(value).strip()
    return ""


def form(exchange: Exchange, channel: str) -> dict[str, Any]:
    """The modal, prefilled with what the bot said."""
    answer = exchange.tuned.text if exchange.tuned else ""
    prefilled = {"initial_value": answer[:LONGEST]} if answer else {}
    question = escape(exchange.question.text)[:500]
    return {
        "type": "modal",
        "callback_id": CORRECTION_VIEW,
        "private_metadata": f"{exchange.exchange_id} {channel}",
        "title": {"type": "plain_text", "text": "A better answer"},
        "submit": {"type": "plain_text", "text": "Save"},
        "close": {"type": "plain_text", "text": "Cancel"},
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": f"*Question*\n{question}", "verbatim": True}},
            {
                "type": "input",
                "block_id": FIELD,
                "label": {"type": "plain_text", "text": "What the answer should have been"},
                "element": {
                    "type": "plain_text_input",
                    "action_id": FIELD,
                    "multiline": True,
                    "max_length": LONGEST,
                    **prefilled,
                },
            },
        ],
    }
