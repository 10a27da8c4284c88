"""Who speaks next: one thread owns the model and plans each pass anew.

Promises: a user's row is never behind a shadow's; a row keeps the adapter that it was accepted with, also while the champion
changes; a cancelled or late row frees its place at the next pass; what goes wrong in one row ends that row with a reason.

    a user's prompt    read alone, piece by piece, in turns with the answers of other users; shadows pause
    users' answers     all in one pass; in the paired mode shadows fill it up, their prompts too
    shadows            alone while no user is there; such a pass ends as soon as one comes

Knows rows and passes. Knows no HTTP.
"""

import contextlib
import ctypes
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import structlog
import torch

from bot.engine.cache import Prefixes
from bot.engine.decoder import Decoder
from bot.engine.layers import Interrupted, Segment
from bot.engine.pairing import Pairing
from bot.engine.render import Renderer
from bot.engine.rows import Ask, End, Role, Row, choose
from bot.engine.stock import StockDecoder
from storage.errors import WeightsError

log = structlog.get_logger()
T = TypeVar("T")
LIVE = {"user": 8, "shadow": 4}
QUEUE = {"user": 64, "shadow": 256}
DEADLINE_S = {"user": 300.0, "shadow": 300.0}
PIECE = {"user": 256, "shadow": 64}  # tokens of a prompt that are read in one pass
MANY = 10**6  # tokens: as many as there are
PREFIX_BYTES = 128 * 2**20  # of earlier rows' keys and values, for users and for shadows
PATIENCE_S = 120.0  # for what the model's thread is asked to do
ON_DEMAND = 2  # adapters kept that somebody asked for by name
CANARY_TOKENS = 2  # of it are read: few, so that a pass of answers has room for them; two, so that queries count
CANARY = ({"role": "user", "content": "Say in one sentence what you can help with."},)


class Full(Exception):
    """Too many rows of this role wait already."""


def yield_to_answers() -> None:
    """This thread, and what it starts, computes a tenth of what the model's thread may while both want to."""
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def apart(work: Callable[[], T]) -> T:
    """Compute something beside the model's thread, in one that yields to it and ends: OpenMP gives each thread that computes
    a team of its own, and while there are more of them than cores, none waits awake between two layers.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="apart", initializer=yield_to_answers) as room:
        return room.submit(work).result()


def give_back() -> None:
    """Free memory goes back to the system: the C library keeps what a removed adapter filled, in pieces, for each thread."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True, slots=True)
class Canary:
    """A question to the base and to a candidate, read in the next pass, whoever's it is; `crowned` says how it ended."""

    candidate: str
    segments: tuple[Segment, Segment]
    crowned: Future[str]


