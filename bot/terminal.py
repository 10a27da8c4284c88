"""One question from the terminal: the same prompt, the same client and the same records as in Slack."""

import secrets

import py3langid

from bot.models import models_of
from storage.errors import UsageError
from storage.ledger import Ledger
from storage.messages import conversation
from storage.records import Exchange, Question
from storage.settings import Settings


def ask_once(text: str, *, both: bool, settings: Settings, ledger: Ledger) -> Exchange:
    """Ask tuned, and base if `both`; store the exchange. Raises UsageError for an empty question."""
    if not text.strip():
        raise UsageError('the question is empty. Example: evenkeel ask "How do I reset my password?" --both')
    now = ledger.clock()
    ts = f"{now.timestamp():.6f}-{secrets.token_hex(2)}"
    messages = conversation(settings.system_prompt, (), text)
    question = Question(
        team="terminal", channel="terminal", thread_ts=ts, ts=ts, asker="terminal", text=text, messages=messages,
        asked_at=now, source="cli", language=str(py3langid.classify(text)[0]))  # fmt: skip
    exchange_id = ledger.exchanges.open(question)
    models = models_of(settings, ledger)
    models.follow()
    tuned = models.ask("tuned", messages, deadline_s=settings.answer_deadline_s)
    ledger.exchanges.record(exchange_id, tuned)
    if both:
        ledger.exchanges.record(exchange_id, models.ask("base", messages, deadline_s=settings.answer_deadline_s))
    ledger.exchanges.close(exchange_id, "answered" if tuned.status == "ok" else "failed")
    models.close()
    exchange = ledger.exchanges.get(exchange_id)
    assert exchange is not None
    return exchange
