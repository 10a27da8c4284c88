"""Every row is seen as often as the recipe says, in the same batches for the same seed, almost without padding."""

from hypothesis import given, settings
from hypothesis import strategies as st

from training.batches import MICRO_TOKENS, micro_batches, plan_steps, total_steps

lengths = st.lists(st.integers(5, 600), min_size=1, max_size=120)


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(1, 32), st.integers(1, 3), st.integers(0, 5))
def test_each_epoch_sees_every_row_once_and_the_seed_decides_the_order(
    sizes: list[int], batch: int, epochs: int, seed: int
) -> None:
    steps = plan_steps(sizes, batch_size=batch, epochs=epochs, seed=seed)

    per_epoch = total_steps(len(sizes), batch_size=batch, epochs=1)
    for epoch in range(epochs):
        seen = [n for step in steps[epoch * per_epoch : (epoch + 1) * per_epoch] for n in step]
        assert sorted(seen) == list(range(len(sizes)))
    assert steps == plan_steps(sizes, batch_size=batch, epochs=epochs, seed=seed)


@given(lengths)
def test_forward_passes_hold_all_rows_within_the_token_budget(sizes: list[int]) -> None:
    passes = micro_batches(range(len(sizes)), sizes)

    assert sorted(n for group in passes for n in group) == list(range(len(sizes)))
    assert all(len(group) == 1 or len(group) * max(sizes[n] for n in group) <= MICRO_TOKENS for group in passes)


def test_little_is_wasted_on_padding() -> None:
    import random

    draw = random.Random(3)
    sizes = [draw.randint(60, 260) for _ in range(300)]
    passes = [
        group for step in plan_steps(sizes, batch_size=16, epochs=1, seed=1) for group in micro_batches(step, sizes)
    ]
    padded = sum(len(group) * max(sizes[n] for n in group) for group in passes)

    assert sum(sizes) / padded > 0.9


def test_part_of_an_epoch_is_its_first_steps() -> None:
    assert len(plan_steps([10] * 100, batch_size=10, epochs=0.5, seed=1)) == 5
    assert len(plan_steps([10], batch_size=10, epochs=0.1, seed=1)) == 1
