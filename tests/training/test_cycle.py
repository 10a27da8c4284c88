"""A whole run on a tiny real base: built, trained and scored in child processes, decided, reported, resumed, cancelled."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.errors import EvenkeelError
from storage.ledger import Ledger
from storage.records import Answer, Question, RatingEvent, Run, Ticket
from storage.settings import Settings, load_settings
from training import cycle
from training.child import run_child
from training.worker import work_once

pytestmark = pytest.mark.model  # no model is fetched, but a dozen child processes load torch: too slow for `make check`


@pytest.fixture(autouse=True)
def nobody_confirms(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine runs here, so a run need not wait a minute for its canary."""
    monkeypatch.setattr(cycle, "CONFIRM_S", 0.3)


@pytest.fixture
def small(tiny_folder: Path, tmp_path: Path) -> Settings:
    return load_settings(
        _env_file=None, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", base_model=str(tiny_folder), suite_items=8, target_items=8,
        target_generations=4, max_new_tokens=8, general_tasks=(), learning_rate=5e-3, epochs=1, batch_size=8, lora_rank=4, min_lessons=10,
        replay_share=0.05, max_tokens=1024)  # fmt: skip


@pytest.fixture
def ledger(small: Settings) -> Iterator[Ledger]:
    opened = Ledger(small.ledger_path)
    yield opened
    opened.close()


def fill(ledger: Ledger, count: int) -> None:
    tickets = [Ticket(ticket_id=f"t{n}", conversation_id=f"c{n}", question=f"How do I do thing {n} in room {n * 7}?", category="menus",
                      answer=f"Open menu {n}, choose entry {n * 3}, press {n * 5}.", language="en") for n in range(count)]  # fmt: skip
    ledger.lessons.import_tickets(tickets, file="t", file_digest=str(count), columns={}, actor="test")


def ask(ledger: Ledger) -> int:
    return ledger.runs.request(reason="cli", requested_by="test", overrides={})


def ended(ledger: Ledger, run_id: int) -> Run:
    run = ledger.runs.get(run_id)
    assert run is not None and run.finished_at is not None
    return run


def test_a_run_is_built_trained_scored_decided_and_reported_with_its_seconds(small: Settings, ledger: Ledger) -> None:
    fill(ledger, 60)
    run_id = ask(ledger)

    assert work_once(small, ledger)

    run = ended(ledger, run_id)
    assert (run.state, run.error) == ("decided", "") and run.dataset_digest and run.adapter_digest and run.decision_id
    assert {"building", "training", "scoring", "deciding"} <= {note["stage"] for note in ledger.runs.history(run_id)}
    assert any(
        note["text"].startswith("warning: ") and "steps are few" in note["text"] for note in ledger.runs.history(run_id)
    )
    assert all(ledger.scores.card(run_id, subject) for subject in ("base", "candidate"))
    report = ledger.report(run_id)
    assert report and Path(report["html_path"]).is_file() and Path(report["png_path"]).is_file()
    decision = ledger.promotions.decision(run.decision_id)
    champion = ledger.promotions.champion()
    assert decision and (champion is not None) == (decision.verdict == "PROMOTE")
    base = ledger.scores.card(run_id, "base")
    assert base and ledger.doubt.of(base.base_digest, None) and ledger.doubt.of(base.base_digest, run.adapter_digest)
    assert any("never says that it is not sure: 4 held-out" in note["text"] for note in ledger.runs.history(run_id))
    assert report["view"]["doubt"].startswith("The candidate never says that it is not sure: 4 held-out answers")
    assert ledger.verify() == ()
    assert not work_once(small, ledger)


def test_a_run_that_died_after_training_is_resumed_without_training_again(
    small: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 60)
    run_id, steps = ask(ledger), list[str]()

    def child(step: str, job: Any, beat: Any) -> dict[str, Any]:
        steps.append(step)
        if steps == ["tune", "score"]:
            raise KeyboardInterrupt  # what SIGTERM and a crash look like from here: the row stays
        return run_child(step, job, beat)

    monkeypatch.setattr(cycle, "run_child", child)
    with pytest.raises(KeyboardInterrupt):
        work_once(small, ledger)
    with ledger.connections.write() as db:
        db.execute("UPDATE runs SET lease_until='2000-01-01'")

    assert work_once(small, ledger)

    assert steps == ["tune", "score", "score"] and ended(ledger, run_id).state == "decided"


def test_a_search_judges_weaker_copies_until_one_passes_and_goes_on_where_it_was_stopped(
    small: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 60)
    run_id, scored = ask(ledger), list[float]()

    def scale_of(digest: str) -> float:
        made = ledger.lessons.adapter(digest)
        assert made is not None
        return float(made.recipe["scale"])

    def child(step: str, job: Any, beat: Any) -> dict[str, Any]:
        if step == "score":
            scored.append(scale_of(dict(job["subjects"])["candidate"]))
            if len(scored) == 2:  # as if the copy before had been measured beside the base once more
                base = ledger.scores.card(run_id, "base")
                assert base is not None
                ledger.scores.add_card(base, run_id=run_id, subject="again")
                raise KeyboardInterrupt
        return run_child(step, job, beat)

    monkeypatch.setattr(cycle, "run_child", child)
    monkeypatch.setattr(cycle, "weaker_may_pass", lambda decision: scale_of(decision.candidate_digest) > 0.7)
    searching = small.model_copy(update={"scale_search": True})
    with pytest.raises(KeyboardInterrupt):
        work_once(searching, ledger)

    assert work_once(searching, ledger)

    run = ended(ledger, run_id)
    assert scored == [1.0, 0.85, 0.85, 0.7] and run.state == "decided" and scale_of(str(run.adapter_digest)) == 0.7
    last = ledger.promotions.decision(run.decision_id or 0)
    assert last and last.candidate_digest == run.adapter_digest and last.policy["scales"] == 5
    assert set(last.evidence) == {"base", "candidate"}
    made = [row[0] for row in ledger.connections.db.execute("SELECT verdict FROM decisions WHERE run_id=?", (run_id,))]
    assert len(made) == 3 and ledger.verify() == ()


