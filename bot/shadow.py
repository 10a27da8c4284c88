"""The shadow: the base model is silently asked what the tuned model was asked.

Promise: it never touches Slack, is not asked before the person's answer has begun, and its failure is a row with a reason.
Both answers then share the passes of a server that puts people first; whoever was not asked so, is asked afterwards.
"""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from bot.models import UNREACHABLE, Models
from storage.ledger import Ledger
from storage.records import Answer, Exchange

log = structlog.get_logger()
LATEST_S = 3600.0  # a question older than this is not asked any more
MOST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """`most`: so many may speak beside the answers of people; the rest waits its turn."""

    ledger: Ledger
    models: Models
    deadline_s: float
    latest_s: float = LATEST_S
    most: int = MOST
    _speaking: set[int] = field(default_factory=set)
    _threads: ThreadPoolExecutor = field(  # few and kept: each thread has a connection to the ledger
        default_factory=lambda: ThreadPoolExecutor(MOST, thread_name_prefix="shadow-beside")
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def beside(self, exchange: Exchange, hear: Callable[[str], None]) -> Callable[[str], None]:
        """`hear`, which also lets the base be asked as soon as the first words come."""
        begun = False

        def heard(text: str) -> None:
            nonlocal begun
            if not begun:
                begun = True
                self._begin(exchange)
            hear(text)

        return heard

    def step(self) -> bool:
        """Settle one closed exchange that lacks a base answer; False when there is none, or no server to ask."""
        for late in self.ledger.exchanges.shadow_overdue(max_age_s=self.latest_s):
            self._record(late, skipped(f"not asked within {self.latest_s / 60:.0f} minutes"))
        waiting = self.ledger.exchanges.awaiting_shadow(max_age_s=self.latest_s, limit=self.most + 1)
        exchange = next((each for each in waiting if self._take(each, most=self.most + 1)), None)
        return exchange is not None and self._settle(exchange, self._ask_or_skip)

    def close(self) -> None:
        """What is said from now on is not kept: the next start asks again."""
        self._closing.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, exchange: Exchange) -> None:
        asked = exchange.base is not None or self._closing.is_set()
        if not asked and self.models.puts_people_first and self._take(exchange, most=self.most):
            with suppress(RuntimeError):  # closed at this very moment
                self._threads.submit(self._speak_beside, exchange)

    def _speak_beside(self, exchange: Exchange) -> None:
        try:
            self._settle(exchange, self._ask)
        except Exception as error:  # the named place: a ledger that is locked, say; it is asked again afterwards
            log.warning("shadow_beside_failed", exchange_id=exchange.exchange_id, error=type(error).__name__)

    def _take(self, exchange: Exchange, *, most: int) -> bool:
        """Whether this exchange is now ours to ask: nobody in this process asks it, and there is room."""
        with self._lock:
            if exchange.exchange_id in self._speaking or len(self._speaking) >= most:
                return False
            self._speaking.add(exchange.exchange_id)
            return True

    def _settle(self, exchange: Exchange, ask: Callable[[Exchange], Answer]) -> bool:
        """Keep what the base said; False where it must be asked again: no server, or we are stopping."""
        try:
            answer = ask(exchange)
            if answer.reason.startswith(UNREACHABLE) or self._closing.is_set():
                return False  # asked again until it is overdue
            self._record(exchange, answer)
            return True
        finally:
            with self._lock:
                self._speaking.discard(exchange.exchange_id)

    def _ask(self, exchange: Exchange) -> Answer:
        return self.models.ask("base", exchange.question.messages, deadline_s=self.deadline_s)

    def _ask_or_skip(self, exchange: Exchange) -> Answer:
        if exchange.tuned is None or exchange.tuned.status != "ok":
            return skipped("there is no tuned answer to compare with")
        return self._ask(exchange)

    def _record(self, exchange: Exchange, answer: Answer) -> None:
        try:
            self.ledger.exchanges.record(exchange.exchange_id, answer)
        except sqlite3.IntegrityError:  # the question was deleted while the base spoke
            log.info("shadow_of_nothing", exchange_id=exchange.exchange_id)
            return
        log.info("shadow", exchange_id=exchange.exchange_id, status=answer.status, reason=answer.reason)


def skipped(reason: str) -> Answer:
    return Answer(role="base", status="skipped", reason=reason)
