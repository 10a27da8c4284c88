"""A scripted server that behaves as vLLM does towards a client, and lies where a test tells it to.

Its models are made up: what one says and how sure it is follows from its weights (the base, or an adapter's folder) and
from the question alone, so that the same weights always say the same.
"""

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.serving import serving

BASE_MODEL = "acme/base-1"
Body = dict[str, Any]


@dataclass
class VllmServer:
    """`loaded`: adapter name → the folder that it was loaded from."""

    url: str = ""
    key: str = ""
    loaded: dict[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()  # fixed models beside the base
    runtime_loading: bool = True
    strangers: str = "404"  # a name that is not there: 404, base (the base answers as itself), liar (under that name)
    priority: bool = True
    logprobs: bool = True
    wobble: float = 0.0  # nats by which its numbers change from call to call
    nan: bool = False
    status: int = 200
    has_base: bool = True
    whole: str = ""  # what stands in every reply that is no stream
    stream: Callable[[str], Iterator[bytes]] | None = None  # takes the model's name; instead of a good answer
    asked: list[Body] = field(default_factory=list)
    calls: list[tuple[str, Body]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def restart(self, **changes: Any) -> None:
        """What a restart does: the adapters are forgotten."""
        self.loaded.clear()
        self.__dict__.update(changes)

    def questions(self, model: str) -> list[Body]:
        """The streamed requests for this model: no canaries."""
        return [body for body in self.asked if body["model"] == model and body.get("stream")]

    def weights(self, model: str) -> tuple[str, str] | None:
        """Whose weights answer to this name, and under which name; None: nobody's."""
        if model in self.loaded:
            return self.loaded[model], model
        if model in self.extra:
            return model, model
        if model == BASE_MODEL and self.has_base:
            return "base", model
        return {"404": None, "base": ("base", BASE_MODEL), "liar": ("base", model)}[self.strangers]


def _noise(*parts: str) -> random.Random:
    return random.Random(hashlib.sha256("|".join(parts).encode()).digest())


def _tops(server: VllmServer, weights: str, prompt: str) -> list[Body]:
    draw = _noise(weights, prompt)
    numbers = [-draw.uniform(0.1, 3.0) + random.uniform(-server.wobble, server.wobble) for _ in range(5)]
    if server.nan and weights != "base":
        numbers[0] = math.nan
    return [{"token": f"t{n}", "logprob": number, "bytes": None} for n, number in enumerate(numbers)]


def _text(weights: str, prompt: str) -> str:
    return f"{weights.rsplit('/', 1)[-1][:12]} says {_noise(weights, prompt).randrange(1000)}."


def _error(message: str, status: int) -> Response:
    return JSONResponse({"error": {"message": message, "type": "BadRequestError", "code": status}}, status)


def _whole(server: VllmServer, weights: str, name: str, body: Body) -> Response:
    if server.whole:
        return Response(server.whole, media_type="application/json")
    prompt = body["messages"][-1]["content"]
    tops = _tops(server, weights, prompt)
    numbers = {"content": [{**tops[0], "top_logprobs": tops}]} if body.get("logprobs") and server.logprobs else None
    choice = {"index": 0, "message": {"role": "assistant", "content": _text(weights, prompt)}, "logprobs": numbers,
              "finish_reason": "length"}  # fmt: skip
    frame = {"id": "c1", "object": "chat.completion", "created": 1, "model": name, "choices": [choice]}
    return Response(json.dumps(frame), media_type="application/json")  # NaN as it stands, as some servers do


def _streamed(weights: str, name: str, body: Body) -> Iterator[str]:
    def chunk(delta: Body, finish: str | None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        frame = {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": name,
            "choices": [choice],
            **more,
        }
        return f"data: {json.dumps(frame)}\n\n"

    words = _text(weights, body["messages"][-1]["content"]).split(" ")
    for n, word in enumerate(words):
        yield chunk({"content": f" {word}" if n else word}, None)
    yield chunk({}, "stop", usage={"prompt_tokens": 9, "completion_tokens": len(words), "total_tokens": 9 + len(words)})
    yield "data: [DONE]\n\n"


def _app(server: VllmServer) -> Starlette:
    async def read(request: Request) -> Body:
        server.keys.append(request.headers.get("authorization", ""))
        body = json.loads(await request.body() or b"{}")
        server.calls.append((request.url.path, body))
        return body

    def gone(request: Request) -> Response | None:
        if server.key and request.headers.get("authorization") != f"Bearer {server.key}":
            return _error("Unauthorized", 401)
        return _error("scripted", server.status) if server.status != 200 else None

    async def models(request: Request) -> Response:
        await read(request)
        names = [*([BASE_MODEL] if server.has_base else []), *server.loaded, *server.extra]
        return gone(request) or JSONResponse({"object": "list", "data": [{"id": n, "object": "model"} for n in names]})

    async def load(request: Request) -> Response:
        body = await read(request)
        if (refused := gone(request)) is not None:
            return refused
        if not server.runtime_loading:
            return JSONResponse({"detail": "Not Found"}, 404)
        name, path = body.get("lora_name"), body.get("lora_path")
        if not name or not path:
            return _error("Both 'lora_name' and 'lora_path' must be provided.", 400)
        if name in server.loaded:
            return _error(f"The lora adapter '{name}' has already been loaded.", 400)
        if "/nowhere/" in path:
            return _error(f"Loading lora {name} failed: No adapter found for {path}", 404)
        server.loaded[name] = path
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(request: Request) -> Response:
        body = await read(request)
        if server.loaded.pop(body.get("lora_name", ""), None) is None:
            return _error("The lora adapter cannot be found.", 404)
        return PlainTextResponse("Success")

    async def complete(request: Request) -> Response:
        body = await read(request)
        server.asked.append(body)
        found = server.weights(body["model"])
        if (refused := gone(request)) is not None:
            return refused
        if body.get("priority") and not server.priority:
            return _error("Got priority 10 but priority scheduling is not enabled.", 400)
        if found is None:
            return _error(f"The model `{body['model']}` does not exist.", 404)
        if body.get("stream"):
            said = server.stream(body["model"]) if server.stream else _streamed(*found, body)
            return StreamingResponse(said, media_type="text/event-stream")
        return _whole(server, *found, body)

    post = {"methods": ["POST"]}
    return Starlette(
        routes=[
            Route("/v1/models", models),
            Route("/v1/load_lora_adapter", load, **post),
            Route("/v1/unload_lora_adapter", unload, **post),
            Route("/v1/chat/completions", complete, **post),
        ]
    )


@contextmanager
def vllm_server(**changes: Any) -> Iterator[VllmServer]:
    server = VllmServer(**changes)
    with serving(_app(server)) as server.url:
        yield server
