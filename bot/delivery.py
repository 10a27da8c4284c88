"""Putting an answer into Slack exactly once.

Promise: a message is posted at most once (a row says so before, metadata says so after a crash or a lost response),
and everything else is `chat.update`, which may be repeated for ever. Knows messages; knows no model.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from slack_sdk import WebClient

from bot.answer_view import Part
from bot.slack import SLACK_ERRORS, Me, Trouble, persist, trouble_of
from storage.ledger import Ledger
from storage.records import PostedMessage, Question

log = structlog.get_logger()
EVENT_TYPE = "evenkeel_answer"
PREVIEW_EVERY_S = 1.2


class NotNow(Exception):
    """Slack is limited, down or unclear: the same step may be tried again later."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.code)
        self.trouble = trouble


class NotHere(Exception):
    """Slack will not take this message, now or ever (the channel is archived, the bot was removed …)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    client: WebClient
    ledger: Ledger
    me: Me

    def post(self, exchange_id: int, number: int, question: Question, part: Part) -> tuple[PostedMessage, bool]:
        """The message of part `number`, posted if Slack does not have it yet; True if it shows `part` now.

        Raises NotNow, NotHere.
        """
        known = {m.part for m in self.ledger.exchanges.messages(exchange_id)}
        message = self.ledger.exchanges.intend_message(
            exchange_id, number, team=question.team, channel=question.channel
        )
        if message.ts is not None:
            return message, False
        ts = self._find(message, question) if number in known else None
        fresh = ts is None
        if ts is None:
            ts = self._post_once(message, question, part)
        self.ledger.exchanges.message_posted(message.message_id, ts)
        return self._row(exchange_id, number), fresh

    def _post_once(self, message: PostedMessage, question: Question, part: Part) -> str:
        try:
            reply = self.client.chat_postMessage(
                channel=question.channel,
                thread_ts=question.thread_ts,
                text=part.text,
                blocks=list(part.blocks),
                metadata={"event_type": EVENT_TYPE, "event_payload": _mark(message, question)},
                unfurl_links=False,
                unfurl_media=False,
                parse="none",
                link_names=False,
            )
            return str(reply["ts"])
        except SLACK_ERRORS as error:
            trouble = trouble_of(error)
            log.warning("post_failed", exchange_id=message.exchange_id, kind=trouble.kind, code=trouble.code)
            if trouble.kind == "unsure" and (ts := self._find(message, question)):
                return ts
            raise _door(trouble) from None

    def _find(self, message: PostedMessage, question: Question) -> str | None:
        """The ts of a message that may have been posted although nobody told us."""
        try:
            for found in self._thread(question):
                mark = found.get("metadata") or {}
                if mark.get("event_type") == EVENT_TYPE and mark.get("event_payload") == _mark(message, question):
                    return str(found["ts"])
        except SLACK_ERRORS as error:
            raise _door(trouble_of(error)) from None
        return None

    def _thread(self, question: Question) -> Iterator[dict[str, Any]]:
        cursor = ""
        while True:
            reply = persist(
                partial(
                    self.client.conversations_replies,
                    channel=question.channel,
                    ts=question.thread_ts,
                    oldest=question.ts,
                    include_all_metadata=True,
                    limit=200,
                    cursor=cursor or None,
                )
            )
            yield from (m for m in reply.get("messages") or () if m.get("user") == self.me.user or m.get("bot_id"))
            cursor = (reply.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return

    def show(self, message: PostedMessage, part: Part) -> None:
        """Make the message show `part`; safe to repeat. Raises NotNow, NotHere."""
        try:
            persist(lambda: self._update(message, part))
        except SLACK_ERRORS as error:
            raise _door(trouble_of(error)) from None

    def _update(self, message: PostedMessage, part: Part) -> None:
        self.client.chat_update(
            channel=message.channel,
            ts=str(message.ts),
            text=part.text,
            blocks=list(part.blocks),
            parse="none",
            link_names=False,
        )

    def finish(self, exchange_id: int, question: Question, parts: Sequence[Part]) -> None:
        """The final word, in as many messages as it takes; what is final already is left alone. Raises NotNow, NotHere."""
        for number, part in enumerate(parts):
            message, shown = self.post(exchange_id, number, question, part)
            if message.state == "final":
                continue
            if not shown:
                self.show(message, part)
            self.ledger.exchanges.message_final(message.message_id)

    def live(
        self, message: PostedMessage, view: Callable[[str], Part], *, still_ours: Callable[[], None]
    ) -> Callable[[str], None]:
        """Shows a growing text at most every 1.2 s. A preview that fails is skipped: the final word will come.

        `still_ours` raises when another worker has taken over: a late preview must not cover its final word.
        """
        next_at = 0.0

        def on_text(text: str) -> None:
            nonlocal next_at
            if time.monotonic() < next_at:
                return
            still_ours()
            try:
                self._update(message, view(text))
                next_at = time.monotonic() + PREVIEW_EVERY_S
            except SLACK_ERRORS as error:
                next_at = time.monotonic() + max(10 * PREVIEW_EVERY_S, trouble_of(error).retry_after_s)

        return on_text

    def _row(self, exchange_id: int, number: int) -> PostedMessage:
        return next(m for m in self.ledger.exchanges.messages(exchange_id) if m.part == number)


def _mark(message: PostedMessage, question: Question) -> dict[str, Any]:
    """What tells our messages apart, also from those of a ledger that was thrown away."""
    return {"exchange_id": message.exchange_id, "part": message.part, "question_ts": question.ts}


def _door(trouble: Trouble) -> NotNow | NotHere:
    return NotHere(trouble.code) if trouble.kind == "refused" else NotNow(trouble)
