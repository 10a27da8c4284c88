"""“Teach the bot”: a person's reply in a thread becomes the answer to the question before it.

Promise: agents and admins only, checked when it is opened and when it is sent; both texts are shown first and may be
changed; the bot's own answers are corrected instead, and other bots' are left alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from slack_bolt import Ack, App, Respond
from slack_sdk import WebClient

from bot.answer_view import context, section
from bot.corrections import FIELD, LONGEST, NO_FORM, SAVE_S, Corrections, field, form
from bot.modals import View, modal, open_then_fill, plain
from bot.question import language_of
from bot.question import plain as plain_text
from bot.reasons import LOCKED
from bot.replies import private
from bot.safe_text import printable
from bot.slack import SLACK_ERRORS, Me, persist, trouble_of
from storage.errors import Busy
from storage.ledger import Ledger

log = structlog.get_logger()
TEACH_SHORTCUT, TEACH_VIEW = "evenkeel_teach", "evenkeel_taught"
QUESTION, ANSWER = "question", "reply"
TITLE = "Teach the bot"
PATIENCE_S = 2.0
LONGEST_THREAD = 1_000  # Slack's own limit of one call
LOOK = "A question and a person's answer, as the next training run may learn them. Change what is not general."
CUT = f"One of the two has more than the {LONGEST:,} characters that a form can hold: its end is missing here."
UNREAD = "I cannot read this thread, so please write the question. Where I am a member, I find it myself."
NOTHING = (
    "Use this on a person's reply in a thread: the message before it is the question, and the reply is the answer."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    ledger: Ledger
    client: WebClient
    me: Me
    corrections: Corrections

    def listen(self, app: App) -> None:
        app.shortcut(TEACH_SHORTCUT)(self._on_shortcut)
        app.view(TEACH_VIEW)(self._on_taught)

    def _on_shortcut(self, ack: Ack, body: dict[str, Any], respond: Respond) -> None:
        ack()
        user, channel = body["user"]["id"], body["channel"]["id"]
        if refused := self.corrections.refused(user):
            private(self.client, channel, user, refused, respond=respond)
            return
        shown = open_then_fill(self.client, body["trigger_id"], TITLE, lambda: self.preview(channel, body["message"]))
        if not shown:
            private(self.client, channel, user, NO_FORM, respond=respond)

    def preview(self, channel: str, message: dict[str, Any]) -> View:
        """The form with the question that this message replies to; a word instead where there is nothing to teach."""
        if message.get("user") == self.me.user:
            exchange = self.ledger.exchanges.find(self.me.team, channel, message["ts"])
            if exchange is None or exchange.tuned is None:
                return modal(TITLE, section("That is no answer that I remember."))
            return form(exchange, channel)
        answer = plain_text(str(message.get("text") or ""), self.me.user)
        thread_ts = message.get("thread_ts")
        if not by_a_person(message) or not answer or not thread_ts or thread_ts == message["ts"]:
            return modal(TITLE, section(NOTHING))
        asked = question_before(self._thread(channel, thread_ts, message["ts"]), message, self.me)
        place = {"channel": channel, "thread_ts": thread_ts, "ts": message["ts"], "author": message.get("user", ""),
                 "asker": asked.get("user", "")}  # fmt: skip
        question = plain_text(str(asked.get("text") or ""), self.me.user)
        return modal(
            TITLE,
            context(LOOK if asked else UNREAD),
            field(QUESTION, "Question", question[:LONGEST]),
            field(ANSWER, "Answer", answer[:LONGEST]),
            *([context(CUT)] if max(len(question), len(answer)) > LONGEST else []),
            close="Cancel",
            callback_id=TEACH_VIEW,
            private_metadata=json.dumps(place),
            submit=plain("Save"),
        )

    def _thread(self, channel: str, thread_ts: str, until: str) -> list[dict[str, Any]]:
        """What was said there before `until`; nothing where the bot may not read it."""
        call = partial(
            self.client.conversations_replies, channel=channel, ts=thread_ts, latest=until, limit=LONGEST_THREAD
        )
        try:
            return list(persist(call, for_s=PATIENCE_S).get("messages") or ())
        except SLACK_ERRORS as error:
            log.info("thread_not_read", code=trouble_of(error).code)
            return []

    def _on_taught(self, ack: Ack, body: dict[str, Any]) -> None:
        user, view = body["user"]["id"], body["view"]
        question, answer = (typed(view, name) for name in (QUESTION, ANSWER))
        if refused := self.corrections.refused(user):
            ack(response_action="errors", errors={ANSWER: refused})
        elif not question or not answer:
            ack(response_action="errors", errors={ANSWER if question else QUESTION: "Please write a text here."})
        else:
            place = json.loads(view["private_metadata"])
            try:
                taught_id = self._keep(user, place, question, answer)
            except Busy:
                ack(response_action="errors", errors={ANSWER: LOCKED})
                return
            ack()
            self.corrections.thank(user, place["channel"], "taught", taught_id)

    def _keep(self, user: str, place: dict[str, str], question: str, answer: str) -> int:
        """Raises Busy."""
        role, language = self.corrections.roles.role_of(user), language_of(question)
        with self.ledger.connections.patience(SAVE_S), self.ledger.connections.write():
            taught_id = self.ledger.taught.teach(
                team=self.me.team, question=question, answer=answer, language=language, teacher=user, role=role, **place
            )
            self.ledger.audit(user, "teach", {"taught_id": taught_id})
            return taught_id


def question_before(thread: Sequence[dict[str, Any]], reply: dict[str, Any], me: Me) -> dict[str, Any]:
    """The message that the reply answers: the newest earlier one of another person, or else what the thread is about, also
    where an app wrote it (a ticket from elsewhere). Empty if that is ours.
    """
    people = [m for m in thread if m.get("user") not in (me.user, reply.get("user")) and by_a_person(m)]
    earlier = [m for m in people if float(m["ts"]) < float(reply["ts"])]
    found = earlier[-1:] or [m for m in thread[:1] if m.get("user") != me.user]
    return found[0] if found else {}


def by_a_person(message: dict[str, Any]) -> bool:
    """Apps and Slack itself write messages, too."""
    return not message.get("bot_id") and message.get("user", "USLACKBOT") != "USLACKBOT"


def typed(view: dict[str, Any], block_id: str) -> str:
    value = ((view["state"]["values"].get(block_id) or {}).get(FIELD) or {}).get("value")
    return printable(value).strip() if isinstance(value, str) else ""
