"""The hyperparameter lever: profiles, what overrides what, words as people type them, warnings and refusals."""

from typing import Any

import pytest

from storage.errors import RecipeError
from storage.recipe import (
    PROFILES,
    RANGES,
    SWITCHES,
    Recipe,
    default_learning_rate,
    parse_overrides,
    recipe_from,
    refuse_divergence,
    warnings_for,
    warnings_for_rows,
)
from storage.settings import Settings, load_settings


def settings(**values: object) -> Settings:
    return load_settings(_env_file=None, **values)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_sets_epochs_replay_pull_and_learning_rate_without_a_warning(name: str) -> None:
    recipe, profile = recipe_from(settings(training_profile=name), {}), PROFILES[name]

    assert (recipe.epochs, recipe.replay_share, recipe.kl_weight) == (
        profile.epochs,
        profile.replay_share,
        profile.kl_weight,
    )
    assert recipe.rate_at(576) == pytest.approx(profile.rate_factor * 1e-3)
    assert warnings_for(recipe) == () and recipe == Recipe(**recipe.to_dict())


def test_profiles_go_from_little_to_much_and_the_bare_recipe_is_the_standard_one() -> None:
    rates, epochs = zip(*((p.rate_factor, p.epochs) for p in PROFILES.values()), strict=True)

    assert (
        list(PROFILES) == ["gentle", "standard", "strong"]
        and sorted(rates) == list(rates)
        and sorted(epochs) == list(epochs)
    )
    assert recipe_from(settings(), {}) == Recipe()


def test_a_runs_word_wins_over_a_setting_and_a_setting_over_the_profile() -> None:
    chosen = recipe_from(settings(training_profile="gentle", epochs=1.5, kl_weight=0.0), {"epochs": 2.5, "force": True})
    other = recipe_from(settings(training_profile="gentle"), {"profile": "strong"})

    assert (chosen.epochs, chosen.kl_weight, chosen.replay_share) == (2.5, 0.0, PROFILES["gentle"].replay_share)
    assert other.profile == "strong" and other.epochs == PROFILES["strong"].epochs


def test_every_lever_can_be_typed() -> None:
    typed = parse_overrides(
        "profile=Gentle lr=1e-3 kl=0.2 budget=0.5 eaft=on early_stop=yes own=off preferences=on replay=0.1 dry"
    )

    assert typed == {"profile": "gentle", "learning_rate": 1e-3, "kl_weight": 0.2, "kl_budget": 0.5, "entropy_gate": True,
                     "early_stop": True, "own_replay": False, "preferences": True, "replay_share": 0.1, "dry_run": True}  # fmt: skip
    assert recipe_from(settings(), typed).entropy_gate is True


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("profile=wild", "profile “wild” is unknown. Allowed: gentle, standard, strong"),
        ("eaft=maybe", "entropy_gate must be on or off, not “maybe”"),
        ("kl=-1", "kl_weight=-1 is outside the allowed 0 to 10"),
        ("kl=NaN", "kl_weight must be a number"),
        ("momentum=1", "“momentum=1” is not understood. Allowed: profile=, lr="),
    ],
)
def test_nonsense_is_refused_by_name(words: str, says: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        parse_overrides(words)

    assert says in str(refusal.value)


def test_a_profile_in_a_runs_row_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RecipeError, match="profile “wild” is unknown"):
        recipe_from(settings(), {"profile": "wild"})


@pytest.mark.parametrize("name", [n for n in RANGES if n != "seed"])
def test_every_lever_outside_its_safe_range_is_warned_of_with_its_reason(name: str) -> None:
    limits = RANGES[name]
    above, below = (limits.safe_high + limits.high) / 2, (limits.low + limits.safe_low) / 2
    beyond = limits.kind(above if limits.safe_high < limits.high else below)

    (warning,) = warnings_for(Recipe(**{**Recipe().to_dict(), name: beyond}))

    assert name in warning and limits.why in warning and limits.why
    assert all(SWITCHES.values())


def test_what_diverges_is_refused_by_the_width_of_the_base() -> None:
    refuse_divergence(1e-2, 576)
    refuse_divergence(5e-4, 4096)

    with pytest.raises(RecipeError, match="lr=0.03 is more than 20 times what a base of width 576 takes"):
        refuse_divergence(3e-2, 576)
    with pytest.raises(RecipeError, match="Allowed up to 0.002. Next: leave lr empty, or choose 0.0001"):
        refuse_divergence(3e-3, 4096)
    assert default_learning_rate(576) == 1e-3


@pytest.mark.parametrize(
    ("levers", "lessons", "replay", "says"),
    [
        ({}, 400, 100, ""),
        ({}, 100, 30, "16 steps are few: 30 and more"),
        ({"batch_size": 32, "epochs": 20.0}, 30, 30, "30 lessons are fewer than one batch of 32"),
        ({"early_stop": True, "epochs": 10.0}, 49, 100, "49 lessons are too few to hold any back"),
        ({"lora_rank": 128}, 400, 100, "rank 128 for 400 lessons"),
        ({}, 400, 0, "there are no general rows to replay"),
        ({}, 400, 20, "each general row comes 10 times: 20 are too few for replay=0.2"),
        ({"replay_share": 0.0}, 400, 0, ""),
    ],
)
def test_what_recipe_and_rows_give_cause_to_say(levers: dict[str, Any], lessons: int, replay: int, says: str) -> None:
    found = warnings_for_rows(Recipe(**{**Recipe().to_dict(), **levers}), lessons=lessons, replay=replay)

    assert any(says in line for line in found) if says else found == ()
