"""/retrain and /model: what people type, as one sentence back; the button that cancels a run.

Promise: only admins change anything, every try leaves an audit row, and every refusal names the next step.
The functions return text; acking and sending are the listeners' work.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slack_bolt import Ack, App
from slack_sdk import WebClient

from bot.replies import private
from bot.report_card import CANCEL_ACTION
from bot.roles import Roles
from bot.safe_text import escape, printable, who
from storage.digests import short
from storage.errors import Busy, EvenkeelError, UsageError
from storage.ledger import Ledger
from storage.recipe import PROFILES, RANGES, SWITCHES, parse_overrides, recipe_from, warnings_for
from storage.records import ACTIVE_STATES, Promotion, Sharing
from storage.settings import Settings

RETRAIN_HINT = "[now | profile=… lr=… epochs=… rank=… force dry] | cancel | help"
MODEL_HINT = "[list] | rollback [version] | promote RUN | help"
NOT_YOU = "Only admins can do this. If you should be one, ask whoever runs Evenkeel to add you to ADMINS."
UNKNOWN = "I could not check with Slack whether you are an admin, so nothing was done. Please try again in a minute."


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    settings: Settings
    ledger: Ledger
    roles: Roles

    def retrain(self, user: str, text: str, channel: str) -> str:
        """Start, cancel or explain a run. `now`, or no text, starts one with the settings' recipe; an unreadable one none."""
        words = printable(text).split()
        unreadable = bool(text.strip()) and not words
        if unreadable or [word.lower() for word in words] == ["help"]:
            return retrain_help()
        if refusal := self.refusal(user, "retrain"):
            return refusal
        try:
            if [word.lower() for word in words] == ["cancel"]:
                return self._cancel_active(user)
            return self._start(user, " ".join(word for word in words if word.lower() != "now"), channel)
        except EvenkeelError as error:
            return escape(str(error))

    def _start(self, user: str, words: str, channel: str) -> str:
        overrides = parse_overrides(words)
        warnings = warnings_for(recipe_from(self.settings, overrides))
        if warnings and not overrides.keys() & {"force", "dry_run"}:
            return "\n".join(f"⚠️ {escape(w)}" for w in warnings) + "\nNothing was started. Add `force` to start anyway."
        return self.request(user, overrides, channel)

    def request(self, user: str, overrides: Mapping[str, Any], channel: str) -> str:
        """Ask for a run and say so. The caller has checked the role and the values. Raises Busy naming the active run."""
        run_id = self.ledger.runs.request(reason="command", requested_by=user, overrides=overrides, channel=channel)
        self.ledger.audit(user, "retrain", {"run_id": run_id, "overrides": dict(overrides)})
        if overrides.get("dry_run"):
            return f"Dry run {run_id} is queued; what it finds will appear here. It trains nothing."
        return f"Run {run_id} is queued; its progress will appear here. `/retrain cancel` stops it."

    def _cancel_active(self, user: str) -> str:
        active = self.ledger.runs.active()
        return self._cancel(user, active.run_id) if active else "No run is active, so there is nothing to cancel."

    def cancel_run(self, user: str, value: str) -> str:
        """A click on a live run's button; `value` is the run's number."""
        return self.as_admin(user, "cancel", lambda: self._cancel(user, number(value) or 0))

    def _cancel(self, user: str, run_id: int) -> str:
        run = self.ledger.runs.get(run_id)
        if run is None:
            raise UsageError("This button belongs to no run that is known here. Next: `/retrain cancel`.")
        if run.state not in ACTIVE_STATES or not self.ledger.runs.cancel(run_id):
            return f"Run {run_id} is already over, so there is nothing to cancel."
        self.ledger.audit(user, "cancel", {"run_id": run_id})
        return f"Run {run_id} is being cancelled; the model that serves stays."

    def model(self, user: str, text: str) -> str:
        """List the versions, roll back, or promote a candidate that waits for an admin."""
        words = printable(text).lower().split()
        match words:
            case [] | ["list"]:
                return self._versions()
            case ["rollback"] | ["rollback", _]:
                return self.as_admin(user, "rollback", lambda: self._rollback(user, words[1:]))
            case ["promote", run]:
                return self.as_admin(user, "promote", lambda: self._promote(user, run))
            case _:
                return f"`/model {MODEL_HINT}`\nExample: `/model rollback 2`"

    def refusal(self, user: str, action: str) -> str:
        """Why this person may not, or nothing. A refusal leaves an audit row; without one it is a refusal, too."""
        role = self.roles.role_of(user)
        if role == "admin":
            return ""
        try:
            self.ledger.audit(user, f"{action}_refused", {"role": role})
        except Busy as error:
            return escape(str(error))
        return UNKNOWN if role == "unknown" else NOT_YOU

    def as_admin(self, user: str, action: str, act: Callable[[], str]) -> str:
        """What `act` says, or why this person may not, or why it could not be done."""
        if refusal := self.refusal(user, action):
            return refusal
        try:
            return act()
        except EvenkeelError as error:
            return escape(str(error))

    def _rollback(self, user: str, words: list[str]) -> str:
        wanted = words[0].removeprefix("v") if words else None
        if wanted is not None and number(wanted) is None:
            return f"“{escape(words[0][:40])}” is no version. `/model` lists them; 0 is the base model."
        return self._rolled_back(user, None if wanted is None else number(wanted))

    def rollback_seen(self, user: str, version: str, seen: str) -> str:
        """A click on a version. `seen` is the promotion that served when its button was drawn.

        Whoever clicks decides about what they saw: when another serves by now, nothing is done.
        """
        return self.as_admin(user, "rollback", lambda: self._rollback_seen(user, version, seen))

    def _rollback_seen(self, user: str, version: str, seen: str) -> str:
        wanted = number(version)
        if wanted is None:
            raise UsageError("This button belongs to no version. Next: /model.")
        with self.ledger.connections.write():
            champion = self.ledger.promotions.champion()
            if champion is None or champion.promotion_id != number(seen):
                return "Nothing was done: somebody changed the champion since this list was drawn. Look again."
            return self._rolled_back(user, wanted)

    def _rolled_back(self, user: str, version: int | None) -> str:
        promotion = self.ledger.promotions.rollback(actor=user, reason="rolled back in Slack", to_version=version)
        return f"{name_of(promotion)} is the champion again. `/model` shows when the engine has confirmed it."

    def _promote(self, user: str, run: str) -> str:
        found = self.ledger.runs.get(number(run) or 0)
        if found is None or found.decision_id is None:
            return f"Run “{escape(run[:40])}” has no decision. Use the number of a finished run, for example `/model promote 3`."
        promotion = self.ledger.promotions.promote(
            found.decision_id, actor=user, reason="promoted in Slack", percent=self.settings.canary_percent
        )
        return f"{name_of(promotion)} is the champion now. `/model` shows when the engine has confirmed it."

    def _versions(self) -> str:
        history = self.ledger.promotions.history()
        if not history:
            return "No version was promoted yet: the base model answers. Next: `/retrain` (admins)."
        lines = [_line(p) for p in reversed(history[-10:])]
        shared = sharing_text(self.ledger.promotions.sharing())
        return f"*{name_of(history[-1])} answers now.*{shared}\n" + "\n".join(lines)

    def listen(self, app: App, client: WebClient) -> None:
        """The Cancel button under a live run; the commands themselves belong to their forms."""

        @app.action(CANCEL_ACTION)
        def on_cancel(ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
            ack()
            user, channel = body["user"]["id"], (body.get("container") or {}).get("channel_id", "")
            private(client, channel, user, self.cancel_run(user, action.get("value") or ""))


def number(text: str) -> int | None:
    """A row's number as people type it, or None."""
    return int(text) if text.isdecimal() and len(text) < 10 else None


def name_of(promotion: Promotion) -> str:
    return "The base model" if promotion.adapter_digest is None else f"v{promotion.version}"


def sharing_text(sharing: Sharing | None) -> str:
    """Who speaks in the other conversations, as a sentence; nothing while one answers everybody."""
    if sharing is None:
        return ""
    other = "the base model" if sharing.before is None or sharing.other is None else f"v{sharing.before.version}"
    return f" It has {sharing.champion.percent} % of the conversations so far, {other} the others."


def _line(p: Promotion) -> str:
    what = "promoted" if p.kind == "promote" else "rolled back to"
    engine = {"": "engine has not confirmed yet", "ok": "confirmed"}.get(
        p.confirmed, f"engine refused: {escape(p.confirmed)}"
    )
    return f"• {p.at:%Y-%m-%d %H:%M} UTC: {what} {name_of(p)} (adapter {short(p.adapter_digest)}) by {who(p.actor)}, {engine}"


def retrain_help() -> str:
    rows = "\n".join(
        [
            f"• `profile` {', '.join(f'{name} ({p.says})' for name, p in PROFILES.items())}",
            *(
                f"• `{name}` {r.low:g} to {r.high:g}, safe {r.safe_low:g} to {r.safe_high:g}"
                for name, r in RANGES.items()
            ),
            *(f"• `{name}` on or off: {says}" for name, says in SWITCHES.items()),
        ]
    )
    return (
        f"`/retrain {RETRAIN_HINT}`\nTrains a candidate, scores it, and lets the gate decide. Admins only. Without a word"
        " it shows a form, `now` starts at once, `dry` only says what would be trained, `force` starts in spite of"
        f" warnings.\n{rows}"
    )
