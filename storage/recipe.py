"""The hyperparameter lever: what a training run may be told, which values warn and which are refused.

Knows no model. The worker resolves what depends on the base (the learning rate) with `default_learning_rate`.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from storage.errors import RecipeError
from storage.settings import Settings

ALIASES = {"rank": "lora_rank", "lr": "learning_rate", "batch": "batch_size", "replay": "replay_share"}
FLAGS = {"force": "force", "--force": "force", "dry": "dry_run", "--dry-run": "dry_run"}
NUMBER = re.compile(r"[+-]?(\d{1,12}\.?\d{0,12}|\.\d{1,12})([eE][+-]?\d{1,2})?", re.ASCII)
WHOLE = re.compile(r"[+-]?\d{1,12}", re.ASCII)
NOT_OF_THE_RECIPE = frozenset(
    FLAGS.values()
)  # force: start in spite of warnings; dry_run: build and say, train nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of one training run. `learning_rate` None: chosen by the width of the base when the run starts."""

    lora_rank: int = 16
    learning_rate: float | None = None
    epochs: float = 2.0
    batch_size: int = 16
    max_tokens: int = 512
    replay_share: float = 0.2
    seed: int = 17

    @property
    def lora_alpha(self) -> int:
        return 2 * self.lora_rank

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Allowed and safe interval of one value, and why outside of it is risky."""

    kind: type
    low: float
    high: float
    safe_low: float
    safe_high: float
    why: str


RANGES: Mapping[str, Range] = {
    "lora_rank": Range(kind=int, low=1, high=256, safe_low=4, safe_high=64, why="high ranks memorise small sets"),
    "learning_rate": Range(
        kind=float,
        low=1e-6,
        high=2e-2,
        safe_low=2e-5,
        safe_high=5e-3,
        why="measured on the embedded base: 1e-2 raises bits per byte of general text by 17 %, 3e-2 diverges",
    ),
    "epochs": Range(kind=float, low=0.1, high=20, safe_low=0.5, safe_high=3, why="more passes memorise and forget"),
    "batch_size": Range(kind=int, low=1, high=256, safe_low=4, safe_high=32, why="LoRA learns worse in large batches"),
    "max_tokens": Range(kind=int, low=64, high=8192, safe_low=128, safe_high=4096, why="short limits drop long rows"),
    "replay_share": Range(kind=float, low=0, high=0.9, safe_low=0.05, safe_high=0.5, why="no replay, more forgetting"),
    "seed": Range(kind=int, low=0, high=2**31 - 1, safe_low=0, safe_high=2**31 - 1, why=""),
}


def default_learning_rate(hidden_size: int) -> float:
    """1e-3 at the embedded base's width of 576, falling with the width to the field's 1e-4 at 4,096 and wider.

    Source: docs/log.md (sweep on SmolLM2-135M); larger models: the recipes collected in docs/decisions/0004.
    """
    return float(min(1e-3, max(1e-4, 1e-3 * (576 / hidden_size) ** 1.17)))


def recipe_from(settings: Settings, overrides: Mapping[str, Any]) -> Recipe:
    """The settings' recipe with a run's overrides; its flags change no value. Raises RecipeError (see `refuse_impossible`)."""
    base = Recipe(**{name: getattr(settings, name) for name in RANGES})
    recipe = replace(base, **{name: value for name, value in overrides.items() if name not in NOT_OF_THE_RECIPE})
    refuse_impossible(recipe)
    return recipe


def parse_overrides(text: str) -> dict[str, Any]:
    """`lr=1e-3 epochs=2 rank=16 force` → overrides; `force` and `dry` pass through as flags.

    Raises RecipeError that names the first word that is not understood and what is allowed.
    """
    overrides: dict[str, Any] = {}
    for word in text.split():
        if flag := FLAGS.get(word.lower()):
            overrides[flag] = True
            continue
        name, equals, value = word.partition("=")
        name = ALIASES.get(name.lower(), name.lower())
        if not equals or name not in RANGES:
            allowed = ", ".join(
                ["lr=", "epochs=", "rank=", "batch=", "replay=", "max_tokens=", "seed=", "force", "dry"]
            )
            raise RecipeError(f"“{word[:60]}” is not understood. Allowed: {allowed}. Example: lr=1e-3 epochs=2")
        overrides[name] = parse_value(name, value)
    return overrides


def parse_value(name: str, text: str) -> float | int:
    """One value as people type it. Raises RecipeError naming it and what is allowed: no number, NaN, out of range."""
    limits = RANGES[name]
    allowed = f"{limits.low:g} to {limits.high:g}. Nothing was started."
    if not NUMBER.fullmatch(text) or (limits.kind is int and not WHOLE.fullmatch(text)):
        kind = "a whole number" if limits.kind is int else "a number"
        raise RecipeError(f"{name} must be {kind}, not “{text[:40]}”: allowed {allowed}")
    value = int(text) if limits.kind is int else float(text)
    if not limits.low <= value <= limits.high:
        raise RecipeError(f"{name}={text} is outside the allowed {allowed}")
    return value


def warning_for(name: str, value: float) -> str:
    """Why this value is risky; nothing inside its safe interval."""
    limits = RANGES[name]
    if limits.safe_low <= value <= limits.safe_high:
        return ""
    return f"{name}={value:g} is outside the safe {limits.safe_low:g} to {limits.safe_high:g}: {limits.why}"


def refuse_impossible(recipe: Recipe) -> None:
    """Raises RecipeError naming every value outside its allowed interval, NaN included."""
    faults = []
    for name, limits in RANGES.items():
        value = getattr(recipe, name)
        if value is not None and not limits.low <= value <= limits.high:
            faults.append(f"{name}={value:g} is outside {limits.low:g} to {limits.high:g}")
    if faults:
        raise RecipeError("; ".join(faults) + ". Nothing was started.")


def warnings_for(recipe: Recipe) -> tuple[str, ...]:
    """What an admin should know before the run: each value outside its safe interval, with the reason."""
    values = ((name, getattr(recipe, name)) for name in RANGES)
    return tuple(filter(None, (warning_for(name, value) for name, value in values if value is not None)))
