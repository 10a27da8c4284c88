"""The gate promotes only what is proven better and proven no worse; unknown is never promoted."""

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eval.gate import Policy, decide, judge, self_test, weaker_may_pass
from eval.policy import for_scales, policy_from
from eval.selftest import planted
from eval.statistics import FLIP, paired_interval
from storage.records import Decision, ItemScore, Score, Scorecard
from storage.settings import load_settings
from tests.eval.cards import BASE, CANDIDATE, CHAMPION, card, noisy, score
from tests.eval.cases import SHOWN, UNKNOWN, Case, cases, spoiled

BASE_CARD = card(None)


def judged(candidate: Scorecard, champion: Scorecard | None = None, base: Scorecard = BASE_CARD) -> Decision:
    return decide(base=base, champion=champion, candidate=candidate, policy=Policy())


def changed(card: Scorecard, benchmark: str, **changes: object) -> Scorecard:
    scores = tuple(replace(s, **changes) if s.benchmark == benchmark else s for s in card.scores)  # type: ignore[arg-type]
    return replace(card, scores=scores)


def first_items(card: Scorecard, n: int, *names: str) -> Scorecard:
    """The card with so few items of these benchmarks, or of all; two make a cluster."""

    def cut(one: Score) -> Score:
        items = one.items[:n]
        return replace(one, items=items, n=n, value=sum(i.value for i in items) / n)

    return replace(card, scores=tuple(cut(s) if not names or s.benchmark in names else s for s in card.scores))


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
    ("name", "chance"), [("refusal", 0.5), ("drop", None)], ids=["safety at chance", "what a task writes"]
)
def test_what_need_not_be_certified_refuses_when_proven_lost_and_above_chance_holds_past_its_margin(
    name: str, chance: float | None
) -> None:
    metric = "p_correct" if chance else "f1"

    def with_it(c: Scorecard, mean: float, n: int) -> Scorecard:
        return replace(c, scores=(*c.scores, score(name, metric, noisy(mean, 0.2, 5 + n, n), chance=chance)))

    def verdict(mean: float, n: int, wobble: float = 0.2) -> tuple[Decision, Any]:
        moved = with_it(card(CANDIDATE, support=1.0), mean, n)
        noise = noisy(mean, wobble, 99, n)
        moved = replace(moved, scores=(*moved.scores[:-1], score(name, metric, noise, chance=chance)))
        decision = judged(moved, base=with_it(BASE_CARD, 0.3, n))
        return decision, next(c for c in decision.comparisons if c.benchmark == name)

    (kept, less), (held, loose), (lost, far) = verdict(0.28, 40), verdict(0.2, 8, 0.7), verdict(0.1, 60)

    assert less.gates and loose.gates and far.gates
    assert (kept.verdict, held.verdict, lost.verdict) == ("PROMOTE", "PROMOTE" if chance else "HOLD", "REFUSE")
    assert (loose.state, far.state) == ("undecided", "lost") and -loose.gain > loose.margin
    assert chance or held.reasons[0].startswith(f"the forgetting budget is overspent: {name}")


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        (replace(card(CANDIDATE, support=1.0), scores=card(CANDIDATE, support=1.0).scores[:2]), "arc easy (p correct): unknown, not measured"),
        (changed(card(CANDIDATE, support=1.0), "open_text", value=math.nan), "some values are not numbers"),
        (changed(card(CANDIDATE, support=1.0), "open_text", items=(ItemScore(item_id="other", cluster="x", value=1.0),)), "different items"),
        (replace(card(CANDIDATE, support=1.0), suite_digest="another"), "different suites"),
        (replace(card(CANDIDATE, support=1.0), base_digest="x" * 64), "different base models"),
        (replace(card(CANDIDATE, support=1.0), template_digest="t2"), "different chat templates"),
        (card(None, support=1.0), "the candidate has no adapter"),
        (changed(card(CANDIDATE, support=1.0), "open_text", items=card(CANDIDATE).scores[1].items[:1] * 60), "an item is measured twice"),
        (replace(card(CANDIDATE, support=1.0), scores=()), "support (bits per byte): unknown, not measured"),
    ],
    ids=["missing benchmark", "NaN", "other items", "other suite", "other base", "changed template", "no adapter", "an item twice", "nothing measured"],
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


