"""The suite: one plan for all, nothing measured twice, nothing missing passed off as zero."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bot.engine.model import LoadedModel
from eval import desk, suite
from eval.benchmark import DATA, Benchmark, Deal, Measured, draw, read_rows
from eval.desk import fault
from eval.gate import Policy, decide
from eval.replay import replay
from eval.sealed import final_look
from eval.suite import Plan, against_chance, picked, plan_from, score
from eval.watch import Watch
from storage.digests import digest_of
from storage.errors import EvenkeelError
from storage.ledger import Ledger
from storage.picks import win_rate
from storage.records import ItemScore, Lesson, Score, Scorecard
from storage.settings import Settings

Make = Callable[[str, int], tuple[Lesson, ...]]


def items(*values: float) -> tuple[ItemScore, ...]:
    return tuple(ItemScore(item_id=str(i), cluster=str(i), value=v) for i, v in enumerate(values))


def toy(name: str, measure: Any, *, digest: str = "d") -> Benchmark:
    """A benchmark of one metric whose numbers a test chooses."""

    def run(answerer: Any, tell: Any) -> list[Measured]:
        tell(1, 1)
        return [Measured(benchmark=name, metric="acc", items=measure(answerer), chance=0.5)]

    return Benchmark(name=name, domain="general", expects=((name, "acc"),), digest=digest, cost=1, measure=run)


def plan_of(*general: Benchmark) -> Plan:
    return Plan(general=general, missing=(), seed=1, target_items=4, target_generations=4, max_new_tokens=4)


def run(plan: Plan, model: LoadedModel, ledger: Ledger, adapter: str | None = None, **more: Any) -> Scorecard:
    return score(model, adapter, **{"plan": plan, "holdout": (), "ledger": ledger, "progress": lambda *_: None, **more})


@pytest.fixture
def run_id(ledger: Ledger) -> int:
    return ledger.runs.request(reason="cli", requested_by="test", overrides={})


def said(ledger: Ledger, run_id: int) -> str:
    return "\n".join(line["text"] for line in ledger.runs.history(run_id))


def test_a_scorecard_is_whole_and_in_the_plans_order(
    tiny_model: LoadedModel, small: Settings, ledger: Ledger, lessons: Make
) -> None:
    plan, seen = plan_from(small), list[tuple[int, int, str]]()

    card = run(
        plan, tiny_model, ledger, holdout=lessons("h", 8), train=lessons("t", 9),
        progress=lambda done, total, text: seen.append((done, total, text)))  # fmt: skip

    assert plan.missing == ()
    pairs = [(s.benchmark, s.metric) for s in card.scores]
    assert pairs[0] == ("support", "bits_per_byte")
    assert pairs[8:] == list(plan.expects)
    bleu = card.get("support", "bleu")
    assert bleu is not None and ledger.scores.find(bleu.key) == bleu and "tok:13a" in bleu.signature
    assert {
        "arc_easy",
        "arithmetic",
        "honesty.abstention",
        "diversity",
        "instructions",
        "refusal",
        "over_refusal",
        "instruct_answers",
    } <= {b for b, _ in pairs}
    assert any(b.startswith("languages.") for b, _ in pairs) and any(b.startswith("open_text.") for b, _ in pairs)
    assert all(s.n == len(s.items) >= 2 and math.isfinite(s.value) and s.stderr >= 0 for s in card.scores)
    assert (card.base_digest, card.adapter_digest, card.suite_digest) == (tiny_model.base_digest, None, plan.digest)
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert seen[-1][0] == seen[-1][1]
    assert ledger.verify() == ()


def test_what_is_known_is_not_measured_again(tiny_model: LoadedModel, ledger: Ledger) -> None:
    calls: list[str | None] = []

    def counted(answerer: Any) -> tuple[ItemScore, ...]:
        calls.append(answerer.adapter)
        return items(0.0, 1.0, 1.0)

    plan = plan_of(toy("x", counted))
    first, second = run(plan, tiny_model, ledger), run(plan, tiny_model, ledger)

    assert calls == [None]
    assert first == second


def test_scores_of_another_number_type_are_another_measurement_and_float32_keeps_its_keys(
    tiny_folder: Path, ledger: Ledger
) -> None:
    plain, halved = (LoadedModel.load(tiny_folder, device="cpu", dtype=t) for t in (torch.float32, torch.bfloat16))
    plan = plan_of(toy("x", lambda _: items(0.0, 1.0)))

    whole, half = (run(plan, model, ledger).scores[0] for model in (plain, halved))

    always = digest_of(
        [desk.WAY, plain.base_digest, None, plain.renderer.template_digest, "d", "x", "acc"],
    )
    assert halved.base_digest == plain.base_digest
    assert whole.key == always != half.key


def test_two_adapters_and_the_base_never_share_a_score(
    tiny_model: LoadedModel, adapters: tuple[str, str], ledger: Ledger, small: Settings
) -> None:
    plan = replace(plan_from(small), general=plan_from(small).general[:1])

    cards = [run(plan, tiny_model, ledger, who) for who in (None, *adapters)]

    keys = [{s.key for s in card.scores} for card in cards]
    assert not (keys[0] & keys[1] or keys[1] & keys[2] or keys[0] & keys[2])
    sure = [card.get("arc_easy", "p_correct") for card in cards]
    assert len({s.value for s in sure if s}) == 3
    assert run(plan, tiny_model, ledger, adapters[0]) == cards[1]


def test_other_rows_or_another_template_are_another_measurement(tiny_model: LoadedModel, ledger: Ledger) -> None:
    one = run(plan_of(toy("x", lambda _: items(0.0, 1.0))), tiny_model, ledger)
    other = run(plan_of(toy("x", lambda _: items(1.0, 1.0), digest="e")), tiny_model, ledger)

    assert one.scores[0].key != other.scores[0].key
    assert one.suite_digest != other.suite_digest
    assert (one.scores[0].value, other.scores[0].value) == (0.5, 1.0)


def crash(_: Any) -> tuple[ItemScore, ...]:
    raise RuntimeError("out of memory")


def test_a_benchmark_that_crashes_is_missing_with_its_reason_and_the_others_stand(
    tiny_model: LoadedModel, adapters: tuple[str, str], ledger: Ledger, run_id: int
) -> None:
    plan = plan_of(toy("bad", crash), toy("good", lambda _: items(0.0, 1.0)))

    card = run(plan, tiny_model, ledger, adapters[0], run_id=run_id)

    assert [s.benchmark for s in card.scores] == ["good"]
    assert "bad is missing: RuntimeError: out of memory" in said(ledger, run_id)


def test_a_base_that_lacks_a_score_stops_the_run_and_keeps_what_was_measured(
    tiny_model: LoadedModel, ledger: Ledger
) -> None:
    calls: list[int] = []

    def counted(_: Any) -> tuple[ItemScore, ...]:
        calls.append(1)
        return items(0.0, 1.0)

    for _ in range(2):
        with pytest.raises(
            EvenkeelError, match="base could not be measured: .*bad is missing: RuntimeError: out of memory"
        ):
            run(plan_of(toy("bad", crash), toy("good", counted)), tiny_model, ledger)

    assert calls == [1]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((math.nan, 1.0, 0.0), "1 of 3 items are not numbers"),
        ((math.inf, 1.0), "1 of 2 items"),
        ((1.0,), "1 items give"),
        ((), "0 items"),
    ],
)
def test_nan_or_too_few_items_are_missing_not_zero(
    values: tuple[float, ...],
    reason: str,
    tiny_model: LoadedModel,
    adapters: tuple[str, str],
    ledger: Ledger,
    run_id: int,
) -> None:
    card = run(plan_of(toy("x", lambda _: items(*values))), tiny_model, ledger, adapters[0], run_id=run_id)

    assert card.get("x", "acc") is None
    assert reason in said(ledger, run_id)


def test_a_faulty_measurement_is_tried_again(
    tiny_model: LoadedModel, adapters: tuple[str, str], ledger: Ledger
) -> None:
    answers = iter([items(math.nan, 1.0), items(0.0, 1.0)])
    plan = plan_of(toy("x", lambda _: next(answers)))

    assert run(plan, tiny_model, ledger, adapters[0]).scores == ()
    assert run(plan, tiny_model, ledger, adapters[0]).scores[0].value == 0.5


def test_a_corpus_value_that_is_no_number_is_a_fault() -> None:
    assert "value" in fault(Measured(benchmark="x", metric="bleu", items=items(1.0, 2.0), value=math.nan))


def test_what_progress_raises_stops_the_scoring(tiny_model: LoadedModel, ledger: Ledger) -> None:
    class Cancelled(Exception):
        pass

    def cancel(*_: Any) -> None:
        raise Cancelled("asked to stop")

    with pytest.raises(Cancelled, match="asked to stop"):
        run(plan_of(toy("x", lambda _: items(0.0, 1.0))), tiny_model, ledger, progress=cancel)


def test_without_the_fetched_suite_the_plan_says_what_is_missing(
    small: Settings, tiny_model: LoadedModel, ledger: Ledger, run_id: int
) -> None:
    settings = small.model_copy(update={"general_tasks": ("arc_easy", "hellaswag")})

    plan = plan_from(settings)

    assert plan.missing == ("hellaswag",)
    assert "hellaswag" not in {b for b, _ in plan.expects} and "instructions" in {b for b, _ in plan.expects}
    assert plan.digest != plan_from(small).digest
    run(replace(plan, general=()), tiny_model, ledger, run_id=run_id)
    assert "hellaswag is not on this disk" in said(ledger, run_id)


GAINS = Policy(must_gain=(("x", "bits_per_byte"),))


def gains() -> Benchmark:
    """A target that every adapter is better at."""

    def measure(answerer: Any, tell: Any) -> list[Measured]:
        values = [1.2 - 0.2 * bool(answerer.adapter) + 0.001 * i for i in range(40)]
        return [
            Measured(benchmark="x", metric="bits_per_byte", items=items(*values), direction="lower", unit="bits/byte")
        ]

    return Benchmark(name="x", domain="target", expects=(("x", "bits_per_byte"),), digest="x", cost=1, measure=measure)


def kept_shares(name: str) -> Benchmark:
    """A general benchmark on which no adapter changes anything."""

    def measure(*_: Any) -> list[Measured]:
        return [Measured(benchmark=name, metric="p_correct", items=items(*[0.6 + 0.001 * i for i in range(40)]))]

    return Benchmark(name=name, domain="general", expects=((name, "p_correct"),), digest=name, cost=1, measure=measure)


def of_everybody(
    plan: Plan, model: LoadedModel, ledger: Ledger, adapter: str, run_id: int
) -> tuple[Scorecard, Scorecard]:
    """The cards of base and candidate as the ledger gives them back."""
    for subject, who in (("base", None), ("candidate", adapter)):
        ledger.scores.add_card(run(plan, model, ledger, who, run_id=run_id), run_id=run_id, subject=subject)
    base, candidate = (ledger.scores.card(run_id, subject) for subject in ("base", "candidate"))
    assert base and candidate
    return base, candidate


@pytest.mark.parametrize(
    ("absent", "why"),
    [
        ({"missing": ("hellaswag",)}, "hellaswag (unasked): unknown, not on this disk. Next: evenkeel suite fetch, or take it out"),
        ({"emptied": ("open_text.news",)}, "open text.news (unasked): unknown, too few items are left that the training rows do not"),
    ],
    ids=["purged", "all items in the training rows"],
)  # fmt: skip
def test_a_benchmark_that_nobody_can_be_asked_holds_the_candidate_and_the_decision_says_why(
    absent: dict[str, tuple[str, ...]],
    why: str,
    tiny_model: LoadedModel,
    adapters: tuple[str, str],
    ledger: Ledger,
    run_id: int,
) -> None:
    whole = plan_of(gains(), kept_shares("one"), kept_shares("two"))
    short = replace(
        whole,
        missing=absent.get("missing", ()),
        general=(*whole.general[:2], replace(whole.general[2], emptied=absent.get("emptied", ()))),
    )

    promoted, held = (
        decide(base=base, champion=None, candidate=candidate, policy=GAINS)
        for base, candidate in (of_everybody(p, tiny_model, ledger, adapters[0], run_id) for p in (whole, short))
    )

    assert promoted.verdict == "PROMOTE", promoted.reasons
    assert held.verdict == "HOLD" and len(held.reasons) == 1 and held.reasons[0].startswith(why)
    assert {(c.benchmark, c.state) for c in held.comparisons} > {("general", "kept"), ("one", "kept")}
    again = replay(ledger, ledger.promotions.decide(held, run_id=run_id, actor="gate"))
    assert again.difference == "" and ledger.verify() == ()


def test_a_pool_and_a_part_of_one_that_training_holds_whole_are_named(small: Settings) -> None:
    asked = "Of all the many things that one may be asked in a long hour: "
    pool = small.suite_dir / "arc_easy.jsonl"
    pool.write_text(pool.read_text().replace('"query": "', f'"query": "{asked}'))
    news = [row for row in read_rows(DATA / "open_text.jsonl") if row["register"] == "news"]
    told = tuple(
        Lesson(lesson_id=str(n), source="ticket", conversation_id="c", answer=text, messages=({"role": "user", "content": "?"},))
        for n, text in enumerate([row["text"] for row in news] + [asked])
    )  # fmt: skip

    plan = plan_from(small, train=told)

    assert {name for name, _ in plan.unasked} == {"arc_easy", "open_text.news"} and plan_from(small).unasked == ()
    assert not {"arc_easy", "open_text.news"} & {name for name, _ in plan.expects}


def test_a_plan_is_the_same_plan_when_made_again_and_another_with_another_seed(small: Settings) -> None:
    assert plan_from(small).digest == plan_from(small).digest
    assert plan_from(small).digest != plan_from(small.model_copy(update={"seed": 18})).digest
    assert plan_from(small).digest != plan_from(small.model_copy(update={"system_prompt": "Other."})).digest


def test_a_name_that_is_not_ours_goes_to_lm_evals_registry(small: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def record(name: str, deal: Deal, system_prompt: str) -> Benchmark:
        assert system_prompt == "Be brief."
        asked.append(name)
        return toy(name, lambda _: ())

    monkeypatch.setattr(suite, "registry_benchmark", record)

    plan = plan_from(small.model_copy(update={"general_tasks": ("arc_easy", "gsm8k", "languages")}))

    assert asked == ["gsm8k"]
    assert sum(b == "gsm8k" for b, _ in plan.expects) == 1
    assert len({b.name for b in plan.general}) == len(plan.general)


def test_each_benchmark_that_can_be_guessed_is_told_against_chance(
    tiny_model: LoadedModel, ledger: Ledger, run_id: int
) -> None:
    plan = plan_of(
        toy("sure", lambda _: items(*[1.0] * 9, 0.0)), toy("blind", lambda _: items(*[1.0, 0.0] * 5), digest="e")
    )

    lines = against_chance(run(plan, tiny_model, ledger, run_id=run_id))

    assert lines[0] == "sure (acc): 90.0 % of 10 items, guessing gives 50.0 %: above chance"
    assert lines[1].endswith("at chance, so it is no evidence")
    assert all(line in said(ledger, run_id) for line in lines)


def test_stderr_counts_clusters() -> None:
    """Four copies of two opinions are two opinions."""
    values = tuple(ItemScore(item_id=str(i), cluster=str(i // 4), value=float(i // 4)) for i in range(8))
    made: Score = desk._score(Measured(benchmark="x", metric="acc", items=values), "k", toy("x", lambda _: ()), 1.0)

    assert made.stderr == pytest.approx(0.5)
    assert made.value == 0.5


def test_a_larger_slice_of_a_seed_holds_the_smaller_one() -> None:
    assert set(draw(100, 10, seed=3, name="x")) < set(draw(100, 30, seed=3, name="x"))
    assert draw(5, 30, seed=3, name="x") == [0, 1, 2, 3, 4]
    assert draw(100, 10, seed=3, name="x") != draw(100, 10, seed=4, name="x")


def test_the_rest_of_the_suite_is_spared_once_a_refusal_is_certain(
    tiny_model: LoadedModel, ledger: Ledger, adapters: tuple[str, str], run_id: int
) -> None:
    asked = list[str]()

    def passes(name: str, lost: int) -> Benchmark:
        def measure(answerer: Any, tell: Any) -> list[Measured]:
            asked.append(name)
            right = [float(i >= lost) for i in range(40)] if answerer.adapter else [1.0] * 40
            return [Measured(benchmark=name, metric="pass", items=items(*right))]

        return Benchmark(name=name, domain="general", expects=((name, "pass"),), digest="d", cost=1, measure=measure)

    plan = plan_of(passes("kept", 0), passes("lost", 20), passes("spared", 0))
    base = run(plan, tiny_model, ledger)
    asked.clear()

    watch = Watch(base=base, champion=None, policy=Policy())
    card = run(plan, tiny_model, ledger, adapters[0], watch=watch, run_id=run_id)

    assert asked == ["kept", "lost"] and [s.benchmark for s in card.scores] == ["kept", "lost"]
    assert "stopped early, the verdict is certain: lost (pass): 100.0 % → 50.0 %" in said(ledger, run_id)


def test_a_champion_is_asked_the_target_alone_under_the_plan_of_the_run(
    tiny_model: LoadedModel, adapters: tuple[str, str], ledger: Ledger, lessons: Make
) -> None:
    def crash_too(_: Any) -> tuple[ItemScore, ...]:
        raise AssertionError("the champion was asked a general benchmark")

    plan = plan_of(toy("x", crash_too))

    card = run(plan, tiny_model, ledger, adapters[0], holdout=lessons("h", 8), general=False)

    assert {s.domain for s in card.scores} == {"target"}
    assert card.suite_digest == plan.digest


def test_another_turn_asks_other_items_and_the_same_turn_the_same(small: Settings) -> None:
    settings = small.model_copy(update={"suite_items": 20})

    first, again, next_one = (plan_from(settings, turn=turn) for turn in (0, 0, 1))

    assert first.digest == again.digest != next_one.digest
    assert first.expects == next_one.expects


def test_items_that_training_holds_are_left_out_named_and_asked_of_nobody(
    small: Settings, tiny_model: LoadedModel, ledger: Ledger, run_id: int
) -> None:
    text = next(row["text"] for row in read_rows(DATA / "open_text.jsonl") if row["register"] == "news")
    told = Lesson(
        lesson_id="l", source="ticket", conversation_id="c", messages=({"role": "user", "content": "Any news?"},),
        answer=f"Yes. {text}")  # fmt: skip
    settings = small.model_copy(update={"suite_items": 40})

    clean, plan = plan_from(settings), plan_from(settings, train=(told,))

    (item,) = [name for benchmark in plan.general for name in benchmark.left_out]
    (note,) = plan.notes
    assert note == f"open_text: 1 items are left out, because the training rows hold them: {item}"
    assert [b.name for b in plan.general] == [b.name for b in clean.general]
    assert [b.name for b, c in zip(plan.general, clean.general, strict=True) if b.digest != c.digest] == ["open_text"]
    run(replace(plan, general=()), tiny_model, ledger, run_id=run_id)
    assert "left out" not in said(ledger, run_id)
    few = tuple(b for b in plan.general if b.name == "open_text")
    card = run(replace(plan, general=few), tiny_model, ledger, run_id=run_id)
    assert note in said(ledger, run_id)
    assert item not in {i.item_id for s in card.scores for i in s.items}


def test_the_final_look_joins_sealed_items_to_base_and_candidate_and_keeps_the_base_for_the_next(
    tiny_model: LoadedModel, adapters: tuple[str, str], ledger: Ledger, run_id: int
) -> None:
    calls: list[str | None] = []

    def sealed_items(answerer: Any) -> tuple[ItemScore, ...]:
        calls.append(answerer.adapter)
        return tuple(ItemScore(item_id=f"s{i}", cluster=f"s{i}", value=1.0) for i in range(4))

    plan = plan_of(toy("x", lambda _: items(0.0, 1.0)), toy("y", lambda _: items(0.0, 1.0), digest="y"))
    sealed = plan_of(toy("x", sealed_items, digest="sealed"))
    cards = {
        "base": run(plan, tiny_model, ledger),
        "champion": run(plan, tiny_model, ledger, adapters[1]),
        "candidate": run(plan, tiny_model, ledger, adapters[0]),
    }

    looked = [
        final_look(
            tiny_model, cards, plan=sealed, ledger=ledger, progress=lambda *_: None, run_id=run_id)  # type: ignore[arg-type]
        for _ in range(2)
    ]  # fmt: skip

    assert looked[0] == looked[1]
    assert calls == [None, adapters[0]]
    assert len({card.suite_digest for card in looked[0].values()}) == 1
    assert looked[0]["base"].suite_digest != plan.digest
    for subject in ("base", "candidate"):
        wide = looked[0][subject].get("x", "acc")  # type: ignore[index]
        assert wide is not None and (wide.n, wide.value, wide.chance) == (6, pytest.approx(5 / 6), 0.5)
        assert ledger.scores.find(wide.key) == wide
        assert looked[0][subject].get("y", "acc") == cards[subject].get("y", "acc")  # type: ignore[index]
    assert looked[0]["champion"].scores == cards["champion"].scores


@pytest.mark.parametrize("how", ["crash", "NaN"])
def test_a_final_look_that_the_candidate_cannot_be_asked_makes_its_score_unknown(
    how: str, tiny_model: LoadedModel, adapters: tuple[str, str], ledger: Ledger, run_id: int
) -> None:
    plan = plan_of(gains(), kept_shares("one"), kept_shares("two"))
    base, candidate = of_everybody(plan, tiny_model, ledger, adapters[0], run_id)

    def broken(answerer: Any) -> tuple[ItemScore, ...]:
        if answerer.adapter and how == "crash":
            raise RuntimeError("out of memory")
        values = [math.nan if answerer.adapter else 0.6] * 20
        return tuple(ItemScore(item_id=f"s{i}", cluster=f"s{i}", value=v) for i, v in enumerate(values))

    def measure(answerer: Any, tell: Any) -> list[Measured]:
        return [Measured(benchmark="one", metric="p_correct", items=broken(answerer))]

    sealed = plan_of(replace(kept_shares("one"), digest="sealed", measure=measure))
    looked = final_look(
        tiny_model, {"base": base, "candidate": candidate}, plan=sealed, ledger=ledger, progress=lambda *_: None,
        run_id=run_id)  # fmt: skip

    before = decide(base=base, champion=None, candidate=candidate, policy=GAINS)
    after = decide(base=looked["base"], champion=None, candidate=looked["candidate"], policy=GAINS)
    assert before.verdict == "PROMOTE" and after.verdict == "HOLD"
    assert "one (p correct): unknown, not measured on the candidate" in after.reasons
    assert looked["candidate"].get("one", "p_correct") is None and looked["candidate"].get("two", "p_correct")
    assert "is missing" in said(ledger, run_id)


def test_a_final_look_that_the_base_cannot_be_asked_decides_nothing(
    tiny_model: LoadedModel, adapters: tuple[str, str], ledger: Ledger, run_id: int
) -> None:
    plan = plan_of(toy("x", lambda _: items(0.0, 1.0)))
    cards = {"base": run(plan, tiny_model, ledger), "candidate": run(plan, tiny_model, ledger, adapters[0])}

    with pytest.raises(EvenkeelError, match="x is missing: RuntimeError: out of memory"):
        final_look(
            tiny_model, cards, plan=plan_of(toy("x", crash, digest="s")), ledger=ledger, progress=lambda *_: None,  # type: ignore[arg-type]
            run_id=run_id)  # fmt: skip


def test_what_reviewers_preferred_blind_is_told_with_its_interval(
    tiny_model: LoadedModel, adapters: tuple[str, str], ledger: Ledger, run_id: int
) -> None:
    plan = plan_of(toy("x", lambda _: items(0.0, 1.0)))

    run(plan, tiny_model, ledger, adapters[0], run_id=run_id)

    assert "blind pairs" not in said(ledger, run_id)
    assert picked(win_rate(6, 2, 2)) == ("picked over base in 70.0 % of 10 blind pairs, ties as half (39.7 to 89.2 %)",)
