"""The last steps of a run, without a model: a promotion is made once, confirmed or taken back, and never undoes a person's.

The gate's verdict is put in by hand and the report is left out; ledger, fences and promotions are real.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from storage.errors import Busy, LostLease
from storage.forgetting import forget
from storage.ledger import Ledger
from storage.reach import load_reach
from storage.recipe import recipe_from
from storage.records import Adapter, Decision, Ticket
from storage.settings import Settings, load_settings
from training import cycle
from training.collecting import collect
from training.cycle import CancelledRun, Cycle, run_cycle
from training.dataset import save_dataset
from training.history import history_of
from training.trainers import HERE


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(cycle, "publish", lambda *_: None)
    monkeypatch.setattr(cycle, "CONFIRM_S", 0.6)
    return load_settings(_env_file=None, data_dir=tmp_path / "data")


@pytest.fixture
def work(ledger: Ledger, settings: Settings) -> Cycle:
    ledger.runs.request(reason="cli", requested_by="test", overrides={})
    run = ledger.runs.claim(owner="one", lease_s=60)
    assert run
    return Cycle(run=run, ledger=ledger, settings=settings, trainer=HERE)


def decided(ledger: Ledger, digest: str, *, champion: str | None = None, verdict: Any = "PROMOTE") -> int:
    ledger.lessons.add_adapter(Adapter(digest=digest, base_digest="b", dataset_digest="d", path="", recipe={}, run_id=None,
                                       stats={}, created_at=datetime.now(UTC)))  # fmt: skip
    decision = Decision(verdict=verdict, reasons=("why",), comparisons=(), base_digest="b", champion_digest=champion,
                        candidate_digest=digest, policy={})  # fmt: skip
    return ledger.promotions.decide(decision, run_id=None, actor="gate")


def notes(work: Cycle) -> list[str]:
    return [note["text"] for note in work.ledger.runs.history(work.run.run_id)]


def while_waiting(work: Cycle, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Let somebody else act on the ledger during the first wait for the engine."""
    acts = [act]
    monkeypatch.setattr(cycle.time, "sleep", lambda _: acts.pop()() if acts else None)


def test_an_engine_that_confirms_is_waited_for(work: Cycle, monkeypatch: pytest.MonkeyPatch) -> None:
    while_waiting(work, monkeypatch, lambda: work.ledger.promotions.confirm(1, "ok"))
    work.promote(decided(work.ledger, "one"))

    assert notes(work) == ["v1 serves: the engine's canary answered with it"]


def test_without_an_engine_the_promotion_stands_and_says_so(work: Cycle) -> None:
    work.promote(decided(work.ledger, "one"))

    assert notes(work) == ["v1 is the champion; no engine has confirmed it yet"]


def test_a_resumed_run_promotes_once_and_still_takes_back_what_the_engine_refused(work: Cycle) -> None:
    decision = decided(work.ledger, "one")
    work.promote(decision)
    work.ledger.promotions.confirm(1, "its canary said nothing")

    work.promote(decision)
    work.promote(decision)

    assert [(p.kind, p.adapter_digest) for p in work.ledger.promotions.history()] == [
        ("promote", "one"),
        ("rollback", None),
    ]
    assert notes(work)[1:] == [
        "rolled back: the engine refused the adapter: its canary said nothing",
        "v1 serves no more: somebody put another in its place",
    ]


