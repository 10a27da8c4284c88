"""A message of our own that is said once, over crashes, lost responses and two bots at a time.

Promise: the ledger holds the intention before Slack is called; whoever takes it up again looks in Slack for what may
have been said before saying it. A message that Slack refuses for its looks is said in the plainer form.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from slack_sdk import WebClient

from bot.answer_view import Part
from bot.slack import SLACK_ERRORS, trouble_of
from storage.ledger import Ledger

log = structlog.get_logger()
EVENT_TYPE = "evenkeel_notice"
LEASE_S = 60.0
LOOKS = ("invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long")  # cured by a plainer form
Say = Callable[[], str]  # gives the ts; raises Slack's errors
Find = Callable[[], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """Says and remembers. `lease_s`: how long whoever began may take until another may try."""

    ledger: Ledger
    client: WebClient
    lease_s: float = LEASE_S

    def say(
        self, key: str, channel: str, *forms: Part, thread_ts: str | None = None, since: float | None = None
    ) -> bool:
        """Post the first form that Slack takes. `since`: how far back an earlier post may lie, without a thread.

        True once it stands there, or was refused for good. Raises what may be cured by waiting.
        """

        def post() -> str:
            return plainer(forms, lambda part: self.post(key, channel, part, thread_ts))

        return self.do(key, channel, post, lambda: self.find(key, channel, thread_ts, since))

    def do(self, key: str, channel: str, say: Say, find: Find) -> bool:
        """The same for any way of saying it, with its own way of finding it again."""
        notices = self.ledger.notices
        turn = notices.begin(key, channel, lease_s=self.lease_s)
        if not turn:
            return notices.is_settled(key)
        try:
            ts = (find() if turn == "again" else None) or say()
        except SLACK_ERRORS as error:
            trouble = trouble_of(error)
            if trouble.kind != "refused":
                notices.let_go(key)
                raise
            log.warning("notice_refused", key=key, code=trouble.code)
            notices.settle(key, channel)
            return True
        notices.settle(key, channel, ts)
        return True

    def post(self, key: str, channel: str, part: Part, thread_ts: str | None) -> str:
        """Post with the mark by which it is found again. Raises Slack's errors."""
        reply = self.client.chat_postMessage(
            channel=channel,
            thread_ts=thread_ts,
            text=part.text,
            blocks=list(part.blocks) or None,
            unfurl_links=False,
            unfurl_media=False,
            metadata={"event_type": EVENT_TYPE, "event_payload": {"key": key}},
        )
        return str(reply["ts"])

    def find(self, key: str, channel: str, thread_ts: str | None, since: float | None) -> str | None:
        """The ts of what was posted under this key. Raises Slack's errors."""
        for message in self.recent(channel, thread_ts, since):
            mark = message.get("metadata") or {}
            if mark.get("event_type") == EVENT_TYPE and (mark.get("event_payload") or {}).get("key") == key:
                return str(message["ts"])
        return None

    def recent(self, channel: str, thread_ts: str | None, since: float | None = None) -> list[dict[str, Any]]:
        """The messages of a thread, or of a channel since then, metadata included."""
        if thread_ts is not None:
            reply = self.client.conversations_replies(
                channel=channel, ts=thread_ts, include_all_metadata=True, limit=200
            )
        else:
            oldest = None if since is None else f"{since:.6f}"
            reply = self.client.conversations_history(
                channel=channel, oldest=oldest, include_all_metadata=True, limit=200
            )
        return list(reply.get("messages") or ())


def plainer(forms: Sequence[Part], send: Callable[[Part], str]) -> str:
    """What sending the first form gives that Slack does not refuse for its looks. Raises the last refusal."""
    for form in forms[:-1]:
        try:
            return send(form)
        except SLACK_ERRORS as error:
            if trouble_of(error).code not in LOOKS:
                raise
            log.info("form_refused", code=trouble_of(error).code)
    return send(forms[-1])
