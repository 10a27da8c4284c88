"""The base measured again beside a candidate is what it was, or nothing is promoted."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from bot.engine.model import LoadedModel
from eval import again
from eval.again import measured_again
from eval.benchmark import Answerer
from eval.gate import Policy, decide, self_test
from eval.own import instruct_answers
from eval.replay import replay
from eval.selftest import unlike
from eval.suite import Plan, score
from eval.turning import what_would_change
from storage.errors import EvenkeelError
from storage.ledger import Ledger
from storage.records import Lesson, Scorecard
from tests.eval.cards import CANDIDATE, card

BASE_CARD = card(None)
NARROW = Policy(margin_bits=0.02)  # an untrained model moves by less than a trained one
Make = Callable[[str, int], tuple[Lesson, ...]]


def once_more(**changed: Any) -> Scorecard:
    """The base's texts as the second measurement gives them, its bits per byte moved by so much."""
    moved = card(None, **changed)
    return replace(moved, scores=moved.scores[:2])


def found(second: Scorecard) -> list[str]:
    return list(unlike(BASE_CARD, second, Policy()))


def test_what_is_measured_again_may_lie_a_tenth_of_its_margin_apart_and_no_more() -> None:
    margin = 0.02 * BASE_CARD.scores[0].value

    assert found(once_more()) == []
    assert found(once_more(support=1.2 + 0.09 * margin)) == []
    assert found(once_more(support=1.2 - 0.09 * margin)) == []
    for way in (-1, 1):
        (said,) = found(once_more(support=1.2 + way * 0.11 * margin))
        assert said.startswith("self-test: measured again, the base has 1.") and "on support (bits per byte)" in said


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (replace(once_more(), scores=()), "has no scores"),
        (replace(once_more(), adapter_digest=CANDIDATE), "another model"),
        (replace(once_more(), base_digest="d" * 64), "another model"),
        (replace(once_more(), template_digest="changed"), "another chat template"),
        (replace(once_more(), scores=(replace(once_more().scores[0], benchmark="support2"),)), "other items of support2"),
        (replace(once_more(), scores=(replace(once_more().scores[0], items=()),)), "other items of support"),
        (replace(once_more(), scores=(
            replace(once_more().scores[0], items=tuple(replace(i, item_id="x") for i in once_more().scores[0].items)),
        )), "other items of support"),
        (replace(once_more(), scores=(
            replace(once_more().scores[0], items=tuple(replace(i, value=math.nan) for i in once_more().scores[0].items)),
        )), "has nan on support"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_not_the_same(second: Scorecard, said: str) -> None:
    (fault,) = found(second)

    assert said in fault


def test_a_base_that_is_not_what_it_was_promotes_nothing_and_the_report_says_what_to_do(ledger: Ledger) -> None:
    kept, moved = (
        decide(base=BASE_CARD, champion=None, candidate=card(CANDIDATE, support=1.0), policy=Policy(), again=second)
        for second in (once_more(), once_more(text=1.31))
    )

    assert kept.verdict == "PROMOTE" and moved.verdict == "HOLD"
    (reason,) = moved.reasons
    assert "on open text (bits per byte) where it had 1." in reason
    assert any("start the worker anew" in line for line in what_would_change(moved))
    for one in (kept, moved):
        assert set(one.evidence) == {"base", "candidate", "again"}


def test_it_does_not_hide_what_is_lost() -> None:
    worse = card(CANDIDATE, support=1.0, text=1.53)

    made = decide(base=BASE_CARD, champion=None, candidate=worse, policy=Policy(), again=once_more(text=1.31))

    assert made.verdict == "REFUSE" and "worse by 17" in made.reasons[0]


def test_a_decision_with_it_is_made_again_byte_for_byte_and_a_touched_item_is_found(ledger: Ledger) -> None:
    cards = {"base": BASE_CARD, "candidate": card(CANDIDATE, support=1.0), "again": once_more()}
    cards = {
        who: replace(one, scores=tuple(replace(s, key=f"{who}/{s.benchmark}") for s in one.scores))
        for who, one in cards.items()
    }
    for one in cards.values():
        for kept in one.scores:
            ledger.scores.add(kept, base_digest=one.base_digest, adapter_digest=one.adapter_digest)
    made = decide(
        base=cards["base"], champion=None, candidate=cards["candidate"], again=cards["again"], policy=Policy()
    )
    number = ledger.promotions.decide(made, run_id=None, actor="gate")

    assert (replay(ledger, number).difference, replay(ledger, number).scores) == ("", 8)
    with ledger.connections.write() as db:
        db.execute("UPDATE scores SET items = replace(items, '\"i3\"', '\"i333\"') WHERE key='again/support'")
    assert "score support (bits_per_byte, again/suppor) was changed since" in replay(ledger, number).difference
    assert ledger.verify() == ("decision 1: again's score support (bits_per_byte, again/suppor) was changed since",)


# On a real, tiny model


@pytest.fixture
def plan() -> Plan:
    rows = [
        {"id": f"r{i}", "prompt": f"What is {i}?", "answer": f"The number {i}, which follows {i - 1}."}
        for i in range(6)
    ]
    return Plan(
        general=(instruct_answers(rows, "Help."),), missing=(), seed=1, target_items=6, target_generations=2, max_new_tokens=4
    )  # fmt: skip


@pytest.fixture
def holdout(lessons: Make) -> tuple[Lesson, ...]:
    return lessons("h", 8)


@pytest.fixture
def cards(
    tiny_model: LoadedModel, adapters: tuple[str, str], ledger: Ledger, plan: Plan, holdout: tuple[Lesson, ...]
) -> dict[Any, Scorecard]:
    """The base, and a candidate that stays loaded beside it."""
    return {
        who: score(tiny_model, digest, plan=plan, holdout=holdout, ledger=ledger, progress=lambda *_: None)
        for who, digest in (("base", None), ("candidate", adapters[0]))
    }


@pytest.fixture
def anew(
    tiny_model: LoadedModel, ledger: Ledger, plan: Plan, holdout: tuple[Lesson, ...], cards: dict[Any, Scorecard]
) -> Callable[[], Scorecard]:
    run_id = ledger.runs.request(reason="cli", requested_by="test", overrides={})
    return partial(
        measured_again, tiny_model, cards, plan=plan, holdout=holdout, ledger=ledger, progress=lambda *_: None,
        run_id=run_id)  # fmt: skip


def rows(ledger: Ledger) -> int:
    return int(ledger.connections.db.execute("SELECT count(*) FROM scores").fetchone()[0])


def test_the_base_beside_a_loaded_candidate_is_measured_anew_and_is_what_it_was(
    anew: Callable[[], Scorecard], cards: dict[str, Scorecard], ledger: Ledger
) -> None:
    before = rows(ledger)
    measured = anew()

    assert [s.benchmark for s in measured.scores] == ["support", "instruct_answers"]
    assert {s.metric for s in measured.scores} == {"bits_per_byte"} and rows(ledger) == before + 2
    assert list(unlike(cards["base"], measured, NARROW)) == []
    assert anew() == measured and rows(ledger) == before + 2  # a run that was cut off goes on


def test_an_adapter_that_stays_on_is_seen(
    anew: Callable[[], Scorecard], cards: dict[str, Scorecard], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = cards["candidate"].adapter_digest
    monkeypatch.setattr(again, "Answerer", lambda *, model, adapter: Answerer(model=model, adapter=loaded))

    faults = self_test(cards["base"], NARROW, anew())

    assert any("on support (bits per byte)" in fault for fault in faults)


def test_a_base_that_cannot_be_measured_again_decides_nothing(
    anew: Callable[[], Scorecard], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise MemoryError("no room beside the candidate")

    monkeypatch.setattr("eval.own.answer_log_likelihoods", broken)

    with pytest.raises(EvenkeelError, match="instruct_answers is missing: MemoryError: no room beside the candidate"):
        anew()
