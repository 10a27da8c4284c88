"""The hyperparameter lever: what a training run may be told, which values warn and which are refused.

Knows no model. The worker resolves what depends on the base (the learning rate) with `default_learning_rate`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from storage.errors import RecipeError
from storage.settings import Settings

ALIASES = {"rank": "lora_rank", "lr": "learning_rate", "batch": "batch_size", "replay": "replay_share", "kl": "kl_weight",
           "budget": "kl_budget", "eaft": "entropy_gate", "own": "own_replay", "search": "scale_search"}  # fmt: skip
FLAGS = {"force": "force", "--force": "force", "dry": "dry_run", "--dry-run": "dry_run"}
NUMBER = re.compile(r"[+-]?(\d{1,12}\.?\d{0,12}|\.\d{1,12})([eE][+-]?\d{1,2})?", re.ASCII)
WHOLE = re.compile(r"[+-]?\d{1,12}", re.ASCII)
BY_PROFILE = ("epochs", "replay_share", "kl_weight", "scale")
SCALES = (1.0, 0.85, 0.7, 0.55, 0.4)
FEW_STEPS = 30
FEW_TO_WATCH = 50  # lessons of which 8 % are at least four
OFTEN = 5  # times that a general row may come
CERTAIN = 20  # times the default learning rate: from here training almost certainly diverges
NOT_OF_THE_RECIPE = frozenset(
    FLAGS.values()
)  # force: start in spite of warnings; dry_run: build and say, train nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How far a run may go from the base. `rate_factor`: of the learning rate that the width gives."""

    rate_factor: float
    epochs: float
    replay_share: float
    kl_weight: float
    scale: float
    says: str


