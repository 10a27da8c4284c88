"""From an accepted question to one final answer.

Promise: each step leaves its mark in the ledger before the next begins, so a crash anywhere is continued, not
repeated: exchange → placeholder → tuned answer (committed) → shown in place → done. The shadow speaks beside it, elsewhere.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import structlog

from bot.answer_view import DOUBT, STOPPED, Part, apology, parts_of
from bot.delivery import Delivery, NotHere, NotNow
from bot.doubt import unsure
from bot.far import Far
from bot.models import UNREACHABLE, Models
from bot.preview import Preview
from bot.question import LONGEST_QUESTION, fault_of, language_of, plain
from bot.shadow import Shadow
from bot.slack import Me
from bot.speaking import spoken
from storage.errors import LostLease
from storage.ledger import Ledger
from storage.messages import conversation
from storage.records import Answer, Exchange, InboxItem, Question
from storage.settings import Settings

log = structlog.get_logger()
LEASE_S = 15.0
MAX_ATTEMPTS = 5
TURNS = 6
DELETION = "deletion"  # who stopped an answer whose question was deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The worker of questions; several threads may call `step` at once."""

    settings: Settings
    ledger: Ledger
    me: Me
    models: Models
    delivery: Delivery
    shadow: Shadow
    far: Far
    wake: Callable[[str], None]  # something ended: the shadow and the next question of the thread need not wait
    retry_s: float = 2.0
    lease_s: float = LEASE_S
    _held: dict[int, InboxItem] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def step(self) -> bool:
        """Work on the oldest open question whose thread nobody works on; False when there is none."""
        item = self.ledger.inbox.claim(owner_kinds=("question",), lease_s=self.lease_s)
        if item is None:
            return False
        with self._lock:
            self._held[item.inbox_id] = item
        try:
            self.settle(item)
        finally:
            with self._lock:
                self._held.pop(item.inbox_id, None)
        self.wake("shadow")
        return True

    def extend_leases(self) -> None:
        """Hold what is being worked on; to be called several times in each lease, from a thread of its own."""
        with self._lock:
            held = tuple(self._held.values())
        for item in held:
            try:
                self.ledger.inbox.extend(item, self.lease_s)
            except LostLease:
                with self._lock:  # it may just have been finished
                    lost = item.inbox_id in self._held
                if lost:
                    log.warning("lease_lost", inbox_id=item.inbox_id)

    def settle(self, item: InboxItem) -> None:
        """Bring one question to its end, or put it back with the reason; not any more once somebody else has it."""
        try:
            self._settle(item)
        except LostLease:
            log.warning("lease_lost", inbox_id=item.inbox_id)

    def _settle(self, item: InboxItem) -> None:
        try:
            self.answer(item)
        except LostLease:
            raise
        except NotNow as error:
            delay = min(60.0, max(self.retry_s, error.trouble.retry_after_s))
            self.ledger.inbox.put_back(item, delay_s=delay, reason=f"Slack: {error}", counts=False)
        except NotHere as error:
            self._give_up(item, f"Slack does not take the answer: {error}")
        except Exception as error:  # the named place: a question that breaks us is tried again, then failed
            log.error("question_failed", inbox_id=item.inbox_id, attempt=item.attempts, error=type(error).__name__)
            self._retry_or_give_up(item, type(error).__name__)

    def answer(self, item: InboxItem) -> None:
        """The steps in order. Raises NotNow, NotHere, LostLease; a second call goes on where the first one stopped."""
        exchange = self.open(item)
        tuned = exchange.tuned
        if tuned is None:
            tuned = self.generate(item, exchange)
            if tuned.reason.startswith(UNREACHABLE) and item.attempts < MAX_ATTEMPTS:
                delay = self.retry_s * 2 ** (item.attempts - 1)
                self.ledger.inbox.put_back(item, delay_s=delay, reason=tuned.reason)
                return
            with self.ledger.connections.write():
                self.ledger.inbox.extend(item, self.lease_s)  # still ours: only then it may speak for the exchange
                stands = self.ledger.exchanges.record(exchange.exchange_id, tuned)
            if not stands:
                tuned = self.open(item).tuned or tuned  # another worker's answer stands
        self.deliver(item, exchange, tuned)

    def open(self, item: InboxItem) -> Exchange:
        """The exchange of this question, with the earlier turns of its thread as context.

        Raises LostLease: then nothing is kept, for who asked may have been forgotten meanwhile.
        """
        text = plain(item.payload["text"], self.me.user)[: LONGEST_QUESTION + 1]
        thread_ts = item.payload["thread_ts"]
        history = self.ledger.exchanges.history(item.team, item.channel, thread_ts, before_ts=item.ts, turns=TURNS)
        question = Question(
            team=item.team,
            channel=item.channel,
            thread_ts=thread_ts,
            ts=item.ts,
            asker=item.payload["user"],
            text=text,
            messages=conversation(self.settings.system_prompt, history, text),
            asked_at=item.received_at,
            language=language_of(text),
        )
        with self.ledger.connections.write():
            self.ledger.inbox.extend(item, self.lease_s)
            exchange_id = self.ledger.exchanges.open(question)
        exchange = self.ledger.exchanges.get(exchange_id)
        assert exchange is not None
        return exchange

    def generate(self, item: InboxItem, exchange: Exchange) -> Answer:
        """The tuned answer, shown while it grows, or the reason why there is none. An impossible question reaches no model."""
        fault = fault_of(plain(item.payload["text"], self.me.user), files=item.payload["files"])
        if fault is not None:
            return Answer(role="tuned", status="skipped", reason=fault)
        if by := self.ledger.inbox.stopped_by(item.inbox_id):
            return Answer(role="tuned", status="skipped", reason=f"{STOPPED} by {by}")
        question, deadline_s = exchange.question, self._time_left(item)
        preview = Preview(
            delivery=self.delivery,
            exchange=exchange,
            domains=self.settings.link_domains,
            direct=item.payload.get("direct", False),
            still_ours=lambda: self.ledger.inbox.extend(item, self.lease_s),
        )
        answer = spoken(
            lambda hear: self._ask(question, deadline_s, self.shadow.beside(exchange, hear)),
            begin=preview.begin,
            show=preview.show,
            stopped_by=lambda: self.ledger.inbox.stopped_by(item.inbox_id),
        )
        preview.end()
        return self._held_back(answer)

    def _ask(self, question: Question, deadline_s: float, hear: Callable[[str], None]) -> Answer:
        """The champion's answer; while it shares, that of who speaks in this conversation; far from its lessons, the base's."""
        messages = question.messages
        if far := self.far.of(question):
            answer = self.models.ask_other(None, messages, deadline_s=deadline_s, on_text=hear)
            by_base = answer.status == "ok" and answer.adapter_digest is None
            return replace(answer, params={**answer.params, "far": far}) if by_base else answer
        sharing = self.ledger.promotions.sharing()
        if sharing is None or sharing.is_champions(question.conversation_id):
            return self.models.ask("tuned", messages, deadline_s=deadline_s, on_text=hear)
        return self.models.ask_other(sharing.other, messages, deadline_s=deadline_s, on_text=hear)

    def _held_back(self, answer: Answer) -> Answer:
        """The answer, or that it was not sure enough to be shown; what it would have said stays on record."""
        threshold = self.ledger.doubt.of(answer.base_digest, answer.adapter_digest)
        if threshold is None or not unsure(answer, threshold, admit=self.settings.admit_doubt):
            return answer
        said = answer.params.get("confidence")
        return replace(
            answer, status="skipped", reason=f"{DOUBT}: confidence {said:.2f} is below {threshold.value:.2f}"
        )

    def _time_left(self, item: InboxItem) -> float:
        """The deadline counts from the moment of acceptance, but a question that waited still gets half of it."""
        whole = self.settings.answer_deadline_s
        age = (self.ledger.clock() - item.received_at) / timedelta(seconds=1)
        return max(whole - age, whole / 2)

    def deliver(self, item: InboxItem, exchange: Exchange, tuned: Answer) -> None:
        """Show the final word and finish the item; nothing is shown under a question that was deleted."""

        def close() -> None:
            self.ledger.exchanges.close(exchange.exchange_id, "answered" if tuned.status == "ok" else "failed")
            self.ledger.inbox.finish(item, note=tuned.status)

        parts = () if tuned.reason == f"{STOPPED} by {DELETION}" else self._final(exchange, tuned)
        self.delivery.finish(exchange.exchange_id, exchange.question, parts, close)
        log.info("answered", exchange_id=exchange.exchange_id, status=tuned.status, latency_s=tuned.latency_s)

    def _final(self, exchange: Exchange, tuned: Answer) -> tuple[Part, ...]:
        language, domains = exchange.question.language, self.settings.link_domains
        parts: tuple[Part, ...] = ()
        if tuned.status == "ok":
            parts = parts_of(tuned, self._version(tuned), language=language, domains=domains)
        return parts or (apology(tuned, language, domains),)

    def _version(self, answer: Answer) -> int | None:
        """What people call the adapter that spoke."""
        rows = [p for p in self.ledger.promotions.history() if p.adapter_digest == answer.adapter_digest]
        return rows[-1].version if rows else None

    def _retry_or_give_up(self, item: InboxItem, reason: str) -> None:
        if item.attempts < MAX_ATTEMPTS:
            self.ledger.inbox.put_back(item, delay_s=self.retry_s * 2 ** (item.attempts - 1), reason=reason)
            return
        exchange = self.open(item)
        failed = Answer(role="tuned", status="failed", reason=f"something broke on my side ({reason})")
        self.ledger.exchanges.record(exchange.exchange_id, failed)
        try:
            self.delivery.finish(exchange.exchange_id, exchange.question, self._final(exchange, failed))
        except (NotNow, NotHere) as error:
            reason = f"{reason}; and the note could not be shown: {error}"
        self._give_up(item, reason)

    def _give_up(self, item: InboxItem, reason: str) -> None:
        exchange = self.open(item)
        if exchange.tuned is None:
            self.ledger.exchanges.record(exchange.exchange_id, Answer(role="tuned", status="failed", reason=reason))
        self.ledger.exchanges.close(exchange.exchange_id, "failed")
        self.ledger.inbox.fail(item, reason)
