"""The review queue: an agent judges pairs of answers without knowing who spoke, ten at a time.

Promise: a pick is stored at its click, once; only agents and admins pick, checked at every click; a card that is old or
forged stores nothing. What a card shows is decided in bot/review_view.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slack_bolt import Ack, App, Respond
from slack_sdk import WebClient

from bot.commands import number
from bot.corrections import form
from bot.modals import PATIENCE_S, View, open_then_fill
from bot.replies import private
from bot.review_order import ranked
from bot.review_view import (
    CHOICES,
    EMPTY,
    NO_FORM,
    NO_VIEW,
    NOT_YOU,
    OUTDATED,
    PICK,
    REVIEW_ACTION,
    TITLE,
    UNKNOWN,
    Session,
    card,
    first_of,
    instead,
    session_from,
    thanks,
    verdict_of,
)
from bot.roles import Roles
from bot.slack import SLACK_ERRORS, persist, trouble_of
from storage.ledger import Ledger
from storage.records import Exchange
from storage.settings import Settings

SESSION = 10
MAX_AGE_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    settings: Settings
    ledger: Ledger
    client: WebClient
    roles: Roles

    def listen(self, app: App) -> None:
        app.command("/review")(self._on_command)
        app.action(REVIEW_ACTION)(self._on_button)
        for choice in CHOICES:
            app.action(f"{PICK}{choice}")(self._on_pick)

    def _on_command(self, ack: Ack, command: dict[str, Any], respond: Respond) -> None:
        ack()
        user, channel = command["user_id"], command["channel_id"]
        if refusal := self._refusal(user):
            private(self.client, channel, user, refusal, respond=respond)
        elif not open_then_fill(self.client, command["trigger_id"], TITLE, lambda: self.start(user, channel)):
            private(self.client, channel, user, NO_VIEW, respond=respond)

    def _on_button(self, ack: Ack, body: dict[str, Any]) -> None:
        """In the App Home, and at the end of a session, where the modal is open already."""
        ack()
        user, view = body["user"]["id"], body["view"]
        if view["type"] == "modal":
            session = session_from(view.get("private_metadata"))
            self._show(view, self._or_refusal(user, session.channel if session else ""))
        else:
            open_then_fill(self.client, body["trigger_id"], TITLE, lambda: self._or_refusal(user, ""))

    def _or_refusal(self, user: str, channel: str) -> View:
        refusal = self._refusal(user)
        return instead(refusal, again=False) if refusal else self.start(user, channel)

    def _on_pick(self, ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        ack()
        user, view = body["user"]["id"], body["view"]
        if refusal := self._refusal(user):
            self._show(view, instead(refusal, again=False))
            return
        choice, exchange_id = action["action_id"].removeprefix(PICK), number(action.get("value") or "") or 0
        said = ""
        if choice == "edit" and not self._write(body["trigger_id"], exchange_id):
            said = NO_FORM
        self._show(view, self.pick(user, choice, exchange_id, view, said=said))

    def _write(self, trigger_id: str, exchange_id: int) -> bool:
        """Put the form for a better answer on top of the card."""
        exchange = self._known(exchange_id)
        if exchange is None:
            return False
        try:
            self.client.views_push(trigger_id=trigger_id, view=form(exchange, exchange.question.channel))
        except SLACK_ERRORS:
            return False
        return True

    def _show(self, view: Mapping[str, Any], fresh: View) -> None:
        """Put the next card in place of this one; a view that is gone is left alone."""
        try:
            persist(lambda: self.client.views_update(view_id=view["id"], view=fresh), for_s=PATIENCE_S)
        except SLACK_ERRORS as error:
            if trouble_of(error).kind != "refused":
                raise

    # The session

    def start(self, user: str, channel: str) -> View:
        """The first card of a session, most valuable pairs first."""
        pairs = ranked(self.ledger.picks.open_for(user, max_age_s=MAX_AGE_S))
        session = Session(queue=tuple(pair.exchange_id for pair in pairs[:SESSION]), channel=channel)
        return self._next(user, session, after=None) if session.queue else instead(EMPTY)

    def pick(self, user: str, choice: str, exchange_id: int, view: Mapping[str, Any], *, said: str = "") -> View:
        """Store what was pressed on this card and give the next one."""
        session = session_from(view.get("private_metadata"))
        exchange = self._known(exchange_id)
        if session is None or exchange_id not in session.queue or exchange is None:
            return instead(OUTDATED)
        first = first_of(exchange, user)
        role, verdict = self.roles.role_of(user), verdict_of(choice, first)
        self.ledger.picks.add(exchange_id, reviewer=user, role=role, first=first, verdict=verdict)
        return self._next(user, session, after=exchange_id, said=said)

    def _next(self, user: str, session: Session, *, after: int | None, said: str = "") -> View:
        """The next card whose exchange is still known, or the end."""
        done = 0 if after is None else session.queue.index(after) + 1
        for exchange_id in session.queue[done:]:
            exchange = self._known(exchange_id)
            if exchange is not None:
                return card(exchange, user, session, domains=self.settings.link_domains, said=said)
        picks = self.ledger.picks
        verdicts = picks.verdicts_of(user, session.queue)
        return thanks(verdicts, picks.win_rate(), len(picks.preferences()), said=said)

    def _known(self, exchange_id: int) -> Exchange | None:
        exchange = self.ledger.exchanges.get(exchange_id)
        return exchange if exchange is not None and exchange.tuned is not None and exchange.base is not None else None

    def _refusal(self, user: str) -> str:
        role = self.roles.role_of(user)
        return "" if role in ("agent", "admin") else UNKNOWN if role == "unknown" else NOT_YOU
