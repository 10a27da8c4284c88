"""The engine over HTTP: the OpenAI protocol on loopback, and the follower that keeps the ledger's champion in place.

Promises: a swap drops no request and mixes none; every reply proves who spoke; content is never logged.
Knows the ledger's promotions. Knows no Slack.
"""

import asyncio
import contextlib
import json
import signal
import threading
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bot.engine.base import base_folder
from bot.engine.pairing import measured
from bot.engine.protocol import BadRequest, ChatRequest, chat_request, error_body, usage
from bot.engine.rows import Ask, End
from bot.engine.scheduler import Full, Scheduler, apart
from bot.engine.stock import open_decoder
from storage.digests import digest_of, short
from storage.errors import ConfigurationError, WeightsError
from storage.ledger import Ledger
from storage.records import Promotion
from storage.settings import Settings
from storage.weights import adapter_path

log = structlog.get_logger()
MAX_BODY = 1_000_000
FOLLOW_EVERY_S = 0.25
AFTER_FAULT_S = 2.0  # until a look that failed is taken again


@dataclass(slots=True)
class Engine:
    """The running engine: model and scheduler once loaded, and which promotion it follows."""

    settings: Settings
    scheduler: Scheduler | None = None
    promotion: Promotion | None = None
    outcome: str = ""  # what came of it
    fault: str = ""
    started_at: float = field(default_factory=time.monotonic)
    stopping: threading.Event = field(default_factory=threading.Event)

    def load(self, folder: Path) -> None:
        decoder, renderer = apart(lambda: open_decoder(folder))
        pairing = apart(lambda: measured(decoder, self.settings.shadow_mode))
        self.scheduler = Scheduler(decoder, renderer, pairing)
        log.info("model_loaded", base=short(decoder.base_digest), device=str(decoder.device), **asdict(pairing))

    @property
    def ready(self) -> Scheduler:
        if self.scheduler is None:
            raise BadRequest("the model is still loading", status=503, code="loading", retry_after=2)
        return self.scheduler

    def _named(self, name: str, scheduler: Scheduler) -> str:
        wanted = name.removeprefix("adapter-")
        folders = (
            sorted((self.settings.weights_dir / "adapters").glob(f"{wanted}*"))
            if name != wanted and len(wanted) >= 8 and wanted.isalnum()
            else []
        )
        if len(folders) != 1:
            raise BadRequest(
                f"model {name[:80]!r} is unknown. Allowed: base, tuned, adapter-<digest>",
                status=404,
                code="model_not_found",
            )
        try:
            return scheduler.fetch(folders[0])
        except WeightsError as error:
            raise BadRequest(str(error), status=404, code="model_not_found") from None

    # The follower

    def follow(self, ledger: Ledger) -> None:
        """Until the engine stops: whoever the ledger's last promotion names serves, or the row says why not."""
        said, pause_s = "", FOLLOW_EVERY_S
        while not self.stopping.wait(pause_s):
            try:
                self._look(ledger)
                said, pause_s = "", FOLLOW_EVERY_S
            except Exception as error:  # the named place: a look that fails is taken again, so no promotion is missed
                reason = f"{type(error).__name__}: {error}"
                if reason != said:  # the same trouble is told once
                    log.warning("follower_waits", error=type(error).__name__, reason=str(error))
                said, pause_s = reason, AFTER_FAULT_S

    def _look(self, ledger: Ledger) -> None:
        """Crown whom the last promotion names, then see that its row says what came of it."""
        newest = ledger.promotions.champion()
        if newest is None:
            return
        if self.promotion is None or newest.promotion_id != self.promotion.promotion_id:
            self.apply(newest)
        if newest.confirmed != self.outcome:
            ledger.promotions.confirm(newest.promotion_id, self.outcome)

    def apply(self, promotion: Promotion) -> None:
        scheduler, digest = self.ready, promotion.adapter_digest
        folder = None if digest is None else adapter_path(self.settings.weights_dir, digest)
        try:
            scheduler.crown(folder)
            outcome = "ok"
        except WeightsError as error:
            outcome = str(error)
        self.promotion, self.outcome = promotion, outcome
        log.info("champion", version=promotion.version, adapter=short(digest), outcome=outcome)

    # Requests

    def health(self) -> dict[str, Any]:
        if self.scheduler is None:
            return {"status": "failed" if self.fault else "loading", "reason": self.fault}
        if not self.scheduler.alive:
            return {"status": "failed", "reason": "the model's thread has died. Next: restart the engine"}
        model, serving = self.scheduler.decoder, self.scheduler.champion
        version = self.promotion.version if self.promotion and self.promotion.adapter_digest == serving else None
        return {
            "status": "ok", "base_digest": model.base_digest, "device": str(model.device), "dtype": str(model.dtype).removeprefix("torch."),
            "champion": {"version": version, "adapter_digest": serving}, "promotion_id": self.promotion.promotion_id if self.promotion else None,
            "queue": self.scheduler.depths(), "shadow": asdict(self.scheduler.pairing), "uptime_s": round(time.monotonic() - self.started_at, 1)}  # fmt: skip

    def open(self, body: Any, loop: asyncio.AbstractEventLoop) -> "Reply":
        """A submitted row as a reply in the making; blocks while an adapter is loaded. Raises BadRequest."""
        request = chat_request(body, default_tokens=self.settings.max_new_tokens)
        scheduler = self.ready
        adapter = None if request.model in ("base", "tuned") else self._named(request.model, scheduler)
        prompt = scheduler.renderer.prompt(request.messages)
        if len(prompt) + request.max_tokens > scheduler.decoder.context:
            raise BadRequest(
                f"prompt ({len(prompt)} tokens) and max_tokens ({request.max_tokens}) exceed the context of {scheduler.decoder.context}",
                code="context_length_exceeded",
            )
        reply = Reply(request=request, prompt_tokens=len(prompt), loop=loop, proof={
            "base_digest": scheduler.decoder.base_digest, "template_digest": scheduler.renderer.template_digest,
            "prompt_digest": digest_of(prompt), "params": request.params})  # fmt: skip
        try:
            ask = Ask(
                role=request.role,
                adapter=adapter,
                prompt=prompt,
                max_new_tokens=request.max_tokens,
                temperature=request.temperature,
                seed=request.seed,
                stop=request.stop,
                emit=reply.emit,
                cancelled=reply.cancelled,
            )
            reply.proof["adapter_digest"] = scheduler.submit(ask, champion=request.model == "tuned")
        except Full as error:
            raise BadRequest(str(error), status=429, code="rate_limit_exceeded", retry_after=2) from None
        return reply


