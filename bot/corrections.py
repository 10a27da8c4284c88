"""The form in which an agent writes the answer that the bot should have given.

Promise: only agents and admins write lessons, checked at the click and again when the form is sent; what somebody wrote
they can write again (the newest counts) or take back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from slack_bolt import Ack, App, Respond
from slack_sdk import WebClient

from bot.answer_view import actions, button, context, section
from bot.commands import number
from bot.modals import PATIENCE_S, View, modal, plain
from bot.reasons import CORRECT_ACTION, LOCKED
from bot.replies import private
from bot.roles import TEAM, Roles
from bot.safe_text import escape, printable
from bot.slack import SLACK_ERRORS, persist, trouble_of
from storage.errors import Busy
from storage.ledger import Ledger
from storage.records import Exchange, Role
from storage.settings import Settings

log = structlog.get_logger()
CORRECTION_VIEW = "evenkeel_correction"
START_ACTION = "evenkeel_start_from_"  # and tuned or base
TAKE_BACK_ACTION = "evenkeel_take_back"
FIELD = "answer"
LONGEST = 3_000  # Slack's own limit of an input's value
SAVE_S = 1.5  # a sent form wants its answer within three seconds
NOT_YOU = "Only support agents can write better answers. If you should be one, ask an admin to add you to AGENTS."
UNKNOWN = "I could not check with Slack whether you are an agent, so nothing was done. Please try again in a minute."
GONE = "That answer is no longer known here, so it cannot be corrected."
NO_FORM = "Slack did not open the form. Please press the button again."
CUT = f"The answer has more than the {LONGEST:,} characters that a form can hold: its end is missing here."


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    settings: Settings
    ledger: Ledger
    client: WebClient
    roles: Roles
    show_home: Callable[[str], object]  # draws this user's App Home again

    def listen(self, app: App) -> None:
        app.action(CORRECT_ACTION)(self._on_correct)
        app.view(CORRECTION_VIEW)(self._on_written)
        app.action(TAKE_BACK_ACTION)(self._on_take_back)
        for role in ("tuned", "base"):
            app.action(f"{START_ACTION}{role}")(self._on_start_from)

    def _on_correct(self, ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        ack()
        self.start(body["user"]["id"], (body.get("container") or {}).get("channel_id", ""), action, body["trigger_id"])

    def start(self, user: str, channel: str, action: dict[str, Any], trigger_id: str) -> None:
        """A click on “Write a better answer”."""
        if refused := self.refused(user):
            private(self.client, channel, user, refused)
            return
        exchange = self.ledger.exchanges.get(number(action.get("value") or "") or 0)
        if exchange is None or exchange.tuned is None:
            private(self.client, channel, user, GONE)
            return
        try:
            self.client.views_open(trigger_id=trigger_id, view=form(exchange, channel))
        except SLACK_ERRORS as error:
            log.info("modal_failed", code=trouble_of(error).code)
            private(self.client, channel, user, NO_FORM)

    def _on_start_from(self, ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        """Put the other model's answer into the field."""
        ack()
        view = body["view"]
        exchange_id, _, channel = view["private_metadata"].partition(" ")
        exchange = self.ledger.exchanges.get(number(exchange_id) or 0)
        role: Role = "base" if action["action_id"].endswith("base") else "tuned"
        if exchange is None or not both_said(exchange) or self.refused(body["user"]["id"]):
            return
        fresh = form(exchange, channel, start_from=role, edition=view["hash"])
        try:
            persist(lambda: self.client.views_update(view_id=view["id"], view=fresh), for_s=PATIENCE_S)
        except SLACK_ERRORS as error:
            log.info("start_from_failed", code=trouble_of(error).code)

    def _on_written(self, ack: Ack, body: dict[str, Any]) -> None:
        """Kept before the ack: what could not be kept must not look kept."""
        try:
            with self.ledger.connections.patience(SAVE_S):
                refused = self.refusal(body)
                correction_id = 0 if refused else self.keep(body)
        except Busy:
            refused, correction_id = LOCKED, 0
        if not correction_id:
            ack(response_action="errors", errors={written(body["view"])[0]: refused or GONE})
            return
        ack()
        self.thank(body["user"]["id"], body["view"]["private_metadata"].partition(" ")[2], "correction", correction_id)

    def refusal(self, body: dict[str, Any]) -> str:
        """What is wrong with a sent form; empty when it can be kept."""
        if refused := self.refused(body["user"]["id"]):
            return refused
        return "" if written(body["view"])[1] else "Please write the answer that the customer should have got."

    def keep(self, body: dict[str, Any]) -> int:
        """Store the correction, where `refusal` is empty; 0 when the answer is forgotten by now. Raises Busy."""
        exchange_id, user = number(body["view"]["private_metadata"].partition(" ")[0]) or 0, body["user"]["id"]
        block, text = written(body["view"])
        role, started_from = self.roles.role_of(user), "base" if block.endswith("base") else "tuned"
        with self.ledger.connections.write():
            if self.ledger.exchanges.get(exchange_id) is None:
                return 0
            self.ledger.audit(user, "correct", {"exchange_id": exchange_id})
            return self.ledger.lessons.correct(
                exchange_id, author=user, role=role, text=text, started_from=started_from
            )

    def thank(self, user: str, channel: str, kind: str, number: int) -> None:
        """A private word with a way back."""
        will = (
            "The next training run can learn from it."
            if self.settings.learn_from_slack
            else "It becomes a lesson once an operator turns LEARN_FROM_SLACK on."
        )
        text = f"Thank you, your answer is kept. {will}"
        back = actions(button("Take back", TAKE_BACK_ACTION, f"{kind}:{number}"))
        private(self.client, channel, user, text, blocks=[section(text), back])

    def _on_take_back(self, ack: Ack, body: dict[str, Any], action: dict[str, Any], respond: Respond) -> None:
        """In the thank-you note, and in the App Home."""
        ack()
        user = body["user"]["id"]
        try:
            said, done = self.take_back(user, action.get("value") or ""), True
        except Busy:
            said, done = LOCKED, False
        try:
            if body["container"].get("type") == "view":
                self.show_home(user)
            else:
                respond(text=said, response_type="ephemeral", replace_original=done)
        except SLACK_ERRORS as error:
            log.info("take_back_not_said", code=trouble_of(error).code)

    def take_back(self, user: str, value: str) -> str:
        """Remove what this person wrote; returns what they read. Raises Busy."""
        kind, _, which = value.partition(":")
        with self.ledger.connections.write():
            if not self.ledger.taught.take_back(kind, number(which) or 0, by=user):
                return "There is nothing of yours to take back here; it may be gone already."
            self.ledger.audit(user, "take_back", {"kind": kind, "number": number(which)})
        return "Taken back: no further training run will see it."

    def refused(self, user: str) -> str:
        """Why this person may not write lessons; empty when they may."""
        role = self.roles.role_of(user)
        return "" if role in TEAM else UNKNOWN if role == "unknown" else NOT_YOU


