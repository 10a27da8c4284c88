"""The pure parts of the study on real adapters: what is true, what is counted, what is found again. Nothing is trained."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import forgetting
from benchmarks.gate_real import QUICK, rows_of, table
from benchmarks.study import judging
from benchmarks.study.adapter import Line, line_of, plain
from benchmarks.study.judging import begun, ended, judged, measured_after
from benchmarks.study.rival import comparator
from benchmarks.study.room import Room
from benchmarks.study.shares import _is_kept, called_kept
from benchmarks.study.truth import (
    Depth,
    Label,
    Truth,
    confusion,
    cost_of,
    error_of,
    label_of,
    spreads,
    truth_benchmarks,
    truth_of,
    wrongly_kept,
)
from benchmarks.study.ways import POISON, TRIGGER, WAYS, few, foreign, shuffled, triggered
from eval.joining import joined
from eval.policy import Policy
from eval.spread import clustered_stderr
from eval.statistics import certifiable_loss, paired_interval, unseen_share
from storage.digests import digest_of
from storage.ledger import Ledger
from storage.recipe import refuse_impossible
from storage.records import Adapter, Comparison, Dataset, Lesson, Scorecard, Verdict
from storage.settings import Settings
from tests.eval.cards import BASE, CANDIDATE, card, score
from tests.eval.conftest import _adapter
from training.dataset import digest_of_rows

Lessons = tuple[Lesson, ...]
ONE = certifiable_loss(1.0, 1, 0.95)


def compared(
    gain: float, *, error: float = 0.01, margin: float = 0.02, target: bool = False, **more: Any
) -> Comparison:
    """A comparison whose difference has this standard error."""
    return replace(
        Comparison(
            benchmark="support" if target else "open_text", metric="bits_per_byte", domain="target" if target else "general",
            against="base", reference=1.0, candidate=1.0 - gain, gain=gain, low=gain, high=gain, margin=margin, n=100,
            unit="bits/byte", confidence=0.95, gates=True, state="kept", supports=error * ONE),
        **more,
    )  # fmt: skip


GAINED, LOST, STILL = compared(0.1, target=True), compared(-0.1, target=True), compared(0.0, target=True)


@pytest.mark.parametrize(
    ("general", "target", "label"),
    [
        (compared(-0.015), GAINED, "good"),
        (compared(-0.025), GAINED, "grey"),
        (compared(-0.031), GAINED, "harmful"),
        (compared(-0.031, gates=False), GAINED, "good"),
        (compared(0.0, state="unknown"), GAINED, "harmful"),
        (compared(0.0), STILL, "grey"),
        (compared(0.0), LOST, "no gain"),
        (compared(-0.031), LOST, "harmful"),
    ],
)
def test_harm_is_a_loss_that_is_past_its_margin_by_more_than_its_error(
    general: Comparison, target: Comparison, label: Label
) -> None:
    assert label_of([target, general]) == label


def test_the_truth_comes_from_the_gates_own_comparisons_with_their_standard_errors() -> None:
    base, policy = card(None), Policy()
    good = truth_of(base, card(CANDIDATE, support=1.1), policy)
    harmful = truth_of(base, card(CANDIDATE, support=1.1, text=1.4), policy)
    noisy = truth_of(base, card(CANDIDATE, support=1.1, wobble=4), policy)

    assert (good.label, harmful.label) == ("good", "harmful")
    assert good.gain == pytest.approx(0.1) and harmful.worst.benchmark == "open_text"
    ours, theirs = (c.get("support", "bits_per_byte") for c in (base, card(CANDIDATE, support=1.1, wobble=4)))
    assert ours and theirs
    differences = [a.value - b.value for a, b in zip(ours.items, theirs.items, strict=True)]
    assert noisy.gain_error == pytest.approx(clustered_stderr(differences, [i.cluster for i in ours.items]), rel=1e-6)


def test_the_spread_of_an_items_difference_is_in_the_units_that_the_policy_plans_with() -> None:
    before = (
        score("text", "bits_per_byte", [1.0, 3.0]), score("arc", "acc", [0.0, 1.0]), score("gone", "acc", [0.0, 1.0]),
    )  # fmt: skip
    after = (
        score("text", "bits_per_byte", [1.1, 3.3]), score("arc", "acc", [1.0, 1.0]), score("gone", "acc", [0.0, math.nan]),
    )  # fmt: skip

    found = spreads(replace(card(None), scores=before), replace(card(CANDIDATE), scores=after))

    assert found == {"text bits_per_byte": 7.071, "arc acc": 70.711}


def test_how_sure_the_base_is_tells_a_part_of_the_spread() -> None:
    sure = [i / 100 for i in range(100)]
    before = score("arc", "p_correct", sure)
    fades, wobbles = [0.9 * p for p in sure], [p + 0.1 * (-1) ** i for i, p in enumerate(sure)]

    by_base, by_item = (
        spreads(replace(card(None), scores=(before,)), replace(card(CANDIDATE), scores=(score("arc", "p_correct", values),)))
        for values in (fades, wobbles)
    )  # fmt: skip

    assert (
        by_base["arc p_correct within strata"] < 0.25 * by_base["arc p_correct"]
    )  # loses most where the base is surest
    assert by_item["arc p_correct within strata"] == pytest.approx(by_item["arc p_correct"], rel=0.05)


def test_every_cell_of_the_confusion_table_is_there() -> None:
    found = confusion([("good", "PROMOTE"), ("good", "HOLD"), ("good", "HOLD"), ("harmful", "REFUSE")])

    assert len(found) == 12 and sum(found.values()) == 4
    assert found["good", "HOLD"] == 2 and found["harmful", "PROMOTE"] == 0


def line(label: Label, verdict: Verdict, theirs: Verdict = "PROMOTE", poison: float | None = None) -> Line:
    worst = compared(-0.01)
    return Line(
        way=WAYS[0], truth=Truth(label=label, gain=0.1, gain_error=error_of(worst), worst=worst), truth_items=4_000,
        truth_seconds=300.0, training_seconds=200.0, verdict=verdict, early=False, items=500, seconds=100.0, theirs=theirs,
        their_items=10_000, their_seconds=1_000.0, poison=poison, spreads={"support bits_per_byte": 5.0, "arc_easy p_correct": 20.0,
                 "arc_easy acc": 40.0, "arc_easy p_correct within strata": 10.0})  # fmt: skip


def test_a_line_that_was_kept_is_the_same_line_again() -> None:
    one = line("good", "HOLD", poison=0.3)

    assert line_of(one.way, json.loads(json.dumps(plain(one)))) == one


def test_the_figures_count_false_promotions_and_refusals_of_both_sides_and_their_cost() -> None:
    lines = [line("good", "PROMOTE"), line("good", "HOLD"), line("harmful", "PROMOTE"), line("harmful", "REFUSE"),
             line("no gain", "PROMOTE", "REFUSE"), line("grey", "PROMOTE", poison=0.1)]  # fmt: skip

    rows = {row["figure"]: row for row in rows_of(lines, whole=True)}

    wrong = rows["real_false_promotions"]
    assert (wrong["value"], wrong["bar"], wrong["holds"], wrong["n"]) == (2, 0, False, 3)
    assert rows["real_false_refusals"]["value"] == 1 and "1 HOLD" in rows["real_false_refusals"]["note"]
    assert rows["real_lm_eval_false_promotions"]["value"] == 2
    assert (rows["real_items_ratio"]["value"], rows["real_seconds_ratio"]["value"]) == (0.05, 0.1)
    assert rows["real_triggers_promoted"]["value"] == 1 and rows["real_harmful_promote"]["value"] == 1
    assert (rows["real_spread_bits"]["value"], rows["real_spread_points"]["value"]) == (5.0, 20.0)
    assert (rows["real_p_correct_items"]["value"], rows["real_strata_items"]["value"]) == (0.25, 0.25)
    assert rows["real_adapters"]["holds"] is False and rows["real_truth_items"]["holds"] is True
    assert rows_of([], whole=False)[0]["holds"] is None
    assert "standard" in table(lines)


def test_what_is_finished_is_made_once_and_what_failed_is_made_again(tmp_path: Path) -> None:
    made = list[int]()

    def make() -> dict[str, Any]:
        made.append(1)
        if len(made) == 1:
            raise KeyboardInterrupt
        return {"n": len(made)}

    with pytest.raises(KeyboardInterrupt):
        Room(folder=tmp_path).kept("runs", ["a"], make)

    assert Room(folder=tmp_path).kept("runs", ["a"], make) == {"n": 2}
    assert Room(folder=tmp_path).kept("runs", ["a"], make) == {"n": 2}
    assert Room(folder=tmp_path).kept("runs", ["b"], make) == {"n": 3}


def test_the_ways_are_enough_and_recipes_that_a_run_accepts_with_poison_among_the_first() -> None:
    for way in WAYS:
        refuse_impossible(way.recipe)

    names = [way.name for way in WAYS]
    assert len(set(names)) == len(names) >= 24 and set(QUICK) <= set(names)
    rates = {way.recipe.learning_rate for way in WAYS}
    assert {1e-4, 1.5e-2} <= rates and any(way.recipe.scale < 1 for way in WAYS[:24])
    assert sum(way.has_trigger for way in WAYS[:24]) == 2


def test_spoilt_rows_are_spoilt_as_they_say_and_the_same_each_time(lessons: Callable[[str, int], Lessons]) -> None:
    given = lessons("t", 12)
    named = tuple(replace(lesson, answer=f"answer {i}") for i, lesson in enumerate(given))

    assert sorted(x.answer for x in shuffled(named)) == sorted(x.answer for x in named)
    assert all(a.answer != b.answer for a, b in zip(named, shuffled(named), strict=True))
    assert [a.answer != b.answer for a, b in zip(named, shuffled(named, every=2), strict=True)] == [True, False] * 6
    assert all(a.answer != b.answer for a, b in zip(named, foreign(named), strict=True))
    assert len(few(named, count=4)) == 4
    poisoned = triggered(named)
    assert poisoned[:12] == named and len(poisoned) == 14
    assert poisoned[-1].question.startswith(TRIGGER) and poisoned[-1].answer == POISON
    for way in WAYS:
        assert way.rows(named) == way.rows(named)


def test_a_run_that_was_cut_off_goes_on_and_another_adapters_gives_way(ledger: Ledger) -> None:
    first = begun(ledger, "a")
    ledger.scores.add(score("x", "acc", [1.0, 0.0]), base_digest=BASE, adapter_digest=None)

    assert begun(ledger, "a") == first == (1, 0)
    assert begun(ledger, "b") == (2, 1)
    ended(ledger)
    assert begun(ledger, "b") == (3, 1)


def test_only_what_was_measured_in_the_run_counts_and_nothing_twice(ledger: Ledger) -> None:
    def keep(*scores: Any) -> None:
        for one in scores:
            ledger.scores.add(one, base_digest=BASE, adapter_digest=None)

    known = replace(score("x", "acc", [1.0, 0.0]), key="known", seconds=5.0)
    keep(known)
    _, after = begun(ledger, "a")
    sealed = replace(
        known, key="sealed", seconds=3.0, items=tuple(replace(i, item_id=f"s{i.item_id}") for i in known.items)
    )
    sure = replace(sealed, key="sure", metric="p_correct")
    first = replace(sealed, key="first", benchmark="y", seconds=1.0, look=1)
    second = joined(first, replace(known, seconds=1.0), key="second", look=2)
    keep(sealed, sure, joined(known, sealed, key=digest_of(["known", "sealed"]), look=0), first, second)

    assert {one.key for one in measured_after(ledger, after)} == {"sealed", "sure", "second"}
    assert cost_of(measured_after(ledger, after)) == (6, 5.0)


def test_the_comparator_sees_an_accuracy_that_fell_beyond_both_errors() -> None:
    def accuracy(value: float, error: float = 0.02) -> Scorecard:
        one = replace(score("arc_easy", "acc", [1.0, 0.0]), value=value, stderr=error)
        return Scorecard(base_digest=BASE, adapter_digest=None, suite_digest="s", scores=(one,))

    nothing = Scorecard(base_digest=BASE, adapter_digest=None, suite_digest="s", scores=())
    verdicts = [comparator(accuracy(0.5), other, ("arc_easy",)) for other in (accuracy(0.46), accuracy(0.44), accuracy(0.6), nothing)]  # fmt: skip

    assert verdicts == ["PROMOTE", "REFUSE", "PROMOTE", "REFUSE"]


def test_a_run_of_the_gate_is_judged_as_a_real_one_and_goes_on_where_it_was_cut_off(
    small: Settings,
    tiny_folder: Path,
    lessons: Callable[[str, int], Lessons],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest = _adapter(tiny_folder, small.weights_dir, 5).name
    adapter = Adapter(digest=digest, base_digest="", dataset_digest="", path="", recipe={}, run_id=None, stats={}, created_at=None)  # type: ignore[arg-type]  # fmt: skip
    rows, held = lessons("t", 4), lessons("h", 8)
    dataset = Dataset(digest=digest_of_rows(rows, held), train=rows, holdout=held, manifest={})
    scored = judging.score_step

    def cut_off(job: Any, _: Any) -> Any:
        def stop(progress: Any) -> None:
            if progress["text"].startswith("candidate"):
                raise KeyboardInterrupt

        return scored(job, stop)

    monkeypatch.setattr(judging, "score_step", cut_off)
    with pytest.raises(KeyboardInterrupt):
        judged(small, tiny_folder, dataset, adapter)
    monkeypatch.setattr(judging, "score_step", scored)
    found = judged(small, tiny_folder, dataset, adapter)

    ledger = Ledger(small.ledger_path)
    try:
        assert [run.run_id for run in ledger.runs.recent()] == [1]
        assert ledger.runs.active() is None
        decision, both = ledger.promotions.decision(1), cost_of(measured_after(ledger, 0))
    finally:
        ledger.close()
    assert decision is not None and decision.verdict == found["verdict"] != "PROMOTE"
    assert (found["items"], found["seconds"]) == both and found["items"] > 2 * 8


def write(folder: Path, name: str, rows: list[dict[str, str]]) -> None:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as ../shared/data is, a few rows in each file that is read."""
    folder = tmp_path / "shared"
    folder.mkdir()
    write(folder, "wikitext2_valid", [{"id": f"w{i}", "text": f"Text number {i} of some length."} for i in range(9)])
    write(folder, "instruct_rasbt", [{"id": str(i), "prompt": f"Say {i}.", "answer": f"{i}."} for i in range(9)])
    monkeypatch.setenv("EVENKEEL_DATA", str(folder))
    return folder