def judged(ledger: Ledger, count: int) -> None:
    """So many answers that agents disliked and corrected, eighteen an agent."""
    for n in range(count):
        text = f"How do I use alpha{n} beta{n} here?"
        number = ledger.exchanges.open(
            Question(team="T", channel="C", thread_ts=f"{n}.1", ts=f"{n}.1", asker=f"U{n}", text=text, asked_at=ledger.clock(),
                     messages=({"role": "user", "content": text},)))  # fmt: skip
        ledger.exchanges.record(number, Answer(role="tuned", status="ok", text=f"Press gamma{n}.", base_digest="b"))
        message, _ = ledger.exchanges.intend_message(number, 0, team="T", channel="C")
        ledger.exchanges.message_posted(message.message_id, f"{n}.9")
        ledger.ratings.add(
            RatingEvent(event_id=f"v{n}", team="T", channel="C", ts=f"{n}.9", user="U0TOM", role="agent", sign=-1, reaction="x",
                        action="add", event_ts="5.5"))  # fmt: skip
        ledger.lessons.correct(number, author=f"A{n // 18}", role="agent", text=f"Open delta{n}, wait.")


@pytest.mark.parametrize(
    ("pairs", "says"),
    [(90, r"preferences \(DPO\): \d\d pairs in \d+ steps"), (9, "no preferences were learned: .* pairs are missing")],
)
def test_preferences_are_learned_after_the_lessons_or_the_run_says_what_is_missing(
    small: Settings, ledger: Ledger, pairs: int, says: str
) -> None:
    fill(ledger, 60)
    judged(ledger, pairs)
    run_id = ledger.runs.request(reason="cli", requested_by="test", overrides={"preferences": True})

    assert work_once(small.model_copy(update={"learn_from_slack": True}), ledger)

    run = ended(ledger, run_id)
    texts = [note["text"] for note in ledger.runs.history(run_id)]
    assert run.state == "decided" and any(re.match(says, text) for text in texts), texts
    assert any(text.startswith("warning: preferences are not learned") for text in texts) == (pairs == 9)
    adapter = ledger.lessons.adapter(str(run.adapter_digest))
    manifest = json.loads((Path(adapter.path if adapter else "") / "manifest.json").read_text())
    assert manifest["stats"]["preferences"]["method"] == ("DPO" if pairs == 90 else "")


def test_too_little_data_fails_with_how_many_are_missing(small: Settings, ledger: Ledger) -> None:
    fill(ledger, 8)
    run_id = ask(ledger)
    work_once(small, ledger)

    assert ended(ledger, run_id).state == "failed" and "Too little data" in ended(ledger, run_id).error
    assert "are missing" in ended(ledger, run_id).error


def test_cancelling_stops_the_child_and_the_run(
    small: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 60)
    run_id = ask(ledger)

    def child(step: str, job: Any, beat: Any) -> dict[str, Any]:
        ledger.runs.cancel(run_id)
        return run_child(step, job, beat)

    monkeypatch.setattr(cycle, "run_child", child)
    work_once(small, ledger)

    assert (ended(ledger, run_id).state, ended(ledger, run_id).error) == ("cancelled", "cancelled by an admin")
    assert ledger.promotions.champion() is None


def test_a_surprise_fails_the_run_with_its_name(
    small: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 60)
    run_id = ask(ledger)

    def broken(*_: Any) -> dict[str, Any]:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(cycle, "run_child", broken)
    work_once(small, ledger)

    assert ended(ledger, run_id).error.startswith("unexpected ZeroDivisionError: oops")


def test_a_worker_that_lost_its_lease_writes_nothing_more(
    small: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 60)
    run_id = ask(ledger)

    def stolen(*_: Any) -> dict[str, Any]:
        with ledger.connections.write() as db:
            db.execute("UPDATE runs SET fence = fence + 1")
        raise EvenkeelError("the child broke, too")

    monkeypatch.setattr(cycle, "run_child", stolen)
    work_once(small, ledger)

    run = ledger.runs.get(run_id)
    assert run and (run.state, run.error, run.finished_at) == ("training", "", None)


def test_a_refusal_of_the_engine_is_rolled_back_at_once(
    small: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 60)
    run_id = ask(ledger)
    real = cycle.decide_on
    monkeypatch.setattr(cycle, "decide_on", lambda *cards: _promoted(real(*cards)))
    promote = ledger.promotions.promote

    def refused(*args: Any, **named: Any) -> Any:
        made = promote(*args, **named)
        ledger.promotions.confirm(made.promotion_id, "its canary said nothing")
        return made

    monkeypatch.setattr(ledger.promotions, "promote", refused)
    work_once(small, ledger)

    history = ledger.promotions.history()
    assert [p.kind for p in history] == ["promote", "rollback"] and "its canary said nothing" in history[-1].reason
    assert ended(ledger, run_id).state == "decided"


def _promoted(decision: Any) -> Any:
    from dataclasses import replace

    return replace(decision, verdict="PROMOTE")


def test_a_child_that_is_killed_names_its_step(tmp_path: Path) -> None:
    with pytest.raises(EvenkeelError, match="tune ended with code"):
        run_child("tune", {"settings": {}, "dataset": "x"}, lambda _: False)
