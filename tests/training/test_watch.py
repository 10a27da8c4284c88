"""What is held back, when it stops, which state is kept: pure decisions."""

from storage.recipe import FEW_TO_WATCH
from training.batches import Row
from training.watch import BETTER, FEWEST, MOST, Look, best, hold_back, is_over


def rows(lessons: int, general: int) -> list[Row]:
    return [Row(ids=(n, 1), mask=(False, True), replay=n >= lessons) for n in range(lessons + general)]


def looks(*losses: float, kl: float = 0.1) -> list[Look]:
    return [Look(step=n, loss=loss, kl=kl * (n + 1)) for n, loss in enumerate(losses)]


def test_a_share_of_each_kind_is_held_back_by_the_seed_and_the_rest_is_trained_on() -> None:
    every = rows(100, 60)

    kept, held = hold_back(every, 3)

    assert sorted(kept + held, key=lambda row: row.ids) == every
    assert [sum(row.replay is kind for row in held) for kind in (False, True)] == [8, 4]
    assert hold_back(every, 3) == (kept, held) != hold_back(every, 4)


def test_few_rows_are_spared_and_many_are_not_all_looked_at() -> None:
    assert hold_back(rows(FEW_TO_WATCH - 1, 10), 1)[1] == [] and len(hold_back(rows(FEW_TO_WATCH, 10), 1)[1]) == FEWEST
    assert len(hold_back(rows(1000, 0), 1)[1]) == MOST


def test_it_goes_on_while_it_gets_better_and_stops_after_three_looks_that_do_not() -> None:
    better = looks(3.0, 2.0, 1.9, 1.8, 1.7)

    assert is_over(better, 0, early_stop=True) == ""
    assert is_over(looks(3.0, 2.0, 2.1, 2.2), 0, early_stop=True) == ""
    assert "no better in 3 looks" in is_over(looks(3.0, 2.0, 2.1, 2.2, 2.0 - BETTER / 2), 0, early_stop=True)
    assert is_over(looks(3.0, 2.0, 2.1, 2.2, 2.3), 0, early_stop=False) == ""


def test_beyond_the_budget_it_stops_whatever_the_loss_and_the_last_state_within_it_is_kept() -> None:
    seen = looks(3.0, 2.0, 1.0)

    assert "budget is 0.25" in is_over(seen, 0.25, early_stop=False) and is_over(seen[:2], 0.25, early_stop=False) == ""
    assert best(seen, 0.25) == seen[1] and best(seen, 0) == seen[2]


def test_where_no_look_is_within_the_budget_the_nearest_to_the_base_is_kept() -> None:
    seen = looks(3.0, 2.0, kl=0.5)

    assert best(seen, 0.1) == seen[0]
