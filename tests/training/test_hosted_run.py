"""A whole run on a hosted base: requested, tuned and scored over HTTP, decided; cancelled and resumed at the server.

The steps run in this process, but for one test of the child: what they say goes through the cycle's own heartbeat.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bot.outlook import dry_run_lines
from storage.ledger import Ledger
from storage.records import Run, Ticket
from storage.settings import Settings, load_settings
from tests.training.tuning_server import BASE, TuningServer, tuning_server
from training import cycle, hosted, hosted_api, hosted_steps
from training.child import run_child
from training.cycle import CancelledRun
from training.hosted_steps import STEPS as HOSTED
from training.worker import work_once

WORDS = ("quartz", "marble", "copper", "walnut", "velvet", "cobalt", "saffron", "juniper")


@pytest.fixture
def server() -> Iterator[TuningServer]:
    with tuning_server() as made:
        yield made


@pytest.fixture
def settings(server: TuningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("BASE_KEY", "secret-key")
    monkeypatch.setattr(cycle, "CONFIRM_S", 0.3)
    monkeypatch.setattr(hosted, "POLL_S", 0.0)
    return load_settings(
        _env_file=None, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", base_model="hosted", base_url=server.url,
        base_name=BASE, suite_items=24, target_items=40, target_generations=8, max_new_tokens=8, general_tasks=(),
        min_lessons=10, max_tokens=1024)  # fmt: skip


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    opened = Ledger(settings.ledger_path)
    tickets = [Ticket(ticket_id=f"t{n}", conversation_id=f"c{n}", question=f"How do I do thing {n} in room {n * 7}?", category="menus",
                      answer=f"Take the {WORDS[n % 8]} door, then the {WORDS[n // 8 % 8]} stairs to desk {n * 3}.", language="en")
               for n in range(160)]  # fmt: skip
    opened.lessons.import_tickets(tickets, file="t", file_digest="1", columns={}, actor="test")
    yield opened
    opened.close()


def step_here(step: str, job: Mapping[str, Any], beat: Any) -> dict[str, Any]:
    """A child's step without its process."""
    from training.steps import STEPS

    found = json.loads(json.dumps(job))
    assert "secret-key" not in json.dumps(found)
    return (HOSTED.get(step) or STEPS[step])(found, beat)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []

    def child(step: str, job: Any, beat: Any) -> dict[str, Any]:
        made.append(step)
        return step_here(step, job, beat)

    monkeypatch.setattr(cycle, "run_child", child)
    return made


def asked(ledger: Ledger, **overrides: Any) -> int:
    return ledger.runs.request(reason="cli", requested_by="test", overrides=overrides)


def ended(ledger: Ledger, run_id: int) -> Run:
    run = ledger.runs.get(run_id)
    assert run is not None and run.finished_at is not None
    return run


def texts(ledger: Ledger, run_id: int) -> list[str]:
    return [note["text"] for note in ledger.runs.history(run_id)]


@pytest.mark.model  # thousands of requests
def test_a_run_tunes_at_the_server_and_its_decision_promotes_and_can_be_made_again(
    settings: Settings, ledger: Ledger, server: TuningServer, steps: list[str]
) -> None:
    from eval.replay import replay

    run_id = asked(ledger, kl_weight=0.1)

    assert work_once(settings, ledger)

    run = ended(ledger, run_id)
    decision = ledger.promotions.decision(run.decision_id or 0)
    assert (run.state, run.error) == ("decided", "") and steps == ["tune_hosted", "score"]
    assert decision and decision.verdict == "PROMOTE", decision
    champion = ledger.promotions.champion()
    assert champion and champion.adapter_digest == run.adapter_digest and champion.base_digest == f"name:{BASE}"
    said = texts(ledger, run_id)
    assert any(text.startswith("warning: kl=0.1 is not followed") for text in said)
    assert any("1000 tokens at 20 a second, last loss 1.250" in text for text in said)
    assert ledger.verify() == () and not replay(ledger, run.decision_id or 0).difference
    assert "Bearer secret-key" in server.keys and len(server.jobs) == 1


