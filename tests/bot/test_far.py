"""With FAR_QUESTIONS=base, questions that are far from all lessons are answered by the base, and everything else as ever."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from bot.app import Bot
from bot.far import Far
from storage.ledger import Ledger
from storage.reach import REACH, keep_reach, load_reach
from storage.records import Answer, Dataset, Lesson, Question
from storage.settings import Settings, load_settings
from tests.bot.conftest import ASK, Live
from tests.bot.facts import NOW, answered, vote
from tests.bot.model_server import BASE, ModelServer
from tests.bot.test_answering import exchange
from tests.bot.test_sharing import asked, promote

A, B, DATA = "a" * 64, "c" * 64, "d" * 64
FAR = "<@U0EVENKEEL> Did the Vikings sail to Greenland?"
NEXT = "<@U0EVENKEEL> And then?"


def lesson(number: int, question: str) -> Lesson:
    return Lesson(lesson_id=f"l{number}", source="ticket", conversation_id=f"c{number}", answer="So.",
                  messages=({"role": "user", "content": question},))  # fmt: skip


def keep(settings: Settings) -> Path:
    """The reach of two lessons, beside the dataset of the adapters that `promote` makes."""
    folder = settings.datasets_dir / DATA
    folder.mkdir(parents=True, exist_ok=True)
    train = (lesson(1, "How do I reset my password?"), lesson(2, "Where is my invoice?"))
    keep_reach(
        Dataset(digest=DATA, train=train, holdout=(lesson(3, "How do I change my password?"),), manifest={}), folder
    )
    return folder


def question(text: str) -> Question:
    return Question(team="T", channel="C", thread_ts="1", ts="1", asker="U0MIA", text=text, asked_at=NOW,
                    messages=({"role": "user", "content": text},))  # fmt: skip


@pytest.fixture
def far(live: Live, engine: ModelServer, tmp_path: Path) -> Iterator[Bot]:
    """A champion with its reach, in a bot whose operator turned the setting on."""
    settings = live.bot.asking.settings.model_copy(update={"far_questions": "base", "data_dir": tmp_path})
    keep(settings)
    promote(live.ledger, B)
    engine.adapter, was = B, live.bot.asking.far
    object.__setattr__(live.bot.asking, "far", Far(settings=settings, ledger=live.ledger))
    yield live.bot
    object.__setattr__(live.bot.asking, "far", was)
    live.ledger.promotions.rollback(actor="test", reason="", to_version=0)


def test_a_far_question_is_answered_by_the_base_as_people_are_and_its_row_and_footer_say_so(
    slack: Any, live: Live, engine: ModelServer, far: Bot
) -> None:
    ts, adapter, under = asked(slack, live.ledger, FAR)

    tuned = exchange(slack, live.ledger, ts).tuned
    assert tuned and adapter is None and tuned.base_digest == BASE and "base model" in under
    assert tuned.params["far"]["distance"] > tuned.params["far"]["threshold"] > 0
    assert engine.calls("base")[0]["evenkeel"] == {"role": "user"} and not engine.calls("tuned")
    assert live.ledger.verify() == ()


def test_a_near_question_and_what_follows_it_are_the_champions_and_a_far_thread_is_the_bases(
    slack: Any, live: Live, far: Bot
) -> None:
    near, adapter, under = asked(slack, live.ledger)
    assert adapter == B and "base model" not in under
    assert [asked(slack, live.ledger, words, near)[1] for words in (NEXT, FAR)] == [B, B]
    tuned = exchange(slack, live.ledger, near).tuned
    assert tuned and "far" not in tuned.params

    other, adapter, _ = asked(slack, live.ledger, FAR)
    assert adapter is None and asked(slack, live.ledger, NEXT, other)[1] is None
    assert asked(slack, live.ledger, ASK, other)[1] == B


@pytest.mark.parametrize("mode", ["gone", "down"])
def test_where_the_base_is_refused_or_away_the_champion_answers_and_its_row_does_not_say_far(
    slack: Any, live: Live, engine: ModelServer, far: Bot, mode: str
) -> None:
    engine.base_mode = mode
    ts, adapter, _ = asked(slack, live.ledger, FAR)

    tuned = exchange(slack, live.ledger, ts).tuned
    assert adapter == B and tuned and "far" not in tuned.params


@pytest.mark.parametrize("reach", ["whole", "missing", "damaged"])
def test_without_a_whole_reach_nothing_is_far_and_the_log_says_so_once_a_champion(tmp_path: Path, reach: str) -> None:
    ledger, settings = (
        Ledger(tmp_path / "own.db"),
        load_settings(_env_file=None, data_dir=tmp_path, far_questions="base"),
    )
    far, file = Far(settings=settings, ledger=ledger), keep(settings) / REACH
    asked_far = question("Did the Vikings sail to Greenland?")
    assert far.of(asked_far) is None  # nobody was promoted
    promote(ledger, A)
    if reach == "missing":
        file.unlink()
    if reach == "damaged":
        file.write_bytes(file.read_bytes()[:-1])

    with structlog.testing.capture_logs() as logs:
        found = [far.of(asked_far), far.of(asked_far)]
        promote(ledger, B)
        found.append(far.of(asked_far))

    assert [bool(each) for each in found] == [reach == "whole"] * 3
    assert [line["event"] for line in logs] == ([] if reach == "whole" else ["far_questions_unknown"] * 2)
    ledger.close()


def test_the_file_is_read_once_a_champion_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, settings = (
        Ledger(tmp_path / "own.db"),
        load_settings(_env_file=None, data_dir=tmp_path, far_questions="base"),
    )
    keep(settings)
    promote(ledger, A)
    far, read = Far(settings=settings, ledger=ledger), []
    monkeypatch.setattr("bot.far.load_reach", lambda folder: read.append(folder) or load_reach(folder))
    monkeypatch.setattr(ledger.connections, "write", lambda: pytest.fail("a write on the way of a question"))

    assert far.of(question("Did the Vikings sail to Greenland?")) and far.of(question("Where is my invoice?")) is None
    assert len(read) == 1
    assert (
        Far(settings=load_settings(_env_file=None, data_dir=tmp_path), ledger=ledger).of(question("Vikings?")) is None
    )
    assert len(read) == 1
    ledger.close()


def test_votes_on_far_answers_count_on_neither_side_while_a_champion_shares_with_the_base(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "own.db", clock=lambda: NOW)
    promote(ledger, B, percent=50)
    champion = ledger.promotions.champion()
    assert champion is not None
    for adapter in (B, None):
        vote(ledger, answered(ledger, adapter=adapter), 1, role="agent")
    before = ledger.watches.votes(champion, None)
    params = {"far": {"distance": 0.9, "threshold": 0.5}}
    exchange_id = ledger.exchanges.open(question("Did the Vikings sail to Greenland?"))
    ledger.exchanges.record(
        exchange_id, Answer(role="tuned", status="ok", text="Yes.", base_digest=BASE, params=params)
    )
    message, _ = ledger.exchanges.intend_message(exchange_id, 1, team="T", channel="C")
    ledger.exchanges.message_posted(message.message_id, f"{exchange_id}.9")
    vote(ledger, exchange_id, -1, role="agent")

    assert len(before[0]) == 2 and ledger.watches.votes(champion, None) == before
    assert ledger.connections.db.execute("SELECT count(*) FROM ratings").fetchone()[0] == 3
    ledger.close()
