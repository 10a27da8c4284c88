"""A candidate is asked its choices a slice at a time, and no longer than the verdict on them is open."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.engine.model import LoadedModel
from eval.benchmark import Answerer, Benchmark, Measured
from eval.gate import Policy, decide
from eval.policy import RIGHT_OR_WRONG
from eval.sealed import final_look
from eval.sequential import LOOKS
from eval.suite import Plan, plan_from, score
from eval.watch import Watch
from storage.ledger import Ledger
from storage.records import Decision, ItemScore, Scorecard
from storage.settings import Settings
from tests.eval.trials import choices, moved, sure

POLICY = Policy(must_gain=(("gain", "bits_per_byte"),))
NAMES = ("one", "two", "three")
Asked = list[tuple[str, int]]


def in_bits(name: str, before: float, after: float, asked: Asked, *, domain: Any = "general") -> Benchmark:
    def measure(answerer: Any, tell: Any) -> list[Measured]:
        asked.append((name, 12))
        mean = after if answerer.adapter else before
        items = tuple(ItemScore(item_id=str(i), cluster=str(i), value=mean + 0.001 * i) for i in range(12))
        return [Measured(benchmark=name, metric="bits_per_byte", items=items, direction="lower", unit="bits/byte")]

    return Benchmark(
        name=name, domain=domain, expects=((name, "bits_per_byte"),), digest=name, cost=500, measure=measure
    )


def written(name: str, asked: Asked) -> Benchmark:
    """Costs less than what is read, and is asked last all the same."""

    def measure(*_: Any) -> list[Measured]:
        asked.append((name, 12))
        items = tuple(ItemScore(item_id=str(i), cluster=str(i), value=float(i % 2)) for i in range(12))
        return [Measured(benchmark=name, metric="pass", items=items)]

    return Benchmark(name=name, domain="general", expects=((name, "pass"),), digest=name, cost=1, measure=measure)


def plan_of(*general: Benchmark) -> Plan:
    return Plan(general=general, missing=(), seed=1, target_items=4, target_generations=4, max_new_tokens=4)


def suite(asked: Asked, by: float = 0.0, *, items: int = 120) -> Plan:
    """A target that gains, a text, three times choices that move by so much, and something that is written."""
    shares = [
        choices(name, sure(at, items), moved(sure(at, items), by, 0.04, 20 + at), asked)
        for at, name in enumerate(NAMES)
    ]
    return plan_of(
        written("written", asked), *shares, in_bits("text", 1.0, 1.0, asked),
        in_bits("gain", 1.0, 0.8, asked, domain="target"))  # fmt: skip


class Trials:
    """Runs of one ledger."""

    def __init__(self, model: LoadedModel, ledger: Ledger) -> None:
        self.model, self.ledger = model, ledger
        self.run_id = ledger.runs.request(reason="cli", requested_by="test", overrides={})

    def base(self, plan: Plan) -> Scorecard:
        return self.scored(plan, None)

    def candidate(self, plan: Plan, adapter: str, base: Scorecard, **more: Any) -> Scorecard:
        return self.scored(plan, adapter, watch=Watch(base=base, champion=None, policy=POLICY), **more)

    def scored(self, plan: Plan, adapter: str | None, **more: Any) -> Scorecard:
        asked = {"progress": lambda *_: None, "holdout": (), "run_id": self.run_id} | more
        return score(self.model, adapter, plan=plan, ledger=self.ledger, **asked)

    @property
    def said(self) -> str:
        return "\n".join(line["text"] for line in self.ledger.runs.history(self.run_id))


@pytest.fixture
def trials(tiny_model: LoadedModel, adapters: tuple[str, str], ledger: Ledger) -> Trials:
    return Trials(tiny_model, ledger)


def judged(base: Scorecard, candidate: Scorecard) -> Decision:
    return decide(base=base, champion=None, candidate=candidate, policy=POLICY)


def test_the_rounds_of_real_benchmarks_together_are_the_whole_item_by_item(
    small: Settings, exact: LoadedModel, weights: tuple[Path, Path]
) -> None:
    plan = plan_from(small.model_copy(update={"suite_items": 14}))
    sliced, who = [b for b in plan.general if b.rounds], Answerer(model=exact, adapter=exact.add_adapter(weights[0]))

    assert [b.name for b in sliced] == ["languages", "arithmetic", "refusal", "honesty"]
    for benchmark in sliced:
        whole = numbers(benchmark.measure(who, lambda *_: None))
        parts = [numbers(measure(who, lambda *_: None)) for measure in benchmark.rounds]
        together = {key: value for part in parts for key, value in part.items()}
        assert len(parts) == LOOKS and sum(map(len, parts)) == len(whole)
        assert together.keys() == whole.keys()
        likely = [key for key in whole if key[1] not in RIGHT_OR_WRONG]
        assert [together[key] for key in likely] == pytest.approx([whole[key] for key in likely], abs=1e-4)


def numbers(measured: Any) -> dict[tuple[str, str, str, str], float]:
    return {(m.benchmark, m.metric, i.item_id, i.cluster): i.value for m in measured for i in m.items}


def test_a_healthy_candidate_is_spared_the_last_rounds_and_promoted(trials: Trials, adapters: tuple[str, str]) -> None:
    asked: Asked = []
    plan = suite(asked)
    base = trials.base(plan)
    whole, told = list(asked), list[tuple[int, int]]()
    asked.clear()

    card = trials.candidate(plan, adapters[0], base, progress=lambda done, total, _: told.append((done, total)))

    looks = {s.benchmark: s.look for s in card.scores}
    look = looks["one"]
    assert whole == [("written", 12), *((name, 120) for name in NAMES), ("text", 12), ("gain", 12)]
    assert 1 < look < LOOKS and looks == dict.fromkeys(NAMES, look) | {"written": 0, "text": 0, "gain": 0}
    assert asked == [("gain", 12), ("text", 12), *[(name, 20) for name in NAMES] * look, ("written", 12)]
    assert judged(base, card).verdict == "PROMOTE"
    assert f"enough is proven after look {look} of 6: the rest of the choices is spared" in trials.said
    assert [done for done, _ in told] == sorted(done for done, _ in told) and told[-1][0] == told[-1][1]


def test_a_ruined_candidate_is_stopped_within_the_rounds_and_the_rest_is_spared(
    trials: Trials, adapters: tuple[str, str]
) -> None:
    asked: Asked = []
    plan = suite(asked, -0.3)
    base = trials.base(plan)
    asked.clear()

    card = trials.candidate(plan, adapters[0], base)

    assert len(asked) <= 2 + 3 * 2 and "written" not in dict(asked)
    assert card.get("written", "pass") is None and judged(base, card).verdict == "REFUSE"
    assert "stopped early, the verdict is certain: general (pooled)" in trials.said


def test_an_open_case_is_asked_everything_and_kept_under_the_key_of_the_whole(
    trials: Trials, adapters: tuple[str, str]
) -> None:
    asked: Asked = []
    plan = suite(asked, items=30)
    base = trials.base(plan)
    asked.clear()

    card = trials.candidate(plan, adapters[0], base)
    asked_once = list(asked)
    again = trials.scored(plan, adapters[0])

    assert sum(n for name, n in asked_once if name == "one") == 30 and "spared" not in trials.said
    assert {s.look for s in card.scores if s.benchmark in NAMES} == {LOOKS}
    assert again.scores == card.scores and asked == asked_once


def test_a_trial_that_ended_early_is_found_again_and_one_that_was_cut_off_goes_on(
    trials: Trials, adapters: tuple[str, str]
) -> None:
    asked: Asked = []
    plan = suite(asked)
    base = trials.base(plan)
    asked.clear()
    stop_at = 2 + 3 + 1  # in the second round

    def cut(*_: Any) -> None:
        if len(asked) > stop_at:
            raise KeyError("killed")

    with pytest.raises(KeyError):
        trials.candidate(plan, adapters[0], base, progress=cut)
    asked.clear()
    card = trials.candidate(plan, adapters[0], base)
    look, after_the_cut = card.scores[1].look, list(asked)
    asked.clear()
    again = trials.candidate(plan, adapters[0], base)

    assert after_the_cut == [("two", 20), ("three", 20), *[(name, 20) for name in NAMES] * (look - 2), ("written", 12)]
    assert again.scores == card.scores and asked == []
    assert all(len({i.item_id for i in s.items}) == s.n for s in card.scores)


def test_a_benchmark_that_crashes_in_a_round_is_missing_with_its_reason_and_nothing_is_called_enough(
    trials: Trials, adapters: tuple[str, str]
) -> None:
    asked: Asked = []
    plan = suite(asked)
    base = trials.base(plan)

    def crash(*_: Any) -> list[Measured]:
        raise RuntimeError("out of memory")

    two = plan.general[2]
    broken = replace(two, rounds=(two.rounds[0], crash, *two.rounds[2:]))
    card = trials.candidate(replace(plan, general=(*plan.general[:2], broken, *plan.general[3:])), adapters[0], base)

    assert card.get("two", "p_correct") is None and "two is missing: RuntimeError: out of memory" in trials.said
    assert {s.look for s in card.scores if s.benchmark in NAMES} == {LOOKS}
    assert judged(base, card).verdict == "HOLD"


def test_a_slice_that_is_not_numbers_leaves_its_score_unknown(trials: Trials, adapters: tuple[str, str]) -> None:
    asked: Asked = []
    plan = suite(asked)
    base = trials.base(plan)

    def broken(*_: Any) -> list[Measured]:
        items = tuple(ItemScore(item_id=f"x{i}", cluster=f"x{i}", value=math.nan) for i in range(20))
        return [Measured(benchmark="two", metric="p_correct", items=items, chance=0.25)]

    two = replace(plan.general[2], rounds=(*plan.general[2].rounds[:1], broken, *plan.general[2].rounds[2:]))
    card = trials.candidate(replace(plan, general=(*plan.general[:2], two, *plan.general[3:])), adapters[0], base)

    assert card.get("two", "p_correct") is None and "two (p_correct) is missing: 20 of 20 items" in trials.said


def test_a_hand_that_was_left_early_is_joined_to_the_sealed_items_and_judged_as_at_the_last_look(
    trials: Trials, adapters: tuple[str, str]
) -> None:
    asked: Asked = []
    plan = suite(asked)
    base = trials.base(plan)
    card = trials.candidate(plan, adapters[0], base)
    early = card.get("one", "p_correct")

    def measure(answerer: Any, tell: Any) -> list[Measured]:
        items = tuple(ItemScore(item_id=f"s{i}", cluster=f"s{i}", value=0.6) for i in range(20))
        return [Measured(benchmark="one", metric="p_correct", items=items, chance=0.25)]

    sealed = plan_of(
        Benchmark(
            name="one", domain="general", expects=(("one", "p_correct"),), digest="sealed", cost=1, measure=measure
        )
    )
    looked = final_look(
        trials.model, {"base": base, "candidate": card}, plan=sealed, ledger=trials.ledger, progress=lambda *_: None,
        run_id=trials.run_id)  # fmt: skip

    decision = judged(looked["base"], looked["candidate"])
    wide, whole = looked["candidate"].get("one", "p_correct"), looked["base"].get("one", "p_correct")
    shown = next(c for c in decision.comparisons if c.benchmark == "one")
    assert early and wide and whole and 0 < early.look < LOOKS
    assert (wide.n, wide.look, whole.n, whole.look) == (early.n + 20, LOOKS, 140, 0)
    assert decision.verdict == "PROMOTE" and shown.n == wide.n and shown.confidence == POLICY.level_at(LOOKS)
    assert f"ended early and looked at once more, {wide.n} of 140 items" in shown.note