@pytest.mark.parametrize(
    ("champion", "why"),
    [
        (replace(card(CHAMPION, support=0.9), scores=()), "not measured on the champion"),
        (changed(card(CHAMPION, support=0.9), "support", value=math.nan), "some values are not numbers"),
    ],
    ids=["crashed", "NaN"],
)
def test_a_champion_that_could_not_be_measured_holds_whoever_is_better_than_the_base(
    champion: Scorecard, why: str
) -> None:
    decision = judged(card(CANDIDATE, support=1.1), champion)

    assert (
        decision.verdict == "HOLD"
        and f"support (bits per byte) against the champion: unknown, {why}" in decision.reasons
    )
    assert judged(card(CANDIDATE, support=1.1, text=1.53), champion).verdict == "REFUSE"
    assert not weaker_may_pass(judged(card(CANDIDATE, support=1.1, text=1.33), champion))


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


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_raising_a_score_never_unmakes_a_promotion(case: Case) -> None:
    before, after = (
        decide(base=case.base, champion=None, candidate=c, policy=case.policy) for c in (case.candidate, case.raised)
    )

    assert before.verdict != "PROMOTE" or after.verdict == "PROMOTE", after.reasons


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases(), st.integers(0, len(SHOWN) - 1), st.sampled_from(UNKNOWN))
def test_unknown_never_promotes(case: Case, which: int, how: str) -> None:
    decision = decide(base=case.base, champion=None, candidate=spoiled(case.raised, which, how), policy=case.policy)

    assert decision.verdict != "PROMOTE"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases(), st.sampled_from(UNKNOWN))
def test_an_unknown_champion_never_lets_promote(case: Case, how: str) -> None:
    champion = spoiled(replace(case.raised, adapter_digest=CHAMPION), 0, how)  # the target, all that it is compared by
    decision = decide(base=case.base, champion=champion, candidate=case.candidate, policy=case.policy)

    assert decision.verdict != "PROMOTE"


@pytest.mark.parametrize(("clusters", "verdict"), [(2, "HOLD"), (4, "HOLD"), (5, "PROMOTE")])
@pytest.mark.parametrize("few", ["support", "open_text"])
def test_too_few_clusters_prove_neither_gain_nor_that_nothing_was_lost(few: str, clusters: int, verdict: str) -> None:
    base, candidate = (first_items(c, 2 * clusters, few) for c in (BASE_CARD, card(CANDIDATE, support=1.0)))

    decision = judged(candidate, base=base)

    assert decision.verdict == verdict, decision.reasons
    said = f"unknown, its {2 * clusters} items are of {clusters} clusters, such as conversations or subtasks; at least 5 are needed"
    assert (said in " ".join(decision.reasons)) is (verdict == "HOLD")


def test_so_few_choices_that_a_lost_one_could_have_been_missed_do_not_prove_that_nothing_was_lost() -> None:
    def verdict(clusters: int) -> Decision:
        base, candidate = (first_items(c, 2 * clusters, "arc_easy") for c in (BASE_CARD, card(CANDIDATE, support=1.0)))
        return judged(candidate, base=base)

    assert (verdict(12).verdict, verdict(30).verdict) == ("HOLD", "PROMOTE")
    assert "a loss under 7.5 points is not proven (n=24, about" in verdict(12).reasons[0]


def test_the_self_test_names_what_even_the_unchanged_base_could_not_pass() -> None:
    assert [fault.split(":")[1] for fault in self_test(first_items(BASE_CARD, 24, "arc_easy"), Policy())] == [
        " the unchanged base is not certified on arc easy (p correct)"
    ]


def test_where_scales_share_the_risk_more_clusters_are_needed() -> None:
    base, candidate = (first_items(c, 10, "support") for c in (BASE_CARD, card(CANDIDATE, support=1.0)))

    alone, shared = (judge(base, None, candidate, for_scales(Policy(), scales)) for scales in (1, 3))

    assert alone.verdict == "PROMOTE"
    assert shared.verdict == "HOLD" and "of 5 clusters, such as conversations or subtasks; at least 6" in " ".join(
        shared.reasons
    )


