"""How far a champion is from its base on live questions: measured right, seldom, apart from everything else, and told once."""

import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from storage.errors import EvenkeelError
from storage.ledger import Ledger
from storage.records import Adapter, Answer, Dataset, Decision, Lesson, Promotion, Question
from storage.settings import load_settings
from storage.weights import base_digest
from tests.bot.facts import BASE, NOW
from tests.eval.conftest import _adapter
from training import divergence, worker
from training.child import Heartbeat
from training.dataset import digest_of_rows, save_dataset
from training.divergence import FEWEST, KIND, DivergenceWatch, keep
from training.steps import diverge_step
from training.worker import run_worker

FAR, NEAR = [0.4 + n / 100 for n in range(30)], [0.1 + n / 100 for n in range(30)]


class House:
    """A ledger with one champion, a clock that the test sets, and a child that says what the test wants."""

    def __init__(self, base: Path, room: Path) -> None:
        self.now, self.number = NOW, 0
        self.settings = load_settings(_env_file=None, data_dir=room, base_model=str(base), max_new_tokens=8,
                                      retrain_cron="", retrain_after_lessons=0)  # fmt: skip
        self.ledger = Ledger(self.settings.ledger_path, clock=lambda: self.now)
        self.base, self.adapter = base, _adapter(base, self.settings.weights_dir, 5).name
        self.asked = list[Mapping[str, Any]]()
        self.child: Callable[[Heartbeat], dict[str, Any]] = lambda _: {"live": FAR, "held_out": NEAR}

    def promote(self, dataset: str = "d") -> Promotion:
        base = base_digest(self.base)
        self.ledger.lessons.add_adapter(Adapter(digest=self.adapter, base_digest=base, dataset_digest=dataset, path="x", recipe={},
                                                run_id=None, stats={}, created_at=self.now))  # fmt: skip
        decision = Decision(verdict="PROMOTE", reasons=("test",), comparisons=(), base_digest=base, candidate_digest=self.adapter,
                            policy={}, champion_digest=None)  # fmt: skip
        number = self.ledger.promotions.decide(decision, run_id=None, actor="test")
        self.now += timedelta(minutes=1)
        return self.ledger.promotions.promote(number, actor="gate", reason="")

    def ask(self, count: int = 1, *, thread: str = "", text: str = "Open the settings.", source: str = "slack",
            adapter: str | None = None) -> None:  # fmt: skip
        with self.ledger.connections.write():
            for _ in range(count):
                self.number += 1
                ts = f"{self.number}.5"
                question = Question(team="T", channel="C", thread_ts=thread or ts, ts=ts, asker="U0MIA", text="How?", source=source,
                                    asked_at=self.now, messages=({"role": "user", "content": f"How {self.number}?"},))  # fmt: skip
                said = Answer(
                    role="tuned", status="ok", text=text, base_digest=BASE, adapter_digest=adapter or self.adapter
                )
                self.ledger.exchanges.record(self.ledger.exchanges.open(question), said)

    def run_child(self, step: str, job: Mapping[str, Any], heartbeat: Heartbeat) -> dict[str, Any]:
        assert step == "diverge"
        self.asked.append(job)
        return {"newest": self.number, **self.child(heartbeat)}

    def looks(self) -> list[tuple[str, str]]:
        rows = self.ledger.connections.db.execute("SELECT verdict, said FROM watches WHERE kind=?", (KIND,)).fetchall()
        return [(verdict, said) for verdict, said in rows]


