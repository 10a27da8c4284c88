"""The review queue: ten blind cards at a time, a pick stored at every click, then what it changed.

Promise: only agents and admins review, checked when the queue opens and again at every click; a pick is on disk before
the next card shows; a second click on a card, or one on a card that is out of date, changes nothing.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import structlog
from slack_bolt import Ack, App, Respond
from slack_sdk import WebClient

from bot import review_view as look
from bot.commands import number
from bot.corrections import form
from bot.modals import PATIENCE_S, View, open_then_fill
from bot.replies import private
from bot.review_order import ranked
from bot.review_view import Session, first_of, instead, session_from, verdict_of
from bot.roles import TEAM, Roles
from bot.safe_text import escape, safe
from bot.slack import SLACK_ERRORS, persist, trouble_of
from storage.errors import Busy, EvenkeelError
from storage.ledger import Ledger
from storage.picks import Candidate
from storage.records import Exchange, RaterRole
from storage.settings import Settings

log = structlog.get_logger()
CARDS = 10  # of one session
MAX_AGE_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    settings: Settings
    ledger: Ledger
    client: WebClient
    roles: Roles

    def command(self, command: dict[str, Any], respond: Respond) -> None:
        """`/review`: the first card in a modal; a private word to everybody else."""
        user, channel = command["user_id"], command["channel_id"]
        role = self.roles.role_of(user)
        if refusal := refusal_for(role):
            with suppress(Busy):
                self.ledger.audit(user, "review_refused", {"role": role})
            private(self.client, channel, user, refusal, respond=respond)
        elif not open_then_fill(self.client, command["trigger_id"], look.TITLE, lambda: self.begin(user, channel)):
            private(self.client, channel, user, look.NO_VIEW, respond=respond)

    def button(self, body: dict[str, Any]) -> None:
        """The same from the App Home, or once more in the modal of a session that is over."""
        user, view = body["user"]["id"], body.get("view") or {}

        def build() -> View:
            refusal = refusal_for(self.roles.role_of(user))
            return instead(refusal, again=False) if refusal else self.begin(user, "")

        if view.get("type") == "modal":
            self._show(view["id"], _or_word(build))
        else:
            open_then_fill(self.client, body["trigger_id"], look.TITLE, build)

    def begin(self, user: str, channel: str) -> View:
        """The first card of a new session."""
        picks = self.ledger.picks
        found = {c.exchange_id: c for c in picks.candidates(user, max_age_s=MAX_AGE_S)}
        order = ranked(tuple(found.values()), picks.recent_questions(max_age_s=MAX_AGE_S)) if found else ()
        queue = tuple(islice((number for number in order if self._differs(found[number])), CARDS))
        return self.next(user, Session(queue=queue, channel=channel)) if queue else instead(look.EMPTY)

    def _differs(self, candidate: Candidate) -> bool:
        """Whether a reader sees two answers, and not twice the same."""
        shown = [safe(text, self.settings.link_domains) for text in (candidate.tuned, candidate.base)]
        return all(shown) and shown[0] != shown[1]

    def next(self, user: str, session: Session, *, said: str = "") -> View:
        """The first card of the session that still wants this reviewer's pick, or the end of it."""
        picks = self.ledger.picks
        wanted = picks.still_wanted(user, session.queue)
        for exchange_id in session.queue:
            if exchange_id in wanted and (exchange := self.ledger.exchanges.get(exchange_id)):
                return self._card(exchange, user, session, said)
        verdicts = picks.verdicts_of(user, session.queue)
        champion = self.ledger.promotions.champion()
        mine = picks.win_rate(champion.adapter_digest) if champion and champion.adapter_digest else None
        return look.thanks(verdicts, picks.win_rate(), len(picks.preferences()), champion=mine, said=said)

    def press(self, body: dict[str, Any], choice: str, value: str) -> None:
        """A click on a card: the pick is stored, the next card shown. While the ledger is locked the card stays."""
        user, view = body["user"]["id"], body.get("view") or {}
        session, exchange = session_from(view.get("private_metadata")), self.ledger.exchanges.get(number(value) or 0)
        role = self.roles.role_of(user)
        if role not in TEAM:
            shown = instead(refusal_for(role), again=False)
            if role == "unknown" and session and exchange and exchange.exchange_id in session.queue:
                shown = self._card(exchange, user, session, look.UNKNOWN)
        elif session is None:
            shown = instead(look.OUTDATED)
        elif exchange is None or exchange.exchange_id not in session.queue:
            shown = self.next(user, session)
        else:
            try:
                shown = self.next(user, session, said=self._pick(body, exchange, session, choice, role))
            except EvenkeelError as error:
                shown = self._card(exchange, user, session, escape(str(error)))
        self._show(view.get("id", ""), shown)

    def _pick(self, body: dict[str, Any], exchange: Exchange, session: Session, choice: str, role: RaterRole) -> str:
        """Keep it; for “Write a better one” open the form, too. What to say above the next card."""
        reviewer = body["user"]["id"]
        first = first_of(exchange, reviewer)
        verdict = verdict_of(choice, first)
        new = self.ledger.picks.add(exchange.exchange_id, reviewer=reviewer, role=role, first=first, verdict=verdict)
        if not new or choice != "edit":
            return ""
        return self._write(body["trigger_id"], exchange, session.channel or exchange.question.channel)

    def _write(self, trigger_id: str, exchange: Exchange, channel: str) -> str:
        """The form of a better answer on top of the cards; what went wrong, or nothing."""
        try:
            self.client.views_push(trigger_id=trigger_id, view=form(exchange, channel))
        except SLACK_ERRORS as error:
            log.info("modal_failed", code=trouble_of(error).code)
            return look.NO_FORM
        return ""

    def _card(self, exchange: Exchange, user: str, session: Session, said: str) -> View:
        return look.card(exchange, user, session, domains=self.settings.link_domains, said=said)

    def _show(self, view_id: str, view: View) -> None:
        """Put it into the open modal; nothing where the modal was closed meanwhile."""
        try:
            persist(lambda: self.client.views_update(view_id=view_id, view=view), for_s=PATIENCE_S)
        except SLACK_ERRORS as error:
            log.info("modal_failed", code=trouble_of(error).code)

    def listen(self, app: App) -> None:
        """`/review`, its button, and the buttons of a card."""

        @app.command("/review")
        def on_review(ack: Ack, command: dict[str, Any], respond: Respond) -> None:
            ack()
            self.command(command, respond)

        @app.action(look.REVIEW_ACTION)
        def on_button(ack: Ack, body: dict[str, Any]) -> None:
            ack()
            self.button(body)

        def on_pick(ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
            ack()
            self.press(body, action["action_id"].removeprefix(look.PICK), action.get("value") or "")

        for choice in look.CHOICES:
            app.action(f"{look.PICK}{choice}")(on_pick)


def refusal_for(role: RaterRole) -> str:
    """Why somebody in this role may not review, or nothing."""
    if role in TEAM:
        return ""
    return look.UNKNOWN if role == "unknown" else look.NOT_YOU


def _or_word(build: Callable[[], View]) -> View:
    """What `build` gives; a deliberate error as a word."""
    try:
        return build()
    except EvenkeelError as error:
        return instead(escape(str(error)))