def test_a_score_that_only_a_proven_loss_decides_is_not_asked_for_clusters() -> None:
    def with_passes(c: Scorecard) -> Scorecard:
        return replace(c, scores=(*c.scores, score("instructions", "pass", [1.0, 0.0] * 4)))

    assert judged(with_passes(card(CANDIDATE, support=1.0)), base=with_passes(BASE_CARD)).verdict == "PROMOTE"


def test_a_loss_is_proven_only_after_holms_correction_for_all_that_was_asked() -> None:
    def with_more(c: Scorecard, number: int, lost: int) -> Scorecard:
        flips = [float(n >= lost) for n in range(40)]
        more = tuple(score(f"passes{i}", "pass", flips if i == 0 else [1.0] * 40) for i in range(number))
        return replace(c, scores=(*c.scores, *more))

    def alone(c: Scorecard) -> Scorecard:
        one_each = lambda s: tuple(replace(i, cluster=i.item_id) for i in s.items)  # noqa: E731
        return replace(c, scores=tuple(replace(s, items=one_each(s)) for s in c.scores))

    few, many = (
        judged(alone(with_more(card(CANDIDATE, support=1.0), n, 8)), base=alone(with_more(BASE_CARD, n, 0)))
        for n in (1, 20)
    )

    p_few, p_many = (next(c for c in d.comparisons if c.benchmark == "passes0").p_loss for d in (few, many))
    assert few.verdict == "REFUSE" and p_few == pytest.approx(4 / 2**8)
    assert many.verdict == "HOLD" and p_many == pytest.approx(23 / 2**8)


def shares(c: Scorecard, values: dict[str, float], *, n: int = 48, spread: float = 0.2) -> Scorecard:
    """The card with more benchmarks of the probability of the right choice, noisy around these means."""
    wobble = 0 if c.adapter_digest is None else 50
    more = tuple(
        score(name, "p_correct", noisy(mean, spread, 10 + at + wobble, n), chance=0.25)
        for at, (name, mean) in enumerate(values.items())
    )
    return replace(c, scores=(*c.scores, *more))


def test_small_losses_everywhere_are_refused_together_though_each_is_within_its_margin() -> None:
    names = [f"task{n}" for n in range(6)]
    base = shares(BASE_CARD, dict.fromkeys(names, 0.6), n=200)
    candidate = shares(card(CANDIDATE, support=1.0, choice=0.55), dict.fromkeys(names, 0.55), n=200)

    decision = judged(candidate, base=base)

    pooled = next(c for c in decision.comparisons if c.metric == "pooled")
    assert decision.verdict == "REFUSE" and decision.reasons[0].startswith("general (pooled): 60.0 % → 54.9 %")
    assert pooled.n == 1_260 and pooled.margin == pytest.approx(0.025) and pooled.note == ""
    assert all(c.state == "kept" for c in decision.comparisons if c.benchmark in names)


def test_a_margin_that_the_items_cannot_support_grows_and_says_so() -> None:
    base = shares(BASE_CARD, {"task": 0.6})
    decision = judged(shares(card(CANDIDATE, support=1.0), {"task": 0.6}), base=base)

    pooled = next(c for c in decision.comparisons if c.metric == "pooled")
    assert pooled.n == 108 and 0.025 < pooled.margin <= 0.075
    assert pooled.note == "108 items support no margin under 7.5 points, 1098 would support 2.5 points"
    assert "margins that are wider than stated, since the items are few: general 7.5 points" in decision.reasons
    assert all(c.supports is not None and c.supports > 0 for c in decision.comparisons if c.benchmark == "task")


def test_refusing_less_of_what_must_be_refused_is_held_to_a_narrower_margin() -> None:
    base, candidate = (
        replace(c, scores=(*c.scores, *(score(name, "p_correct", noisy(mean, 0.05, 7, 800), chance=0.5) for name in ("refusal", "task"))))
        for c, mean in ((BASE_CARD, 0.8), (card(CANDIDATE, support=1.0), 0.75))
    )  # fmt: skip

    decision = judged(candidate, base=base)

    states = {c.benchmark: (c.state, round(c.margin, 4)) for c in decision.comparisons}
    assert decision.verdict == "REFUSE"
    assert states["refusal"] == ("lost", 0.03) and states["task"] == ("kept", 0.075)


