"""A scripted server of the OpenAI protocol on a free port: what a test tells it to do, it does.

Modes: ok, slow, held (after the first word, until `release`), hang, garbage, html, empty, wrong_model, no_proof, cut,
down (503), gone (404).
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.serving import serving

BASE = "b" * 64


@dataclass
class ModelServer:
    url: str = ""
    mode: str = "ok"
    base_mode: str = "ok"
    text: str = "Open Settings and choose Reset password."
    adapter: str | None = None
    adapters: dict[str, str] = field(default_factory=dict)  # model → digest: those that are not the champion
    delay_s: float = 0.0
    confidence: float | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    release: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))  # one held answer each

    def calls(self, model: str) -> list[dict[str, Any]]:
        return [call for call in self.asked if call["model"] == model]


def _chunk(model: str, delta: dict[str, Any], finish: str | None, **extra: Any) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice], **extra}
    return f"data: {json.dumps(body)}\n\n"


def _proof(server: ModelServer, model: str) -> dict[str, Any]:
    return {
        "base_digest": BASE,
        "adapter_digest": server.adapter if model == "tuned" else server.adapters.get(model),
        "template_digest": "t" * 64,
        "prompt_digest": "p" * 64,
        "params": {"temperature": 0},
        "confidence": server.confidence,
    }


def _stream(server: ModelServer, model: str, mode: str) -> Iterator[str]:
    text = server.text if model == "tuned" else f"{model} SAYS" if model in server.adapters else "SECRET BASE ANSWER"
    named = "gpt-4" if mode == "wrong_model" else model
    words = [] if mode == "empty" else text.split(" ")
    for n, word in enumerate(words):
        if mode == "hang" and n == 1:
            time.sleep(5)
        if mode == "held" and n == 1:
            server.release.acquire(timeout=30)
        if mode == "cut" and n == 2:
            return
        time.sleep(0.15 if mode == "slow" else server.delay_s)
        yield _chunk(named, {"content": word if n == 0 else f" {word}"}, None)
    extra = {} if mode == "no_proof" else {"evenkeel": _proof(server, model)}
    usage = {"prompt_tokens": 10, "completion_tokens": len(words), "total_tokens": 10 + len(words)}
    yield _chunk(named, {}, "stop", usage=usage, **extra)
    yield "data: [DONE]\n\n"


def _app(server: ModelServer) -> Starlette:
    async def complete(request: Request) -> Response:
        body = await request.json()
        server.asked.append(body)
        mode = server.mode if body["model"] == "tuned" else server.base_mode
        if mode == "down":
            return JSONResponse({"error": {"message": "busy"}}, 503)
        if mode == "gone":
            return JSONResponse({"error": {"message": "no such model"}}, 404)
        if mode == "html":
            return HTMLResponse("<html>not a model</html>")
        if mode == "garbage":
            return StreamingResponse(iter(['data: {"choices": [{]\n\n']), media_type="text/event-stream")
        return StreamingResponse(_stream(server, body["model"], mode), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])


@contextmanager
def model_server() -> Iterator[ModelServer]:
    server = ModelServer()
    with serving(_app(server)) as server.url:
        yield server
