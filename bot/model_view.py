"""The list behind `/model`: the versions, who serves, what people thought of each; for admins, the way back.

Promise: everybody may look, only admins roll back; a click decides about the list that was seen, or does nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slack_bolt import Ack, App, Respond
from slack_sdk import WebClient

from bot.answer_view import section
from bot.commands import Commands, name_of, sharing_text
from bot.modals import PATIENCE_S, View, modal, open_then_fill, plain
from bot.replies import private
from bot.safe_text import escape, printable, who
from bot.slack import SLACK_ERRORS, persist
from storage.digests import short
from storage.records import Promotion

ROLLBACK_ACTION = "evenkeel_rollback"
TITLE = "Versions"
MOST = 10
Votes = Mapping[str | None, tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    commands: Commands
    client: WebClient

    def open(self, command: Mapping[str, Any], respond: Respond) -> None:
        """The list as a modal; as a private message where Slack takes no modal."""
        user, channel = command["user_id"], command["channel_id"]
        if not open_then_fill(self.client, command["trigger_id"], TITLE, lambda: self.view(user, channel)):
            private(self.client, channel, user, self.commands.model(user, "list"), respond=respond)

    def view(self, user: str, channel: str, *, said: str = "") -> View:
        """The list as things stand now, under the outcome of the last click."""
        promotions = self.commands.ledger.promotions
        admin = self.commands.roles.role_of(user) == "admin"
        shared = sharing_text(promotions.sharing())
        return versions(
            promotions.history(), promotions.votes(), admin=admin, channel=channel, said=said, shared=shared
        )

    def roll_back(self, body: Mapping[str, Any], value: str) -> None:
        """A click on a version's button; what came of it stands on top of the list."""
        user, (seen, _, channel) = body["user"]["id"], body["view"]["private_metadata"].partition(" ")
        said = self.commands.rollback_seen(user, value, seen)
        try:
            fresh = self.view(user, channel, said=said)
            persist(lambda: self.client.views_update(view_id=body["view"]["id"], view=fresh), for_s=PATIENCE_S)
        except SLACK_ERRORS:  # the list was closed meanwhile
            private(self.client, channel, user, said)

    def listen(self, app: App) -> None:
        """`/model` and the buttons of its list."""

        @app.command("/model")
        def on_model(ack: Ack, command: dict[str, Any], respond: Respond) -> None:
            ack()
            user, channel, text = command["user_id"], command["channel_id"], command.get("text") or ""
            if printable(text).lower().split() in ([], ["list"]):
                self.open(command, respond)
                return
            private(self.client, channel, user, self.commands.model(user, text), respond=respond)

        @app.action(ROLLBACK_ACTION)
        def on_roll_back(ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
            ack()
            self.roll_back(body, action.get("value") or "")


def versions(
    history: Sequence[Promotion], votes: Votes, *, admin: bool, channel: str, said: str, shared: str = ""
) -> View:
    """The modal. Pure. `history` is oldest first; `shared` says who else speaks."""
    top = [section(f"*{said}*")] if said else []
    if not history:
        first = "No version was promoted yet: the base model answers. Next: `/retrain` (admins)."
        return modal(TITLE, *top, section(first), private_metadata=f"0 {channel}")
    serving = history[-1]
    shown = [p for p in reversed(history) if p.kind == "promote"][:MOST]
    blocks = [version_block(p, history, votes, admin=admin) for p in shown]
    return modal(
        TITLE,
        *top,
        section(
            f"*{name_of(serving)} answers now*, since {serving.at:%Y-%m-%d %H:%M} UTC ({engine_state(serving)}).{shared}"
        ),
        *blocks,
        base_block(serving, votes, admin=admin),
        private_metadata=f"{serving.promotion_id} {channel}",
    )


def version_block(made: Promotion, history: Sequence[Promotion], votes: Votes, *, admin: bool) -> dict[str, Any]:
    """One version: its adapter, when and by whom, what the engine said last, what people thought."""
    serving = history[-1]
    serves = serving.version == made.version
    newest = next(p for p in reversed(history) if p.version == made.version)
    text = (
        f"*v{made.version}*{' · serves' if serves else ''} · adapter {short(made.adapter_digest)}\n"
        f"{made.at:%Y-%m-%d %H:%M} UTC by {who(made.actor)} · {engine_state(newest)} · "
        f"{share_text(votes.get(made.adapter_digest))}"
    )
    block = section(text)
    if admin and not serves:
        label = f"Roll back to v{made.version}" if made.version < serving.version else f"Go back to v{made.version}"
        block["accessory"] = button(label, f"v{made.version}", made.version)
    return block


def base_block(serving: Promotion, votes: Votes, *, admin: bool) -> dict[str, Any]:
    """The base alone: what there was before the first version."""
    serves = serving.adapter_digest is None
    block = section(f"*Base model*{' · serves' if serves else ''} · no adapter\n{share_text(votes.get(None))}")
    if admin and not serves:
        block["accessory"] = button("Roll back to base", "the base model alone", 0)
    return block


def button(label: str, name: str, version: int) -> dict[str, Any]:
    confirm = {
        "title": plain("Roll back?"),
        "text": plain(f"From now on, {name} answers every new question."),
        "confirm": plain("Roll back"),
        "deny": plain("Keep"),
    }
    return {
        "type": "button", "action_id": ROLLBACK_ACTION, "text": plain(label), "value": str(version), "confirm": confirm,
    }  # fmt: skip


def engine_state(promotion: Promotion) -> str:
    """The engine's last word on a promotion."""
    known = {"": "the engine has not confirmed it yet", "ok": "confirmed by the engine"}
    return known.get(promotion.confirmed, f"refused by the engine: {escape(promotion.confirmed[:200])}")


def share_text(votes: tuple[int, int] | None) -> str:
    up, down = votes or (0, 0)
    return f"{up / (up + down):.0%} 👍 of {up + down} votes" if up + down else "no votes yet"