def written(view: dict[str, Any]) -> tuple[str, str]:
    """(block_id of the field, its text, cleaned)."""
    for block_id, block in view["state"]["values"].items():
        value = (block.get(FIELD) or {}).get("value")
        if isinstance(value, str):
            return block_id, printable(value).strip()
    return next((b["block_id"] for b in view["blocks"] if b["type"] == "input"), FIELD), ""


def both_said(exchange: Exchange) -> bool:
    """Whether there is a choice: the base spoke, too, and said something else."""
    tuned, base = exchange.tuned, exchange.base
    if tuned is None or base is None or base.status != "ok":
        return False
    return tuned.text.strip() != base.text.strip()


def form(exchange: Exchange, channel: str, *, start_from: Role = "tuned", edition: str = "0") -> View:
    """The modal, prefilled with what one of the models said.

    Each `edition` has another field: in the same one, Slack keeps what was typed.
    """
    chosen = exchange.tuned if start_from == "tuned" else exchange.base
    answer = chosen.text if chosen else ""
    question = escape(exchange.question.text[:500])
    starts = [
        button("From the bot's answer", f"{START_ACTION}tuned", "tuned"),
        button("From the base model's answer", f"{START_ACTION}base", "base"),
    ]
    return modal(
        "A better answer",
        section(f"*Question*\n{question}"),
        *([actions(*starts)] if both_said(exchange) else []),
        field(f"{FIELD}_{edition}_{start_from}", "What the answer should have been", answer[:LONGEST]),
        *([context(CUT)] if len(answer) > LONGEST else []),
        close="Cancel",
        callback_id=CORRECTION_VIEW,
        private_metadata=f"{exchange.exchange_id} {channel}",
        submit=plain("Save"),
    )


def field(block_id: str, label: str, text: str) -> dict[str, Any]:
    """A text field of several lines with this text in it."""
    return {
        "type": "input",
        "block_id": block_id,
        "label": plain(label),
        "element": {
            "type": "plain_text_input",
            "action_id": FIELD,
            "multiline": True,
            "max_length": LONGEST,
            **({"initial_value": text} if text else {}),
        },
    }
