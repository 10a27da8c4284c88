"""The shadow: the base model is silently asked what the tuned model was asked.

Promise: it never touches Slack, comes after the person has the answer, and its failure is a row with a reason.
"""

import sqlite3
from dataclasses import dataclass

import structlog

from bot.models import UNREACHABLE, Models
from storage.ledger import Ledger
from storage.records import Answer, Exchange

log = structlog.get_logger()
LATEST_S = 3600.0  # a question older than this is not asked any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    ledger: Ledger
    models: Models
    deadline_s: float
    latest_s: float = LATEST_S

    def step(self) -> bool:
        """Settle one closed exchange that lacks a base answer; False when there is none, or no server to ask."""
        for late in self.ledger.exchanges.shadow_overdue(max_age_s=self.latest_s):
            self._record(late, skipped(f"not asked within {self.latest_s / 60:.0f} minutes"))
        exchange = next(iter(self.ledger.exchanges.awaiting_shadow(max_age_s=self.latest_s)), None)
        if exchange is None:
            return False
        if exchange.tuned is None or exchange.tuned.status != "ok":
            self._record(exchange, skipped("there is no tuned answer to compare with"))
            return True
        answer = self.models.ask("base", exchange.question.messages, deadline_s=self.deadline_s)
        if answer.reason.startswith(UNREACHABLE):
            return False  # asked again until it is overdue
        self._record(exchange, answer)
        return True

    def _record(self, exchange: Exchange, answer: Answer) -> None:
        try:
            self.ledger.exchanges.record(exchange.exchange_id, answer)
        except sqlite3.IntegrityError:  # the question was deleted while the base spoke
            log.info("shadow_of_nothing", exchange_id=exchange.exchange_id)
            return
        log.info("shadow", exchange_id=exchange.exchange_id, status=answer.status, reason=answer.reason)


def skipped(reason: str) -> Answer:
    return Answer(role="base", status="skipped", reason=reason)
