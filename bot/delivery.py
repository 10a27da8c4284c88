"""Putting an answer into Slack exactly once.

Promise: a message is begun at most once (a row says so before; metadata, or for a stream its place in the thread, says so
after a crash or a lost response), and everything else is `chat.update`, which may be repeated for ever.
Knows messages; knows no model.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from bot.answer_view import Part
from bot.slack import SLACK_ERRORS, Me, PacedClient, Trouble, persist, trouble_of
from storage.ledger import Ledger
from storage.records import PostedMessage, Question

log = structlog.get_logger()
EVENT_TYPE = "evenkeel_answer"


class NotNow(Exception):
    """Slack is limited, down or unclear: the same step may be tried again later."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.code)
        self.trouble = trouble


class NotHere(Exception):
    """Slack will not take this message, now or ever (the channel is archived, the bot was removed …)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    client: PacedClient
    ledger: Ledger
    me: Me

    def begun(self, exchange_id: int, number: int, question: Question) -> PostedMessage | None:
        """The message of part `number` if Slack has it, also when nobody told us. Raises NotNow, NotHere."""
        known = self._known(exchange_id, number)
        if known is None or known.ts is not None:
            return known
        ts = self._find(known, question)
        if ts is None:
            return None
        self.ledger.exchanges.message_posted(known.message_id, ts)
        return self._known(exchange_id, number)

    def post(self, exchange_id: int, number: int, question: Question, part: Part) -> tuple[PostedMessage, bool]:
        """The message of part `number`, posted if Slack does not have it yet; True if it shows `part` now.

        Raises NotNow, NotHere.
        """
        known = self._known(exchange_id, number)
        if known is not None and known.ts is not None:
            return known, False  # without a turn at the ledger's lock
        message, new = self.ledger.exchanges.intend_message(
            exchange_id, number, team=question.team, channel=question.channel
        )
        ts = None if new else self._find(message, question)
        fresh = ts is None
        if ts is None:
            if message.kind != "post":
                self.ledger.exchanges.repost(message.message_id)
            ts = self._post_once(message, question, part)
        self.ledger.exchanges.message_posted(message.message_id, ts)
        return replace(message, ts=ts, state="posted"), fresh

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

    def stream(self, exchange_id: int, question: Question, text: str) -> PostedMessage | None:
        """Begin the first message as a native stream that says `text`; None where Slack does not take one.

        Raises NotNow when it is unclear whether it began.
        """
        message, new = self.ledger.exchanges.intend_message(
            exchange_id, 0, team=question.team, channel=question.channel, kind="stream"
        )
        if not new:
            return None
        try:
            reply = self.client.chat_startStream(
                channel=question.channel,
                thread_ts=question.thread_ts,
                recipient_user_id=question.asker,
                recipient_team_id=question.team,
                markdown_text=text,
            )
            ts = str(reply["ts"])
        except SLACK_ERRORS as error:
            trouble = trouble_of(error)
            log.info("stream_refused", exchange_id=exchange_id, kind=trouble.kind, code=trouble.code)
            found = self._find(message, question) if trouble.kind == "unsure" else None
            if found is None:
                return None  # the row stays: `post` looks once more, then posts
            ts = found
        self.ledger.exchanges.message_posted(message.message_id, ts)
        return self._known(exchange_id, 0)

    def _find(self, message: PostedMessage, question: Question) -> str | None:
        """The ts of a message that may have been begun although nobody told us."""
        try:
            for found in self._thread(question):
                if message.kind == "stream" and self._is_lost_stream(found, question):
                    return str(found["ts"])
                mark = found.get("metadata") or {}
                if mark.get("event_type") == EVENT_TYPE and mark.get("event_payload") == _mark(message, question):
                    return str(found["ts"])
        except SLACK_ERRORS as error:
            raise _door(trouble_of(error)) from None
        return None

    def _is_lost_stream(self, found: dict[str, Any], question: Question) -> bool:
        """A stream cannot be marked when it begins; it is the one message of ours after the question without a mark."""
        after = float(found["ts"]) > float(question.ts)
        known = self.ledger.exchanges.is_known(question.team, question.channel, found["ts"])
        return after and not found.get("metadata") and not known and found.get("user") == self.me.user

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
        if message.kind == "stream":
            self.end_stream(message)
        try:
            persist(lambda: self.update(message, part))
        except SLACK_ERRORS as error:
            trouble = trouble_of(error)
            if trouble.code == "streaming_state_conflict":  # its end was not heard: the stream dies by itself
                raise NotNow(Trouble(kind="unsure", code=trouble.code, retry_after_s=10.0)) from None
            raise _door(trouble) from None

    def end_stream(self, message: PostedMessage) -> None:
        """Let a stream become an ordinary message, where it still is one."""
        with suppress(*SLACK_ERRORS):
            self.client.chat_stopStream(channel=message.channel, ts=str(message.ts))

    def update(self, message: PostedMessage, part: Part) -> None:
        """One try. Raises Slack's errors."""
        self.client.chat_update(
            channel=message.channel,
            ts=str(message.ts),
            text=part.text,
            blocks=list(part.blocks),
            parse="none",
            link_names=False,
        )

    def finish(
        self, exchange_id: int, question: Question, parts: Sequence[Part], close: Callable[[], None] = lambda: None
    ) -> None:
        """The final word, in as many messages as it takes; what is final already is left alone. Raises NotNow, NotHere.

        That it is final, and what `close` writes, is stored as one, once all of it is shown: to show it again does no harm.
        """
        final = list[int]()
        for number, part in enumerate(parts):
            message, shown = self.post(exchange_id, number, question, part)
            if message.state == "final":
                continue
            if not shown:
                self.show(message, part)
            final.append(message.message_id)
        with self.ledger.connections.write():
            for message_id in final:
                self.ledger.exchanges.message_final(message_id)
            close()

    def remove(self, messages: Sequence[PostedMessage]) -> None:
        """Take these messages of ours out of Slack. Raises NotNow."""
        for message in messages:
            if message.ts is None:
                continue
            try:
                persist(partial(self.client.chat_delete, channel=message.channel, ts=message.ts))
            except SLACK_ERRORS as error:
                if trouble_of(error).kind != "refused":  # refused: it is gone already
                    raise NotNow(trouble_of(error)) from None

    def _known(self, exchange_id: int, number: int) -> PostedMessage | None:
        return next((m for m in self.ledger.exchanges.messages(exchange_id) if m.part == number), None)


def _mark(message: PostedMessage, question: Question) -> dict[str, Any]:
    """What tells our messages apart, also from those of a ledger that was thrown away."""
    return {"exchange_id": message.exchange_id, "part": message.part, "question_ts": question.ts}


def _door(trouble: Trouble) -> NotNow | NotHere:
    return NotHere(trouble.code) if trouble.kind == "refused" else NotNow(trouble)
