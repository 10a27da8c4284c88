"""When people have the word: a person is called, an agent takes over or hands back, somebody presses Stop, a question is
deleted.

Promise: who asked for a person gets one call, with a summary that can ping nobody but the group; once it stands, the bot is
silent in that thread until the matter is resolved, handed back, or the bot is named. Where no call can stand, whoever asked
is told so and the bot goes on. Runs behind the inbox, so that no press is lost.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from bot.answer_view import Part, actions, button, section
from bot.arrivals import BACK_ACTION, RESOLVE_ACTION, TAKE_ACTION
from bot.asking import DELETION
from bot.delivery import Delivery, NotNow
from bot.phrases import phrase
from bot.question import language_of
from bot.replies import private
from bot.roles import TEAM, Roles
from bot.safe_text import escape
from bot.slack import SLACK_ERRORS, PacedClient, persist, trouble_of
from storage.errors import LostLease
from storage.ledger import Ledger
from storage.records import Exchange, InboxItem
from storage.settings import Settings
from storage.threads import Thread

log = structlog.get_logger()
KINDS = ("person", "handover", "stop", "remark", "deletion", "excess")
EVENT_TYPE = "evenkeel_person"
LEASE_S = 60.0
MAX_ATTEMPTS = 8
EXCESS_NOTE_EVERY_S = 60.0
NOT_YOURS = "Only support agents can do this. If you should be one, ask an admin to add you to AGENTS."
UNKNOWN = "I could not check with Slack whether you are an agent, so nothing was done. Please try again in a minute."


class Unreachable(Exception):
    """No call for a person can stand anywhere; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """The worker of everything in a thread that is neither a question nor a rating."""

    settings: Settings
    ledger: Ledger
    client: PacedClient
    delivery: Delivery
    roles: Roles

    def step(self) -> bool:
        """Settle the oldest open matter; False when there is none."""
        item = self.ledger.inbox.claim(owner_kinds=KINDS, lease_s=LEASE_S)
        if item is None:
            return False
        try:
            self.settle(item)
        except LostLease:
            log.warning("lease_lost", inbox_id=item.inbox_id)
        except (NotNow, *SLACK_ERRORS) as error:
            self._later(item, f"Slack: {(error.trouble if isinstance(error, NotNow) else trouble_of(error)).code}")
        return True

    def settle(self, item: InboxItem) -> None:
        """Raises NotNow, LostLease and Slack's errors: then it is tried again."""
        match item.kind:
            case "person":
                self.call_person(item)
            case "handover":
                self.hand_over(item)
            case "stop":
                self.stop(item)
            case "remark":
                self.take_over(item)
            case "deletion":
                self.forget(item)
            case _:
                self.refuse_excess(item)

    def _later(self, item: InboxItem, reason: str) -> None:
        if item.attempts >= MAX_ATTEMPTS:
            self._give_up(item, reason)
            return
        self.ledger.inbox.put_back(item, delay_s=min(60.0, 2.0**item.attempts), reason=reason)

    def _give_up(self, item: InboxItem, reason: str) -> None:
        """The matter failed for good; whoever asked for a person reads that nobody was reached."""
        if item.kind == "person":
            log.warning("person_not_called", inbox_id=item.inbox_id, reason=reason)
            exchanges = self.ledger.exchanges.in_thread(item.team, item.channel, item.payload["thread_ts"])
            self._tell_caller(item, "no_team", exchanges, in_thread=bool(exchanges))
        self.ledger.inbox.fail(item, reason)

    # Talk to a person

    def call_person(self, item: InboxItem) -> None:
        """One call for the thread: in it where the group can read it, in OPS_CHANNEL for a direct message."""
        user, thread_ts = item.payload["user"], item.payload["thread_ts"]
        thread = self.ledger.threads.get(item.team, item.channel, thread_ts)
        exchanges = self.ledger.exchanges.in_thread(item.team, item.channel, thread_ts)
        if thread.note_ts is not None and thread.state in ("waiting", "person"):
            self.ledger.inbox.finish(item, note="a person is called already")
            return
        direct = item.channel.startswith("D")
        try:
            note_ts = self._say_call(item, self._call(thread, user, exchanges, direct=direct), direct=direct)
        except Unreachable as error:
            self._give_up(item, str(error))
            return
        with self.ledger.connections.write():
            thread = self.ledger.threads.set(thread, "waiting", person=user)
            self.ledger.threads.note_posted(thread, note_ts)
        self._mark_session(thread, "suspended")
        said = "told_team" if direct else "called" if self.settings.support_group else "noted"
        self._tell_caller(item, said, exchanges, in_thread=bool(exchanges) or not direct)
        self.ledger.audit(user, "person_called", {"channel": item.channel, "thread_ts": thread_ts})
        self.ledger.inbox.finish(item)

    def _tell_caller(self, item: InboxItem, name: str, exchanges: tuple[Exchange, ...], *, in_thread: bool) -> None:
        """A phrase, in the thread where there is one: Slack shows no private note under a message without replies."""
        said = phrase(name, exchanges[-1].question.language if exchanges else None)
        place = item.payload["thread_ts"] if in_thread else None
        private(self.client, item.channel, item.payload["user"], said, thread_ts=place)

    def _say_call(self, item: InboxItem, call: Part, *, direct: bool) -> str:
        """The ts of the call, which stands now. Raises Unreachable, and Slack's errors where waiting may help."""
        room = self.settings.ops_channel if direct else item.channel
        if not room:
            raise Unreachable("OPS_CHANNEL is empty, so calls from direct messages have no room. Next: set it")
        place = None if direct else item.payload["thread_ts"]
        try:
            found = self._find(room, place, item) if item.attempts > 1 else None
            return found or self._post(room, place, call, item)
        except SLACK_ERRORS as error:
            trouble = trouble_of(error)
            if trouble.kind != "refused":
                raise
            raise Unreachable(f"Slack does not take the call in {room}: {trouble.code}") from None

    def _call(self, thread: Thread, user: str, exchanges: tuple[Exchange, ...], *, direct: bool) -> Part:
        group = f"<!subteam^{self.settings.support_group}> " if self.settings.support_group else ""
        where = " in a direct message" if direct else ""
        head = f"{group}<@{user}> asks for a person{where}."
        value = f"{thread.channel}:{thread.thread_ts}"
        return Part(
            text=head,
            blocks=(
                section(head),
                section(summary(exchanges, self.ledger)),
                actions(
                    button("I take it", TAKE_ACTION, value, style="primary"),
                    button("Resolved", RESOLVE_ACTION, value),
                    button("Hand back to the bot", BACK_ACTION, value),
                ),
            ),
        )

    def _post(self, room: str, thread_ts: str | None, call: Part, item: InboxItem) -> str:
        reply = self.client.chat_postMessage(
            channel=room,
            thread_ts=thread_ts,
            text=call.text,
            blocks=list(call.blocks),
            metadata={"event_type": EVENT_TYPE, "event_payload": {"press": item.event_id}},
            unfurl_links=False,
            unfurl_media=False,
        )
        return str(reply["ts"])

    def _find(self, room: str, thread_ts: str | None, item: InboxItem) -> str | None:
        """The call that an interrupted attempt may have posted."""
        wanted: dict[str, Any] = {"channel": room, "include_all_metadata": True, "limit": 200}
        reply = (
            self.client.conversations_replies(ts=thread_ts, **wanted)
            if thread_ts
            else self.client.conversations_history(**wanted)
        )
        for message in reply.get("messages") or ():
            mark = message.get("metadata") or {}
            if mark.get("event_type") == EVENT_TYPE and mark.get("event_payload") == {"press": item.event_id}:
                return str(message["ts"])
        return None

    # Stop, take over, delete, too much

    def stop(self, item: InboxItem) -> None:
        """The asker, agents and admins may stop what is being said."""
        user, thread_ts = item.payload["user"], item.payload["thread_ts"]
        asker = user in self.ledger.exchanges.askers(item.team, item.channel, thread_ts)
        role = "customer" if asker else self.roles.role_of(user)
        if role == "unknown":
            self._later(item, "the role could not be looked up")
            return
        if asker or role in TEAM:
            stopped = self.ledger.inbox.ask_to_stop(item.team, item.channel, thread_ts, by=user)
            self.ledger.inbox.finish(item, note=f"{stopped} stopped")
            return
        private(self.client, item.channel, user, "Only the person who asked, or an agent, can stop this answer.")
        self.ledger.inbox.finish(item, note="not theirs to stop")

    def take_over(self, item: InboxItem) -> None:
        """An agent who writes in a thread of the bot's has the word there; other people's remarks change nothing."""
        user, thread_ts = item.payload["user"], item.payload["thread_ts"]
        role = self.roles.role_of(user)
        if role == "unknown":
            self._later(item, "the role could not be looked up")
            return
        thread = self.ledger.threads.get(item.team, item.channel, thread_ts)
        if role not in TEAM or thread.state not in ("bot", "waiting"):
            self.ledger.inbox.finish(item, note=f"a remark by {role}")
            return
        self.ledger.threads.set(thread, "person", person=user)
        self._mark_session(thread, "suspended")
        text = "You have the word in this thread: I stay silent here until it is resolved, handed back, or somebody names me."
        value = f"{thread.channel}:{thread_ts}"
        buttons = actions(button("Resolved", RESOLVE_ACTION, value), button("Hand back to the bot", BACK_ACTION, value))
        private(self.client, item.channel, user, text, thread_ts=thread_ts, blocks=[section(text), buttons])
        self.ledger.inbox.finish(item, note="a person took over")

    def forget(self, item: InboxItem) -> None:
        """A deleted question is stopped, taken out of Slack with its answer, and erased."""
        if self.ledger.inbox.open_at(item.team, item.channel, item.ts):
            exchange = self.ledger.exchanges.at(item.team, item.channel, item.ts)
            thread_ts = exchange.question.thread_ts if exchange else item.ts
            self.ledger.inbox.ask_to_stop(item.team, item.channel, thread_ts, by=DELETION, ts=item.ts)
            self.ledger.inbox.put_back(item, delay_s=0.5, reason="its answer is being stopped", counts=False)
            return
        exchange = self.ledger.exchanges.at(item.team, item.channel, item.ts)
        if exchange is not None:
            self.delivery.remove(self.ledger.exchanges.messages(exchange.exchange_id))
            self.ledger.exchanges.erase(exchange.exchange_id)
        self.ledger.inbox.blank(item.team, item.channel, item.ts)
        self.ledger.inbox.finish(item, note="erased")

    def refuse_excess(self, item: InboxItem) -> None:
        """A polite private word, once a minute for each person."""
        user, limit = item.payload["user"], item.payload["limit"]
        counted = {
            "user": self.settings.user_questions_per_minute,
            "channel": self.settings.channel_questions_per_minute,
        }
        if self.ledger.inbox.told_lately(user, seconds=EXCESS_NOTE_EVERY_S):
            self.ledger.inbox.finish(item, note="told already")
            return
        text = phrase(f"excess_{limit}", language_of(item.payload["text"]), limit=counted[limit])
        place = item.payload["thread_ts"]
        private(self.client, item.channel, user, text, thread_ts=place if place != item.ts else None)
        self.ledger.inbox.finish(item, note="told")

    # The buttons under a call

    def hand_over(self, item: InboxItem) -> None:
        """Take it, resolve it, or hand it back; whoever pressed reads privately what became of it."""
        user, action = item.payload["user"], item.payload["action"]
        thread = self.ledger.threads.get(item.team, item.channel, item.payload["thread_ts"])
        said = self._pressed(thread, user, action)
        private(self.client, item.payload["room"], user, said, thread_ts=item.payload["under"])
        self.ledger.inbox.finish(item)

    def _pressed(self, thread: Thread, user: str, action: str) -> str:
        """Only agents and admins may; the asker may resolve."""
        if thread.state == "bot":
            return "The bot has the word in that thread already."
        asker = user in self.ledger.exchanges.askers(thread.team, thread.channel, thread.thread_ts)
        role = self.roles.role_of(user)
        if role not in TEAM and not (asker and action == RESOLVE_ACTION):
            return UNKNOWN if role == "unknown" else NOT_YOURS
        state, words = {
            TAKE_ACTION: ("person", "takes care of it"),
            RESOLVE_ACTION: ("resolved", "marked it as resolved"),
            BACK_ACTION: ("bot", "handed it back to the bot"),
        }[action]
        thread = self.ledger.threads.set(thread, state, person=user)  # type: ignore[arg-type]
        self._mark_session(thread, {"person": "suspended", "resolved": "closed", "bot": "active"}[state])
        self._rewrite_call(thread, f"<@{user}> {words}, {self.ledger.clock():%H:%M} UTC.", open_still=state == "person")
        self.ledger.audit(user, f"thread_{state}", {"channel": thread.channel, "thread_ts": thread.thread_ts})
        return {
            "person": "It is yours; I stay silent in that thread.",
            "resolved": "Resolved. I answer there again when I am asked.",
            "bot": "I answer in that thread again.",
        }[state]

    def _rewrite_call(self, thread: Thread, words: str, *, open_still: bool) -> None:
        """The call says what became of it; its buttons go once nothing is left to press."""
        if thread.note_ts is None:
            return
        exchanges = self.ledger.exchanges.in_thread(thread.team, thread.channel, thread.thread_ts)
        value = f"{thread.channel}:{thread.thread_ts}"
        left = (actions(button("Resolved", RESOLVE_ACTION, value), button("Hand back to the bot", BACK_ACTION, value)),)
        room = self.settings.ops_channel if thread.channel.startswith("D") else thread.channel
        blocks = [section(words), section(summary(exchanges, self.ledger)), *(left if open_still else ())]
        with suppress(*SLACK_ERRORS):
            persist(
                lambda: self.client.chat_update(channel=room, ts=thread.note_ts or "", text=words, blocks=blocks),
                for_s=5.0,
            )

    def _mark_session(self, thread: Thread, status: str) -> None:
        with suppress(*SLACK_ERRORS):
            self.client.agents_sessions_setStatus(channel_id=thread.channel, thread_ts=thread.thread_ts, status=status)


def summary(exchanges: tuple[Exchange, ...], ledger: Ledger) -> str:
    """What a person needs to take over: the questions, the last answer, what was thought of it. Cannot ping."""
    if not exchanges:
        return "_Nothing was asked in this thread before._"
    lines = [f"*Asked* {escape(exchanges[0].question.text[:600])}"]
    lines += [f"*Then* {escape(e.question.text[:300])}" for e in exchanges[1:][-3:]]
    last = exchanges[-1]
    if last.tuned is not None and last.tuned.status == "ok":
        lines.append(f"*The bot said* {escape(last.tuned.text[:600])}")
    elif last.tuned is not None:
        lines.append(f"*The bot had no answer* {escape(last.tuned.reason[:200])}")
    signs = [rating.sign for e in exchanges for rating in ledger.ratings.of(e.exchange_id)]
    if signs:
        lines.append(f"*Rated* {signs.count(1)} 👍 {signs.count(-1)} 👎")
    if last.question.language:
        lines.append(f"*Language* {last.question.language}")
    return "\n".join(lines)[:2_900]