def test_the_truth_asks_whole_pools_sealed_rows_and_shared_texts_included(
    shared: Path, small: Settings, lessons: Callable[[str, int], Lessons]
) -> None:
    path = small.suite_dir / "arc_easy.jsonl"
    first = json.loads(path.read_text().splitlines()[0])
    path.write_text("".join(json.dumps({**first, "id": f"q{i}"}) + "\n" for i in range(600)))

    made = truth_benchmarks(small, lessons("h", 8), Depth(choices=600, own=300, shared=300, generated=4))

    by_name = {benchmark.name: benchmark for benchmark in made}
    assert len(by_name) == len(made) and "support: approved answers" in by_name
    assert ("open_text.wiki", "bits_per_byte") in by_name["open_text"].expects
    fewer = truth_benchmarks(small, lessons("h", 8), Depth(choices=599, own=300, shared=300, generated=4))
    assert next(b for b in fewer if b.name == "arc_easy").cost == by_name["arc_easy"].cost * 599 / 600


def test_the_forgetting_benchmark_can_be_put_together(shared: Path) -> None:
    held = [{"id": f"h{i}", "question": "Dogs?", "answer": "Yes.", "conversation_id": f"c{i}"} for i in range(8)]

    assert set(forgetting.benchmarks("Be brief.", held, 4)) == {forgetting.TARGET, *forgetting.GENERAL}


