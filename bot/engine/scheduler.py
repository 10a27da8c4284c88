"""Who speaks next: one thread owns the model and gives one token at a time to each row.

Promises: a user's row is never behind a shadow's; a row keeps the adapter that it was accepted with, also while the champion
changes; a cancelled or late row frees its place at the next token; what goes wrong in one row ends that row with a reason.
Knows rows and tokens. Knows no HTTP.
"""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import structlog
import torch

from bot.engine.model import LoadedModel, chosen_log_probs, cut, mean_log_prob
from storage.errors import WeightsError

log = structlog.get_logger()
T = TypeVar("T")
LIVE_ROWS = 8
QUEUE = {"user": 64, "shadow": 256}
SHADOW_DEADLINE_S = 300.0
ON_DEMAND = 2  # adapters kept that somebody asked for by name
CANARY = ({"role": "user", "content": "Say in one sentence what you can help with."},)


class Full(Exception):
    """Too many rows of this role wait already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One row to be spoken. `emit` is called from the model's thread: with text as it grows, then once with the end."""

    role: Literal["user", "shadow"]
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
    """A live row: its cache, what it said, how likely each choice was, and what of it was shown."""

    ask: Ask
    cache: Any
    asked_at: float
    draw: torch.Generator
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    shown: int = 0
    first_at: float | None = None


