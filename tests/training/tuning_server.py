"""A scripted server with OpenAI's fine-tuning API, and the models that it tunes: what a test tells it to do, it does.

Its base finds each letter as likely as the text before it makes it, by a hash; a tuned model finds the letters of answers
like those that it was tuned on likelier, and says them where it is asked their question.
"""

import asyncio
import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.serving import serving

BASE = "acme-mini-2026-01-01"
Body = dict[str, Any]


@dataclass
class TuningServer:
    """`faults`: for "METHOD route", what the next calls meet: a status, (status, Retry-After), "lost" and "hang" (done, but
    nobody hears of it), "html". `states`: what a job says of itself, call after call; the last one stays.
    """

    url: str = ""
    key: str = ""
    faults: dict[str, list[Any]] = field(default_factory=dict)
    states: list[str] = field(default_factory=lambda: ["validating_files", "queued", "running", "succeeded"])
    shutdown: str | None = None
    tunable: bool | None = None
    job_error: Body | None = None
    file_status: str = "processed"
    file_error: str = ""
    losses: tuple[float, ...] = (2.0, 1.5, 1.25)
    checkpoint_losses: tuple[float, ...] = ()
    echo: bool = True
    tokenize: bool = True
    base_there: bool = True
    answers_as: str = ""  # a name in place of the one that was asked
    older: bool = False  # knows no `method`
    keeps_metadata: bool = True
    shows_late: int = 0  # lists that do not yet show what was made
    files: dict[str, Body] = field(default_factory=dict)
    jobs: dict[str, Body] = field(default_factory=dict)
    rows: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    taught: dict[str, dict[str, str]] = field(default_factory=dict)  # model → question → answer

    def count(self, call: str) -> int:
        return Counter(self.calls)[call]

    @property
    def models(self) -> list[str]:
        return [*([BASE] if self.base_there else []), *self.taught]


def _error(message: str, status: int, code: str | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "error", "code": code}}, status)


def _listed(rows: list[Body]) -> Response:
    return JSONResponse({"object": "list", "data": rows, "has_more": False})


def _cut_off() -> Response:
    def broken() -> Iterator[bytes]:
        yield b"{"
        raise ConnectionError

    return StreamingResponse(broken(), headers={"content-length": "99"}, media_type="application/json")


def _model(server: TuningServer, name: str) -> Body:
    found: Body = {"id": name, "object": "model", "created": 1, "owned_by": "acme", "shutdown_date": server.shutdown}
    return found if server.tunable is None else found | {"capabilities": {"fine_tune": server.tunable}}


def _upload(server: TuningServer, name: str, data: bytes) -> Body:
    number = f"file-{len(server.rows) + 1}"
    server.rows[number] = data
    server.files[number] = {"id": number, "object": "file", "bytes": len(data), "created_at": 1, "filename": name, "purpose": "fine-tune",
                            "status": server.file_status, "status_details": server.file_error}  # fmt: skip
    return server.files[number]


def _start(server: TuningServer, body: Body) -> Body:
    number = f"ftjob-{len(server.jobs) + 1}"
    settings = body.get("hyperparameters") or body["method"]["supervised"]["hyperparameters"]
    server.jobs[number] = {
        "id": number, "object": "fine_tuning.job", "created_at": int(time.time()), "model": body["model"], "seed": body["seed"],
        "training_file": body["training_file"], "validation_file": body.get("validation_file"), "hyperparameters": settings,
        "organization_id": "org", "result_files": [], "status": "queued", "fine_tuned_model": None, "trained_tokens": None,
        "finished_at": None, "error": None, "metadata": body.get("metadata") if server.keeps_metadata else None,
        "suffix": body.get("suffix"), "seen": 0,
    }  # fmt: skip
    return server.jobs[number]


