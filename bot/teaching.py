"""“Teach the bot”: a person's reply in a thread becomes the answer to the question before it.

Promise: agents and admins only, checked when it is opened and when it is sent; both texts are shown first and may be
changed; the bot's own answers are corrected instead, and other bots' are left alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from slack_bolt import Ack, App
from slack_sdk import WebClient

from bot.answer_view import context, section
from bot.corrections import FIELD, LONGEST, NOT_YOU, Corrections, field, form
from bot.modals import View, modal, open_then_fill, plain
from bot.question import language_of
from bot.question import plain as plain_text
from bot.replies import private
from bot.safe_text import printable
from bot.slack import Me, persist
from storage.ledger import Ledger

TEACH_SHORTCUT, TEACH_VIEW = "evenkeel_teach", "evenkeel_taught"
QUESTION, ANSWER = "question", "reply"
TITLE = "Teach the bot"
PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    ledger: Ledger
    client: WebClient
    me: Me
    corrections: Corrections

    def listen(self, app: App) -> None:
        app.shortcut(TEACH_SHORTCUT)(self._on_shortcut)
        app.view(TEACH_VIEW)(self._on_taught)

    def _on_shortcut(self, ack: Ack, body: dict[str, Any]) -> None:
        ack()
        user, channel = body["user"]["id"], body["channel"]["id"]
        if not self.corrections.may(user):
            private(self.client, channel, user, NOT_YOU)
            return
        shown = open_then_fill(self.client, body["trigger_id"], TITLE, lambda: self.preview(channel, body["message"]))
        if not shown:
            private(self.client, channel, user, "The form could not be opened. Please try again.")

    def preview(self, channel: str, message: dict[str, Any]) -> View:
        """The form with the question that this message replies to; a word instead where there is nothing to teach."""
        if message.get("user") == self.me.user:
            exchange = self.ledger.exchanges.find(self.me.team, channel, message["ts"])
            return form(exchange, channel) if exchange else modal(TITLE, section("That is no answer that I remember."))
        answer = plain_text(str(message.get("text") or ""), self.me.user)
        thread_ts = message.get("thread_ts")
        if message.get("bot_id") or not answer or not thread_ts or thread_ts == message["ts"]:
            said = "Use this on a person's reply in a thread: the message before it is the question, and the reply is the answer."
            return modal(TITLE, section(said))
        question = question_before(self._thread(channel, thread_ts), message, self.me)
        place = {"channel": channel, "thread_ts": thread_ts, "ts": message["ts"], "author": message.get("user", "")}
        return modal(
            TITLE,
            context(
                "A question and a person's answer, as the next training run may learn them. Change what is not general."
            ),
            field(QUESTION, "Question", question[:LONGEST]),
            field(ANSWER, "Answer", answer[:LONGEST]),
            close="Cancel",
            callback_id=TEACH_VIEW,
            private_metadata=json.dumps(place),
            submit=plain("Save"),
        )

    def _thread(self, channel: str, thread_ts: str) -> list[dict[str, Any]]:
        call = partial(self.client.conversations_replies, channel=channel, ts=thread_ts, limit=200)
        return list(persist(call, for_s=PATIENCE_S).get("messages") or ())

    def _on_taught(self, ack: Ack, body: dict[str, Any]) -> None:
        user, view = body["user"]["id"], body["view"]
        question, answer = (typed(view, name) for name in (QUESTION, ANSWER))
        if not self.corrections.may(user):
            ack(response_action="errors", errors={ANSWER: NOT_YOU})
        elif not question or not answer:
            ack(response_action="errors", errors={ANSWER if question else QUESTION: "Please write a text here."})
        else:
            place = json.loads(view["private_metadata"])
            taught_id = self.ledger.taught.teach(
                team=self.me.team, question=question, answer=answer, language=language_of(question), teacher=user,
                role=self.corrections.roles.role_of(user), **place)  # fmt: skip
            self.ledger.audit(user, "teach", {"taught_id": taught_id})
            ack()
            self.corrections.thank(user, place["channel"], "taught", taught_id)


def question_before(thread: Sequence[dict[str, Any]], reply: dict[str, Any], me: Me) -> str:
    """What the reply answers: the newest earlier message of another person; the first message if there is none."""
    earlier = [
        m for m in thread if float(m["ts"]) < float(reply["ts"]) and m.get("user") != me.user and not m.get("bot_id")
    ]
    others = [m for m in earlier if m.get("user") != reply.get("user")]
    found = (others or earlier or [{"text": ""}])[-1]
    return plain_text(str(found.get("text") or ""), me.user)


def typed(view: dict[str, Any], block_id: str) -> str:
    value = ((view["state"]["values"].get(block_id) or {}).get(FIELD) or {}).get("value")
    return printable(value).strip() if isinstance(value, str) else ""
