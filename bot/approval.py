"""The buttons under a candidate that waits: Approve, Keep current, Try ten questions.

Promise: a click decides about the candidate on its own card or does nothing. Role, decision, candidate, what serves and
what was decided since are looked at again at the click; the card then says who decided, and when.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from slack_bolt import Ack, App
from slack_sdk import WebClient

from bot.commands import Commands, number
from bot.replies import private
from bot.report_card import APPROVE_ACTION, KEEP_ACTION, TRY_ACTION
from bot.run_watch import RunWatch
from bot.safe_text import escape, who
from bot.slack import SLACK_ERRORS, trouble_of
from bot.trial import Trial
from storage.digests import short
from storage.errors import EvenkeelError
from storage.ledger import Ledger
from storage.records import Decision, Run
from storage.standing import KEPT, Standing, run_at, standing

log = structlog.get_logger()
STRANGE = "This button belongs to no decision that is known here, so nothing was done. Next: `/model`."
AUDITED = {APPROVE_ACTION: "approve", KEEP_ACTION: KEPT, TRY_ACTION: "try_ten"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    ledger: Ledger
    client: WebClient
    commands: Commands
    watch: RunWatch
    trial: Trial

    def press(self, user: str, action: str, channel: str, message_ts: str, value: str) -> str:
        """What the person reads privately; empty where the card itself says what was done."""
        if refusal := self.commands.refusal(user, AUDITED[action]):
            return refusal
        found = self._card_of(channel, message_ts, value)
        if found is None:
            return STRANGE
        run, decision = found
        if action == TRY_ACTION:
            return self._try(user, run, decision)
        try:
            said = self._decide(user, action, run, decision)
        except EvenkeelError as error:
            said = f"Nothing was done: {escape(str(error))}"
        self._draw_again(run)
        return said

    def _card_of(self, channel: str, message_ts: str, value: str) -> tuple[Run, Decision] | None:
        """The run whose card this is, and its decision, if the button carries that very decision and candidate."""
        run_id = run_at(self.ledger.connections, channel, message_ts)
        run = self.ledger.runs.get(run_id) if run_id is not None else None
        decision_id, _, digest = value.partition(":")
        if run is None or run.decision_id is None or run.decision_id != number(decision_id):
            return None
        decision = self.ledger.promotions.decision(run.decision_id)
        return None if decision is None or decision.candidate_digest != digest else (run, decision)

    def _decide(self, user: str, action: str, run: Run, decision: Decision) -> str:
        """One click wins. Raises GateSaidNo naming what has changed since the card was drawn."""
        decision_id = run.decision_id or 0
        with self.ledger.connections.write():
            if gone := why_not(standing(self.ledger.connections, decision_id)):
                return f"Nothing was done: {gone}"
            if action == APPROVE_ACTION:
                percent = self.commands.settings.canary_percent
                self.ledger.promotions.promote(decision_id, actor=user, reason="approved in Slack", percent=percent)
                return ""
            detail = {"decision_id": decision_id, "run_id": run.run_id, "candidate": short(decision.candidate_digest)}
            self.ledger.audit(user, KEPT, detail)
        return ""

    def _try(self, user: str, run: Run, decision: Decision) -> str:
        try:
            return self.trial.begin(user, run, decision)
        except SLACK_ERRORS as error:
            log.warning("trial_not_begun", run_id=run.run_id, code=trouble_of(error).code)
            return f"Slack did not open a direct message with you ({trouble_of(error).code}). Please try again."

    def _draw_again(self, run: Run) -> None:
        """The card as things stand now; the clock of the runs draws it where Slack does not take it at once."""
        try:
            self.watch.show(self.ledger.runs.get(run.run_id) or run)
        except SLACK_ERRORS as error:
            log.warning("card_not_drawn", run_id=run.run_id, code=trouble_of(error).code)

    def listen(self, app: App) -> None:
        def on_press(ack: Ack, body: Mapping[str, Any], action: Mapping[str, Any]) -> None:
            ack()
            user, place = body["user"]["id"], body.get("container") or {}
            channel, ts = str(place.get("channel_id") or ""), str(place.get("message_ts") or "")
            if said := self.press(user, action["action_id"], channel, ts, action.get("value") or ""):
                private(self.client, channel, user, said)

        for name in AUDITED:
            app.action(name)(on_press)


def why_not(stands: Standing) -> str:
    """Why nothing is left to decide about a candidate, or nothing."""
    when = f"{stands.at:%Y-%m-%d %H:%M} UTC" if stands.at else ""
    match stands.state:
        case "live":
            return f"v{stands.version} went live already, by {who(stands.by)} at {when}."
        case "kept":
            return f"{who(stands.by)} kept the current model at {when}. Next: `/retrain`."
        case "void":
            return (
                f"run {stands.run_id} was decided since, so this candidate is void. Next: look at run {stands.run_id}."
            )
        case "moved":
            return "another model serves now than the one that this candidate was compared with. Next: `/retrain`."
        case _:
            return ""