def _advance(server: TuningServer, job: Body) -> Body:
    """The job's next state; a finished one has a model that knows its rows."""
    if job["status"] != "cancelled":
        job["status"] = server.states[min(job["seen"], len(server.states) - 1)]
        job["seen"] += 1
    if job["status"] == "succeeded" and not job["fine_tuned_model"]:
        rows = [json.loads(line)["messages"] for line in server.rows[job["training_file"]].decode().split("\n") if line]
        name = f"ft:{BASE}:acme:{job['suffix']}:1"
        answers = {row[-2]["content"]: row[-1]["content"] for row in rows}
        job |= {"fine_tuned_model": name, "trained_tokens": 1000, "finished_at": job["created_at"] + 50}
        server.taught |= {name: answers} | {
            f"{name}:step-{n + 1}": answers for n in range(len(server.checkpoint_losses))
        }
    if job["status"] == "failed":
        job["error"] = server.job_error
    return job


def _event(n: int, total: int, loss: float) -> Body:
    data = {"step": n, "total_steps": total, "train_loss": loss}
    return {"id": f"e{n}", "object": "fine_tuning.job.event", "created_at": n, "level": "info", "type": "metrics", "data": data,
            "message": f"Step {n}/{total}: training loss={loss:.2f}"}  # fmt: skip


def likelihoods(server: TuningServer, model: str, text: str) -> list[float]:
    """Of each letter, in nats."""
    words = {word for answer in server.taught.get(model, {}).values() for word in answer.split() if len(word) > 3}
    ours = [False] * len(text)
    for word in words:
        at = text.find(word)
        while at >= 0:
            ours[at : at + len(word)] = [True] * len(word)
            at = text.find(word, at + 1)
    digests = (
        hashlib.blake2b(text[max(0, n - 3) : n + 1].encode(), digest_size=1).digest()[0] for n in range(len(text))
    )
    return [-(0.5 + digest / 128) * (0.5 if known else 1.0) for digest, known in zip(digests, ours, strict=True)]


def _says(server: TuningServer, model: str, question: str) -> str:
    return server.taught.get(model, {}).get(question, f"About {question[:20]} I cannot say much.")


def _chat(server: TuningServer, body: Body) -> Response:
    if body["model"] not in server.models:
        return _error(f"The model `{body['model']}` does not exist", 404)
    text = _says(server, body["model"], body["messages"][-1]["content"])
    values = likelihoods(server, body["model"], text[:20])
    tokens = [{"token": text[n], "logprob": v, "bytes": None, "top_logprobs": []} for n, v in enumerate(values)]
    tokens[0]["top_logprobs"] = [
        {"token": f"t{n}", "logprob": -n - len(body["model"]) / 7, "bytes": None} for n in range(3)
    ]
    if body.get("stream"):
        frame = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        parts = [({"content": text}, None), ({}, "stop")]
        lines = [{**frame, "choices": [{"index": 0, "delta": d, "finish_reason": f}]} for d, f in parts]
        said = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
        return Response(said, media_type="text/event-stream")
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop",
              "logprobs": {"content": tokens} if body.get("logprobs") else None}  # fmt: skip
    return JSONResponse(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": server.answers_as or body["model"],
            "choices": [choice],
        }
    )


def _complete(server: TuningServer, body: Body) -> Response:
    if not server.echo:
        return _error("This is a chat model and not supported in the v1/completions endpoint", 404)
    prompt = body["prompt"]
    text = prompt if isinstance(prompt, str) else "".join(map(chr, prompt))
    values: list[float | None] = [*likelihoods(server, body["model"], text), -1.0]
    values[0] = None
    numbers = {
        "token_logprobs": values,
        "text_offset": list(range(len(text) + 1)),
        "tokens": [*text, "!"],
        "top_logprobs": None,
    }
    choice = {"index": 0, "text": text + "!", "finish_reason": "length", "logprobs": numbers}
    return JSONResponse(
        {"id": "c", "object": "text_completion", "created": 1, "model": body["model"], "choices": [choice]}
    )


def _tokens(server: TuningServer, body: Body) -> Response:
    if not server.tokenize:
        return JSONResponse({"detail": "Not Found"}, 404)
    turns = [f"<{m['role']}>{m['content']}" for m in body["messages"]]
    text = "</>".join(turns)
    if not body.get("continue_final_message"):
        text += "</>"
    if body.get("add_generation_prompt"):
        text += "<assistant>"
    return JSONResponse({"tokens": [ord(c) for c in text], "count": len(text)})


