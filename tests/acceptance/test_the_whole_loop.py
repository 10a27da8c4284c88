"""The product's promise, played on the real model through the local Slack: ask, rate, retrain, promote, refuse, roll back.

The tests are one story in the order of the file; each chapter builds on the one before.
"""

import signal
from pathlib import Path

import pytest
import torch

from bot.engine.model import LoadedModel
from storage.records import Run
from storage.weights import adapter_path, verify_adapter
from tests.acceptance.conftest import Stage, small_tickets

pytestmark = [pytest.mark.model, pytest.mark.timeout(1800)]
SUPPORT, OPS = "C0SUPPORT", "C0OPS"
QUESTION = "@Evenkeel How do I reset my password?"


def test_a_customer_asks_and_the_base_speaks_for_both_before_the_first_promotion(stage: Stage) -> None:
    ts = stage.slack.say("U0MIA", SUPPORT, QUESTION)

    exchange = stage.answered(ts)

    assert exchange.tuned and exchange.base and exchange.tuned.status == exchange.base.status == "ok"
    assert exchange.tuned.adapter_digest is None and exchange.tuned.text == exchange.base.text
    (reply,) = stage.replies(SUPPORT, ts)
    assert exchange.tuned.text.split()[0] in reply["text"]
    stage.answered_by["first"] = ts


def test_a_rating_is_stored_and_withdrawn_and_only_an_agents_counts(stage: Stage) -> None:
    thread = stage.answered_by["first"]
    (reply,) = stage.replies(SUPPORT, thread)
    exchange = stage.exchange(thread)
    assert exchange

    def standing() -> set[tuple[str, str, int]]:
        return {(r.user, r.role, r.sign) for r in stage.ledger.ratings.of(exchange.exchange_id)}

    stage.slack.react("U0ASHA", SUPPORT, reply["ts"], "+1")
    stage.slack.react("U0JONAS", SUPPORT, reply["ts"], "-1")
    stage.until("both ratings", lambda: standing() == {("U0ASHA", "agent", 1), ("U0JONAS", "customer", -1)}, 20)
    assert [x.author for x in stage.ledger.lessons.liked()] == ["U0ASHA"]

    stage.slack.unreact("U0ASHA", SUPPORT, reply["ts"], "+1")
    stage.slack.react("U0ASHA", SUPPORT, reply["ts"], "-1")
    stage.until("the change of mind", lambda: standing() == {("U0ASHA", "agent", -1), ("U0JONAS", "customer", -1)}, 20)
    assert stage.ledger.lessons.liked() == ()


def test_too_little_data_is_said_with_how_many_lessons_are_missing(stage: Stage) -> None:
    stage.evenkeel("retrain", exit_code=4)

    run = stage.ledger.runs.recent(1)[0]
    assert run.state == "failed" and run.error.startswith("Too little data: 0 lessons")


def test_a_customer_may_not_retrain(stage: Stage) -> None:
    before = len(stage.ledger.runs.recent())

    stage.slack.command("U0MIA", "/retrain", "", SUPPORT)

    stage.until("the refusal", lambda: any("admin" in m["text"].lower() for m in stage.slack.ephemerals("U0MIA")), 20)
    assert len(stage.ledger.runs.recent()) == before


def test_retrain_trains_for_real_beats_the_base_and_goes_live_without_a_restart(stage: Stage, tmp_path: Path) -> None:
    stage.evenkeel("import", str(small_tickets(tmp_path / "tickets.csv")))
    engine = stage.processes["engine"].pid
    stage.slack.command("U0INES", "/retrain", "now", OPS)

    run = _run_of(stage, 2)

    decision = stage.ledger.promotions.decision(run.decision_id or 0)
    assert decision and decision.verdict == "PROMOTE", (run.error, decision and decision.reasons)
    gain = next(
        c for c in decision.comparisons if (c.benchmark, c.metric, c.against) == ("support", "bits_per_byte", "base")
    )
    assert gain.low > 0 and gain.n == 32
    champion = stage.ledger.promotions.champion()
    assert champion and champion.adapter_digest == run.adapter_digest and champion.confirmed == "ok"
    health = stage.health()
    assert health and health["champion"] == {"version": 1, "adapter_digest": run.adapter_digest}
    assert stage.processes["engine"].pid == engine
    verify_adapter(adapter_path(stage.folder / "data" / "weights", str(run.adapter_digest)), base=decision.base_digest)
    stage.until("the report card", lambda: any("PROMOTE" in str(m) for m in stage.slack.messages(OPS)), 30)


