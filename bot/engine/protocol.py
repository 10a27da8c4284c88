"""The OpenAI protocol as the engine speaks it: requests checked, replies built. Pure; knows no model and no socket."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from storage.records import Message

ROLES = ("system", "user", "assistant")
LONGEST = 100_000  # characters of all messages together


class BadRequest(Exception):
    """What is wrong with a request, in OpenAI's words: status, code, and a message that names the field."""

    def __init__(
        self, message: str, *, status: int = 400, code: str = "invalid_request_error", retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A chat completion that can be served."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float
    seed: int
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool
    role: Literal["user", "shadow"]

    @property
    def params(self) -> dict[str, Any]:
        """The decoding parameters that an answer's proof names."""
        decoding = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return (
            decoding
            | ({"seed": self.seed} if self.temperature else {})
            | ({"stop": list(self.stop)} if self.stop else {})
        )


def chat_request(body: Any, *, default_tokens: int) -> ChatRequest:
    """Raises BadRequest naming the first field that cannot be served."""
    if not isinstance(body, Mapping):
        raise BadRequest("the body must be a JSON object")
    extension = body.get("evenkeel") or {}
    if not isinstance(extension, Mapping) or extension.get("role", "user") not in ("user", "shadow"):
        raise BadRequest("evenkeel.role must be user or shadow")
    if body.get("n", 1) != 1:
        raise BadRequest("n must be 1")
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    return ChatRequest(
        model=_model(body.get("model")), messages=_messages(body.get("messages")),
        max_tokens=int(_number("max_tokens", default_tokens if limit is None else limit, 1, 32_768)),
        temperature=_number("temperature", body.get("temperature") or 0, 0, 2), seed=int(_number("seed", body.get("seed") or 0, 0, 2**63 - 1)),
        stop=_stop(body.get("stop")), stream=body.get("stream") is True,
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")) if isinstance(body.get("stream_options") or {}, Mapping) else False,
        role=extension.get("role", "user"))  # fmt: skip


def _model(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise BadRequest("model must be base, tuned or adapter-<digest>")
    return value


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise BadRequest("messages must be a list with at least one message")
    found = [_message(n, message) for n, message in enumerate(value)]
    if sum(len(m["content"]) for m in found) > LONGEST:
        raise BadRequest(f"messages have more than {LONGEST:,} characters", status=413, code="context_length_exceeded")
    return tuple(found)


def _message(n: int, value: Any) -> Message:
    if not isinstance(value, Mapping) or value.get("role") not in ROLES:
        raise BadRequest(f"messages[{n}].role must be one of {', '.join(ROLES)}")
    content = value.get("content")
    if isinstance(content, list) and all(
        isinstance(p, Mapping) and p.get("type") == "text" and isinstance(p.get("text"), str) for p in content
    ):
        content = "".join(p["text"] for p in content)
    if not isinstance(content, str):
        raise BadRequest(f"messages[{n}].content must be text")
    return {"role": value["role"], "content": content.encode("utf-8", "replace").decode()}


def _number(name: str, value: Any, low: float, high: float) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not low <= value <= high
    ):
        raise BadRequest(f"{name} must be a number from {low} to {high}")
    return value


def _stop(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(s, str) and s for s in stops):
        raise BadRequest("stop must be a text or up to four texts")
    return tuple(stops)


def error_body(error: BadRequest) -> dict[str, Any]:
    return {"error": {"message": str(error), "type": error.code, "param": None, "code": error.code}}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
