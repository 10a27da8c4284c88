"""A trial ends early only for what it may: boundaries against scipy's integrals, bets against all outcomes."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.policy import Policy
from eval.sequential import LOOKS, SPENT, Trial, boundaries, planned_items
from eval.statistics import FLIP, by_cluster, paired_interval

ALPHA = 0.05


def never_crossed(edges: list[float], drift: float = 0.0) -> float:
    """Probability that a score with this drift stays below all edges so far, from scipy's multivariate normal."""
    shares = np.arange(1, len(edges) + 1) / LOOKS
    together = np.minimum.outer(shares, shares) / np.sqrt(np.outer(shares, shares))
    mean = drift * np.sqrt(shares)
    return float(stats.multivariate_normal(mean=mean, cov=together).cdf(np.array(edges)))


@pytest.mark.parametrize("look", [1, 2, 3, 6])
def test_so_much_risk_is_spent_by_each_look_as_planned(look: int) -> None:
    crossed = 1 - never_crossed(list(boundaries(ALPHA)[:look]))

    assert crossed == pytest.approx(SPENT * ALPHA * (look / LOOKS) ** 2, abs=3e-4)


def test_the_boundaries_fall_and_the_last_is_a_little_above_the_one_of_a_single_look() -> None:
    edges = boundaries(ALPHA)

    assert list(edges) == sorted(edges, reverse=True) and 1.645 < edges[-1] < 1.9


def test_the_planned_items_give_at_least_nine_in_ten_by_the_boundaries() -> None:
    items, one_look = planned_items(margin=0.025, discordance=0.08), 8.5638 * 0.08 / 0.025**2

    drift = 2.9264 * math.sqrt(items / one_look)
    assert 1 - never_crossed(list(boundaries(ALPHA)), drift) > 0.9


def test_the_evidence_is_fair_at_the_margin_over_all_outcomes() -> None:
    trial, chances = Trial(margin=0.1, items=60), {-1.0: 0.25, 0.0: 0.6, 1.0: 0.15}

    fortune = 0.0
    for flips in itertools.product(chances, repeat=5):
        likely = math.prod(chances[f] for f in flips)
        fortune += likely * math.exp(float(trial.evidence(flips, np.ones(5), np.ones(5))))

    assert fortune == pytest.approx(1.0, abs=1e-9)


def test_a_candidate_at_the_margin_is_called_hopeless_at_any_of_many_looks_no_more_often_than_asked() -> None:
    trial, draw, called = Trial(margin=0.05, items=400), np.random.default_rng(11), 0
    for _ in range(400):
        flips = draw.choice([-1.0, 0.0, 1.0], p=[0.1, 0.85, 0.05], size=400)
        seen = [(flips[:n] == value).sum() for n in range(10, 401, 10) for value in (-1, 0, 1)]
        weights = np.array(seen, dtype=float).reshape(-1, 3)
        called += bool(trial.is_hopeless([-1, 0, 1], np.ones(3), weights).any())

    assert called / 400 <= 0.05


def test_a_ruined_candidate_is_stopped_after_a_fraction_and_a_healthy_one_is_called_safe_before_the_end() -> None:
    trial, draw = Trial(margin=0.025, items=1_248), np.random.default_rng(12)
    ruined, healthy = (draw.choice([-1.0, 0.0, 1.0], p=p, size=1_248) for p in ([0.1, 0.88, 0.02], [0.03, 0.92, 0.05]))

    assert words(trial, ruined)[-1] == "hopeless" and len(words(trial, ruined)) * 26 < 0.4 * trial.items
    assert words(trial, healthy)[-1] == "safe" and len(words(trial, healthy)) * 26 < trial.items


def words(trial: Trial, flips: np.ndarray) -> list[str]:
    """What the trial says after every 26 items until it ends."""
    said = list[str]()
    for n in range(26, len(flips) + 1, 26):
        said.append(trial.step(list(flips[:n]), [str(i) for i in range(n)]))
        if said[-1] != "continue":
            break
    return said


def test_a_trial_that_proves_nothing_ends_undecided() -> None:
    trial = Trial(margin=0.01, items=60)

    assert words_of_all(trial, [0.0, 1.0, -1.0] * 20)[-1] == "undecided"
    assert trial.looks == (10, 20, 30, 40, 50, 60)


def words_of_all(trial: Trial, flips: list[float]) -> list[str]:
    return [trial.step(flips[:n], [str(i) for i in range(n)]) for n in trial.looks]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 3),
    st.lists(st.sampled_from([-1.0, 0.0, 0.0, 0.0, 1.0]), min_size=24, max_size=90),
    st.integers(1, LOOKS),
    st.sampled_from([0.025, 0.075, 0.2, 0.4]),
)
def test_the_words_of_a_trial_are_those_of_the_bounds_and_the_proof_that_the_gate_asks(
    size: int, flips: list[float], look: int, margin: float
) -> None:
    """So that what benchmarks/gate.py simulates by counts is the rule of eval/comparing.py."""
    trial, clusters = Trial(margin=margin, items=len(flips)), [str(n // size) for n in range(len(flips))]
    sums, sizes = by_cluster(np.asarray(flips), clusters)
    ones = np.ones_like(sums)

    bound = paired_interval(flips, clusters, confidence=Policy().level_at(look), unseen=FLIP).low
    p_loss = trial.p_loss(flips, clusters)

    assert abs(bound + margin) < 1e-8 or bool(trial.is_safe(sums, sizes, ones, look)) == (bound > -margin)
    assert abs(p_loss - ALPHA) < 1e-8 or bool(trial.is_hopeless(sums, sizes, ones)) == (p_loss < ALPHA)


@settings(deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=12, max_size=12), st.integers(0, 11), st.integers(1, 6))
def test_a_better_item_never_makes_the_word_worse(flips: list[float], item: int, look: int) -> None:
    trial, better = Trial(margin=0.2, items=12), list(flips)
    better[item] = 1.0
    sizes = weights = np.ones(12)

    assert bool(trial.is_safe(better, sizes, weights, look)) >= bool(trial.is_safe(flips, sizes, weights, look))
    assert bool(trial.is_hopeless(better, sizes, weights)) <= bool(trial.is_hopeless(flips, sizes, weights))