@dataclass(slots=True, kw_only=True)
class Reply:
    """One answer on its way out, as chunks or whole."""

    request: ChatRequest
    prompt_tokens: int
    proof: dict[str, Any]
    loop: asyncio.AbstractEventLoop
    events: "asyncio.Queue[str | End]" = field(default_factory=asyncio.Queue)
    cancelled: threading.Event = field(default_factory=threading.Event)
    name: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")

    def emit(self, event: "str | End") -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody listens any more
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)

    async def whole(self, request: Request) -> dict[str, Any]:
        """The finished completion. Raises BadRequest when the row failed; a caller who left cancels it."""
        said, end = await self._until_end(request)
        if end.reason in ("error", "cancelled"):
            raise BadRequest(end.detail or "cancelled", status=503, code="server_error")
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(said)}, "finish_reason": end.reason}
        return self._frame("chat.completion", choice) | {
            "usage": usage(self.prompt_tokens, end.tokens),
            "evenkeel": self._proof(end),
        }

    async def _until_end(self, request: Request) -> tuple[list[str], End]:
        said: list[str] = []
        while True:
            try:
                event = await asyncio.wait_for(self.events.get(), timeout=1.0)
            except TimeoutError:
                if await request.is_disconnected():
                    self.cancelled.set()
                continue
            if isinstance(event, End):
                return said, event
            said.append(event)

    async def chunks(self) -> AsyncIterator[str]:
        """Server-sent events; leaving them early cancels the row."""
        try:
            yield self._chunk({"role": "assistant", "content": ""}, None)
            while True:
                event = await self.events.get()
                if isinstance(event, End):
                    break
                yield self._chunk({"content": event}, None)
            if event.reason in ("error", "cancelled"):
                yield f"data: {json.dumps(error_body(BadRequest(event.detail or 'cancelled', code='server_error')))}\n\n"
                return
            numbers = {"usage": usage(self.prompt_tokens, event.tokens)} if self.request.include_usage else {}
            yield self._chunk({}, event.reason, evenkeel=self._proof(event), **numbers)
            yield "data: [DONE]\n\n"
        finally:
            self.cancelled.set()

    def _proof(self, end: End) -> dict[str, Any]:
        return self.proof | {"ttft_s": end.ttft_s, "latency_s": end.latency_s, "confidence": end.confidence}

    def _chunk(self, delta: dict[str, str], finish: str | None, **more: Any) -> str:
        frame = self._frame("chat.completion.chunk", {"index": 0, "delta": delta, "finish_reason": finish}) | more
        return f"data: {json.dumps(frame, ensure_ascii=False)}\n\n"

    def _frame(self, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
        spoke = f"base-{short(self.proof['base_digest'])}+adapter-{short(self.proof['adapter_digest'])}"
        return {
            "id": self.name,
            "object": kind,
            "created": int(time.time()),
            "model": self.request.model,
            "system_fingerprint": spoke,
            "choices": [choice],
        }


def create_app(engine: Engine) -> Starlette:
    """The HTTP face of an engine."""

    async def healthz(_: Request) -> Response:
        found = engine.health()
        return JSONResponse(found, status_code=200 if found["status"] == "ok" else 503)

    async def models(_: Request) -> Response:
        try:
            champion = engine.ready.champion
        except BadRequest as error:
            return refused(error)
        names = ["base", "tuned", *([f"adapter-{short(champion)}"] if champion else [])]
        return JSONResponse(
            {
                "object": "list",
                "data": [{"id": n, "object": "model", "created": 0, "owned_by": "evenkeel"} for n in names],
            }
        )

    async def completions(request: Request) -> Response:
        try:
            body = await read_json(request)
            reply = await asyncio.to_thread(engine.open, body, asyncio.get_running_loop())
            if reply.request.stream:
                return StreamingResponse(
                    reply.chunks(), media_type="text/event-stream", headers={"cache-control": "no-cache"}
                )
            return JSONResponse(await reply.whole(request))
        except BadRequest as error:
            return refused(error)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/v1/models", models),
            Route("/v1/chat/completions", completions, methods=["POST"]),
        ]
    )