class Scheduler:
    """The model's thread. `submit` and `call` may be used from any thread."""

    def __init__(self, model: LoadedModel, weights_dir: Path) -> None:
        self.model, self.weights_dir = model, weights_dir
        self.champion: str | None = None
        self._waiting: dict[str, deque[tuple[Ask, float]]] = {"user": deque(), "shadow": deque()}
        self._live: dict[str, list[Row]] = {"user": [], "shadow": []}
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._lock, self._closing = threading.Condition(), False
        self._named: deque[str] = deque(maxlen=ON_DEMAND)
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def submit(self, ask: Ask, *, champion: bool = False) -> str | None:
        """Queue a row and return the adapter that it is pinned to: its own, or whoever is `champion` now. Raises Full."""
        with self._lock:
            if len(self._waiting[ask.role]) >= QUEUE[ask.role]:
                raise Full(f"{QUEUE[ask.role]} {ask.role} questions are waiting already")
            pinned = replace(ask, adapter=self.champion) if champion else ask
            self._waiting[ask.role].append((pinned, time.monotonic()))
            self._lock.notify()
        return pinned.adapter

    def call(self, work: Callable[[], T], timeout_s: float = 120.0) -> T:
        """Run something in the model's thread between two tokens, and return or raise what it gives."""
        done: Future[T] = Future()
        self._calls.put((work, done))
        with self._lock:
            self._lock.notify()
        return done.result(timeout=timeout_s)

    def depths(self) -> dict[str, int]:
        with self._lock:
            return {
                f"{role}_{kind}": len(rows[role])
                for kind, rows in (("waiting", self._waiting), ("live", self._live))
                for role in rows
            }

    def close(self, patience_s: float = 20.0) -> None:
        """Finish the users' rows that are live, then end the thread."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        self._thread.join(timeout=patience_s)

    # Adapters: called in the model's thread through `call`

    def crown(self, folder: Path | None) -> str | None:
        """Make an adapter (None: the base alone) the champion for new rows, once its canary has answered.

        Raises WeightsError; then who served before goes on serving.
        """
        digest = None if folder is None else self.model.add_adapter(folder)
        if digest is not None:
            try:
                self.prove(digest)
            except WeightsError:
                self._drop_unused()
                raise
        self.champion = digest
        self._drop_unused()
        return digest

    def prove(self, digest: str) -> None:
        """The canary: with the adapter the next token's logits are finite and not the base's."""
        ids = torch.tensor([self.model.renderer.prompt(CANARY)], device=self.model.model.device)
        base, tuned = (self.model.next_logits(ids, self.model.new_cache(), who) for who in (None, digest))
        if not torch.isfinite(tuned).all():
            raise WeightsError(f"adapter {digest[:12]} answers the canary with numbers that are not finite")
        if torch.equal(base, tuned):
            raise WeightsError(f"adapter {digest[:12]} answers the canary exactly as the base does: it changes nothing")

    def fetch(self, folder: Path) -> str:
        """Load an adapter that somebody asked for by name."""
        digest = self.model.add_adapter(folder)
        with contextlib.suppress(ValueError):
            self._named.remove(digest)
        self._named.append(digest)
        self._drop_unused()
        return digest

    def _drop_unused(self) -> None:
        with self._lock:
            rows = [r.ask for role in self._live for r in self._live[role]] + [
                a for role in self._waiting for a, _ in self._waiting[role]
            ]
        for digest in self.model.adapters - {self.champion, *self._named, *(ask.adapter for ask in rows)}:
            self.model.remove_adapter(digest)

    # The loop

    def _run(self) -> None:
        while True:
            self._serve_calls()
            with self._lock:
                idle = not any(self._waiting.values()) and not any(self._live.values())
                if self._closing and not self._live["user"]:
                    break
                if idle and self._calls.empty():
                    self._lock.wait(timeout=1.0)
                    continue
            self._turn()
        self._end_all("the engine is stopping")

    def _serve_calls(self) -> None:
        while not self._calls.empty():
            work, done = self._calls.get()
            try:
                done.set_result(work())
            except BaseException as error:  # the named place: the caller gets whatever its work raised
                done.set_exception(error)

    def _turn(self) -> None:
        """One turn: admit a user's row, else one token for each live user row; shadows only while no user is there."""
        for role in ("user", "shadow"):
            with self._lock:
                admit = (
                    self._waiting[role].popleft() if self._waiting[role] and len(self._live[role]) < LIVE_ROWS else None
                )
            if admit is not None:
                self._admit(*admit)
            for row in list(self._live[role]):
                if admit is None or row.ids:
                    self._advance(row)
            if self._live["user"] or self._waiting["user"]:
                return

    def _admit(self, ask: Ask, asked_at: float) -> None:
        draw = torch.Generator().manual_seed(ask.seed)
        row = Row(ask=ask, cache=self.model.new_cache(), asked_at=asked_at, draw=draw)
        self._live[ask.role].append(row)
        self._speak(row, ask.prompt)

    def _advance(self, row: Row) -> None:
        self._speak(row, row.ids[-1:])

    def _speak(self, row: Row, ids: list[int]) -> None:
        """One pass and one token of a row; whatever breaks ends this row only."""
        late = row.ask.role == "shadow" and time.monotonic() - row.asked_at > SHADOW_DEADLINE_S
        if row.ask.cancelled.is_set() or late:
            self._end(row, "cancelled", "the shadow's deadline passed" if late else "")
            return
        try:
            logits = self.model.next_logits(
                torch.tensor([ids], device=self.model.model.device), row.cache, row.ask.adapter
            )
            token = self._choose(logits[0], row)
        except Exception as error:  # the named place: one row's fault is that row's end
            log.error("row_failed", role=row.ask.role, error=type(error).__name__)
            self._end(row, "error", f"{type(error).__name__} while generating")
            return
        row.first_at = row.first_at or time.monotonic()
        self._take(row, token)

    def _choose(self, logits: torch.Tensor, row: Row) -> int:
        """A token id from logits (V,); how likely the model finds it is noted, whatever the temperature."""
        if not torch.isfinite(logits).all():
            raise ArithmeticError("logits are not finite")
        token = logits.argmax() if row.ask.temperature == 0 else self._draw(logits, row).to(logits.device)
        row.log_probs.append(float(chosen_log_probs(logits[None], token[None])))
        return int(token)

    def _draw(self, logits: torch.Tensor, row: Row) -> torch.Tensor:
        weights = (logits.cpu() / row.ask.temperature).softmax(-1)
        return torch.multinomial(weights, 1, generator=row.draw)[0]

    def _take(self, row: Row, token: int) -> None:
        """Add the token, show what is whole of the text, end the row where it ends."""
        if token in self.model.renderer.end_ids:
            self._show(row, last=True)
            self._end(row, "stop")
            return
        row.ids.append(token)
        stopped = self._show(row, last=False)
        if stopped or len(row.ids) >= row.ask.max_new_tokens:
            self._show(row, last=True)
            self._end(row, "stop" if stopped else "length")

    def _show(self, row: Row, *, last: bool) -> bool:
        """Emit the text that can no longer change; True when a stop string was said."""
        text, stopped = cut(self.model.renderer.decode(row.ids), row.ask.stop)
        safe = len(text) if last or stopped else len(text) - held_back(text, row.ask.stop)
        if safe > row.shown:
            row.ask.emit(text[row.shown : safe])
            row.shown = safe
        return stopped

    def _end(self, row: Row, reason: Any, detail: str = "") -> None:
        self._live[row.ask.role].remove(row)
        now, ttft = time.monotonic(), None
        if row.first_at is not None:
            ttft = row.first_at - row.asked_at
        end = End(reason=reason, detail=detail, tokens=len(row.ids), ttft_s=ttft, latency_s=now - row.asked_at,
                  confidence=mean_log_prob(row.log_probs))  # fmt: skip
        row.ask.emit(end)
        if row.ask.adapter not in (None, self.champion):
            self._drop_unused()

    def _end_all(self, detail: str) -> None:
        for role in self._live:
            for row in list(self._live[role]):
                self._end(row, "error", detail)
            while self._waiting[role]:
                ask, _ = self._waiting[role].popleft()
                ask.emit(End(reason="error", detail=detail))


def held_back(text: str, stop: tuple[str, ...]) -> int:
    """Characters at the end that may still change: half a UTF-8 character, or the beginning of a stop string."""
    broken = len(text) - len(text.rstrip("\ufffd"))
    begun = max((n for s in stop for n in range(1, len(s)) if text.endswith(s[:n])), default=0)
    return max(broken, begun)