class Scheduler:
    """The model's thread. Every method may be used from any other thread."""

    def __init__(self, decoder: Decoder | StockDecoder, renderer: Renderer, pairing: Pairing) -> None:
        self.decoder, self.renderer, self.pairing = decoder, renderer, pairing
        self.champion: str | None = None
        self._waiting: dict[Role, deque[tuple[Ask, float]]] = {"user": deque(), "shadow": deque()}
        self._live: dict[Role, list[Row]] = {"user": [], "shadow": []}
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._lock, self._closing = threading.Condition(), False
        self._named: deque[str] = deque(maxlen=ON_DEMAND)
        self._prefixes = Prefixes(PREFIX_BYTES)
        self._canaries: list[Canary] = []
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

    def _call(self, work: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
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

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self, patience_s: float = 20.0) -> None:
        """Finish the users' rows that are live, then end the thread."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        self._thread.join(timeout=patience_s)

    # Adapters: read in the caller's thread, attached between two passes

    def crown(self, folder: Path | None) -> str | None:
        """Make an adapter (None: the base alone) the champion for new rows, once its canary has answered.

        Nobody who is being answered waits for it. Raises WeightsError; then who served before goes on serving.
        """
        if folder is None:
            return self._call(lambda: self._crown(None))
        prepared: Any = apart(lambda: self.decoder.read_adapter(folder))
        try:
            return self._call(lambda: self._try(prepared)).result(timeout=PATIENCE_S)
        finally:
            give_back()

    def fetch(self, folder: Path) -> str:
        """Load an adapter that somebody asks for by name, or keep the one that is there. Raises WeightsError."""
        if self._call(lambda: self._keep(folder.name)):
            return folder.name
        prepared: Any = apart(lambda: self.decoder.read_adapter(folder))
        try:
            return self._call(lambda: self._fetch(prepared))
        finally:
            give_back()

    def _try(self, prepared: Any) -> Future[str]:
        digest, ids = self.decoder.attach(prepared), self.renderer.prompt(CANARY)[-CANARY_TOKENS:]
        caches: list[Any] = [self.decoder.new_cache(len(ids)) for _ in range(2)]
        base, tuned = (Segment(ids=ids, cache=c, adapter=a) for c, a in zip(caches, (None, digest), strict=True))
        self._canaries.append(Canary(digest, (base, tuned), Future()))
        return self._canaries[-1].crowned

    def _answered(self, canary: Canary, logits: torch.Tensor) -> None:
        """Crown the candidate if this is the answer of an adapter that works."""
        try:
            _prove(canary.candidate, logits)
        except WeightsError as error:
            self._refuse(canary, error)
        else:
            self._canaries.remove(canary)
            self._crown(canary.candidate)
            canary.crowned.set_result(canary.candidate)

    def _refuse(self, canary: Canary, error: WeightsError) -> None:
        self._canaries.remove(canary)
        self._drop_unused()
        canary.crowned.set_exception(error)

    def _crown(self, digest: str | None) -> str | None:
        self.champion = digest
        self._drop_unused()
        return digest

    def _fetch(self, prepared: Any) -> str:
        digest = self.decoder.attach(prepared)
        self._keep(digest)
        self._drop_unused()
        return digest

    def _keep(self, digest: str) -> bool:
        """Whether this adapter is there; then it is the last that goes."""
        if digest not in self.decoder.adapters:
            return False
        with contextlib.suppress(ValueError):
            self._named.remove(digest)
        self._named.append(digest)
        return True

    def _drop_unused(self) -> None:
        with self._lock:
            asks = [row.ask for rows in self._live.values() for row in rows]
            asks += [ask for waiting in self._waiting.values() for ask, _ in waiting]
        for digest in self.decoder.adapters - {
            self.champion,
            *(canary.candidate for canary in self._canaries),
            *self._named,
            *(ask.adapter for ask in asks),
        }:
            self.decoder.remove_adapter(digest)
            self._prefixes.forget(digest)

    # The loop

    def _run(self) -> None:
        while True:
            self._serve_calls()
            with self._lock:
                if self._closing and not self._live["user"]:
                    break
                if not any((*self._waiting.values(), *self._live.values(), self._canaries)) and self._calls.empty():
                    self._lock.wait(timeout=1.0)
                    continue
            try:
                self._turn()
            except Exception as error:  # the named place: what breaks beside a pass ends its rows, never the thread
                log.error("turn_failed", error=type(error).__name__)
                self._end_live(f"{type(error).__name__} between two passes")
        self._end_all("the engine is stopping")

    def _serve_calls(self) -> None:
        while not self._calls.empty():
            work, done = self._calls.get()
            try:
                done.set_result(work())
            except BaseException as error:  # the named place: the caller gets whatever its work raised
                done.set_exception(error)

    def _turn(self) -> None:
        """One piece of a user's prompt, then one token of every other user; or the shadows."""
        self._sweep()
        reader = self._reader("user")
        if reader is not None:
            self._pass({"user": [reader]})
        users = [row for row in self._live["user"] if row is not reader and not row.unread]
        if users:
            beside = self.pairing.mode == "paired" and reader is None
            taken = len(users) if beside else MANY
            self._pass({"user": users}, room=self.pairing.room - taken, reach=self.pairing.reach - taken)
        elif reader is None:
            self._pass({}, room=LIVE["shadow"], reach=MANY, interrupt=lambda: bool(self._waiting["user"]))

    def _reader(self, role: Role) -> Row | None:
        """The first live row whose prompt is not read yet; a waiting one is admitted where there is a place."""
        for row in self._live[role]:
            if row.unread:
                return row
        with self._lock:
            if not self._waiting[role] or len(self._live[role]) >= LIVE[role] or self._closing:
                return None
            ask, asked_at = self._waiting[role].popleft()
        try:
            return self._admit(ask, asked_at)
        except Exception as error:  # the named place: who finds no room ends with the reason
            log.error("row_failed", role=role, error=type(error).__name__)
            late = time.monotonic() - asked_at
            ask.emit(End(reason="error", detail=f"{type(error).__name__} before generating", latency_s=late))
            return None

    def _admit(self, ask: Ask, asked_at: float) -> Row:
        """The row that an ask becomes, with what is known of its prompt. Raises what the lack of memory raises."""
        cache: Any = self.decoder.new_cache(len(ask.prompt) + ask.max_new_tokens)
        if self.decoder.shares:
            self._prefixes.begin((ask.role, ask.adapter), ask.prompt, cache)
        row = Row(ask=ask, asked_at=asked_at, cache=cache, unread=list(ask.prompt[len(cache.tokens) :]),
                  draw=torch.Generator().manual_seed(ask.seed))  # fmt: skip
        self._live[ask.role].append(row)
        return row

    def _pass(
        self,
        rows: dict[str, list[Row]],
        *,
        room: int = 0,
        reach: int = 0,
        interrupt: Callable[[], bool] | None = None,
    ) -> None:
        """One pass for these users' rows, for shadows that speak in `room` rows, and for what is read within `reach` tokens."""
        plan = [(row, row.segment(PIECE["user"])) for row in rows.get("user", [])]
        plan += self._shadows(max(0, room), max(0, reach))
        if plan or self._canaries:
            self._speak(plan, tuple(self._canaries), interrupt)

    def _shadows(self, room: int, reach: int) -> list[tuple[Row, Segment]]:
        """Shadows that speak, one token each, then a piece of a prompt."""
        speaking = [row for row in self._live["shadow"] if not row.unread][:room]
        plan = [(row, row.segment(1)) for row in speaking]
        left = reach - len(plan)
        reader = self._reader("shadow") if left > 0 else None
        if reader is not None:
            plan.append((reader, reader.segment(min(left, PIECE["shadow"]))))
        return plan

    def _speak(
        self,
        plan: Sequence[tuple[Row, Segment]],
        canaries: Sequence[Canary] = (),
        interrupt: Callable[[], bool] | None = None,
    ) -> None:
        """One pass; whatever breaks in it is tried row by row and ends the row, or refuses the candidate, that breaks alone."""
        segments = [segment for _, segment in plan] + [each for canary in canaries for each in canary.segments]
        try:
            logits = self.decoder.forward(segments, interrupt=interrupt)
        except Interrupted:
            return
        except Exception as error:  # the named place: one row's fault is that row's end
            if len(plan) + len(canaries) > 1:
                for canary in canaries:
                    self._speak([], [canary])
                for each in plan:
                    self._speak([each])
            elif canaries:
                self._refuse(canaries[0], WeightsError(f"the canary ended in {type(error).__name__}: {error}"[:300]))
            else:
                row = plan[0][0]
                log.error("row_failed", role=row.ask.role, error=type(error).__name__)
                self._end(row, "error", f"{type(error).__name__} while generating")
            return
        for row, segment in plan:
            row.has_read(segment)
        speaking = [row for row, segment in plan if segment.speaks]
        proofs, logits = logits[len(speaking) :].reshape(-1, 2, logits.shape[-1]), logits[: len(speaking)]
        for canary, says in zip(canaries, proofs, strict=False):
            self._answered(canary, says)
        for row, said in zip(speaking, choose(logits, speaking) if speaking else [], strict=True):
            if said is None:
                self._end(row, "error", "the model's numbers are not finite")
            elif ended := row.take(*said, self.renderer):
                self._end(row, ended)

    def _sweep(self) -> None:
        """End what was cancelled or is late, live and waiting."""
        now = time.monotonic()
        for role in self._live:
            for row in list(self._live[role]):
                if (gone := _gone(row.ask, row.asked_at, now)) is not None:
                    self._end(row, "cancelled", gone)
            with self._lock:
                left = [(ask, at, _gone(ask, at, now)) for ask, at in self._waiting[role]]
                if all(gone is None for _, _, gone in left):
                    continue
                self._waiting[role] = deque((ask, at) for ask, at, gone in left if gone is None)
            for ask, at, gone in left:
                if gone is not None:
                    ask.emit(End(reason="cancelled", detail=gone, latency_s=now - at))

    def _end(self, row: Row, reason: Any, detail: str = "") -> None:
        self._live[row.ask.role].remove(row)
        if self.decoder.shares and reason in ("stop", "length"):
            self._remember(row)
        row.ask.emit(row.ended(reason, detail))
        if row.ask.adapter not in (None, self.champion):
            self._drop_unused()

    def _remember(self, row: Row) -> None:
        """For rows that begin alike; where there is no room for a copy, they read it all again."""
        try:
            self._prefixes.keep((row.ask.role, row.ask.adapter), row.cache)
        except (RuntimeError, MemoryError) as error:
            log.warning("prefix_not_kept", role=row.ask.role, error=type(error).__name__)

    def _end_live(self, detail: str) -> None:
        for rows in self._live.values():
            for row in list(rows):
                self._end(row, "error", detail)

    def _end_all(self, detail: str) -> None:
        for canary in tuple(self._canaries):
            self._refuse(canary, WeightsError(detail))
        self._end_live(detail)
        for waiting in self._waiting.values():
            while waiting:
                ask, _ = waiting.popleft()
                ask.emit(End(reason="error", detail=detail))


def _prove(digest: str, says: torch.Tensor) -> None:
    """The canary: with the adapter the next token's logits are finite and not the base's. Raises WeightsError."""
    base, tuned = says
    if not torch.isfinite(tuned).all():
        raise WeightsError(f"adapter {digest[:12]} answers the canary with numbers that are not finite")
    if torch.equal(base, tuned):
        raise WeightsError(f"adapter {digest[:12]} answers the canary exactly as the base does: it changes nothing")


def _gone(ask: Ask, asked_at: float, now: float) -> str | None:
    """Why a row must end before it has spoken, in words that may be empty; None while it may go on."""
    if ask.cancelled.is_set():
        return ""
    late = now - asked_at > DEADLINE_S[ask.role]
    return f"not answered within the {DEADLINE_S[ask.role]:.0f} s of a {ask.role}'s row" if late else None