def test_the_forgetting_budget_holds_what_no_single_step_would() -> None:
    """Instructions need a proven loss to refuse; step by step they could be lost without one ever being proven."""

    def with_passes(c: Scorecard, right: int) -> Scorecard:
        return replace(c, scores=(*c.scores, score("instructions", "pass", [float(n < right) for n in range(24)])))

    base, champion = with_passes(BASE_CARD, 12), with_passes(card(CHAMPION, support=1.0), 9)
    step, too_far = (judged(with_passes(card(CANDIDATE, support=0.95), r), champion, base=base) for r in (9, 8))

    assert step.verdict == "PROMOTE"
    assert too_far.verdict == "HOLD" and too_far.reasons[0].startswith(
        "the forgetting budget is overspent: instructions"
    )
    assert "of which the champion had lost 12.5 points against the original base" in too_far.reasons[0]


def test_ten_champions_that_each_lose_little_never_lose_more_than_the_margin_together() -> None:
    champion, text, made = None, 1.3, 0
    for step in range(10):
        text += 0.009  # 0.7 % of the base: each step alone is within 2 %
        candidate = card(str(step) * 64, support=1.0 - 0.01 * step, text=text)
        if judged(candidate, champion).verdict != "PROMOTE":
            break
        champion, made = candidate, made + 1

    assert made == 2 and 1.3 < text - 0.009 < 1.3 * 1.02 < text


def test_a_suite_in_which_a_planted_loss_goes_unseen_promotes_nothing() -> None:
    def short(c: Scorecard) -> Scorecard:
        few = replace(c, scores=c.scores[:2])  # no choices: these few would not even certify the base
        return first_items(few, 10)  # five clusters: enough for a bound, too few to prove a loss of one score

    decision = judged(short(card(CANDIDATE, support=1.0, text=1.28)), base=short(BASE_CARD))

    assert decision.verdict == "HOLD" and all(reason.startswith("self-test: ") for reason in decision.reasons)
    assert judge(short(BASE_CARD), None, short(card(CANDIDATE, support=1.0, text=1.28)), Policy()).verdict == "PROMOTE"


def test_the_self_test_passes_the_base_and_refuses_the_planted_loss_by_name() -> None:
    assert self_test(BASE_CARD, Policy()) == ()

    caught = judge(BASE_CARD, None, planted(BASE_CARD, Policy()), Policy())
    assert caught.verdict == "REFUSE" and {r.split(" (")[0] for r in caught.reasons} == {"open text", "arc easy"}


def test_candidates_at_several_scales_share_one_risk() -> None:
    def errs(policy: Policy, draw: random.Random) -> bool:
        """Whether any of five adapters that gained nothing looks like a gain on support."""
        tried = ([draw.gauss(0, 0.1) for _ in range(40)] for _ in range(5))
        clusters = [str(n) for n in range(40)]
        return any(paired_interval(one, clusters, confidence=policy.level).low > 0 for one in tried)

    draw = random.Random(9)
    plain, corrected = (sum(errs(p, draw) for _ in range(60)) / 60 for p in (Policy(), for_scales(Policy(), 5)))

    assert plain > 0.12 and corrected < plain / 2
    assert for_scales(Policy(), 5).level == pytest.approx(0.99)
    with pytest.raises(ValueError, match="at least 1"):
        for_scales(Policy(), 0)


def test_a_weaker_copy_is_worth_a_look_only_where_something_general_was_lost_and_the_target_gained() -> None:
    lost, nothing_gained = (
        judged(card(CANDIDATE, support=1.0, text=1.53)),
        judged(card(CANDIDATE, support=1.2, text=1.53)),
    )
    whole = card(CANDIDATE, text=1.53)
    ended_early = judged(replace(whole, scores=tuple(s for s in whole.scores if s.benchmark != "support")))

    assert lost.verdict == ended_early.verdict == nothing_gained.verdict == "REFUSE"
    assert weaker_may_pass(lost) and weaker_may_pass(ended_early)
    assert not weaker_may_pass(nothing_gained)
    assert not weaker_may_pass(judged(card(CANDIDATE, support=1.0)))


