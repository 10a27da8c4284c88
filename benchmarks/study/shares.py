"""How often a share that lost its whole margin is called kept: p(right), which runs certify, asked in six rounds.

Right-or-wrong items are simulated in benchmarks/gate.py. Here an item's loss is any number, and what matters is its shape: all
items lose a little, each moves by chance, or one in some is lost whole while nothing else moves, which few items may miss.
Knows the gate's bound and boundaries, no scorecard.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from eval.policy import Policy, margin_of
from eval.sequential import LOOKS
from eval.statistics import UNSEEN_GAIN, UNSEEN_LOSS, Floats, signed_root, threshold, unseen_share
from storage.records import Score

HANDS = {"task": 60, "general": 660}  # items of a benchmark's hand, and of the pool of a run with the default settings
LOST = 0.02  # p(right) of an item that is lost whole
AT_ONCE = 500  # rounds
Move = Callable[[Floats, float, np.random.Generator], Floats]  # (base p, strength, draw) → candidate p


def evenly(base: Floats, strength: float, draw: np.random.Generator) -> Floats:
    return np.asarray(special.expit(special.logit(base) - strength))


def by_chance(base: Floats, strength: float, draw: np.random.Generator) -> Floats:
    return np.asarray(special.expit(special.logit(base) - strength + draw.normal(0, 1, base.shape)))


def lopsided(base: Floats, strength: float, draw: np.random.Generator) -> Floats:
    moved = np.clip(base + draw.normal(0, 0.01, base.shape), 0.001, 0.999)
    return np.where(draw.random(base.shape) < strength, np.minimum(LOST, base), moved)


MOVES: dict[str, tuple[Move, float]] = {
    "evenly": (evenly, 3.0),
    "by chance": (by_chance, 3.0),
    "lopsided": (lopsided, 1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledKept:
    """How often a candidate that lost its margin was called kept: at any of the six looks, and by one look at the whole hand."""

    hand: str
    move: str
    in_rounds: float
    at_once: float


def kept_at_margin(rounds: int, seed: int) -> Iterator[CalledKept]:
    draw, policy = np.random.default_rng(seed), Policy()
    for hand, items in HANDS.items():
        margin = margin_of(_score("general" if hand == "general" else "task", items), policy).value
        for move, (how, strongest) in MOVES.items():
            strength = _strength(how, strongest, margin, seed)
            found = np.concatenate([
                _called_kept(how(base := _bases(AT_ONCE, items, draw), strength, draw) - base, float(base.mean()), margin, policy)
                for _ in range(rounds // AT_ONCE)
            ])  # fmt: skip
            in_rounds, at_once = found.mean(axis=0)
            yield CalledKept(hand=hand, move=move, in_rounds=float(in_rounds), at_once=float(at_once))


def called_kept(differences: Floats, mean: float, *, rounds: int, seed: int) -> float:
    """How often hands that are drawn from these real differences of items, moved to lose a task's margin, are called kept in
    their rounds. `differences` (n,), of shares; `mean`: the base's."""
    items, policy, draw = HANDS["task"], Policy(), np.random.default_rng(seed)
    margin = margin_of(_score("task", items), policy).value
    moved = differences - differences.mean() - margin
    hands = moved[draw.integers(0, len(moved), (rounds, items))]
    return float(_called_kept(hands, mean, margin, policy)[:, 0].mean())


def _score(name: str, items: int) -> Score:
    """What a margin is asked of."""
    metric = "pooled" if name == "general" else "p_correct"
    return Score(key="", benchmark=name, metric=metric, domain="general", direction="higher", unit="share", value=0.6, stderr=0.0,
                 n=items, items=())  # fmt: skip


def _bases(rounds: int, items: int, draw: np.random.Generator) -> Floats:
    """p(right) of the base: sure of some items, far off at others, 0.6 on average."""
    return np.clip(draw.beta(0.9, 0.6, (rounds, items)), 0.001, 0.999)


def _strength(how: Move, strongest: float, margin: float, seed: int) -> float:
    """With which the true loss is the margin: searched on many items, the same for every strength."""
    base = _bases(1, 4_000_000, np.random.default_rng(seed))

    def past(strength: float) -> float:
        return float((how(base, strength, np.random.default_rng(seed)) - base).mean()) + margin

    return float(optimize.brentq(past, 0.0, strongest, xtol=1e-5))


def _called_kept(differences: Floats, mean: float, margin: float, policy: Policy) -> Floats:
    """Of each round (R, 2): kept at any look, kept by one look at all items."""
    items = differences.shape[1]
    looks = [
        _is_kept(differences[:, : items * look // LOOKS], mean, margin, policy.level_at(look))
        for look in range(1, LOOKS + 1)
    ]
    return np.stack([np.any(looks, axis=0), _is_kept(differences, mean, margin, policy.level)], axis=1)


def _is_kept(differences: Floats, mean: float, margin: float, confidence: float) -> Floats:
    """eval/comparing.py's rule for shares for many rounds at once, each item its own cluster."""
    loss, gain = unseen_share(mean)
    added = np.broadcast_to([margin - loss, margin + gain], (len(differences), 2))
    values = np.concatenate([differences + margin, added], axis=1)
    weights = np.append(np.ones(differences.shape[1]), [UNSEEN_LOSS, UNSEEN_GAIN])
    return np.asarray(signed_root(values, weights) > threshold(confidence, differences.shape[1]))
