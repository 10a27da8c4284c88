"""Answers, votes and corrections as the bot would have stored them, for tests of what is told about them."""

from datetime import UTC, datetime, timedelta
from itertools import count

from storage.ledger import Ledger
from storage.records import Answer, Question, RaterRole, RatingEvent

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)  # a Monday
BASE = "b" * 64
_numbers = count(1)


def answered(
    ledger: Ledger, *, at: datetime = NOW, adapter: str | None = None, language: str | None = "en",
    shadow: str = "ok", text: str = "How?",
) -> int:  # fmt: skip
    """An exchange with an answer in one message, and its shadow (ok, failed, or none yet: "")."""
    ts = f"{next(_numbers)}.5"
    question = Question(
        team="T", channel="C", thread_ts=ts, ts=ts, asker="U0MIA", text=text,
        messages=({"role": "user", "content": text},), asked_at=at, language=language)  # fmt: skip
    exchange_id = ledger.exchanges.open(question)
    said = Answer(role="tuned", status="ok", text="So.", base_digest=BASE, adapter_digest=adapter, answered_at=at)
    ledger.exchanges.record(exchange_id, said)
    if shadow == "ok":
        ledger.exchanges.record(exchange_id, Answer(role="base", status="ok", text="So.", base_digest=BASE))
    elif shadow:
        ledger.exchanges.record(exchange_id, Answer(role="base", status="failed", reason="down"))
    message, _ = ledger.exchanges.intend_message(exchange_id, 1, team="T", channel="C")
    ledger.exchanges.message_posted(message.message_id, f"{exchange_id}.9")
    ledger.exchanges.close(exchange_id, "answered")
    return exchange_id


def vote(ledger: Ledger, exchange_id: int, sign: int, *, user: str = "U0JONAS", role: RaterRole = "customer") -> None:
    number = next(_numbers)
    event = RatingEvent(
        event_id=f"v{number}", team="T", channel="C", ts=f"{exchange_id}.9", user=user, reaction="+1" if sign > 0 else "-1",
        sign=sign, action="add", event_ts=f"{number}.0", role=role)  # fmt: skip
    ledger.ratings.add(event)


def votes(ledger: Ledger, up: int, down: int, *, at: datetime = NOW, language: str = "en") -> None:
    """So many answers with one vote each."""
    for sign in [1] * up + [-1] * down:
        vote(ledger, answered(ledger, at=at, language=language), sign)


def days(count: float) -> timedelta:
    return timedelta(days=count)
