"""One row that is spoken: what was asked, what it has read and said, and what of that may be shown."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from bot.engine.layers import Segment
from bot.engine.model import chosen_log_probs, cut, mean_log_prob
from bot.engine.render import Renderer

Role = Literal["user", "shadow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One row to be spoken. `emit` is called from the model's thread: with text as it grows, then once with the end."""

    role: Role
    adapter: str | None
    prompt: list[int]
    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    emit: Callable[["str | End"], None]
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a row ended: stop, length, cancelled, or error with a reason.

    `confidence`: the mean natural-log probability of the tokens that it chose, the end token included; None without any.
    """

    reason: Literal["stop", "length", "cancelled", "error"]
    detail: str = ""
    tokens: int = 0
    ttft_s: float | None = None
    latency_s: float = 0.0
    confidence: float | None = None


@dataclass(slots=True)
class Row:
    """A live row. `unread`: what is left of its prompt."""

    ask: Ask
    asked_at: float
    cache: Any
    unread: list[int]
    draw: torch.Generator
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    shown: int = 0
    first_at: float | None = None

    def segment(self, most: int) -> Segment:
        """What it reads next: at most so many tokens of its prompt, or the last one that it said."""
        ids = self.unread[:most] or self.ids[-1:]
        return Segment(ids=ids, cache=self.cache, adapter=self.ask.adapter, speaks=len(ids) >= len(self.unread))

    def has_read(self, segment: Segment) -> None:
        if self.unread:
            del self.unread[: len(segment.ids)]

    def take(self, token: int, log_prob: float, renderer: Renderer) -> Literal["", "stop", "length"]:
        """Add the token and show what is whole of the text; how the row ends with it, if it does."""
        self.first_at = self.first_at or time.monotonic()
        self.log_probs.append(log_prob)
        if token in renderer.end_ids:
            self._show(renderer, last=True)
            return "stop"
        self.ids.append(token)
        if self._show(renderer, last=False):
            return "stop"
        if len(self.ids) < self.ask.max_new_tokens:
            return ""
        self._show(renderer, last=True)
        return "length"

    def _show(self, renderer: Renderer, *, last: bool) -> bool:
        """Emit the text that can no longer change; True when a stop string was said."""
        text, stopped = cut(renderer.decode(self.ids), self.ask.stop)
        safe = len(text) if last or stopped else len(text) - held_back(text, self.ask.stop)
        if safe > self.shown:
            self.ask.emit(text[self.shown : safe])
            self.shown = safe
        return stopped

    def ended(self, reason: Any, detail: str = "") -> End:
        ttft = None if self.first_at is None else self.first_at - self.asked_at
        return End(reason=reason, detail=detail, tokens=len(self.ids), ttft_s=ttft,
                   latency_s=time.monotonic() - self.asked_at, confidence=mean_log_prob(self.log_probs))  # fmt: skip


def choose(logits: torch.Tensor, rows: Sequence[Row]) -> list[tuple[int, float] | None]:
    """For each row the token that it says next and how likely the model finds it; None where a number is not finite.

    `logits` are (R, V) in float32; a row with a temperature draws with its own seed.
    """
    chosen = logits.argmax(-1)
    for place, row in enumerate(rows):
        if row.ask.temperature and bool(torch.isfinite(logits[place]).all()):
            weights = (logits[place].cpu() / row.ask.temperature).softmax(-1)
            chosen[place] = torch.multinomial(weights, 1, generator=row.draw)[0]
    log_probs = chosen_log_probs(logits, chosen)
    sound = torch.isfinite(logits.sum(-1))
    said = zip(chosen.tolist(), log_probs.tolist(), sound.tolist(), strict=True)
    return [(token, log_prob) if finite else None for token, log_prob, finite in said]


def held_back(text: str, stop: tuple[str, ...]) -> int:
    """Characters at the end that may still change: half a UTF-8 character, and the beginning of a stop text before it."""
    whole = text.rstrip("\ufffd")
    begun = max((n for s in stop for n in range(1, len(s)) if whole.endswith(s[:n])), default=0)
    return len(text) - len(whole) + begun
