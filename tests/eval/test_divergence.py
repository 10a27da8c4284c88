"""How far live answers are from the base against held-out ones: alarms for a shift, and none without one."""

import math
import random

import pytest

from eval.divergence import FEWEST_HELD_OUT, PERMUTATIONS, chance_above, divergence, is_clear


def answers(seed: int, count: int, mean: float) -> list[float]:
    draw = random.Random(seed)
    return [mean * draw.lognormvariate(0, 0.5) for _ in range(count)]


def test_a_planted_shift_is_clear_and_the_same_distribution_is_not() -> None:
    assert is_clear(answers(1, 40, 0.4), answers(2, 40, 0.1))
    assert not any(is_clear(answers(n, 40, 0.1), answers(1_000 + n, 40, 0.1)) for n in range(20))


def test_a_small_shift_is_no_news_however_sure_it_is() -> None:
    live, held_out = [0.13 + n / 10_000 for n in range(40)], [0.1 + n / 10_000 for n in range(40)]

    assert chance_above(live, held_out) == 1 / (1 + PERMUTATIONS) and not is_clear(live, held_out)


def test_nearer_than_held_out_is_never_an_alarm() -> None:
    assert not is_clear([0.1] * 40, [0.9] * 40) and chance_above([0.1] * 40, [0.9] * 40) == 1.0


def test_one_extreme_answer_proves_nothing() -> None:
    assert not is_clear([*[0.1] * 39, 40.0], [0.1] * 40)


def test_too_few_held_out_answers_are_not_compared_with() -> None:
    live = answers(1, 40, 9.0)

    assert not is_clear(live, [0.1] * (FEWEST_HELD_OUT - 1)) and is_clear(live, [0.1] * FEWEST_HELD_OUT)


def test_the_interval_holds_the_mean_and_is_the_same_each_time() -> None:
    found = divergence(answers(1, 40, 0.2))

    assert found.low < found.mean < found.high and found.n == 40 and found == divergence(answers(1, 40, 0.2))


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [math.inf]])
def test_unknown_is_not_zero(values: list[float]) -> None:
    with pytest.raises(ValueError, match="all are needed"):
        divergence(values)
