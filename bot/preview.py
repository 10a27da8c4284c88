"""What a person sees while the model speaks: a stream in direct messages, a message that is updated elsewhere.

The ladder: native stream → placeholder and updates → only the final word. Every rung may fail without harm, because the
final word is always one `chat.update` (bot/delivery.py). In channels the stream is not used: there only the asker would
see it grow. Knows no model.
Source of the limits: docs.slack.dev (streams: 20 starts a minute, dead after five minutes; status: two minutes).
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from bot.answer_view import preview, waiting
from bot.delivery import Delivery
from bot.phrases import phrase
from bot.safe_text import safe
from bot.slack import SLACK_ERRORS, trouble_of
from storage.records import Exchange, PostedMessage

log = structlog.get_logger()
UPDATE_EVERY_S = 1.2
APPEND_EVERY_S = 0.7
STREAM_LIFE_S = 270.0
STATUS_LIFE_S = 100.0


@dataclass(slots=True, kw_only=True)
class Preview:
    """Of one answer. `still_ours` raises when another worker has taken over: a late preview must not cover its word."""

    delivery: Delivery
    exchange: Exchange
    domains: tuple[str, ...]
    direct: bool
    still_ours: Callable[[], None]
    message: PostedMessage | None = None
    streamed: str = ""
    streaming_since: float | None = None
    status_at: float | None = None
    next_at: float = field(default=0.0)

    def begin(self) -> None:
        """Show at once that somebody works on it. Raises NotNow, NotHere (bot/delivery.py)."""
        question = self.exchange.question
        self.message = self.delivery.begun(self.exchange.exchange_id, 0, question)
        if self.message is not None:
            self._take_over(self.message)
        elif not (self.direct and self._status()):
            self._post()

    def _take_over(self, message: PostedMessage) -> None:
        """A message that an earlier attempt began: what it showed is not known, so it is updated from here on."""
        if message.kind == "stream" and message.state != "final":
            self.delivery.end_stream(message)

    def _post(self) -> None:
        question = self.exchange.question
        placeholder = waiting(question.language)
        self.message, _ = self.delivery.post(self.exchange.exchange_id, 0, question, placeholder)

    def _status(self) -> bool:
        """The line under the thread; it fades after two minutes and when we speak. False where Slack shows none."""
        question = self.exchange.question
        with suppress(*SLACK_ERRORS):
            self.delivery.client.agents_sessions_setStatus(
                channel_id=question.channel, thread_ts=question.thread_ts, status="processing"
            )
        try:
            self.delivery.client.assistant_threads_setStatus(
                channel_id=question.channel,
                thread_ts=question.thread_ts,
                status=phrase("thinking", question.language),
            )
        except SLACK_ERRORS as error:
            log.info("status_refused", code=trouble_of(error).code)
            return False
        self.status_at = time.monotonic()
        return True

    def show(self, text: str) -> None:
        """Everything said so far; skipped when it is too early, too much, or Slack does not want it now."""
        now = time.monotonic()
        if now < self.next_at:
            return
        if not text:
            if self.message is None and self.status_at is not None and now - self.status_at > STATUS_LIFE_S:
                self._status()
            return
        self.still_ours()
        if self.message is None:
            self._start_stream(text)
        elif self.streaming_since is not None:
            self._append(self.message, text)
        else:
            self._update(self.message, text)

    def _start_stream(self, text: str) -> None:
        shown, pace = whole_lines(text, self.domains), self.delivery.client.pace
        if not shown:
            return
        if pace.spare("chat.startStream"):
            self.message = self.delivery.stream(self.exchange.exchange_id, self.exchange.question, shown)
        if self.message is None:
            self._post()
            return
        self.streamed, self.streaming_since = shown, time.monotonic()
        self.next_at = time.monotonic() + APPEND_EVERY_S

    def _append(self, message: PostedMessage, text: str) -> None:
        if self.streaming_since is not None and time.monotonic() - self.streaming_since > STREAM_LIFE_S:
            self._give_up_streaming(message)
            return
        shown = whole_lines(text, self.domains)
        more = shown.removeprefix(self.streamed)
        if not more or not shown.startswith(self.streamed) or not self.delivery.client.pace.spare("chat.appendStream"):
            return
        try:
            self.delivery.client.chat_appendStream(channel=message.channel, ts=str(message.ts), markdown_text=more)
            self.streamed, self.next_at = shown, time.monotonic() + APPEND_EVERY_S
        except SLACK_ERRORS as error:
            self._after(error)
            if trouble_of(error).kind == "refused":
                self._give_up_streaming(message)

    def _give_up_streaming(self, message: PostedMessage) -> None:
        self.streaming_since = None
        self.delivery.end_stream(message)

    def _update(self, message: PostedMessage, text: str) -> None:
        if not self.delivery.client.pace.spare("chat.update"):
            return
        try:
            self.delivery.update(message, preview(text, self.exchange.question.language, self.domains))
            self.next_at = time.monotonic() + UPDATE_EVERY_S
        except SLACK_ERRORS as error:
            self._after(error)

    def _after(self, error: BaseException) -> None:
        self.next_at = time.monotonic() + max(10 * UPDATE_EVERY_S, trouble_of(error).retry_after_s)

    def end(self, status: str = "active") -> None:
        """The session's mark in a direct message: active again, or suspended while a person has the word."""
        if self.direct:
            question = self.exchange.question
            with suppress(*SLACK_ERRORS):
                self.delivery.client.agents_sessions_setStatus(
                    channel_id=question.channel, thread_ts=question.thread_ts, status=status
                )


def whole_lines(text: str, domains: tuple[str, ...]) -> str:
    """The safe form of what can no longer change: up to the last space, and nothing of an open fence, link or table."""
    settled = text.rpartition(" ")[0] if " " in text else ""
    if settled.count("```") % 2 or settled.count("`") % 2 or settled.rfind("[") > settled.rfind(")"):
        return ""
    return safe(settled, domains)
