"""Events over HTTP: a guard in front of Bolt that nothing unsigned, oversized, old or repeated gets past.

Promise: only Slack's own requests reach Bolt, each once; any other input gets 4xx, never a traceback, and its body is
never logged. What was checked here is what Bolt reads: the body is parsed once.
Source of the signature: docs.slack.dev/authentication/verifying-requests-from-slack.
"""

import asyncio
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import structlog
from slack_bolt import App, BoltRequest
from slack_bolt.adapter.starlette.handler import to_starlette_response
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.shapes import strange
from storage.errors import Busy
from storage.ledger import Ledger

log = structlog.get_logger()
LARGEST_BODY = 1_000_000
SLOWEST_BODY_S = 10.0
WINDOW_S = 300
LOCK_PATIENCE_S = 0.15
THREADS = 10
PATH = "/slack/events"


def http_app(
    bolt: App,
    signing_secret: str,
    *,
    ledger: Ledger,
    healthy: Callable[[], bool],
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """POST /slack/events for Slack, GET /healthz for whoever watches."""
    seen = Seen(ledger, clock)
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="request")  # they stay: each keeps one connection

    async def events(request: Request) -> Response:
        body = await _read(request)
        if body is None:
            return _refuse(413, f"the body is larger than {LARGEST_BODY} bytes, or came too slowly")
        stamps, signatures = (request.headers.getlist(f"x-slack-{n}") for n in ("request-timestamp", "signature"))
        single = len(stamps) == len(signatures) == 1
        if not single or not signed(signing_secret, stamps[0], signatures[0], body, clock()):
            return _refuse(401, "the signature is missing, wrong or too old")
        payload = payload_of(body, request.headers.get("content-type", ""))
        if payload is None:
            return _refuse(400, "the body is no payload of Slack's")
        if (part := strange(payload)) is not None:
            log.warning("payload_refused", part=part)
            return Response(status_code=200)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, _once, seen, bolt, signatures[0], payload)

    async def health(request: Request) -> Response:
        good = healthy()
        return JSONResponse({"status": "ok" if good else "a worker has stopped"}, 200 if good else 503)

    @asynccontextmanager
    async def open_threads(app: Starlette) -> AsyncIterator[None]:
        _warm(threads, ledger)
        yield
        threads.shutdown()

    routes = [Route(PATH, events, methods=["POST"]), Route("/healthz", health, methods=["GET"])]
    return Starlette(routes=routes, lifespan=open_threads)


def _warm(threads: ThreadPoolExecutor, ledger: Ledger) -> None:
    """Every thread opens its connection now: while the ledger is locked, that alone could take seconds."""
    together = threading.Barrier(THREADS, timeout=10)

    def open_one() -> None:
        ledger.connections.db.execute("SELECT 1")
        together.wait()

    for started in [threads.submit(open_one) for _ in range(THREADS)]:
        started.result()


def _once(seen: "Seen", bolt: App, signature: str, payload: dict[str, Any]) -> Response:
    """Bolt's answer, or a bare 200 to what was answered before."""
    if not seen.let_in(signature, event="event" in payload):
        return Response(status_code=200)
    reply = _dispatch(bolt, payload)
    seen.settle(signature, accepted=reply.status_code < 300)
    return reply


def _dispatch(bolt: App, payload: dict[str, Any]) -> Response:
    try:
        # the mode in which Bolt takes a payload that is parsed and verified
        return to_starlette_response(bolt.dispatch(BoltRequest(body=payload, mode="socket_mode")))
    except Exception as error:  # the named place: Bolt itself breaks on some shapes; Slack reads "not accepted"
        log.error("dispatch_failed", error=type(error).__name__)
        return _refuse(400, "the payload could not be read")


async def _read(request: Request) -> bytes | None:
    """The raw body, or None when it is too large or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(SLOWEST_BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_BODY:
                    return None
    except (TimeoutError, ClientDisconnect):
        return None
    return bytes(body)


def signed(secret: str, timestamp: str, signature: str, body: bytes, now: float) -> bool:
    """Whether these exact bytes were signed with our secret in the last five minutes. Total: odd input is False."""
    if not secret or not re.fullmatch(r"[0-9]{1,12}", timestamp) or not re.fullmatch(r"v0=[0-9a-f]{64}", signature):
        return False
    if abs(now - int(timestamp)) > WINDOW_S:
        return False
    expected = hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"v0={expected}", signature)


def payload_of(body: bytes, content_type: str) -> dict[str, Any] | None:
    """The JSON object in the body, or in a form's field `payload`, or the fields of a command; None for all else."""
    try:
        text = body.decode("utf-8")
        if content_type.startswith("application/json"):
            return _object(text)
        fields = dict(parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=200))
        if "payload" in fields:
            return _object(fields["payload"])
        return fields if "command" in fields or "ssl_check" in fields else None
    except (ValueError, RecursionError):
        return None


def _object(text: str) -> dict[str, Any] | None:
    found = json.loads(text)
    return found if isinstance(found, dict) else None


def _refuse(status: int, why: str) -> Response:
    log.warning("request_refused", status=status, why=why)
    return JSONResponse({"error": why}, status)


class Seen:
    """Which requests were let in during the last two windows, so that none acts twice.

    A command, a click or a form acts at most once, also over a restart and among several processes: its signature is in
    the ledger before Bolt acts. An event is one by its own keys in the inbox, and one whose first delivery died half-way
    must be let in again: what was answered is remembered here only.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger, self._clock, self._lock = ledger, clock, threading.Lock()
        self._at: dict[str, float] = {}

    def let_in(self, signature: str, *, event: bool) -> bool:
        """Whether Bolt may act on this request."""
        with self._lock:
            self._forget_old()
            if signature in self._at:
                return False
            if event:
                return True
            self._at[signature] = self._clock()
        return self._first_anywhere(signature)

    def settle(self, signature: str, *, accepted: bool) -> None:
        """What Bolt said. What it did not accept may come again with the same signature."""
        with self._lock:
            if accepted:
                self._at.setdefault(signature, self._clock())
                return
            known = self._at.pop(signature, None)
        if known is None:
            return
        try:
            with self._ledger.connections.patience(LOCK_PATIENCE_S):
                self._ledger.requests.release(signature)
        except Busy:
            log.warning("not_released", why="the ledger is locked")

    def _first_anywhere(self, signature: str) -> bool:
        """Also among other processes and before a restart; while the ledger is locked, this process alone decides."""
        try:
            with self._ledger.connections.patience(LOCK_PATIENCE_S):
                return self._ledger.requests.first(signature, keep_s=2 * WINDOW_S)
        except Busy:
            log.warning("not_looked_up", why="the ledger is locked")
            return True

    def _forget_old(self) -> None:
        """The oldest stand first, so this looks at no more than it forgets."""
        oldest = self._clock() - 2 * WINDOW_S
        while self._at and next(iter(self._at.values())) < oldest:
            del self._at[next(iter(self._at))]
