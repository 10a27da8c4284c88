"""Scores of a trial that ended early are judged as such: paired with the same items, surer, within the margin of all."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.gate import Policy, decide
from eval.policy import for_scales
from eval.replay import replay
from eval.sequential import LOOKS, Trial, boundaries
from eval.watch import Watch
from storage.digests import digest_of
from storage.ledger import Ledger
from storage.records import Comparison, Decision, Score, Scorecard
from storage.scores import score_digest
from tests.eval.cards import CANDIDATE, score
from tests.eval.trials import at_look, moved, shares, sure, with_support

NAMES = ("arc_easy", "piqa", "languages.en", "languages.de")
BEFORE = {name: sure(seed, 90) for seed, name in enumerate(NAMES)}
POLICY = Policy()


BASE = with_support(shares(None, BEFORE), 1.2)


def tried(by: dict[str, float], *, noise: float = 0.05, seed: int = 50) -> Scorecard:
    """A candidate that gained on support, whole; its shares moved by so much."""
    after = {
        name: moved(values, by.get(name, 0.0), noise, seed + place)
        for place, (name, values) in enumerate(BEFORE.items())
    }
    return with_support(shares(CANDIDATE, after), 1.0)


def judged(candidate: Scorecard, policy: Policy = POLICY) -> Decision:
    return decide(base=BASE, champion=None, candidate=candidate, policy=policy)


def of(decision: Decision, benchmark: str) -> Comparison:
    return next(c for c in decision.comparisons if c.benchmark == benchmark)


def test_an_early_look_is_compared_on_its_items_surer_and_within_the_margin_of_the_whole_hand() -> None:
    whole, early = judged(tried({})), judged(at_look(tried({}), 4))

    assert whole.verdict == early.verdict == "PROMOTE"
    for name in ("general", "languages", *NAMES):
        before, now = of(whole, name), of(early, name)
        assert now.margin == before.margin and now.n < before.n and now.reference != before.reference
        assert (
            now.confidence == pytest.approx(stats.norm.cdf(boundaries(1 - POLICY.level)[3]))
            and before.confidence == 0.95
        )
        assert f"ended at look 4 of 6, {now.n} of {before.n} items" in now.note
    assert early.reasons[-1] == whole.reasons[-1] and early.reasons[-1].startswith("margins that are wider than stated")
    assert of(early, "support").note == "" and of(early, "support").confidence == POLICY.level


def test_all_six_slices_are_judged_a_little_surer_than_what_was_measured_at_once() -> None:
    once, six = judged(tried({})), judged(at_look(tried({}), LOOKS))

    assert of(six, "piqa").n == of(once, "piqa").n and of(six, "piqa").gain == of(once, "piqa").gain
    assert of(six, "piqa").low < of(once, "piqa").low and "ended" not in of(six, "piqa").note
    assert Policy().level_at(0) == 0.95 < Policy().level_at(6) < Policy().level_at(1)
    assert for_scales(Policy(), 5).level_at(6) > 0.99


def test_items_that_the_reference_was_not_asked_are_unknown_and_so_is_a_part_without_a_look() -> None:
    early = at_look(tried({}), 4)
    first = early.scores[1]
    foreign = replace(first, items=(replace(first.items[0], item_id="another"), *first.items[1:]))

    for spoilt in (foreign, replace(first, look=0)):
        decision = judged(replace(early, scores=(early.scores[0], spoilt, *early.scores[2:])))
        assert decision.verdict == "HOLD" and of(decision, "arc_easy").note == "measured on different items"


def test_the_pool_weighs_base_and_candidate_alike_when_benchmarks_ended_at_different_looks() -> None:
    unchanged = replace(BASE, adapter_digest=CANDIDATE)
    mixed = replace(
        unchanged,
        scores=tuple(
            s if s.benchmark in ("support", "piqa") else at_look(replace(BASE, scores=(s,)), look).scores[0]
            for s, look in zip(BASE.scores, (0, 2, 0, 3, 5), strict=True)
        ),
    )

    pooled = of(judged(mixed), "general")

    assert (pooled.gain, pooled.state) == (0.0, "kept") and pooled.n == 30 + 90 + 45 + 75
    assert "ended at look 2 of 6" in pooled.note and "ended at look 3 of 6" in of(judged(mixed), "languages").note


def test_few_items_that_all_stayed_prove_nothing_where_one_could_have_been_lost_whole() -> None:
    still = tried({}, noise=0.001)

    states = {look: of(judged(at_look(still, look)), "piqa").state for look in (1, 2, LOOKS)}

    assert states == {1: "undecided", 2: "undecided", LOOKS: "kept"}


def test_an_early_look_certifies_nothing_by_fewer_clusters_than_it_must_be_sure_and_the_next_goes_on() -> None:
    """Nine of 54 items that all gained: as sure as the first look must be takes ten."""
    base = with_support(shares(None, {"few": [0.05] * 54}), 1.2)
    gained = with_support(shares(CANDIDATE, {"few": [1.0] * 54}), 1.0)

    first, second = (
        of(decide(base=base, champion=None, candidate=at_look(gained, look), policy=POLICY), "few") for look in (1, 2)
    )

    assert (first.n, first.state, first.low > 0) == (9, "undecided", True)
    assert (second.n, second.state) == (18, "gain")


def test_a_loss_at_an_early_look_is_proven_by_bets_against_the_margin() -> None:
    ruined = at_look(tried({"piqa": -0.45}), 2)

    decision = judged(ruined)

    lost, theirs = of(decision, "piqa"), ruined.get("piqa", "p_correct")
    base = {item.item_id: item.value for item in BASE.scores[2].items}
    assert theirs is not None
    bets = Trial(margin=lost.margin, items=90).p_loss(
        [item.value - base[item.item_id] for item in theirs.items], [item.cluster for item in theirs.items]
    )
    assert decision.verdict == "REFUSE" and lost.state == "lost"
    assert lost.p_loss == pytest.approx(7 * bets) and 0 < lost.p_loss < 0.05  # Holm's first step: seven are asked


def test_in_the_pool_an_item_that_weighs_more_is_bet_on_less() -> None:
    """Of 24 items and 168 each of the few weighs four: a bet that took a gain of theirs for one below 1 would owe more than
    it has."""
    many = sure(1, 168)
    base = with_support(shares(None, {"few": [*[0.3] * 23, 0.4], "many": many}), 1.2)
    gained = at_look(with_support(shares(CANDIDATE, {"few": [0.95] * 24, "many": many}), 1.0), 2)

    pooled = of(decide(base=base, champion=None, candidate=gained, policy=POLICY), "general")

    assert (pooled.p_loss, pooled.state) == (1.0, "gain")


def test_a_trial_at_the_margin_is_rarely_called_safe_and_an_unchanged_one_costs_less() -> None:
    """One of two benchmarks loses its margin exactly: one item in ten whole, the others a little."""
    draw, before = random.Random(5), {name: BEFORE[name] for name in ("arc_easy", "piqa")}
    base = with_support(shares(None, before), 1.2)

    def ended_at(piqa: list[float], seed: int) -> int | None:
        after = {"arc_easy": moved(before["arc_easy"], 0.0, 0.02, seed), "piqa": piqa}
        return safe_at(base, with_support(shares(CANDIDATE, after), 1.0))

    wrong = [ended_at(at_the_margin(before["piqa"], draw), seed) for seed in range(20)]
    unchanged = [ended_at(moved(before["piqa"], 0.0, 0.05, 500 + seed), seed) for seed in range(8)]

    assert sum(look is not None for look in wrong) <= 1
    assert sum(look or LOOKS for look in unchanged) / (LOOKS * len(unchanged)) < 0.75


def at_the_margin(values: list[float], draw: random.Random) -> list[float]:
    lost = [0.0 if draw.random() < 0.1 else value for value in values]
    rest = math.fsum(a - b for a, b in zip(values, lost, strict=True)) / len(values) - POLICY.margin_points / 100
    return [value + rest for value in lost]


def safe_at(base: Scorecard, candidate: Scorecard) -> int | None:
    """The look at which enough is proven by watch and gate alike; None for none."""
    watch = Watch(base=base, champion=None, policy=POLICY)
    for look in range(1, LOOKS + 1):
        so_far = at_look(candidate, look)
        if watch.enough_is_proven(so_far.scores, ("arc_easy", "piqa")):
            assert decide(base=base, champion=None, candidate=so_far, policy=POLICY).verdict == "PROMOTE"
            return look
    return None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_raising_an_item_at_a_fixed_look_never_unmakes_a_promotion(data: st.DataObject) -> None:
    look, name = data.draw(st.integers(1, LOOKS)), data.draw(st.sampled_from(NAMES))
    shift = data.draw(st.sampled_from([0.05, 0.0, -0.03, -0.06, -0.1]))
    early = at_look(
        tried({name: shift}, noise=data.draw(st.sampled_from([0.0, 0.03, 0.1])), seed=data.draw(st.integers(0, 99))),
        look,
    )
    place = data.draw(st.integers(0, 14))
    raised = replace(early, scores=tuple(_raised(s, place) if s.benchmark == name else s for s in early.scores))

    before, after = judged(early), judged(raised)

    assert before.verdict != "PROMOTE" or after.verdict == "PROMOTE", after.reasons
    assert of(after, name).low >= of(before, name).low - 1e-9
    assert (of(after, name).p_loss or 1) >= (of(before, name).p_loss or 0) - 1e-9


def _raised(one: Score, at: int) -> Score:
    items = (*one.items[:at], replace(one.items[at], value=1.0), *one.items[at + 1 :])
    return replace(one, items=items, value=sum(i.value for i in items) / len(items))


@pytest.mark.parametrize(("by", "look", "verdict"), [(0.0, 4, "PROMOTE"), (-0.45, 2, "REFUSE"), (0.0, 1, "HOLD")])
def test_a_decision_with_looks_is_made_again_byte_for_byte(ledger: Ledger, by: float, look: int, verdict: str) -> None:
    candidate = at_look(tried({"piqa": by}), look)
    for card in (BASE, candidate):
        for one in card.scores:
            ledger.scores.add(one, base_digest=card.base_digest, adapter_digest=card.adapter_digest)
    number = ledger.promotions.decide(judged(candidate), run_id=None, actor="gate")

    again = replay(ledger, number)

    assert (again.verdict, again.difference) == (verdict, "") and ledger.verify() == ()
    with ledger.connections.write() as db:
        db.execute("UPDATE scores SET look=6 WHERE look > 0")
    assert "was changed since" in replay(ledger, number).difference


def test_a_score_without_a_look_keeps_the_digest_that_it_always_had() -> None:
    one = replace(score("x", "acc", [1.0, 0.0]), key="k")
    always = digest_of(
        [["k", "x", "acc", "general", "higher", "share"], ["0.5", "0.02", "2.0", "none"],
         [["i0", "c0", "1.0"], ["i1", "c0", "0.0"]]])  # fmt: skip

    assert score_digest(one) == always != score_digest(replace(one, look=3))
