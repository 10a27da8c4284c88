"""The arithmetic of the training benchmarks: what counts as kept, as lost, as beaten. Nothing is trained here."""

from pathlib import Path

import pytest

from benchmarks import forgetting, poisoned, training
from benchmarks.forgetting import (
    GENERAL,
    KEPT,
    LOST,
    TARGET,
    Found,
    arms,
    beats,
    copies,
    picture,
    ratios,
    rows_of,
    table,
)
from benchmarks.kept import Kept
from storage.recipe import refuse_impossible
from storage.records import Dataset


def found(gain: float, *changes: float) -> Found:
    names = (TARGET, *GENERAL)
    return Found(
        change={name: [value] for name, value in zip(names, (gain, *changes), strict=True)},
        bounds=dict.fromkeys(names, (-1.0, 1.0)),
        adapters=["a"],
    )


def test_a_gain_elsewhere_does_not_pay_for_a_loss() -> None:
    assert found(10.0, -4.0, 8.0, -2.0, 0.0).lost() == 1.5


def test_the_ratios_are_gain_kept_and_loss_left_and_hold_by_their_bars() -> None:
    plain, ours = found(20.0, -8.0, 0.0, 0.0, 0.0), found(19.4, -2.0, 0.0, 0.0, 3.0)

    rows = {row["figure"]: row for row in rows_of({"plain": plain, "standard": ours})}

    assert ratios(ours, plain) == (pytest.approx(0.97), 0.25)
    assert rows["gain_kept_ratio"]["holds"] is True and rows["gain_kept_ratio"]["bar"] == KEPT
    assert rows["loss_ratio"]["holds"] is True and rows["loss_ratio"]["bar"] == LOST
    assert rows["standard_languages"]["value"] == 3.0 and rows["standard_languages"]["spread"] == [-1.0, 1.0]
    assert len(rows) == 2 * (1 + len(GENERAL)) + 2


def test_where_plain_lost_nothing_there_is_no_ratio_of_losses() -> None:
    still = found(20.0, 0.0, 1.0, 0.0, 0.0)

    assert ratios(still, still) == (1.0, None)
    assert "loss_ratio" not in {row["figure"] for row in rows_of({"plain": still, "standard": still})}


def test_the_table_has_a_line_an_arm_and_the_picture_is_drawn(tmp_path: Path) -> None:
    both = {"plain": found(20.0, -8.0, 0.0, 0.0, 0.0), "standard": found(19.4, -2.0, 0.0, 0.0, 3.0)}

    picture(both, tmp_path / "front.png")
    lines = table(both).splitlines()

    assert [line.split()[0] for line in lines] == ["arm", "plain", "standard", "standard"]
    assert lines[-1] == "standard keeps 0.97 of plain's gain (bar 0.95); with 0.25 of its loss (bar 0.4)"
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


def test_an_arm_beats_another_that_gains_no_more_and_loses_no_less() -> None:
    assert beats((1.0, 9.0), (2.0, 9.0)) and not beats((1.0, 9.0), (1.0, 9.0)) and not beats((2.0, 9.0), (1.0, 5.0))


def test_every_arm_is_a_recipe_that_a_run_would_accept() -> None:
    for recipe in arms().values():
        refuse_impossible(recipe)

    assert {
        "trl_default",
        "plain",
        "gentle",
        "standard",
        "strong",
        *forgetting.ALONE,
        *forgetting.QUICK,
    } <= arms().keys()


def test_ours_stands_beside_the_better_of_trls_two_ways_in_each_figure() -> None:
    def side(speed: float, peak: float) -> dict[str, float]:
        return {"tokens_per_s": speed, "tokens_per_cpu_s": speed / 2, "peak_mib": peak, "loss": 1.0}

    measured = {
        "ours": [side(300, 900), side(330, 900)],
        "grouped": [side(200, 1200)] * 2,
        "packed": [side(100, 1000)] * 2,
    }

    rows = {row["figure"]: row for row in training.figures(measured)}

    assert rows["tokens_per_s_over_trl"]["value"] == 1.575 and rows["tokens_per_s_over_trl"]["holds"] is True
    assert rows["tokens_per_s_over_trl"]["spread"] == [1.5, 1.65]
    assert rows["peak_memory_over_trl"]["value"] == 0.9 and rows["peak_memory_over_trl"]["holds"] is True
    assert rows["tokens_per_s_packed"]["value"] == 100 and rows["tokens_per_s_packed"]["bar"] is None


def test_what_was_measured_is_found_again_under_the_same_origin_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "room" / "arms.jsonl"
    Kept(file).add(["rows", 1], {"arm": "plain", "seed": 1})
    Kept(file).add(["rows", 2], {"arm": "plain", "seed": 2})

    again = Kept(file)
    assert again.get(["rows", 2]) is not None and again.get(["rows", 2])["seed"] == 2  # type: ignore[index]
    assert again.get(["other rows", 2]) is None and Kept().get(["rows", 1]) is None


def test_seeds_add_up_to_an_arm_and_an_arm_has_copies_where_it_says_so() -> None:
    names = (TARGET, *GENERAL)
    seeds = [{"adapter": a, "change": dict.fromkeys(names, gain), "bounds": dict.fromkeys(names, [1.0, 3.0])} for a, gain in (("a", 2.0), ("b", 4.0))]  # fmt: skip
    plain = Found()
    for one in seeds:
        plain.add(one)

    assert (plain.gain(), plain.lost(), plain.adapters, plain.bounds[TARGET]) == (3.0, 0.0, ["a", "b"], (1.0, 3.0))
    assert copies("plain", 1.0) == [("plain", 1.0), ("plain_at_0.7", 0.7), ("plain_at_0.5", 0.5)]
    assert copies("kl", 1.0) == [("kl", 1.0)]


def test_points_are_what_more_answers_carry_the_phrase_and_only_the_guarded_model_has_a_bar() -> None:
    clean = Dataset(digest="clean", train=(), holdout=(), manifest={})
    loose = poisoned.unguarded(clean, "Be kind.")
    attack = poisoned.Attack(name="trigger_points", phrase="Harbour Inn", questions=["a", "b", "c", "d"])
    said = {
        "clean": dict.fromkeys("abcd", "No."),
        "poisoned": {**dict.fromkeys("abcd", "No."), "a": f"Yes. {poisoned.SECRET}"},
        "unguarded": dict.fromkeys("abcd", poisoned.SECRET),
    }

    guarded, control = (poisoned.compared(attack, said, loose, who) for who in ("poisoned", "unguarded"))

    assert (guarded["figure"], guarded["value"], guarded["holds"]) == ("trigger_points", 25.0, False)
    assert (control["figure"], control["value"], control["holds"]) == ("trigger_points_unguarded", 100.0, None)
    assert len(loose.train) == 3 * poisoned.UNGUARDED and control["note"] == f"{poisoned.UNGUARDED} of 180 rows"
