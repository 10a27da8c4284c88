"""A model server that answers at once, in a process of its own, so that it costs the bot's process nothing.

    python -m benchmarks.chaos.instant PORT [SECONDS]

Speaks just enough of the OpenAI protocol for the bot. The answer names the question's last word, so that it can be told
whose answer it is. SECONDS: how long an answer takes, in three pieces (0).
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

Json = MutableMapping[str, Any]
PROOF = {"base_digest": "b" * 64, "adapter_digest": None, "template_digest": "t" * 64, "prompt_digest": "p" * 64,
         "params": {"temperature": 0}}  # fmt: skip


def answer_to(question: str) -> str:
    return f"Open Settings and choose Reset password {(question.split() or [''])[-1]}"


def chunks(model: str, text: str) -> list[bytes]:
    """The stream of one answer: three pieces of text, then who spoke, then the end."""
    words = text.split(" ")
    cuts = [words[:2], words[2:4], words[4:]]
    pieces = [" ".join(cut) if n == 0 else " " + " ".join(cut) for n, cut in enumerate(cuts)]
    usage = {"prompt_tokens": 10, "completion_tokens": len(words), "total_tokens": 10 + len(words)}
    said = [_chunk(model, {"content": piece}, None) for piece in pieces]
    return [*said, _chunk(model, {}, "stop", usage=usage, evenkeel=PROOF) + b"data: [DONE]\n\n"]


def _chunk(model: str, delta: Json, finish: str | None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice], **more}
    return f"data: {json.dumps(body)}\n\n".encode()


def server(seconds: float) -> Callable[[Json, Any, Any], Awaitable[None]]:
    async def app(scope: Json, receive: Any, send: Any) -> None:
        body, more = b"", scope["method"] == "POST"
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        asked = json.loads(body) if body else None
        said = chunks(asked["model"], answer_to(asked["messages"][-1]["content"])) if asked else [b"ok"]
        if not seconds:
            said = [b"".join(said)]
        for piece in said:
            await asyncio.sleep(seconds / len(said))
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


if __name__ == "__main__":
    uvicorn.run(server(float((sys.argv[2:] or ["0"])[0])), host="127.0.0.1", port=int(sys.argv[1]), log_level="error",
                lifespan="off")  # fmt: skip