def test_the_next_question_is_answered_by_the_new_adapter_and_the_shadow_stays_the_base(stage: Stage) -> None:
    ts = stage.slack.say("U0MIA", SUPPORT, QUESTION)

    exchange = stage.answered(ts)

    champion = stage.ledger.promotions.champion()
    assert exchange.tuned and exchange.base and champion
    assert exchange.tuned.adapter_digest == champion.adapter_digest and exchange.base.adapter_digest is None
    assert exchange.tuned.text != exchange.base.text
    model = LoadedModel.load(stage.base)
    prompt = model.renderer.prompt(exchange.question.messages)
    assert (
        short_of_the_best(model, prompt, exchange.base.text) < 1 < short_of_the_best(model, prompt, exchange.tuned.text)
    )
    assert not any(exchange.base.text[:40] in m["text"] for m in stage.slack.messages(SUPPORT, ts))


def short_of_the_best(model: LoadedModel, prompt: list[int], text: str) -> float:
    """How far a greedy answer of the base alone is from this one: the widest gap, in logits, between a token of it and the
    best at that place. Of the tokens that go on with the text the likeliest is taken, since a text can be spelt in several
    ways. In bfloat16 near ties fall either way, so it is not 0 (in float32 it is: tests/engine).
    """
    cache, ids, said, widest = model.new_cache(), prompt, list[int](), 0.0
    while (so_far := model.renderer.decode(said)) != text:
        logits = model.next_logits(torch.tensor([ids]), cache, None)[0]
        spelt = ((t, model.renderer.decode([*said, t])) for t in logits.argsort(descending=True).tolist())
        token = next(t for t, more in spelt if len(more) > len(so_far) and text.startswith(more))
        widest = max(widest, float(logits.max() - logits[token]))
        said, ids = [*said, token], [token]
    return widest


def test_the_terminal_prints_both_answers_with_their_proof(stage: Stage) -> None:
    import json

    said = json.loads(stage.evenkeel("ask", "How do I reset my password?", "--both", "--json"))

    champion = stage.ledger.promotions.champion()
    assert (
        champion
        and said["tuned"]["adapter_digest"] == champion.adapter_digest
        and said["base"]["adapter_digest"] is None
    )
    assert (
        said["tuned"]["base_digest"] == said["base"]["base_digest"] and said["tuned"]["text"] and said["base"]["text"]
    )


def test_a_destructive_recipe_wants_force_is_refused_by_name_and_the_champion_still_serves(stage: Stage) -> None:
    champion = stage.ledger.promotions.champion()
    stage.slack.command("U0INES", "/retrain", "lr=1e-2", OPS)
    stage.until("the warning", lambda: any("force" in m["text"] for m in stage.slack.ephemerals("U0INES")), 20)
    stage.slack.command("U0INES", "/retrain", "lr=1e-2 epochs=2 force", OPS)

    run = _run_of(stage, 3)

    decision = stage.ledger.promotions.decision(run.decision_id or 0)
    assert decision and decision.verdict == "REFUSE", (run.error, decision and decision.reasons)
    assert any("bits per byte" in reason and "worse by" in reason for reason in decision.reasons)
    assert stage.ledger.promotions.champion() == champion
    health = stage.health()
    assert health and champion and health["champion"]["adapter_digest"] == champion.adapter_digest
    stage.evenkeel("promote", "3", exit_code=3)


def test_a_question_is_answered_once_though_the_bot_is_killed_while_answering(stage: Stage) -> None:
    ts = stage.slack.say("U0JONAS", SUPPORT, "@Evenkeel Where do I find my invoices, and can I change their number?")
    stage.until("the placeholder", lambda: stage.replies(SUPPORT, ts), 60)
    stage.stop("bot", signal.SIGKILL)
    before = stage.exchange(ts)
    assert before and before.tuned is None

    stage.start("bot")

    exchange = stage.answered(ts)
    assert exchange.tuned and exchange.tuned.status == "ok"
    (reply,) = stage.replies(SUPPORT, ts)
    stage.until("the final text", lambda: exchange.tuned.text.split()[0] in stage.replies(SUPPORT, ts)[0]["text"], 20)
    posts = [c for c in stage.slack.journal if c["method"] == "chat.postMessage" and c["args"].get("thread_ts") == ts]
    assert len(posts) == 1 and reply["ts"]


def test_rollback_restores_the_base_and_the_ledger_is_sound(stage: Stage) -> None:
    stage.evenkeel("rollback", "--to", "0")
    health = stage.health()
    assert health and health["champion"]["adapter_digest"] is None

    stage.evenkeel("rollback", "--to", "1")

    health = stage.health()
    assert health and health["champion"]["version"] == 1
    stage.evenkeel("db", "verify")
    assert [p.kind for p in stage.ledger.promotions.history()] == ["promote", "rollback", "rollback"]


def test_sigterm_stops_all_three_politely(stage: Stage) -> None:
    assert [stage.stop(name) for name in ("bot", "worker", "engine")] == [0, 0, 0]


def _run_of(stage: Stage, run_id: int) -> Run:
    stage.until(f"run {run_id} is requested", lambda: stage.ledger.runs.get(run_id), 20)
    run = stage.ended(run_id)
    assert run.state == "decided", run.error
    return run
