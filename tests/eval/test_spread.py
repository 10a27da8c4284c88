"""Standard errors: what belongs together is not counted twice."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.spread import clustered_stderr, jackknife_stderr, mean


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
@settings(max_examples=50, deadline=None)
def test_items_of_their_own_give_the_usual_standard_error(values: list[float]) -> None:
    names = [str(i) for i in range(len(values))]
    centre = mean(values)
    usual = math.sqrt(sum((v - centre) ** 2 for v in values) / (len(values) - 1) / len(values))

    assert clustered_stderr(values, names) == pytest.approx(usual, abs=1e-12)
    assert jackknife_stderr(lambda at: mean([values[i] for i in at]), names) == pytest.approx(usual, abs=1e-9)


def test_copies_of_an_item_in_one_cluster_add_no_certainty() -> None:
    once = clustered_stderr([0.0, 1.0, 1.0], ["a", "b", "c"])
    thrice = clustered_stderr([0.0] * 3 + [1.0] * 6, ["a"] * 3 + ["b"] * 3 + ["c"] * 3)

    assert thrice == pytest.approx(once)


def test_one_cluster_alone_counts_its_items() -> None:
    assert clustered_stderr([0.0, 1.0], ["x", "x"]) == pytest.approx(0.5)


@pytest.mark.parametrize("values", [[], [0.5]])
def test_fewer_than_two_items_have_no_spread(values: list[float]) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        clustered_stderr(values, ["a"] * len(values))
    with pytest.raises(ValueError, match="at least 2"):
        jackknife_stderr(lambda at: 0.0, ["a"] * len(values))