async def read_json(request: Request) -> Any:
    """The body as JSON, at most 1 MB of it. Raises BadRequest."""
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > MAX_BODY:
            raise BadRequest(f"the body has more than {MAX_BODY:,} bytes", status=413, code="request_too_large")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None


def refused(error: BadRequest) -> Response:
    headers = {"retry-after": str(error.retry_after)} if error.retry_after else None
    return JSONResponse(error_body(error), status_code=error.status, headers=headers)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM, on the host and port of ENGINE_URL. Raises ConfigurationError when it is not ours to serve."""
    address = urlsplit(settings.engine_url)
    if address.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ConfigurationError(
            f"ENGINE_URL={settings.engine_url} is not on this machine: nothing to start here. Next: start only bot and worker."
        )
    engine, ledger = Engine(settings=settings), Ledger(settings.ledger_path)
    folder = base_folder(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(engine),
            host=address.hostname,
            port=address.port or 80,
            log_config=None,
            timeout_graceful_shutdown=20,
        )
    )

    def prepare() -> None:
        try:
            engine.load(folder)
        except Exception as error:  # the named place: a model that cannot be loaded ends the engine with its reason
            engine.fault = str(error)
            server.should_exit = True
            return
        engine.follow(ledger)

    helper = threading.Thread(target=prepare, name="follower", daemon=True)
    helper.start()
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn stops on it and raises it once more when it has stopped
    server.run()
    engine.stopping.set()
    if engine.scheduler is not None:
        engine.scheduler.close()
    helper.join(timeout=5)
    ledger.close()
    if engine.fault:
        raise WeightsError(engine.fault)
