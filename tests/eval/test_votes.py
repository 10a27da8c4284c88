"""The evidence of votes: fair over all outcomes, monotone, blind to order, and beyond any one person's reach."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import watch
from eval.votes import ALPHA, MARGIN, PROOF, Ballots, as_data, ballots_of, difference, dislike, judge, told

Votes = list[tuple[str, bool, int]]
people = st.sampled_from("abcd")
votes = st.lists(st.tuples(people, st.booleans(), st.sampled_from([1, -1])), max_size=40)
bounds = st.floats(0.05, 1.0)


def of(*own: tuple[int, int]) -> Ballots:
    return Ballots(own=own)


@pytest.mark.parametrize("bound", [0.1, 0.5, 0.9])
def test_the_evidence_is_fair_at_the_bound_over_all_outcomes(bound: float) -> None:
    fortune = 0.0
    for flips in itertools.product((0, 1), repeat=6):  # two people with three votes each
        likely = math.prod(bound if flip else 1 - bound for flip in flips)
        down = np.array([sum(flips[:3]), sum(flips[3:])])
        fortune += likely * math.exp(float(dislike(down, 3 - down, bound)))

    assert 0.5 < fortune <= 1 + 1e-9  # below 1 by what the cap takes


@pytest.mark.parametrize(("side", "chances"), [(1.0, (0.25, 0.6, 0.15)), (-1.0, (0.15, 0.6, 0.25))])
def test_the_evidence_of_a_difference_is_fair_at_the_margin(side: float, chances: tuple[float, ...]) -> None:
    """A mean difference of exactly 0.1, against the champion; counts are given from the claim's side."""
    fortune = 0.0
    for kinds in itertools.product(range(3), repeat=4):
        likely = math.prod(chances[kind] for kind in kinds)
        worse, same, better = (np.array([kinds.count(kind)]) for kind in range(3))
        fortune += likely * math.exp(float(difference(worse, same, better, side, MARGIN)))

    assert 0.9 < fortune <= 1 + 1e-9


@given(votes, bounds, st.data())
def test_a_like_that_turns_into_a_dislike_never_makes_the_champion_look_better(
    given_votes: Votes, bound: float, data: st.DataObject
) -> None:
    likes = [n for n, (_, own, sign) in enumerate(given_votes) if own and sign > 0]
    if not likes:
        return
    turned = data.draw(st.sampled_from(likes))
    worse = [(who, own, -1 if n == turned else sign) for n, (who, own, sign) in enumerate(given_votes)]

    before, after = judge(ballots_of(given_votes), bound=bound), judge(ballots_of(worse), bound=bound)

    assert after.disliked >= before.disliked and after.worse >= before.worse and after.kept <= before.kept


@given(votes, bounds, people)
def test_a_dislike_more_never_lowers_the_evidence_of_dislike(given_votes: Votes, bound: float, who: str) -> None:
    more = [*given_votes, (who, True, -1)]

    assert judge(ballots_of(more), bound=bound).disliked >= judge(ballots_of(given_votes), bound=bound).disliked


@given(votes)
def test_the_order_of_different_peoples_votes_does_not_matter(given_votes: Votes) -> None:
    by_person: Votes = sorted(given_votes, key=lambda vote: vote[0])

    assert ballots_of(by_person) == ballots_of(given_votes)


@given(st.integers(0, 10_000), bounds)
def test_nobody_alone_proves_anything(down: int, bound: float) -> None:
    alone = Ballots(own=((0, down),), paired=((down, 0, 0),))

    assert judge(alone, bound=bound).word == "watching"
    assert judge(Ballots(own=((down, 0),), paired=((0, 0, down),)), bound=bound).word == "watching"


def test_it_takes_two() -> None:
    assert judge(of((0, 40), (0, 40)), bound=0.5).word == "rollback"


def test_a_bad_champion_is_rolled_back_and_a_liked_one_is_not() -> None:
    assert judge(of((2, 8), (1, 7), (2, 6)), bound=0.5).word == "rollback"
    assert judge(of((8, 2), (7, 1), (6, 2)), bound=0.5).word == "watching"
    assert judge(of((0, 50), (0, 50), (0, 50)), bound=1.0).word == "watching"  # 100 %: any share is tolerated


def test_worse_than_the_predecessor_rolls_back_and_as_good_graduates() -> None:
    worse = Ballots(own=((10, 10),) * 4, paired=((9, 10, 1),) * 4)
    same = Ballots(own=((30, 1),) * 5, paired=((1, 40, 2),) * 5)

    assert judge(worse, bound=0.9).word == "rollback"
    assert judge(same, bound=0.9).word == "graduated"
    assert "2 pairs" in told(Ballots(own=((1, 1),), paired=((1, 1, 0),)), judge(of((1, 1)), bound=0.5), bound=0.5)


def test_votes_are_paired_within_a_person_in_the_order_of_their_giving() -> None:
    given_votes: Votes = [
        ("a", True, -1),
        ("b", False, 1),
        ("a", False, 1),
        ("a", True, 1),
        ("a", False, 1),
        ("b", False, -1),
    ]

    assert ballots_of(given_votes) == Ballots(own=((1, 1),), paired=((1, 1, 0),))


def test_what_a_row_keeps_is_judged_again_to_the_same() -> None:
    ballots = Ballots(own=((3, 9), (2, 7)), paired=((3, 4, 1), (2, 2, 2)))
    data = as_data(ballots, judge(ballots, bound=0.4), bound=0.4)

    again = judge(Ballots(own=data["own"], paired=data["paired"]), bound=data["bound"])

    assert (again.word, again.disliked, again.worse, again.kept) == (
        data["word"], data["disliked"], data["worse"], data["kept"],
    )  # fmt: skip


def test_nothing_is_proven_by_nothing() -> None:
    finding = judge(Ballots(own=()), bound=0.5)

    assert (finding.word, finding.disliked, finding.worse, finding.kept) == ("watching", 1.0, 1.0, 1.0)
    assert "nobody has voted" in told(Ballots(own=()), finding, bound=0.5)


def test_the_simulation_sees_a_champion_at_the_bound_rolled_back_seldom_and_a_bad_one_soon() -> None:
    draw = np.random.default_rng(3)
    fair = watch.first_proofs(200, lambda n: watch.dislike_path(draw, n, 6, watch.BOUND))
    bad = watch.first_proofs(50, lambda n: watch.dislike_path(draw, n, 6, 0.9))

    assert np.isfinite(fair).mean() <= ALPHA + 0.05
    assert np.isfinite(bad).all() and np.median(bad) < 60 and PROOF == 20
    assert watch.share_row("f", [fair], 0.001)["holds"] is bool(
        np.isfinite(fair).mean() <= 0.001 + 3 * math.sqrt(0.001 * 0.999 / 200)
    )