def test_a_persons_rollback_during_the_wait_is_not_rolled_back_further(
    work: Cycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    for digest, champion in (("one", None), ("two", "one")):
        work.ledger.promotions.promote(decided(work.ledger, digest, champion=champion), actor="gate", reason="")

    def refuse_and_roll_back() -> None:
        work.ledger.promotions.confirm(3, "its canary said nothing")
        work.ledger.promotions.rollback(actor="U0INES", reason="worse tone")

    while_waiting(work, monkeypatch, refuse_and_roll_back)
    work.promote(decided(work.ledger, "three", champion="two"))

    champion = work.ledger.promotions.champion()
    assert champion and (champion.adapter_digest, champion.actor) == ("two", "U0INES")
    assert notes(work) == ["v3 serves no more: somebody put another in its place"]


def test_cancelling_after_the_switch_is_too_late(work: Cycle, monkeypatch: pytest.MonkeyPatch) -> None:
    work.ledger.runs.cancel(work.run.run_id)
    while_waiting(work, monkeypatch, lambda: work.ledger.promotions.confirm(1, "ok"))
    work.promote(decided(work.ledger, "one"))

    assert work.close("decided").state == "decided" and notes(work)[0].startswith("v1 serves")
    with pytest.raises(LostLease):
        work.show({}, stage_no=4)


@pytest.mark.parametrize("verdict", ["HOLD", "REFUSE"])
def test_another_verdict_promotes_nothing(work: Cycle, verdict: str) -> None:
    work.promote(decided(work.ledger, "one", verdict=verdict))

    assert work.ledger.promotions.champion() is None and notes(work) == []


def test_a_champion_that_changed_since_the_scoring_is_left_alone(work: Cycle) -> None:
    work.ledger.promotions.promote(decided(work.ledger, "one"), actor="gate", reason="")
    work.promote(decided(work.ledger, "two"))

    champion = work.ledger.promotions.champion()
    assert champion and champion.adapter_digest == "one" and "serves now" in notes(work)[0]


def test_a_locked_ledger_costs_a_line_of_progress_and_a_lost_lease_the_run(
    work: Cycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals: list[Exception] = [Busy("locked"), LostLease("taken over")]
    monkeypatch.setattr(work.ledger.runs, "report_progress", lambda *_, **__: (_ for _ in ()).throw(refusals.pop(0)))
    work.run = work.ledger.runs.advance(work.run, state="training", lease_s=60)

    work.beat({"done": 1})
    work.beat({"done": 2})
    assert len(refusals) == 1 and work.newest == {"done": 2}
    work.shown_at = 0.0
    with pytest.raises(LostLease):
        work.beat(None)


def test_a_cancel_reaches_the_heartbeat(work: Cycle) -> None:
    work.run = work.ledger.runs.advance(work.run, state="training", lease_s=60)
    work.ledger.runs.cancel(work.run.run_id)

    with pytest.raises(CancelledRun):
        work.beat({"done": 1})


@pytest.mark.parametrize(("word", "then"), [("ok", ["promote"]), ("its canary said nothing", ["promote", "rollback"])])
def test_a_run_that_is_cancelled_after_the_switch_still_ends_as_decided_and_takes_back_what_is_refused(
    work: Cycle, settings: Settings, word: str, then: list[str]
) -> None:
    decision = decided(work.ledger, "one")
    work.run = work.ledger.runs.advance(work.run, state="scoring", lease_s=60, decision_id=decision)
    made = work.promotion_of(decision)
    work.ledger.runs.release(work.run)
    work.ledger.runs.cancel(work.run.run_id)
    work.ledger.promotions.confirm(made.promotion_id, word)
    resumed = work.ledger.runs.claim(owner="next", lease_s=60)
    assert resumed

    run = run_cycle(resumed, ledger=work.ledger, settings=settings, trainer=HERE)

    assert (run.state, run.error) == ("decided", "")
    assert [p.kind for p in work.ledger.promotions.history()] == then


def test_a_report_that_cannot_be_made_does_not_fail_a_run_whose_candidate_serves(
    work: Cycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cycle, "publish", lambda *_: (_ for _ in ()).throw(OSError("no space left")))

    work.promote(decided(work.ledger, "one"))

    assert work.ledger.promotions.champion() and notes(work)[-1] == (
        "the report could not be made (OSError: no space left). Next: the worker's log."
    )


def test_the_checkpoints_of_a_run_that_ended_are_gone(work: Cycle) -> None:
    work.checkpoints.mkdir(parents=True)
    (work.checkpoints / "step-000001").mkdir()

    work.close("failed", error="why")

    assert not work.checkpoints.exists()


def imported(ledger: Ledger, tickets: int) -> None:
    rows = [Ticket(ticket_id=f"t{n}", conversation_id=f"c{n}", question=f"How do I do thing {n} in room {n * 7}?",
                   answer=f"Open menu {n}, choose entry {n * 3}, write to help{n}@mail.example.", approved=n > 0)
            for n in range(tickets)]  # fmt: skip
    ledger.lessons.import_tickets(rows, file="t", file_digest="f", columns={}, actor="test")


def rehearsed(ledger: Ledger, settings: Settings, tickets: int) -> Any:
    """A dry run over so many tickets, brought to its end."""
    imported(ledger, tickets)
    ledger.runs.request(reason="command", requested_by="U0INES", overrides={"dry_run": True, "epochs": 1.0})
    run = ledger.runs.claim(owner="one", lease_s=60)
    assert run
    return run_cycle(run, ledger=ledger, settings=settings, trainer=HERE)


def test_a_dry_run_says_what_would_be_trained_and_trains_nothing(
    ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cycle, "run_child", lambda *_: pytest.fail("a dry run started a child"))

    run = rehearsed(ledger, settings, 90)

    found = run.progress["dry_run"]
    assert (run.state, run.error, run.decision_id, run.dataset_digest, run.adapter_digest) == (
        "decided",
        "",
        *[None] * 3,
    )
    assert len(found["warnings"]) == 1 and "steps are few" in found["warnings"][0]
    assert found["train"] > 60 and found["holdout"] >= 8 and found["refusal"] == "" and found["seconds"] is None
    assert (
        found["dropped"]["not approved"] == 1
        and found["redacted"]
        and found["sources"]["ticket"] + found["holdout"] == 89
    )
    assert ledger.runs.history(run.run_id)[-1]["data"]["dry_run"] == found
    assert not settings.datasets_dir.exists() and ledger.runs.pace() is None


def test_a_run_keeps_the_reach_of_its_lessons_beside_a_dataset_that_was_there_too(
    work: Cycle, ledger: Ledger, settings: Settings
) -> None:
    imported(ledger, 90)
    recipe = recipe_from(settings, {})
    folder = save_dataset(collect(ledger, settings, recipe).dataset, settings.datasets_dir)  # an older version's

    dataset = work.build(recipe)

    reach = load_reach(folder)
    learned = next(row.question for row in dataset.train if row.source == "ticket")
    assert folder.name == dataset.digest and reach.distance([learned]) == 0 < reach.threshold < 1


def owned(ledger: Ledger) -> None:
    rows = [Ticket(ticket_id=f"t{n}", conversation_id=f"c{n}", question=f"How do I do thing {n} in room {n * 7}?",
                   answer=f"Open menu {n}, choose entry {n * 3}.", customer=f"person{n}") for n in range(90)]  # fmt: skip
    ledger.lessons.import_tickets(rows, file="t", file_digest="f", columns={}, actor="test")


def test_who_is_forgotten_while_a_run_collects_is_not_trained_on(
    work: Cycle, ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned(ledger)
    forgets = [lambda: forget(ledger, settings.datasets_dir, "person7", actor="ines")]

    def collected(*args: Any) -> Any:
        found = collect(*args)
        if forgets:
            forgets.pop()()
        return found

    monkeypatch.setattr(cycle, "collect", collected)

    dataset = work.build(recipe_from(settings, {}))

    assert "person7" not in {row.customer for row in (*dataset.train, *dataset.holdout)}
    (folder,) = settings.datasets_dir.iterdir()
    assert folder.name == dataset.digest and ledger.lessons.dataset_path(dataset.digest) == str(folder)
    assert not any('"person7"' in file.read_text() for file in folder.glob("*.jsonl"))


def test_a_run_whose_dataset_was_forgotten_begins_anew_without_what_it_had_trained(
    work: Cycle, ledger: Ledger, settings: Settings
) -> None:
    owned(ledger)
    recipe = recipe_from(settings, {})
    before = work.build(recipe)
    work.move("training", adapter_digest="one")
    work.checkpoints.mkdir(parents=True)
    gone = next(row.customer for row in before.train if row.source == "ticket")
    forget(ledger, settings.datasets_dir, gone, actor="ines")

    dataset = work.build(recipe)

    assert gone not in {row.customer for row in dataset.train} and dataset.digest != before.digest
    assert (work.run.dataset_digest, work.run.adapter_digest) == (
        dataset.digest,
        None,
    ) and not work.checkpoints.exists()
    assert "somebody in its dataset was forgotten: the run begins anew" in notes(work)


def test_the_clock_takes_a_dry_run_for_none(ledger: Ledger, settings: Settings) -> None:
    asked = ledger.runs.get(ledger.runs.request(reason="cron", requested_by="clock", overrides={}))
    assert asked
    ledger.runs.cancel(asked.run_id)

    rehearsed(ledger, settings, 3)

    ended = ledger.runs.get(asked.run_id)
    assert ended and ledger.runs.last_active() == ended.finished_at
    assert ledger.lessons.count_since_last_run(with_slack=True) == 2


def test_a_dry_run_over_too_few_lessons_says_that_a_run_would_stop(ledger: Ledger, settings: Settings) -> None:
    run = rehearsed(ledger, settings, 9)

    assert run.state == "decided" and "are missing" in run.progress["dry_run"]["refusal"]


def test_a_dry_run_estimates_from_the_runs_that_trained_before(ledger: Ledger, settings: Settings) -> None:
    ledger.lessons.add_dataset("d", "x", {"train": {"rows": 100}})
    for number, seconds in enumerate((100.0, 300.0, 200.0)):
        ledger.runs.request(reason="cli", requested_by="test", overrides={})
        run = ledger.runs.claim(owner="one", lease_s=60)
        assert run
        ledger.lessons.add_adapter(Adapter(digest=f"a{number}", base_digest="b", dataset_digest="d", path="", run_id=run.run_id,
                                           recipe={"epochs": 2.0}, stats={"seconds": seconds}, created_at=datetime.now(UTC)))  # fmt: skip
        ledger.runs.note(run.run_id, "training", "", {"seconds": seconds + 10})
        ledger.runs.note(run.run_id, "scoring", "", {"seconds": 50})
        ledger.runs.advance(run, state="decided", lease_s=60, dataset_digest="d", adapter_digest=f"a{number}")

    pace = ledger.runs.pace()
    assert pace and (pace.seconds_per_row, pace.other_s, pace.runs) == (1.0, 60.0, 3)
    run = rehearsed(ledger, settings, 90)
    assert run.progress["dry_run"]["seconds"] == run.progress["dry_run"]["train"] * 1.0 + 60.0


def test_a_runs_history_says_what_was_special_about_a_training_and_nothing_where_nothing_was() -> None:
    def lines(**more: Any) -> list[str]:
        stats = {"tokens": 900, "tokens_per_s": 200.4, "final_loss": 1.5, "base_bits": 16, "processes": 1} | more
        return history_of(Adapter(digest="abcdef" * 4, base_digest="b", dataset_digest="d", path="", recipe={}, run_id=None,
                                  stats=stats, created_at=datetime.now(UTC)))  # fmt: skip

    (plain,) = lines()
    large, cut = lines(base_bits=4, processes=2, intruders={"found": 3, "layers": 2, "looked": 140})

    assert plain.endswith(": 900 tokens at 200 a second, last loss 1.500")
    assert large.endswith(": 900 tokens at 200 a second on 2 devices, the base in 4 bit, last loss 1.500")
    assert cut == "3 of the 140 strongest directions were intruders, in 2 layers: mostly taken out"