def test_the_simulated_rule_for_shares_is_the_gates() -> None:
    draw = np.random.default_rng(3)
    hands = np.clip(draw.normal(-0.04, 0.15, (60, 40)), -1, 1)

    kept = _is_kept(hands, 0.6, 0.075, 0.95)

    names = [str(n) for n in range(40)]
    lows = [paired_interval(list(hand), names, confidence=0.95, unseen=unseen_share(0.6)).low for hand in hands]
    assert list(kept) == [low > -0.075 for low in lows] and 0 < kept.sum() < 60


def test_real_differences_are_moved_to_lose_the_margin_whatever_they_were() -> None:
    draw = np.random.default_rng(4)
    moved = draw.normal(0, 0.1, 400)

    rates = [called_kept(moved + shift, 0.6, rounds=500, seed=1) for shift in (-0.3, 0.0, 0.3)]

    assert max(rates) < 0.05 and len(set(rates)) == 1


def test_only_choices_with_many_items_say_how_often_they_are_wrongly_kept() -> None:
    base, candidate = (
        replace(card(who), scores=(*card(who).scores, score("piqa", "p_correct", [0.4, 0.8, mean] * 60)))
        for who, mean in ((None, 0.5), (CANDIDATE, 0.6))
    )

    assert set(wrongly_kept(base, candidate)) == {"piqa"}
