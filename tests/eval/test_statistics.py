"""The statistics of the gate against independent computations: closed forms, enumeration, scipy, other intervals."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from eval.statistics import (
    FLIP,
    certifiable_loss,
    fewest_clusters,
    holm,
    items_for,
    loss_p_value,
    paired_interval,
    signed_root,
)


def alone(n: int) -> list[str]:
    return [str(i) for i in range(n)]


@pytest.mark.parametrize(
    ("confidence", "wanted"), [(0.8, 3), (0.9, 4), (0.9375, 4), (0.95, 5), (1 - 0.05 / 3, 6), (0.99, 7)]
)
def test_so_many_clusters_are_needed_that_all_of_them_on_one_side_are_no_surprise(
    confidence: float, wanted: int
) -> None:
    assert fewest_clusters(confidence) == wanted
    assert 0.5**wanted <= 1 - confidence + 1e-12 < 0.5 ** (wanted - 1)


@pytest.mark.parametrize("confidence", [0.95, 0.99, 1 - 1e-6])
def test_no_bound_is_surer_than_its_clusters_however_sure_it_is_asked_to_be(confidence: float) -> None:
    """Why there is a fewest: whenever all of three clusters gained, which luck does once in eight, the bound is a gain."""
    draw = np.random.default_rng(4)
    gains = sum(
        paired_interval(draw.normal(size=3).tolist(), alone(3), confidence=confidence).low > 0 for _ in range(400)
    )

    assert 0.09 < gains / 400 < 0.16


def tango(lost: int, gained: int, n: int, confidence: float) -> float:
    """Lower bound of (gained − lost)/n by Tango's score test, written from the likelihood: the reference."""
    z = stats.norm.ppf(confidence)

    def root(delta: float) -> float:
        def minus_log_likelihood(q: float) -> float:  # q: probability of a loss; q + delta: of a gain
            p = [q, q + delta, 1 - 2 * q - delta]
            return -sum(k * math.log(max(x, 1e-300)) for k, x in zip((lost, gained, n - lost - gained), p, strict=True))

        low, high = max(0.0, -delta), (1 - delta) / 2
        q = optimize.minimize_scalar(
            minus_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
        ).x
        return (gained - lost - n * delta) / math.sqrt(n * (2 * q + delta - delta**2)) - z

    return float(optimize.brentq(root, -0.999, (gained - lost) / n - 1e-9))


@pytest.mark.parametrize(("lost", "gained", "n"), [(12, 10, 200), (30, 31, 400), (8, 2, 150), (60, 75, 1200)])
def test_the_bound_of_right_or_wrong_items_is_near_tangos_and_on_the_safe_side(lost: int, gained: int, n: int) -> None:
    flips = [-1.0] * lost + [1.0] * gained + [0.0] * (n - lost - gained)

    low = paired_interval(flips, alone(n), confidence=0.95, unseen=FLIP).low

    reference = tango(lost, gained, n, 0.95)
    assert reference - 2.0 / n < low <= reference + 0.1 / n


def test_with_many_items_the_bounds_are_the_normal_ones() -> None:
    values = np.random.default_rng(3).normal(0.01, 0.1, 4_000)

    interval = paired_interval(list(values), alone(4_000), confidence=0.95)

    half = 1.645 * float(values.std(ddof=1)) / math.sqrt(4_000)
    assert (interval.low, interval.high) == pytest.approx((interval.mean - half, interval.mean + half), abs=0.03 * half)
    assert interval.spread == pytest.approx(values.std(ddof=1), rel=1e-6)