PROFILES: Mapping[str, Profile] = {
    "gentle": Profile(
        rate_factor=0.3, epochs=1.0, replay_share=0.3, kl_weight=0.2, scale=1.0, says="learns least, forgets least"
    ),
    "standard": Profile(
        rate_factor=1.0, epochs=2.0, replay_share=0.2, kl_weight=0.0, scale=1.0, says="what is measured and advised"
    ),
    "strong": Profile(
        rate_factor=2.0, epochs=3.0, replay_share=0.2, kl_weight=0.1, scale=1.0, says="learns most, may forget"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of one training run. `learning_rate` None: chosen by the width of the base when the run starts."""

    profile: str = "standard"
    lora_rank: int = 16
    learning_rate: float | None = None
    epochs: float = 2.0
    batch_size: int = 16
    max_tokens: int = 512
    replay_share: float = 0.2
    kl_weight: float = 0.0
    kl_budget: float = 0.0
    entropy_gate: bool = False
    early_stop: bool = False
    own_replay: bool = False
    scale: float = 1.0
    scale_search: bool = False
    cut_intruders: bool = False
    preferences: bool = False
    seed: int = 17

    @property
    def lora_alpha(self) -> int:
        return 2 * self.lora_rank

    @property
    def scales(self) -> tuple[float, ...]:
        """At which the gate may look, the strongest first: its own, and in a search the weaker ones."""
        return (self.scale, *(s for s in SCALES if s < self.scale)) if self.scale_search else (self.scale,)

    def rate_at(self, hidden_size: int) -> float:
        """The learning rate for a base of this width."""
        return self.learning_rate or PROFILES[self.profile].rate_factor * default_learning_rate(hidden_size)

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
    "kl_weight": Range(
        kind=float, low=0, high=10, safe_low=0, safe_high=1, why="the pull to the base outweighs the lessons"
    ),
    "kl_budget": Range(
        kind=float, low=0, high=10, safe_low=0, safe_high=1, why="a budget that nothing reaches stops nothing"
    ),
    "scale": Range(
        kind=float,
        low=0.1,
        high=1,
        safe_low=0.3,
        safe_high=1,
        why="little of what was learnt is left of so weak a copy",
    ),
    "seed": Range(kind=int, low=0, high=2**31 - 1, safe_low=0, safe_high=2**31 - 1, why=""),
}
SWITCHES: Mapping[str, str] = {
    "entropy_gate": "tokens that the model is sure of and wrong about count less (EAFT)",
    "early_stop": "stop when held-back lessons get worse, and keep the best state",
    "own_replay": "general prompts are answered by the base itself, not by people",
    "scale_search": "while the gate sees something lost, it judges weaker copies of the adapter",
    "cut_intruders": "after training, most of what it added in directions that the base has nowhere near is taken out",
    "preferences": "after the lessons, it learns which answers people found better or worse",
}
ON_OFF = {"on": True, "yes": True, "1": True, "true": True, "off": False, "no": False, "0": False, "false": False}


def default_learning_rate(hidden_size: int) -> float:
    """1e-3 at the embedded base's width of 576, falling with the width to the field's 1e-4 at 4,096 and wider.

    Source: docs/log.md (sweep on SmolLM2-135M); larger models: the recipes collected in docs/decisions/0004.
    """
    return float(min(1e-3, max(1e-4, 1e-3 * (576 / hidden_size) ** 1.17)))


def refuse_divergence(rate: float, hidden_size: int) -> None:
    """Raises RecipeError for a learning rate at which a base of this width almost certainly diverges.

    Measured at width 576: 10 times the default destroys, 30 times diverges (docs/decisions/0004). In the Tinker cookbook's
    sweep of larger models 72 of the 80 runs that diverged had 3e-3, 30 times the default there.
    """
    limit = CERTAIN * default_learning_rate(hidden_size)
    if rate > limit:
        raise RecipeError(
            f"lr={rate:g} is more than {CERTAIN} times what a base of width {hidden_size} takes: training would diverge."
            f" Allowed up to {limit:.2g}. Next: leave lr empty, or choose {default_learning_rate(hidden_size):.2g}."
        )


def recipe_from(settings: Settings, overrides: Mapping[str, Any]) -> Recipe:
    """The profile's recipe, with what the settings and then the run's overrides say otherwise; flags change no value.

    Raises RecipeError (see `refuse_impossible`).
    """
    chosen = {"profile": settings.training_profile} | {k: v for k, v in overrides.items() if k not in NOT_OF_THE_RECIPE}
    values = {name: getattr(settings, name) for name in (*RANGES, *SWITCHES)} | chosen
    profile = profile_of(str(values["profile"]))
    by_profile = {name: getattr(profile, name) for name in BY_PROFILE}
    settled: dict[str, Any] = {k: by_profile.get(k) if value is None else value for k, value in values.items()}
    recipe = Recipe(**settled)
    refuse_impossible(recipe)
    return recipe


def profile_of(name: str) -> Profile:
    """Raises RecipeError naming the profiles there are."""
    if name not in PROFILES:
        raise RecipeError(f"profile “{name[:40]}” is unknown. Allowed: {', '.join(PROFILES)}. Nothing was started.")
    return PROFILES[name]


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
        if not equals or name not in {"profile", *RANGES, *SWITCHES}:
            allowed = "profile=, lr=, epochs=, rank=, batch=, replay=, kl=, budget=, eaft=, early_stop=, own=, scale=, search=, cut_intruders=, preferences=, max_tokens=, seed=, force, dry"
            raise RecipeError(f"“{word[:60]}” is not understood. Allowed: {allowed}. Example: lr=1e-3 epochs=2")
        overrides[name] = parse_value(name, value)
    return overrides


def parse_value(name: str, text: str) -> float | int | str:
    """One value as people type it. Raises RecipeError naming it and what is allowed: no number, NaN, out of range."""
    if name == "profile":
        profile_of(text.lower())
        return text.lower()
    if name in SWITCHES:
        if text.lower() not in ON_OFF:
            raise RecipeError(f"{name} must be on or off, not “{text[:40]}”. Nothing was started.")
        return ON_OFF[text.lower()]
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
    profile_of(recipe.profile)
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


def warnings_for_rows(recipe: Recipe, *, lessons: int, replay: int) -> tuple[str, ...]:
    """What the recipe and the rows that it would train on give cause to say, one sentence each. Pure.

    The limits are our judgement; that a rank must fit the rows is Thinking Machines' LoRA Without Regret.
    """
    rows = lessons * recipe.epochs / (1 - recipe.replay_share)
    steps, again = math.ceil(rows / recipe.batch_size), recipe.replay_share * rows / max(1, replay)
    found = []
    if steps < FEW_STEPS:
        found.append(
            f"{steps} steps are few: {FEW_STEPS} and more learn reliably. More lessons, more epochs or a smaller batch."
        )
    if lessons < recipe.batch_size:
        found.append(f"{lessons} lessons are fewer than one batch of {recipe.batch_size}: every step sees all of them.")
    if (recipe.early_stop or recipe.kl_budget) and lessons < FEW_TO_WATCH:
        found.append(f"{lessons} lessons are too few to hold any back: nothing stops early below {FEW_TO_WATCH}.")
    if recipe.lora_rank > 64 and lessons < 10_000:
        found.append(f"rank {recipe.lora_rank} for {lessons} lessons: it has room to memorise them.")
    if recipe.replay_share > 0 and not replay:
        found.append("there are no general rows to replay: more is forgotten.")
    elif again > OFTEN:
        found.append(
            f"each general row comes {again:.0f} times: {replay} are too few for replay={recipe.replay_share:g}."
        )
    return tuple(found)
