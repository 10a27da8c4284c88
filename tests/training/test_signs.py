"""Signs after a promotion: what is told, when, and that nothing follows from it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from eval.drift import apart, drift
from storage.ledger import Ledger
from storage.records import Answer, Dataset, Lesson, Question
from storage.settings import load_settings
from tests.bot.facts import BASE, NOW
from tests.bot.test_commands import decided
from training.dataset import digest_of_rows, save_dataset
from training.signs import FEWEST, look_at_signs

A, C = "a" * 64, "c" * 64
TOPICS = ("invoice", "password", "address", "delivery", "refund", "account", "address book")


class Office:
    """A ledger whose clock the test sets."""

    def __init__(self, path: Path) -> None:
        self.now: datetime = NOW
        self.ledger = Ledger(path, clock=lambda: self.now)
        self.number = 0
        self.settings = load_settings(_env_file=None, data_dir=path.parent)

    def promote(self, digest: str) -> None:
        self.ledger.promotions.promote(decided(self.ledger, digest=digest), actor="gate", reason="")
        self.now += timedelta(minutes=1)

    def ask(self, text: str, *, language: str = "en", ago: float = 0, adapter: str | None = None,
            tuned: str = "Open the settings.", base: str = "Open the settings.") -> None:  # fmt: skip
        self.number += 1
        ts, at = f"{self.number}.5", self.now - timedelta(days=ago)
        exchange = self.ledger.exchanges.open(
            Question(team="T", channel="C", thread_ts=ts, ts=ts, asker="U0MIA", text=text, asked_at=at, language=language,
                     messages=({"role": "user", "content": text},)))  # fmt: skip
        for role, said, by in (("tuned", tuned, adapter), ("base", base, None)):
            answer = Answer(role=role, status="ok", text=said, base_digest=BASE, adapter_digest=by)  # type: ignore[arg-type]
            self.ledger.exchanges.record(exchange, answer)

    def weeks(self, now_text: str = "Where is my {}?", language: str = "en") -> None:
        """Four quiet weeks and a last one."""
        with self.ledger.connections.write():  # one commit
            for n in range(80):
                self.ask(f"Where is my {TOPICS[n % 7]}, number {n}?", ago=8 + n % 20)
            for n in range(40):
                self.ask(now_text.format(f"{TOPICS[n % 7]}, number {n}"), language=language, ago=1 + n % 5)

    def look(self) -> None:
        look_at_signs(self.settings, self.ledger)

    def alerts(self) -> list[str]:
        return [row.said for row in self.ledger.watches.news(NOW - timedelta(days=60)) if row.verdict == "alert"]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "own.db")
    yield made
    made.ledger.close()


def test_questions_in_another_language_are_told_once_a_week_and_looked_at_once_a_day(office: Office) -> None:
    office.weeks("Wo finde ich {}?", "de")
    office.look()
    office.look()

    (said,) = office.alerts()
    assert "languages p = 0.001 (de 0% → 100%)" in said and "They have changed" in said
    office.now += timedelta(days=1)
    office.look()
    rows = office.ledger.connections.db.execute("SELECT verdict FROM watches WHERE kind='drift'").fetchall()
    assert len(office.alerts()) == 1 and [row[0] for row in rows] == ["alert", "watching"]


def test_the_distance_to_the_training_questions_is_told_where_they_are_on_this_disk(office: Office) -> None:
    train = tuple(
        Lesson(lesson_id=f"l{n}", source="ticket", conversation_id=f"c{n}", answer="So.",
               messages=({"role": "user", "content": f"Where is my {topic}, number {n}?"},))
        for n, topic in enumerate(TOPICS)
    )  # fmt: skip
    digest = digest_of_rows(train, ())
    folder = save_dataset(Dataset(digest=digest, train=train, holdout=(), manifest={}), office.settings.datasets_dir)
    office.promote(A)
    with office.ledger.connections.write() as db:
        db.execute("UPDATE adapters SET dataset_digest=?", (digest,))
    office.weeks("The printer of the {} jams on page two")
    office.look()

    look = office.ledger.watches.last("drift", None)
    assert look and "Distance to the nearest training question: 0." in look.said
    before, now = look.seen["distance"]
    assert before < 0.2 < now
    (folder / "train.jsonl").write_text("")
    office.now += timedelta(days=1)
    office.look()
    look = office.ledger.watches.last("drift", None)
    assert look and "distance" not in look.seen


def test_other_topics_in_the_same_language_are_seen_too(office: Office) -> None:
    office.weeks("The printer of the {} jams on page two")
    office.look()

    (said,) = office.alerts()
    assert "languages p = 1.000" in said and "topics p = 0.001" in said


def test_a_week_like_those_before_alerts_nobody_and_too_few_questions_say_nothing(office: Office) -> None:
    office.look()
    assert office.ledger.watches.of(None) == ()
    office.weeks()
    office.look()

    (look,) = office.ledger.watches.of(None)
    assert look.verdict == "watching" and office.alerts() == [] and look.seen["p_wording"] > 0.01


def test_answers_that_part_from_the_base_more_than_before_are_told_once_and_nothing_is_rolled_back(
    office: Office,
) -> None:
    office.promote(A)
    with office.ledger.connections.write():
        for n in range(40):
            office.ask(f"Question {n}", adapter=A, base=f"Open the settings {n}.")
    office.now += timedelta(minutes=1)
    office.promote(C)
    with office.ledger.connections.write():
        for n in range(FEWEST - 1):
            office.ask(f"Another {n}", adapter=C, base="Something else entirely happens.")
    office.look()
    assert office.alerts() == []
    with office.ledger.connections.write():
        for n in range(60):
            office.ask(f"More {n}", adapter=C, base=f"Nothing alike {n}")
            office.look()

    (said,) = office.alerts()
    assert said.startswith("v2 and the base differ in 100% of their words (30 answers); it was ")
    assert "(40 answers) before. That is a clear rise" in said
    champion = office.ledger.promotions.champion()
    assert champion is not None and champion.adapter_digest == C
    looks = office.ledger.connections.db.execute("SELECT count(*) FROM watches WHERE kind='disagreement'").fetchone()
    assert looks == (3,)  # at 30, 55 and 80 answers


def test_the_first_champion_has_nothing_to_be_compared_with_and_is_shown(office: Office) -> None:
    office.promote(A)
    with office.ledger.connections.write():
        for n in range(FEWEST):
            office.ask(f"Question {n}", adapter=A, tuned="設定を開く", base="設定を開く")
    office.look()

    row = office.ledger.watches.last("disagreement", 1)
    assert row and (row.verdict, row.said) == ("watching", "v1 and the base differ in 0% of their words (30 answers)")


def test_chance_alone_seldom_parts_questions_of_one_kind() -> None:
    texts = [(f"Where is my {TOPICS[n % 7]} {n * 7919 % 101}?", "de" if n % 3 else "en") for n in range(120)]
    found = [drift(texts[n::2][:30], texts[n + 1 :: 2][:30]) for n in range(0, 20, 2)]

    assert sum(one.p_wording < 0.05 for one in found) <= 2 and all(one.p_language > 0.01 for one in found)
    assert drift(texts[:30], texts[30:60]) == drift(texts[:30], texts[30:60])
    with pytest.raises(ValueError, match="1 questions before"):
        drift(texts[:1], texts)


def test_words_of_every_script_are_compared() -> None:
    assert apart([("密码 重置", "密码 重置"), ("reset", "reset")]).mean == 0.0  # type: ignore[union-attr]
    assert apart([("Откройте меню", "Закройте дверь")] * 2).mean == 1.0  # type: ignore[union-attr]
    assert apart([("a", "b")]) is None