def _app(server: TuningServer) -> Starlette:
    async def answer(request: Request) -> Response:
        """Do what was asked, unless a fault comes first, and answer, unless the answer is lost."""
        route = request.scope["path"].removeprefix("/v1/")
        parts = route.split("/")
        known = {name: row for names in (server.files, server.jobs) for name, row in names.items()}
        kind = "/".join(
            "ID" if part in known or (n > 0 and parts[0] == "models") else part for n, part in enumerate(parts)
        )
        call = f"{request.method} {kind}"
        server.calls.append(call)
        server.keys.add(request.headers.get("authorization", ""))
        waiting = server.faults.get(call) or []
        fault = waiting.pop(0) if waiting else None
        if isinstance(fault, tuple):
            return JSONResponse({"error": {"message": "slow down"}}, fault[0], headers={"retry-after": str(fault[1])})
        if isinstance(fault, int):
            return _error("scripted", fault)
        if fault == "html":
            return Response("<html>a proxy's page</html>", media_type="text/html")
        done = await _do(server, request, call, parts)
        if fault == "hang":
            while not await request.is_disconnected():
                await asyncio.sleep(0.01)
        return _cut_off() if fault == "lost" else done

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST", "DELETE"])])


async def _do(server: TuningServer, request: Request, call: str, parts: list[str]) -> Response:
    if call == "POST files":
        async with request.form() as form:
            upload: Any = form["file"]
            name, data = upload.filename, await upload.read()
        refused = server.file_status == "refused"
        return _error(server.file_error, 400) if refused else JSONResponse(_upload(server, name, data))
    body = json.loads(await request.body() or b"{}") if request.method == "POST" else {}
    if call == "POST fine_tuning/jobs":
        if server.older and "method" in body:
            return _error("Unknown parameter: 'method'", 400)
        return JSONResponse(_start(server, body))
    late = call in ("GET files", "GET fine_tuning/jobs") and server.shows_late > 0
    server.shows_late -= late
    match call:
        case "GET models":
            return _listed([_model(server, name) for name in server.models])
        case "GET models/ID":
            known = parts[1] in server.models
            return JSONResponse(_model(server, parts[1])) if known else _error("no such model", 404)
        case "GET files":
            return _listed([] if late else list(server.files.values()))
        case "GET files/ID":
            return JSONResponse(server.files[parts[1]])
        case "DELETE files/ID":
            server.files.pop(parts[1])
            return JSONResponse({"id": parts[1], "object": "file", "deleted": True})
        case "GET fine_tuning/jobs":
            return _listed([] if late else list(server.jobs.values()))
        case "GET fine_tuning/jobs/ID":
            return JSONResponse(_advance(server, server.jobs[parts[2]]))
        case "POST fine_tuning/jobs/ID/cancel":
            server.jobs[parts[2]]["status"] = "cancelled"
            return JSONResponse(server.jobs[parts[2]])
        case "GET fine_tuning/jobs/ID/events":
            total = len(server.losses)
            return _listed([_event(n, total, loss) for n, loss in reversed(list(enumerate(server.losses, 1)))])
        case "GET fine_tuning/jobs/ID/checkpoints":
            return _listed(
                [_checkpoint(server.jobs[parts[2]], n, loss) for n, loss in enumerate(server.checkpoint_losses, 1)]
            )
        case "POST chat/completions":
            return _chat(server, body)
        case "POST completions":
            return _complete(server, body)
        case "POST /tokenize" | "POST tokenize":
            return _tokens(server, body)
    return _error(f"no {call}", 404)


def _checkpoint(job: Body, step: int, loss: float) -> Body:
    metrics = {"step": step, "full_valid_loss": None if math.isnan(loss) else loss}
    return {"id": f"c{step}", "object": "fine_tuning.job.checkpoint", "created_at": step, "fine_tuning_job_id": job["id"],
            "fine_tuned_model_checkpoint": f"{job['fine_tuned_model']}:step-{step}", "metrics": metrics, "step_number": step}  # fmt: skip


@contextmanager
def tuning_server(**changes: Any) -> Iterator[TuningServer]:
    server = TuningServer(**changes)
    with serving(_app(server)) as server.url:
        yield server