@pytest.fixture
def house(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    made = House(tiny_folder, tmp_path / "data")
    monkeypatch.setattr(divergence, "run_child", made.run_child)
    yield made
    made.ledger.close()


@pytest.fixture
def look(house: House) -> Callable[[], None]:
    watch = DivergenceWatch(settings=house.settings, ledger=house.ledger)

    def one(hours: float = 1) -> None:
        house.now += timedelta(hours=hours)
        watch.look()

    return one


def test_the_child_measures_newest_answers_and_as_many_held_out_ones_as_it_would_answer_them(
    house: House, lessons: Callable[[str, int], tuple[Lesson, ...]]
) -> None:
    rows = Dataset(digest="", train=lessons("t", 4), holdout=lessons("h", 12), manifest={})
    dataset = replace(rows, digest=digest_of_rows(rows.train, rows.holdout))
    save_dataset(dataset, house.settings.datasets_dir)
    champion = house.promote(dataset.digest)
    house.ask(5)
    house.ask(2, thread="1.5", text="Twice in a thread.")
    house.ask(source="cli")
    house.ask(adapter="f" * 64)
    job = {
        "settings": house.settings.model_dump(mode="json"),
        "base": str(house.base),
        "promotion": champion.promotion_id,
    }

    found = diverge_step(job, lambda _: None)

    assert found["newest"] == 7 and len(found["live"]) == 5  # of a thread the newest; not the terminal's, not another's
    assert len(found["held_out"]) == 5 and min(*found["live"], *found["held_out"]) > 0
    assert diverge_step(job, lambda _: None) == found
    house.settings.datasets_dir.rename(house.settings.datasets_dir.with_name("gone"))
    assert diverge_step(job, lambda _: None) == found | {"held_out": []}


def test_it_is_measured_once_there_are_enough_answers_and_then_once_a_day_of_new_ones(
    house: House, look: Callable[..., None]
) -> None:
    look()
    house.promote()
    house.ask(FEWEST - 1)
    look()
    assert house.asked == []
    house.ask()
    look()
    house.ask()
    look(hours=22)
    assert len(house.asked) == 1
    look(hours=2)
    assert len(house.asked) == 2
    look(hours=25)
    assert len(house.asked) == 2  # nothing new was asked
    again = DivergenceWatch(settings=house.settings, ledger=house.ledger)
    house.ask()
    again.look()
    again.look()
    assert len(house.asked) == 3


def test_a_shift_is_told_once_and_nothing_follows(house: House, look: Callable[..., None]) -> None:
    house.promote()
    for _ in range(2):
        house.ask(FEWEST)
        look(hours=25)

    (first, said), (second, _) = house.looks()
    assert (first, second) == ("alert", "watching")
    assert said.startswith("v1 is 0.545 nats a token from the base on the newest questions (0.")
    assert "0.245 on held-out ones" in said and "p = 0.0001. That is clearly farther" in said
    champion = house.ledger.promotions.champion()
    assert champion and champion.kind == "promote"
    (row,) = [row for row in house.ledger.watches.of(champion) if row.kind == KIND]
    assert row.seen["live"] == FAR and row.seen["now"]["n"] == 30 and row.seen["p"] == 0.0001


@pytest.mark.parametrize(
    ("held_out", "said"), [(FAR, "p = 0.5"), (FAR[:5], "5 held-out ones on this disk are too few to compare with")]
)
def test_without_a_shift_or_without_a_reference_nobody_is_alarmed(
    house: House, held_out: list[float], said: str
) -> None:
    champion = house.promote()

    keep(house.ledger, champion, {"newest": 1, "live": FAR, "held_out": held_out})

    ((verdict, words),) = house.looks()
    assert verdict == "watching" and said in words and "clearly" not in words


@pytest.mark.parametrize("error", [EvenkeelError("killed"), ValueError("surprise")])
def test_a_child_that_fails_is_a_line_of_the_log_and_is_tried_again_the_next_day(
    house: House, look: Callable[..., None], error: Exception
) -> None:
    def fails(_: Heartbeat) -> dict[str, Any]:
        raise error

    house.promote()
    house.ask(FEWEST)
    house.child = fails
    with capture_logs() as logs:
        look()
        look(hours=22)
    assert [(line["event"], line["reason"]) for line in logs] == [("divergence_not_measured", str(error))]
    assert house.looks() == [] and len(house.asked) == 1
    look(hours=3)
    assert len(house.asked) == 2


def test_a_number_that_is_none_is_not_kept(house: House, look: Callable[..., None]) -> None:
    house.promote()
    house.ask(FEWEST)
    house.child = lambda _: {"live": [float("nan")], "held_out": NEAR}
    with capture_logs() as logs:
        look()

    assert house.looks() == [] and "0 of them finite" in logs[0]["reason"]


def test_a_run_ends_a_measurement_and_none_begins_while_one_is_active(house: House, look: Callable[..., None]) -> None:
    def run_comes(heartbeat: Heartbeat) -> dict[str, Any]:
        heartbeat(None)
        house.ledger.runs.request(reason="cli", requested_by="test", overrides={})
        heartbeat(None)
        raise AssertionError("it went on beside a run")

    house.promote()
    house.ask(FEWEST)
    plain, house.child = house.child, run_comes
    with capture_logs() as logs:
        look()
        look()
    assert [line["event"] for line in logs] == ["divergence_waits"] and len(house.asked) == 1
    house.ledger.runs.cancel(1)
    house.child = plain
    look()
    assert len(house.looks()) == 1


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"base_model": "hosted", "base_url": "https://tuning.example/v1", "base_name": "acme-mini"},
        {"base_name": "acme", "tuned_name": "tuned-{adapter}"},
    ],
)
def test_at_another_server_it_is_said_once_that_nothing_is_measured(house: House, elsewhere: dict[str, str]) -> None:
    house.promote()
    house.ask(FEWEST)
    there = load_settings(_env_file=None, data_dir=house.settings.data_dir, **elsewhere)
    watch = DivergenceWatch(settings=there, ledger=house.ledger)
    for _ in range(3):
        house.now += timedelta(days=2)
        watch.look()

    said = "How far v1 is from the base is not measured: one of them is at another server"
    assert house.asked == [] and house.looks() == [("watching", said)]


def test_who_came_back_is_not_measured(house: House, look: Callable[..., None]) -> None:
    house.promote()
    house.ask(FEWEST)
    house.ledger.promotions.rollback(actor="U0INES", reason="", to_version=0)
    look()

    assert house.asked == [] and house.looks() == []


def test_an_idle_worker_looks_and_a_stop_ends_the_measurement(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: Heartbeat) -> dict[str, Any]:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("it went on")

    before = signal.getsignal(signal.SIGTERM)
    house.promote()
    house.ask(FEWEST)
    house.child = stopped
    rounds = iter([False, False])
    monkeypatch.setattr(worker, "work_once", lambda *_: next(rounds))
    try:
        run_worker(house.settings, house.ledger)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert len(house.asked) == 1 and house.looks() == []


@pytest.mark.model
def test_the_real_child_measures_and_the_look_is_kept(
    house: House, look: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    house.promote()
    house.ask(FEWEST)
    look()

    ((verdict, said),) = house.looks()
    assert verdict == "watching" and "24 answers); 0 held-out ones on this disk are too few" in said