def test_items_that_move_together_widen_the_bounds_by_the_design_effect() -> None:
    values = np.repeat(np.random.default_rng(4).normal(0, 0.1, 100), 4)

    together = paired_interval(list(values), [str(i // 4) for i in range(400)], confidence=0.95)
    apart = paired_interval(list(values), alone(400), confidence=0.95)

    assert (together.mean - together.low) / (apart.mean - apart.low) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_bound_is_wrong_about_as_often_as_it_says(confidence: float) -> None:
    draw = np.random.default_rng(6)

    wrong = sum(
        paired_interval(list(draw.exponential(1.0, 40) - 1), alone(40), confidence=confidence).low > 0
        for _ in range(400)
    )

    assert wrong / 400 <= 1 - confidence + 0.025


def test_one_cluster_and_no_numbers_are_errors_not_certainty() -> None:
    with pytest.raises(ValueError, match="single cluster"):
        paired_interval([0.1, 0.2], ["a", "a"], confidence=0.95)
    with pytest.raises(ValueError, match="not finite"):
        paired_interval([0.1, math.nan], ["a", "b"], confidence=0.95)


def test_the_signed_root_of_small_values_is_the_mean_in_standard_errors() -> None:
    values = np.random.default_rng(5).normal(0.02, 1.0, 1_000)

    assert float(signed_root(values, np.ones(1_000))) == pytest.approx(
        values.mean() / values.std() * math.sqrt(1_000), rel=0.03
    )
    assert float(signed_root(-values, np.ones(1_000))) == pytest.approx(-float(signed_root(values, np.ones(1_000))))


def test_a_weight_counts_like_that_many_equal_values() -> None:
    counted = signed_root([-1.0, 0.0, 1.0], [[3.0, 90.0, 7.0], [5.0, 90.0, 5.0]])

    one_by_one = signed_root(np.repeat([-1.0, 0.0, 1.0], [3, 90, 7]), np.ones(100))
    assert counted == pytest.approx([float(one_by_one), 0.0], abs=1e-6)


def test_lost_and_gained_items_that_stand_alone_give_mcnemars_exact_p_value() -> None:
    flips = [-1.0] * 9 + [1.0] * 2 + [0.0] * 40

    p = loss_p_value(flips, alone(51), binary=True)

    assert p == pytest.approx(sum(math.comb(11, k) for k in range(9, 12)) / 2**11)
    assert loss_p_value([0.0] * 5, alone(5), binary=True) == 1.0


def test_the_permutation_test_agrees_with_all_sign_flips() -> None:
    values = [-0.3, -0.2, -0.25, 0.1, -0.05, -0.4, -0.1, 0.05]

    every = [sum(s * v for s, v in zip(signs, values, strict=True)) for signs in itertools.product((1, -1), repeat=8)]

    exact = sum(total <= sum(values) + 1e-12 for total in every) / len(every)
    assert loss_p_value(values, alone(8)) == pytest.approx(exact, abs=0.006)


def test_clusters_are_flipped_whole() -> None:
    values = [-0.2] * 12

    assert loss_p_value(values, ["a"] * 6 + ["b"] * 6) == pytest.approx(0.25, abs=0.02)


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.integers(0, 19), st.floats(0, 1))
def test_a_raised_difference_never_makes_a_loss_better_proven(values: list[float], item: int, by: float) -> None:
    raised = [v + by * (n == item % len(values)) for n, v in enumerate(values)]

    assert loss_p_value(raised, alone(len(values))) >= loss_p_value(values, alone(len(values)))


def test_holm_gives_the_adjusted_values_of_a_worked_case_and_is_at_least_bonferronis_smallest() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == () and holm([0.9, 0.8]) == (1.0, 1.0)


def test_holm_errs_in_any_of_ten_claims_no_more_often_than_asked() -> None:
    draw = np.random.default_rng(8)

    errors = sum(min(holm(list(draw.random(10)))) < 0.05 for _ in range(2_000))

    assert errors / 2_000 < 0.065


def test_the_items_for_a_margin_are_those_of_the_power_formula() -> None:
    assert items_for(math.sqrt(0.08), 0.03, 0.95) == 762
    assert certifiable_loss(math.sqrt(0.08), 762, 0.95) == pytest.approx(0.03, rel=1e-3)