@pytest.mark.model  # thousands of requests
def test_the_next_run_is_held_against_the_champion_and_tunes_the_base_anew(
    settings: Settings, ledger: Ledger, server: TuningServer, steps: list[str]
) -> None:
    asked(ledger)
    work_once(settings, ledger)
    run_id = asked(ledger, seed=18)
    work_once(settings, ledger)

    decision = ledger.promotions.decision(ended(ledger, run_id).decision_id or 0)
    assert decision and decision.champion_digest and any(c.against == "champion" for c in decision.comparisons)
    assert [job["model"] for job in server.jobs.values()] == [BASE, BASE]


def test_without_log_probabilities_the_gate_holds_with_the_reason(
    settings: Settings, ledger: Ledger, server: TuningServer, steps: list[str]
) -> None:
    server.echo = False
    run_id = asked(ledger)

    work_once(settings, ledger)

    decision = ledger.promotions.decision(ended(ledger, run_id).decision_id or 0)
    assert decision and decision.verdict == "HOLD" and "support (bits_per_byte) was not measured" in decision.reasons
    assert any(c.metric == "rouge_l" and c.state != "unknown" for c in decision.comparisons)
    assert any(
        "gives no log-probabilities of a prompt" in text and "the gate holds" in text for text in texts(ledger, run_id)
    )
    assert ledger.promotions.champion() is None


