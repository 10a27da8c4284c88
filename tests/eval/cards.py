"""Scorecards for tests: a base, and candidates that differ from it by a known amount."""

import random
from collections.abc import Sequence

from storage.records import Direction, Domain, ItemScore, Score, Scorecard

BASE, CANDIDATE, CHAMPION = "b" * 64, "c" * 64, "a" * 64


def score(
    benchmark: str, metric: str, values: Sequence[float], *, domain: Domain = "general", chance: float | None = None
) -> Score:
    direction: Direction = "lower" if metric == "bits_per_byte" else "higher"
    items = tuple(ItemScore(item_id=f"i{n}", cluster=f"c{n // 2}", value=v) for n, v in enumerate(values))
    return Score(
        key=f"{benchmark}/{metric}/{values!r}",
        benchmark=benchmark,
        metric=metric,
        domain=domain,
        direction=direction,
        unit="bits/byte" if direction == "lower" else "share",
        value=sum(values) / max(1, len(values)),
        stderr=0.02,
        n=len(values),
        items=items,
        chance=chance,
    )


def noisy(mean: float, spread: float, seed: int, n: int = 60) -> list[float]:
    draw = random.Random(seed)
    return [mean + spread * (draw.random() - 0.5) for _ in range(n)]


def card(
    adapter: str | None, *, support: float = 1.2, text: float = 1.3, choice: float = 0.6, wobble: int = 1
) -> Scorecard:
    """Support and general text in bits per byte, one multiple choice as p(correct)."""
    scores = (
        score("support", "bits_per_byte", noisy(support, 0.1, wobble), domain="target"),
        score("open_text", "bits_per_byte", noisy(text, 0.05, wobble + 1)),
        score("arc_easy", "p_correct", noisy(choice, 0.05, wobble + 2), chance=0.25),
    )
    return Scorecard(base_digest=BASE, adapter_digest=adapter, suite_digest="s", scores=scores)