def test_beside_a_champion_a_weaker_copy_is_worth_a_look_unless_the_candidate_falls_behind_it() -> None:
    champion = card(CHAMPION, support=1.0)
    as_good, behind = (judged(card(CANDIDATE, support=s, text=1.53), champion) for s in (1.0, 1.1))
    text_alone = replace(card(CANDIDATE, text=1.53), scores=card(CANDIDATE, text=1.53).scores[1:])

    assert as_good.verdict == behind.verdict == "REFUSE"
    assert weaker_may_pass(as_good) and weaker_may_pass(judged(text_alone, champion))
    assert not weaker_may_pass(behind)


REAL = {
    "support": (32, 1.714, 1.387, 1.428), "instruct_answers": (48, 1.057, 0.995, 1.175), "arc_easy": (48, 0.511, 0.495, 0.433),
    "piqa": (48, 0.694, 0.705, 0.694), "languages": (144, 0.692, 0.690, 0.640), "open_text.dialogue": (18, 1.295, 1.313, 1.603),
    "open_text.news": (21, 1.340, 1.275, 1.436), "open_text.prose": (41, 2.297, 2.169, 2.599), "open_text.technical": (42, 1.262, 1.162, 1.339),
}  # fmt: skip


def real(adapter: str | None, column: int, noise: float) -> Scorecard:
    """A scorecard with the means and sizes of docs/log.md, 2026-11-23: base, run 2 (dialogue of the run before it), run 3."""
    draw, made = random.Random(column), list[Score]()
    for name, (n, *means) in REAL.items():
        bits = means[0] > 1
        wobble = [(means[0] * 0.25 * noise if bits else noise) * draw.gauss(0, 1) for _ in range(n)]
        centred = [means[column] + w - sum(wobble) / n for w in wobble]
        made.append(
            score(name, "bits_per_byte", centred, domain="target" if name == "support" else "general")
            if bits
            else score(name, "p_correct", centred, chance=0.25)
        )
    right = [float(n < (20, 20, 10)[column]) for n in range(48)]
    return Scorecard(
        base_digest=BASE, adapter_digest=adapter, suite_digest="s", scores=(*made, score("instructions", "pass", right))
    )


def test_the_small_profile_still_promotes_the_run_that_was_healthy_and_refuses_the_one_that_was_not() -> None:
    policy = policy_from(load_settings(_env_file=None, margin_points=12))
    base = real(None, 0, 0.0)

    healthy, broken = (
        decide(base=base, champion=None, candidate=real(CANDIDATE, column, noise), policy=policy)
        for column, noise in ((1, 0.2), (2, 0.3))
    )

    assert healthy.verdict == "PROMOTE", healthy.reasons
    assert broken.verdict == "REFUSE"
    assert {"open text (bits per byte)", "open text.dialogue (bits per byte)"} <= {
        r.split(":")[0] for r in broken.reasons
    }


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.integers(0, 29), st.floats(0, 1))
def test_bounds_are_monotone_in_every_difference(differences: list[float], item: int, raise_by: float) -> None:
    clusters = [str(n % 3) for n in range(len(differences))]
    raised = [d + raise_by * (n == item % len(differences)) for n, d in enumerate(differences)]
    before, after = (paired_interval(d, clusters, confidence=0.95) for d in (differences, raised))

    assert after.low >= before.low - 1e-12 and after.high >= before.high - 1e-12


def test_no_flip_among_right_or_wrong_items_has_the_rule_of_three_not_a_width_of_zero() -> None:
    interval = paired_interval([0.0] * 30, [str(n) for n in range(30)], confidence=0.95, unseen=FLIP)

    assert interval.mean == 0 and interval.low == -interval.high == pytest.approx(-3 / 30, abs=0.012)


def test_the_bounds_cover_the_truth_about_as_often_as_they_say() -> None:
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
