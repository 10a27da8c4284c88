"""The shadow's answer to a question that was deleted while the base spoke."""

from pathlib import Path
from typing import Any

from bot.shadow import Shadow
from storage.ledger import Ledger
from storage.records import Answer, Question
from tests.storage.test_picks import NOW


def test_an_answer_to_a_question_that_was_deleted_meanwhile_is_dropped(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "evenkeel.db", clock=lambda: NOW)
    number = ledger.exchanges.open(
        Question(team="T", channel="C", thread_ts="1.5", ts="1.5", asker="U0MIA", text="How?",
                 messages=({"role": "user", "content": "How?"},), asked_at=NOW))  # fmt: skip
    ledger.exchanges.record(number, Answer(role="tuned", status="ok", text="So.", base_digest="b"))
    ledger.exchanges.close(number, "answered")

    class Deleting:
        def ask(self, *_: Any, **__: Any) -> Answer:
            ledger.exchanges.erase(number)
            return Answer(role="base", status="ok", text="So!", base_digest="b")

    shadow = Shadow(ledger=ledger, models=Deleting(), deadline_s=1.0)  # type: ignore[arg-type]
    assert shadow.step() and not shadow.step()
    assert ledger.exchanges.get(number) is None and ledger.verify() == ()
    ledger.close()
