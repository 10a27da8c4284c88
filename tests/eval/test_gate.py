"""The gate promotes only what is proven better and proven no worse; unknown is never promoted."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.gate import Policy, decide
from eval.statistics import paired_interval
from storage.records import Decision, ItemScore, Score, Scorecard
from tests.eval.cards import BASE, CANDIDATE, CHAMPION, card, score

BASE_CARD = card(None)


def judged(candidate: Scorecard, champion: Scorecard | None = None, base: Scorecard = BASE_CARD) -> Decision:
    return decide(base=base, champion=champion, candidate=candidate, policy=Policy())


def changed(card: Scorecard, benchmark: str, **changes: object) -> Scorecard:
    scores = tuple(replace(s, **changes) if s.benchmark == benchmark else s for s in card.scores)  # type: ignore[arg-type]
    return replace(card, scores=scores)


def test_a_gain_on_support_with_nothing_lost_is_promoted_with_its_figures() -> None:
    decision = judged(card(CANDIDATE, support=1.0))

    assert decision.verdict == "PROMOTE"
    assert (
        "support (bits per byte): 1.198 → 0.998" in decision.reasons[0] and "better by at least" in decision.reasons[0]
    )
    assert (decision.base_digest, decision.candidate_digest, decision.champion_digest) == (BASE, CANDIDATE, None)


def test_more_bits_per_byte_of_general_text_is_refused_though_multiple_choice_did_not_move() -> None:
    decision = judged(card(CANDIDATE, support=1.0, text=1.53))

    assert decision.verdict == "REFUSE"
    assert len(decision.reasons) == 1 and "open text (bits per byte): 1.3" in decision.reasons[0]
    assert "worse by 17" in decision.reasons[0] and "tolerated is 2.0 %" in decision.reasons[0]


def test_a_lost_multiple_choice_benchmark_is_named() -> None:
    decision = judged(card(CANDIDATE, support=1.0, choice=0.45))

    assert decision.verdict == "REFUSE" and decision.reasons[0].startswith("arc easy (p correct): 60")


def test_no_gain_is_held_and_a_loss_on_support_is_refused() -> None:
    assert judged(card(CANDIDATE, support=1.2)).verdict == "HOLD"
    worse = judged(card(CANDIDATE, support=1.4))
    assert worse.verdict == "REFUSE" and "support" in worse.reasons[0]


def test_what_is_not_proven_is_held_with_the_items_that_would_decide() -> None:
    few = replace(
        BASE_CARD,
        scores=(BASE_CARD.scores[0], BASE_CARD.scores[1], score("arc_easy", "p_correct", [0.6] * 12, chance=0.25)),
    )
    candidate = replace(
        card(CANDIDATE, support=1.0),
        scores=(
            *card(CANDIDATE, support=1.0).scores[:2],
            score("arc_easy", "p_correct", [0.9, 0.9, 0.25, 0.25] * 3, chance=0.25),
        ),
    )

    decision = judged(candidate, base=few)

    assert decision.verdict == "HOLD" and "items would decide" in " ".join(decision.reasons)


def test_instructions_refuse_when_a_loss_is_proven_and_do_not_hold_when_it_is_not() -> None:
    def with_passes(c: Scorecard, right: int) -> Scorecard:
        return replace(c, scores=(*c.scores, score("instructions", "pass", [float(n < right) for n in range(40)])))

    base = with_passes(BASE_CARD, 24)
    few, many = (judged(with_passes(card(CANDIDATE, support=1.0), right), base=base) for right in (20, 8))

    assert few.verdict == "PROMOTE" and next(c for c in few.comparisons if c.metric == "pass").state == "undecided"
    assert many.verdict == "REFUSE" and "instructions (pass): 60.0 % → 20.0 %" in many.reasons[0]


def test_a_base_at_chance_is_no_evidence_and_does_not_gate() -> None:
    base, candidate = (
        replace(c, scores=(*c.scores, score("mmlu", "p_correct", [v] * 40, chance=0.25)))
        for c, v in ((BASE_CARD, 0.25), (card(CANDIDATE, support=1.0), 0.1))
    )

    decision = judged(candidate, base=base)

    shown = next(c for c in decision.comparisons if c.benchmark == "mmlu")
    assert decision.verdict == "PROMOTE" and not shown.gates and "at chance" in shown.note


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        (replace(card(CANDIDATE, support=1.0), scores=card(CANDIDATE, support=1.0).scores[:2]), "arc easy (p correct): unknown, not measured"),
        (changed(card(CANDIDATE, support=1.0), "open_text", value=math.nan), "some values are not numbers"),
        (changed(card(CANDIDATE, support=1.0), "open_text", items=(ItemScore(item_id="other", cluster="x", value=1.0),)), "different items"),
        (replace(card(CANDIDATE, support=1.0), suite_digest="another"), "different suites"),
        (replace(card(CANDIDATE, support=1.0), base_digest="x" * 64), "different base models"),
        (card(None, support=1.0), "the candidate has no adapter"),
    ],
    ids=["missing benchmark", "NaN", "other items", "other suite", "other base", "no adapter"],
)  # fmt: skip
def test_unknown_is_held_with_its_reason(candidate: Scorecard, why: str) -> None:
    decision = judged(candidate)

    assert decision.verdict == "HOLD" and why in " ".join(decision.reasons)


def test_an_empty_suite_is_held() -> None:
    nothing = Scorecard(base_digest=BASE, adapter_digest=None, suite_digest="s", scores=())

    decision = decide(
        base=nothing, champion=None, candidate=replace(nothing, adapter_digest=CANDIDATE), policy=Policy()
    )

    assert decision.verdict == "HOLD" and "support (bits_per_byte) was not measured" in decision.reasons


def test_the_champion_against_itself_is_no_regression_but_no_promotion_either() -> None:
    champion = card(CHAMPION, support=1.0)

    decision = judged(champion, champion)

    assert all(c.state in ("gain", "kept") for c in decision.comparisons)
    assert decision.verdict == "HOLD" and "the candidate is the champion" in decision.reasons[0]


def test_a_candidate_that_loses_what_the_champion_gained_is_refused_though_it_beats_the_base() -> None:
    decision = judged(card(CANDIDATE, support=1.1), card(CHAMPION, support=0.9))

    assert decision.verdict == "REFUSE" and "against the champion" in decision.reasons[0]


def test_small_losses_cannot_add_up_because_the_reference_stays_the_base() -> None:
    champion = card(CHAMPION, support=1.0, text=1.32)

    decision = judged(card(CANDIDATE, support=0.95, text=1.345), champion)

    assert decision.verdict == "REFUSE" and "open text" in decision.reasons[0]


def test_a_benchmark_in_parts_is_also_judged_as_a_whole_with_the_narrow_margin() -> None:
    def registers(by: float, dip: float) -> tuple[Score, ...]:
        return tuple(
            score(
                f"text.{name}",
                "bits_per_byte",
                [1.3 + by + (dip if name == "news" else 0) + 0.02 * (n % 3) for n in range(20)],
            )
            for name in ("news", "prose", "dialogue")
        )

    base = replace(BASE_CARD, scores=(*BASE_CARD.scores, *registers(0.0, 0.0)))
    dipped, lowered = (
        judged(
            replace(card(CANDIDATE, support=1.0), scores=(*card(CANDIDATE, support=1.0).scores, *registers(*change))),
            base=base,
        )
        for change in ((0.0, 0.04), (0.04, 0.0))
    )

    whole = next(c for c in lowered.comparisons if c.benchmark == "text")
    assert dipped.verdict == "PROMOTE"
    assert lowered.verdict == "REFUSE" and lowered.reasons[0].startswith("text (bits per byte)") and whole.n == 60


values = st.lists(st.floats(0.05, 0.95), min_size=12, max_size=12)


def _with(values_by_benchmark: dict[str, list[float]]) -> Scorecard:
    made = (
        score("support", "bits_per_byte", values_by_benchmark["support"], domain="target"),
        score("text", "bits_per_byte", values_by_benchmark["text"]),
        score("choice", "p_correct", values_by_benchmark["choice"], chance=0.0),
    )
    return Scorecard(base_digest=BASE, adapter_digest=CANDIDATE, suite_digest="s", scores=made)


@settings(max_examples=150, deadline=None)
@given(
    values,
    values,
    values,
    st.sampled_from(["support", "text", "choice"]),
    st.integers(0, 11),
    st.floats(0, 0.5),
    st.floats(0, 0.6),
)
def test_raising_a_score_never_turns_promote_into_hold(
    support: list[float], text: list[float], choice: list[float], which: str, item: int, raise_by: float, bonus: float
) -> None:
    base = replace(_with({"support": support, "text": text, "choice": choice}), adapter_digest=None)
    moved = {
        "support": [v - bonus for v in support],
        "text": [v - bonus / 9 for v in text],
        "choice": [v + bonus / 9 for v in choice],
    }
    before = judged(_with(moved), base=base)
    better = raise_by if which == "choice" else -raise_by
    moved[which] = [v + better * (n == item) for n, v in enumerate(moved[which])]
    after = judged(_with(moved), base=base)

    assert before.verdict != "PROMOTE" or after.verdict == "PROMOTE"


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.integers(0, 29), st.floats(0, 1))
def test_bounds_are_monotone_in_every_difference(differences: list[float], item: int, raise_by: float) -> None:
    clusters = [str(n % 3) for n in range(len(differences))]
    raised = [d + raise_by * (n == item % len(differences)) for n, d in enumerate(differences)]
    before, after = (paired_interval(d, clusters, confidence=0.95) for d in (differences, raised))

    assert after.low >= before.low - 1e-12 and after.high >= before.high - 1e-12


def test_no_flip_among_right_or_wrong_items_has_the_rule_of_three_not_a_width_of_zero() -> None:
    interval = paired_interval([0.0] * 30, [str(n) for n in range(30)], confidence=0.95, binary=True)

    assert interval.mean == 0 and interval.low == -interval.high == pytest.approx(-3 / 30, abs=0.012)


def test_the_bounds_cover_the_truth_about_as_often_as_they_say() -> None:
    import random

    draw, held = random.Random(5), 0
    for _ in range(300):
        held += (
            paired_interval([draw.gauss(0.1, 0.4) for _ in range(60)], [str(n) for n in range(60)], confidence=0.95).low
            <= 0.1
        )

    assert 0.91 <= held / 300 <= 0.985


def test_no_differences_are_an_error_not_a_zero() -> None:
    with pytest.raises(ValueError, match="no differences"):
        paired_interval([], [], confidence=0.95)


def test_a_score_record_is_what_the_gate_reads() -> None:
    assert isinstance(BASE_CARD.get("arc_easy", "p_correct"), Score) and BASE_CARD.get("arc_easy", "acc") is None
