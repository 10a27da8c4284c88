"""No threshold without evidence, and with evidence the right one."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.engine.model import Generation, LoadedModel
from eval import doubt
from eval.doubt import BAD, CONFIDENCE, HELD_BACK, Pair, pairs_of, sentence, threshold
from eval.suite import Plan, score
from storage.ledger import Ledger
from storage.records import ItemScore, Lesson, Score

GOOD, POOR = 0.6, 0.05


def pairs(*sides: tuple[float, float]) -> list[Pair]:
    return [Pair(confidence=c, quality=q, cluster=f"c{i}") for i, (c, q) in enumerate(sides)]


def telling(n: int = 40) -> list[Pair]:
    """Every fourth answer is bad, and all bad ones are less sure than all good ones."""
    return pairs(*((-3.0 - i / 100, POOR) if i % 4 == 0 else (-0.5 - i / 100, GOOD) for i in range(n)))


@pytest.fixture(autouse=True)
def fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubt, "ROUNDS", 300)


any_pairs = st.lists(
    st.tuples(st.integers(-20, 0).map(lambda n: n / 5), st.sampled_from([GOOD, POOR]), st.integers(0, 30)),
    min_size=20,
    max_size=45,
).map(lambda rows: [Pair(confidence=c, quality=q, cluster=f"c{k}") for c, q, k in rows])
usually_telling = any_pairs.map(
    lambda rows: [replace(p, confidence=p.confidence + 3 * (p.quality == GOOD)) for p in rows]
)


def test_a_confidence_that_tells_holds_back_the_bad_ones_only() -> None:
    found = threshold(telling())

    assert found.value is not None and found.auc == found.low == found.high == 1.0
    assert (found.coverage, found.good_below) == (0.8, 0.0) and found.good_above == pytest.approx(30 / 32)
    assert sentence(found).startswith(
        f"says it is not sure below {found.value:.2f}: 0 % of the 8 held-out answers below"
    )


def test_a_confidence_that_says_nothing_sets_no_threshold_and_says_so_with_its_interval() -> None:
    draw = random.Random(1)
    found = threshold(pairs(*((draw.random(), draw.choice([GOOD, POOR])) for _ in range(32))))

    assert (found.value, found.coverage, found.n) == (None, 1.0, 32)
    assert found.low is not None and found.low <= 0.5
    assert found.reason.startswith("confidence says nothing about quality here: AUC 0.")
    assert found.reason.endswith("n = 32") and sentence(found).startswith("never says that it is not sure: confidence")


def test_a_confidence_that_is_sure_of_bad_answers_sets_none_either() -> None:
    upside_down = [replace(p, confidence=-p.confidence) for p in telling()]

    assert threshold(upside_down).value is None and threshold(upside_down).auc == 0.0


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], "0 held-out answers are too few"),
        (telling(19), "19 held-out answers are too few"),
        ([replace(p, cluster="one thread") for p in telling()], "1 held-out conversations are too few"),
        ([replace(p, quality=GOOD) for p in telling()], "40 of 40 held-out answers are good"),
        ([replace(p, quality=POOR) for p in telling()], "0 of 40 held-out answers are good"),
    ],
)
def test_too_little_to_tell_sets_none_and_names_what_is_missing(given: Sequence[Pair], reason: str) -> None:
    found = threshold(given)

    assert found.value is None and found.auc is None and found.reason.startswith(reason)


def test_where_most_of_the_others_are_bad_too_nothing_is_held_back() -> None:
    mostly_bad = pairs(*((-0.1, GOOD) if i < 6 else (-1.0 - i / 100, POOR) for i in range(40)))

    found = threshold(mostly_bad)

    assert found.value is None and found.auc == 1.0 and found.reason.startswith("no cut among the least sure 20 %")


@given(st.one_of(any_pairs, usually_telling))
@settings(max_examples=40, deadline=None)
def test_whatever_was_measured_at_most_a_fifth_is_held_back_and_that_is_bad_twice_as_often(rows: list[Pair]) -> None:
    found = threshold(rows)

    if found.value is None:
        assert found.reason and found.coverage == 1.0
        return
    below = [p for p in rows if p.confidence < found.value]
    above = [p for p in rows if p.confidence >= found.value]
    bad = [sum(p.quality < BAD for p in side) / len(side) for side in (below, above)]
    assert 0 < len(below) <= HELD_BACK * len(rows) and bad[0] >= 2 * bad[1] and bad[0] > 0
    assert found.low is not None and found.low > 0.5
    assert found.coverage == pytest.approx(len(above) / len(rows))


@given(usually_telling, st.data())
@settings(max_examples=40, deadline=None)
def test_a_surer_good_answer_never_weakens_the_evidence_and_is_never_held_back_for_it(
    rows: list[Pair], data: st.DataObject
) -> None:
    good = [i for i, p in enumerate(rows) if p.quality == GOOD]
    if not good:
        return
    at = data.draw(st.sampled_from(good))
    surer = [replace(p, confidence=p.confidence + 1.3) if i == at else p for i, p in enumerate(rows)]

    before, after = threshold(rows), threshold(surer)

    if before.low is not None and after.low is not None and before.auc is not None and after.auc is not None:
        assert after.auc >= before.auc and after.low >= before.low - 1e-12
    if before.value is not None and after.value is not None and rows[at].confidence >= before.value:
        assert surer[at].confidence >= after.value


@given(st.floats(-5, 0), st.lists(st.sampled_from([GOOD, POOR]), min_size=20, max_size=40))
@settings(max_examples=30, deadline=None)
def test_one_confidence_for_all_tells_nothing(same: float, qualities: list[float]) -> None:
    found = threshold(pairs(*((same, q) for q in qualities)))

    assert found.value is None and found.auc in (None, 0.5)


@given(st.lists(st.sampled_from([math.nan, math.inf, -math.inf]), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_what_is_no_number_changes_nothing(broken: list[float]) -> None:
    spoiled = [*telling(), *(Pair(confidence=x, quality=GOOD, cluster="x") for x in broken)]
    spoiled += [Pair(confidence=-1.0, quality=x, cluster="x") for x in broken]

    assert threshold(spoiled) == threshold(telling())


def measured(metric: str, *values: float, benchmark: str = "support") -> Score:
    items = tuple(ItemScore(item_id=f"i{n}", cluster=f"c{n}", value=v) for n, v in enumerate(values))
    return Score(key=metric, benchmark=benchmark, metric=metric, domain="target", direction="higher", unit="", value=0.0,
                 stderr=0.0, n=len(values), items=items)  # fmt: skip


def test_pairs_join_the_two_metrics_of_one_benchmark_by_item() -> None:
    other = measured("rouge_l", 0.9, 0.9, benchmark="elsewhere")
    joined = pairs_of([other, measured("rouge_l", 0.1, 0.7), measured(CONFIDENCE, -2.0, -1.0)])

    assert joined == (
        Pair(confidence=-2.0, quality=0.1, cluster="c0"),
        Pair(confidence=-1.0, quality=0.7, cluster="c1"),
    )
    assert pairs_of([measured(CONFIDENCE, -1.0), other]) == pairs_of([other]) == ()


def test_scoring_keeps_the_answerers_threshold_from_the_answers_it_scores_and_asks_only_once(
    tiny_model: LoadedModel,
    adapters: tuple[str, str],
    ledger: Ledger,
    lessons: Callable[[str, int], tuple[Lesson, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    holdout, asked = lessons("h", 40), list[int]()

    def speak(_: Any, prompts: list[Any], **__: Any) -> list[Generation]:
        asked.append(len(prompts))
        approved = sorted(holdout, key=lambda lesson: lesson.lesson_id)
        return [
            Generation(
                ids=(), text="Nothing of this." if i % 4 == 0 else one.answer, finished=True, confidence=-3.0 + i % 4
            )
            for i, one in enumerate(approved)
        ]

    monkeypatch.setattr(LoadedModel, "generate", speak)
    plan = Plan(general=(), missing=(), seed=1, target_items=4, target_generations=40, max_new_tokens=4)

    for _ in range(2):
        card = score(tiny_model, adapters[0], plan=plan, holdout=holdout, ledger=ledger, progress=lambda *_: None)

    kept = ledger.doubt.of(tiny_model.base_digest, adapters[0])
    assert asked == [40] and kept is not None and kept.n == 40 and kept.auc == 1.0
    assert ledger.doubt.of(tiny_model.base_digest, None) is None
    assert card.get("support", "rouge_l") is not None and card.get("support", CONFIDENCE) is None
