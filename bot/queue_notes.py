"""Who waits is told at once, and where in the queue.

Promise: while every worker is busy, a question gets its placeholder within about a second, with its place; the note is
written under the question's own lease, so it can never cover an answer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from bot.answer_view import waiting
from bot.delivery import Delivery, NotHere, NotNow
from bot.slack import SLACK_ERRORS, trouble_of
from storage.errors import LostLease
from storage.ledger import Ledger
from storage.records import Exchange, InboxItem

log = structlog.get_logger()
PATIENCE = timedelta(seconds=1)
LEASE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueNotes:
    """The worker of those who wait. `open` gives a question its exchange (bot/asking.py)."""

    ledger: Ledger
    delivery: Delivery
    open: Callable[[InboxItem], Exchange]
    _told: dict[int, int] = field(default_factory=dict)  # item → the place that was shown last

    def step(self) -> bool:
        """Tell everybody whose place is new; always False: it is called again after a pause."""
        waiting_items = self.ledger.inbox.waiting()
        for item_id in self._told.keys() - {item.inbox_id for item in waiting_items}:
            del self._told[item_id]
        for place, item in enumerate(waiting_items, start=1):
            new = item.attempts == 0 and self.ledger.clock() - item.received_at >= PATIENCE
            if new and self._told.get(item.inbox_id) != place:
                self._tell(item, place)
        return False

    def _tell(self, waiter: InboxItem, place: int) -> None:
        first = waiter.inbox_id not in self._told
        if not first and not self.delivery.client.pace.spare("chat.update"):
            return
        item = self.ledger.inbox.claim(owner_kinds=("question",), lease_s=LEASE_S, inbox_id=waiter.inbox_id)
        if item is None:
            return  # a worker was quicker, or an earlier question of the thread is still open
        try:
            self._show(item, place)
            self._told[item.inbox_id] = place
        except (LostLease, NotNow, NotHere, *SLACK_ERRORS) as error:
            code = str(error) if isinstance(error, NotNow | NotHere) else trouble_of(error).code
            log.info("place_not_shown", inbox_id=item.inbox_id, code=code)
            self._told[item.inbox_id] = place
        finally:
            self._give_back(item)

    def _show(self, item: InboxItem, place: int) -> None:
        exchange = self.open(item)
        part = waiting(exchange.question.language, place=place)
        message, shown = self.delivery.post(exchange.exchange_id, 0, exchange.question, part)
        if not shown:
            self.delivery.update(message, part)

    def _give_back(self, item: InboxItem) -> None:
        try:
            self.ledger.inbox.put_back(item, delay_s=0, reason="", counts=False)
        except LostLease:
            log.warning("lease_lost", inbox_id=item.inbox_id)