def test_cancelling_a_run_cancels_its_job(
    settings: Settings, ledger: Ledger, server: TuningServer, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.states = ["running"]
    run_id = asked(ledger)
    shown = cycle.Cycle.show

    def show(self: Any, progress: Mapping[str, Any], *, stage_no: int) -> None:
        if progress.get("total"):
            ledger.runs.cancel(run_id)
        shown(self, progress, stage_no=stage_no)

    monkeypatch.setattr(cycle.Cycle, "show", show)
    monkeypatch.setattr(cycle.Cycle, "is_due", lambda _: True)
    work_once(settings, ledger)

    run = ended(ledger, run_id)
    assert run.state == "cancelled" and run.error == f"cancelled by an admin; job ftjob-1 at {server.url} was cancelled"
    assert server.jobs["ftjob-1"]["status"] == "cancelled" and steps == ["tune_hosted", "cancel_hosted"]


def test_a_cancel_that_the_server_does_not_hear_says_that_the_job_may_still_run(
    settings: Settings, ledger: Ledger, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = asked(ledger)

    def child(step: str, job: Any, beat: Any) -> dict[str, Any]:
        if step == "cancel_hosted":
            raise cycle.EvenkeelError("it could not be asked")
        Path(job["checkpoints"]).mkdir(parents=True)
        raise CancelledRun("cancelled by an admin")

    monkeypatch.setattr(cycle, "run_child", child)
    work_once(settings, ledger)

    assert ended(ledger, run_id).error == (
        "cancelled by an admin; its job may still run, and wants to be cancelled by hand: it could not be asked"
    )


def test_a_worker_that_was_killed_is_followed_by_one_that_goes_on_with_the_same_job(
    settings: Settings, ledger: Ledger, server: TuningServer, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.echo = False  # few requests in scoring
    run_id = asked(ledger)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(hosted, "progress_of", killed)
        with pytest.raises(KeyboardInterrupt):
            work_once(settings, ledger)
    assert len(server.jobs) == 1 and ledger.runs.active() is not None

    assert work_once(settings, ledger)

    assert ended(ledger, run_id).state == "decided" and len(server.jobs) == 1 and len(server.rows) == 2


def test_a_child_that_is_killed_outright_leaves_a_job_that_the_next_one_finds(
    settings: Settings, ledger: Ledger, server: TuningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.states, server.echo = ["running"], False
    jobs: list[Mapping[str, Any]] = []

    def child(step: str, job: Any, beat: Any) -> dict[str, Any]:
        jobs.append(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(cycle, "run_child", child)
    run_id = asked(ledger)
    with pytest.raises(KeyboardInterrupt):
        work_once(settings, ledger)
    job_file = settings.data_dir / "job.json"
    job_file.write_text(
        json.dumps({"step": "tune_hosted", "result": str(settings.data_dir / "result.json"), **jobs[0]})
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "training.child", str(job_file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    said = next(line for line in process.stdout if b"step 3/3" in line)  # its job is under way
    process.kill()
    process.communicate()

    server.states = ["running", "succeeded"]
    monkeypatch.setattr(cycle, "run_child", step_here)
    assert work_once(settings, ledger)

    assert b"ftjob-1" in said and ended(ledger, run_id).state == "decided"
    assert len(server.jobs) == 1 and len(server.rows) == 2


def test_a_failed_job_fails_the_run_with_the_servers_reason(
    settings: Settings, ledger: Ledger, server: TuningServer, steps: list[str]
) -> None:
    server.states, server.job_error = ["failed"], {"code": "unsafe", "message": "the rows break our rules"}
    run_id = asked(ledger)
    work_once(settings, ledger)

    run = ended(ledger, run_id)
    assert run.state == "failed" and run.error.startswith("job ftjob-1 failed at the server: the rows break our rules")


def test_a_job_that_is_refused_leaves_no_file_at_the_server(
    settings: Settings, ledger: Ledger, server: TuningServer, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted_api, "LOOK_S", 0.0)
    server.faults["POST fine_tuning/jobs"] = [400]
    run_id = asked(ledger)
    work_once(settings, ledger)

    run = ended(ledger, run_id)
    assert run.state == "failed" and "refused the job: scripted" in run.error
    assert len(server.rows) == 2 and server.files == {} and server.jobs == {}
    assert not (settings.weights_dir / "checkpoints" / str(run_id)).exists()


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_server_that_is_away_in_the_middle_of_a_job_has_it_cancelled_or_the_notes_of_it_stay(
    settings: Settings, ledger: Ledger, server: TuningServer, steps: list[str], monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:  # fmt: skip
    for patience in ("PATIENCE_S", "CANCEL_PATIENCE_S"):
        monkeypatch.setattr(hosted_steps, patience, 0.0)
    server.states, server.faults["GET fine_tuning/jobs/ID"] = ["running"], [503] * (1 if comes_back else 2)
    run_id = asked(ledger)
    work_once(settings, ledger)

    run, notes = ended(ledger, run_id), settings.weights_dir / "checkpoints" / str(run_id) / hosted.NOTEBOOK
    assert run.state == "failed" and "could not be asked for job ftjob-1" in run.error
    assert (server.jobs["ftjob-1"]["status"] == "cancelled") is comes_back and notes.exists() is not comes_back
    assert ("wants to be cancelled by hand" in run.error) is not comes_back
    assert (server.files == {}) is comes_back


def test_a_dry_run_says_what_a_hosted_job_cannot_do_and_uploads_nothing(
    settings: Settings, ledger: Ledger, server: TuningServer, steps: list[str]
) -> None:
    run_id = asked(ledger, dry_run=True, scale=0.7)
    work_once(settings, ledger)

    assert any("scale=0.7 is not followed" in line for line in dry_run_lines(ended(ledger, run_id)))
    assert server.calls == [] and steps == []


@pytest.mark.model
def test_the_steps_run_in_a_child_with_the_key_of_its_environment(
    settings: Settings, ledger: Ledger, server: TuningServer
) -> None:
    server.states = ["succeeded"]
    run_id = asked(ledger)
    assert cycle.run_child is run_child

    work_once(settings.model_copy(update={"suite_items": 8, "target_items": 8}), ledger)

    assert ended(ledger, run_id).state == "decided" and server.keys == {"Bearer secret-key"}
