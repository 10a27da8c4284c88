"""Thresholds belong to one answerer; checks of corrections to one correction and one adapter."""

from datetime import UTC, datetime

from storage.ledger import Ledger
from storage.records import Answer, Question, Threshold

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
MEASURED = Threshold(
    value=-0.9, auc=0.8, low=0.6, high=0.9, n=40, coverage=0.85, good_above=0.7, good_below=0.1, reason="measured"
)
NOTHING = Threshold(
    value=None, auc=0.5, low=0.4, high=0.6, n=40, coverage=1.0, good_above=None, good_below=None, reason="says nothing"
)


def corrected(ledger: Ledger, number: int, *, author: str = "U0ASHA", role: str = "agent", text: str = "") -> int:
    """A correction of a new exchange."""
    ts = f"{number}.0"
    messages = ({"role": "user", "content": f"Question {number}?"},)
    exchange = ledger.exchanges.open(
        Question(team="T", channel="C", thread_ts=ts, ts=ts, asker="U0MIA", text="?", messages=messages, asked_at=NOW)
    )
    ledger.exchanges.record(exchange, Answer(role="tuned", status="ok", text=f"Wrong {number}.", base_digest="b"))
    return ledger.lessons.correct(exchange, author=author, role=role, text=text or f"Right {number}.")


def waiting(ledger: Ledger, adapter: str = "a", *, newest: int = 40, per_author: int = 10) -> list[int]:
    found = ledger.learned.unchecked(adapter, newest=newest, per_author=per_author)
    return [c.correction_id for c in found]


def test_a_threshold_is_read_back_by_its_own_answerer_only_and_the_newest_counts(ledger: Ledger) -> None:
    ledger.doubt.keep("b", "a", NOTHING)
    ledger.doubt.keep("b", "a", MEASURED)
    ledger.doubt.keep("b", None, NOTHING)

    assert ledger.doubt.of("b", "a") == MEASURED and ledger.doubt.of("b", None) == NOTHING
    assert ledger.doubt.of("b", "another") is None and ledger.doubt.of("another", "a") is None


def test_a_correction_waits_with_its_question_and_the_answer_that_it_replaced(ledger: Ledger) -> None:
    number = corrected(ledger, 1)

    (found,) = ledger.learned.unchecked("a", newest=40, per_author=10)

    assert (found.correction_id, found.author, found.text, found.before) == (number, "U0ASHA", "Right 1.", "Wrong 1.")
    assert found.messages == ({"role": "user", "content": "Question 1?"},)


def test_only_the_newest_that_stand_are_waiting_and_few_of_one_person(ledger: Ledger) -> None:
    ashas = [corrected(ledger, n) for n in range(4)]
    toms = [corrected(ledger, n, author="U0TOM") for n in range(4, 6)]
    corrected(ledger, 6, author="U0MIA", role="customer")

    assert waiting(ledger, per_author=3) == [*toms[::-1], *ashas[:0:-1]]
    assert waiting(ledger, newest=3, per_author=3) == [*toms[::-1], ashas[-1]]


def test_a_correction_that_was_replaced_or_taken_back_does_not_stand(ledger: Ledger) -> None:
    first = corrected(ledger, 1)
    (exchange,) = ledger.exchanges.recent()
    second = ledger.lessons.correct(exchange.exchange_id, author="U0TOM", role="agent", text="Better.")

    assert waiting(ledger) == [second]
    with ledger.connections.write() as db:
        db.execute("UPDATE corrections SET removed_at='2026-03-02' WHERE correction_id=?", (second,))
    assert waiting(ledger) == [first]


def test_what_was_checked_is_counted_for_its_author_and_not_asked_again(ledger: Ledger) -> None:
    numbers = [corrected(ledger, n) for n in range(12)]
    for number in numbers:
        ledger.learned.keep(number, "a", passed=number >= numbers[-3], similarity=0.6)

    assert waiting(ledger) == [] and len(waiting(ledger, "another")) == 10
    assert ledger.learned.of("U0ASHA", "a") == (3, 10)
    assert ledger.learned.of("U0ASHA", "another") == ledger.learned.of("U0TOM", "a") == (0, 0)


def test_a_check_of_an_erased_correction_is_not_kept_and_goes_with_its_exchange(ledger: Ledger) -> None:
    number = corrected(ledger, 1)
    ledger.learned.keep(number, "a", passed=True, similarity=0.9)
    (exchange,) = ledger.exchanges.recent()

    ledger.exchanges.erase(exchange.exchange_id)
    ledger.learned.keep(number, "a", passed=True, similarity=0.9)

    assert ledger.learned.of("U0ASHA", "a") == (0, 0) and ledger.verify() == ()
