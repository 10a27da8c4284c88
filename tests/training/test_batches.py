"""Every row is seen as often as the recipe says, in the same batches for the same seed, almost without padding."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from training.batches import MICRO_TOKENS, micro_batches, plan_steps

lengths = st.lists(st.integers(5, 600), min_size=1, max_size=120)


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(1, 32), st.integers(1, 3), st.integers(0, 5))
def test_every_row_is_seen_once_an_epoch_and_the_seed_decides_the_order(
    sizes: list[int], batch: int, epochs: int, seed: int
) -> None:
    steps = plan_steps(sizes, batch_size=batch, epochs=epochs, seed=seed)

    assert Counter(n for step in steps for n in step) == dict.fromkeys(range(len(sizes)), epochs)
    assert sorted(map(len, steps))[1:] == [batch] * (len(steps) - 1)
    assert steps == plan_steps(sizes, batch_size=batch, epochs=epochs, seed=seed)


@settings(max_examples=80, deadline=None)
@given(lengths, st.integers(1, 40), st.integers(1, 32), st.floats(0.2, 3), st.floats(0, 0.9), st.integers(0, 5))
def test_the_share_of_replay_is_exact_to_one_row_in_each_step_and_over_the_run(
    sizes: list[int], general: int, batch: int, epochs: float, share: float, seed: int
) -> None:
    replay = range(len(sizes), len(sizes) + general)

    steps = plan_steps(
        [*sizes, *[50] * general], batch_size=batch, epochs=epochs, seed=seed, replay=replay, share=share
    )

    counts = Counter(n for step in steps for n in step)
    lessons, replayed = sum(counts[n] for n in range(len(sizes))), sum(counts[n] for n in replay)
    assert abs(replayed - share * (lessons + replayed)) <= 1
    assert abs(lessons - len(sizes) * epochs) <= 1.5
    assert all(abs(sum(n in replay for n in step) - share * len(step)) <= 1 for step in steps)
    assert max(counts[n] for n in replay) - min(counts[n] for n in replay) <= 1
    assert max(counts[n] for n in range(len(sizes))) - min(counts[n] for n in range(len(sizes))) <= 1


def test_a_row_does_not_come_again_before_its_pass_is_over() -> None:
    for step in plan_steps([30, 10, 40, 20, 60, 50, 80, 70], batch_size=4, epochs=4, seed=1):
        assert len(set(step)) == 4


def test_general_rows_without_a_lesson_are_lessons() -> None:
    steps = plan_steps([10] * 6, batch_size=2, epochs=1, seed=1, replay=range(6), share=0.2)

    assert sorted(n for step in steps for n in step) == list(range(6))


@given(lengths, st.sampled_from([MICRO_TOKENS, 300, 1]))
def test_forward_passes_hold_all_rows_within_the_token_budget(sizes: list[int], budget: int) -> None:
    passes = micro_batches(range(len(sizes)), sizes, budget)

    assert sorted(n for group in passes for n in group) == list(range(len(sizes)))
    assert all(len(group) == 1 or len(group) * max(sizes[n] for n in group) <= budget for group in passes)


def test_little_is_wasted_on_padding_with_replay_too() -> None:
    draw = random.Random(3)
    sizes = [draw.randint(60, 260) for _ in range(300)] + [draw.randint(30, 160) for _ in range(60)]
    for share in (0.0, 0.2):
        steps = plan_steps(sizes, batch_size=16, epochs=1, seed=1, replay=range(300, 360), share=share)
        passes = [group for step in steps for group in micro_batches(step, sizes, MICRO_TOKENS)]
        padded = sum(len(group) * max(sizes[n] for n in group) for group in passes)

        assert sum(sizes[n] for group in passes for n in group) / padded > 0.9


def test_part_of_an_epoch_is_its_first_steps() -> None:
    assert len(plan_steps([10] * 100, batch_size=10, epochs=0.5, seed=1)) == 5
    assert len(plan_steps([10], batch_size=10, epochs=0.1, seed=1)) == 1
