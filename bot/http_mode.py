"""Events over HTTP: a guard in front of Bolt that nothing unsigned, oversized, old or repeated gets past.

Promise: only Slack's own requests reach Bolt; any other input gets 4xx, never a traceback, and its body is never
logged. A request that was answered with success does not act twice.
Source of the signature: docs.slack.dev/authentication/verifying-requests-from-slack.
"""

import asyncio
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Callable
from urllib.parse import parse_qs

import structlog
from slack_bolt import App
from slack_bolt.adapter.starlette.handler import to_bolt_request, to_starlette_response
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

log = structlog.get_logger()
LARGEST_BODY = 1_000_000
SLOWEST_BODY_S = 10.0
WINDOW_S = 300
PATH = "/slack/events"


def http_app(
    bolt: App, signing_secret: str, *, healthy: Callable[[], bool], clock: Callable[[], float] = time.time
) -> Starlette:
    """POST /slack/events for Slack, GET /healthz for whoever watches."""
    seen = Seen(clock)

    async def events(request: Request) -> Response:
        body = await _read(request)
        if body is None:
            return _refuse(413, f"the body is larger than {LARGEST_BODY} bytes, or came too slowly")
        stamps, signatures = (request.headers.getlist(f"x-slack-{n}") for n in ("request-timestamp", "signature"))
        if (
            len(stamps) != 1
            or len(signatures) != 1
            or not signed(signing_secret, stamps[0], signatures[0], body, clock())
        ):
            return _refuse(401, "the signature is missing, wrong or too old")
        if not understood(body, request.headers.get("content-type", "")):
            return _refuse(400, "the body is no payload of Slack's")
        if not seen.first(signatures[0]):
            return Response(status_code=200)
        reply = await run_in_threadpool(_dispatch, bolt, request, body)
        if reply.status_code >= 300:
            seen.forget(signatures[0])
        return reply

    async def health(request: Request) -> Response:
        return JSONResponse(
            {"status": "ok"} if healthy() else {"status": "a worker has stopped"}, 200 if healthy() else 503
        )

    return Starlette(routes=[Route(PATH, events, methods=["POST"]), Route("/healthz", health, methods=["GET"])])


def _dispatch(bolt: App, request: Request, body: bytes) -> Response:
    try:
        return to_starlette_response(bolt.dispatch(to_bolt_request(request, body)))
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


def understood(body: bytes, content_type: str) -> bool:
    """Whether the body is a JSON object, or a form whose payload (if it has one) is one."""
    try:
        text = body.decode("utf-8")
        if content_type.startswith("application/json"):
            return isinstance(json.loads(text), dict)
        fields = parse_qs(text, strict_parsing=True, max_num_fields=200)
        return (
            isinstance(json.loads(fields["payload"][0]), dict)
            if "payload" in fields
            else "command" in fields or "ssl_check" in fields
        )
    except (ValueError, RecursionError):
        return False


def _refuse(status: int, why: str) -> Response:
    log.warning("request_refused", status=status, why=why)
    return JSONResponse({"error": why}, status)


class Seen:
    """Signatures that were answered in the last window."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._at: dict[str, float] = {}

    def first(self, signature: str) -> bool:
        now = self._clock()
        with self._lock:
            self._at = {s: at for s, at in self._at.items() if now - at <= 2 * WINDOW_S}
            known = signature in self._at
            self._at.setdefault(signature, now)
            return not known

    def forget(self, signature: str) -> None:
        with self._lock:
            self._at.pop(signature, None)
