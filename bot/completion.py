"""A chat completion as it came in, and the Answer that it makes: ok only when it is whole, has text and shows who spoke.

Knows the OpenAI protocol and our engine's extension; opens no connection.
"""

import math
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import httpx2
import openai

from bot.safe_text import printable
from storage.digests import NAMED
from storage.records import Answer, Role
from storage.servers import Server
from storage.settings import BASE_NAME

UNREACHABLE = "the model server cannot be reached"  # opens the reason of a failure that another try may cure
REFUSED = "the model server refused"  # opens the reason of a failure that another model there may cure
LONGEST_ANSWER = 1_000_000
LARGEST_COUNT = 10**9
Proof = Literal["digests", "canary", "name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """One model at one server, and how it is known that this very model speaks.

    `proof` digests: the reply names the digests of base and adapter (our engine). canary: the adapter was loaded from
    bytes with this digest and answered a canary as the base does not. name: only the server's word in `model`.
    """

    server: Server
    model: str
    proof: Proof = "digests"
    base: str = ""  # NAMED and the name of the base; "" where the reply has the digest
    adapter: str | None = None


@dataclass(slots=True)
class Reply:
    """A stream as it came in."""

    text: str = ""
    model: str = ""
    finish: str = ""
    proof: dict[str, Any] | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    ttft_s: float | None = None

    def take(self, chunk: Any) -> bool:
        """Add one chunk; True if it brought text. Raises what a chunk of another shape raises."""
        self.model = chunk.model or self.model
        proof = (chunk.model_extra or {}).get("evenkeel")
        self.proof = proof if isinstance(proof, dict) else self.proof
        if chunk.usage:
            self.tokens_in, self.tokens_out = _count(chunk.usage.prompt_tokens), _count(chunk.usage.completion_tokens)
        if not chunk.choices:
            return False
        choice = chunk.choices[0]
        self.finish = choice.finish_reason or self.finish
        said = choice.delta.content or ""
        if len(self.text) + len(said) > LONGEST_ANSWER:
            raise ValueError(f"the answer is longer than {LONGEST_ANSWER} characters")
        self.text += said
        return bool(said)


def answer_from(reply: Reply, role: Role, voice: Voice, *, latency_s: float) -> Answer:
    """The reply as a record."""
    if fault := _fault(reply, voice):
        return Answer(role=role, status="failed", reason=fault, latency_s=latency_s)
    ours = voice.proof == "digests"
    proof = (reply.proof or {}) if ours else {}
    params = proof.get("params")
    return Answer(
        role=role,
        status="ok",
        text=reply.text.encode("utf-8", "replace").decode().replace("\x00", "").strip(),
        base_digest=str(proof["base_digest"]) if ours else voice.base,
        adapter_digest=proof.get("adapter_digest") if ours else voice.adapter,
        template_digest=str(proof.get("template_digest") or ""),
        prompt_digest=str(proof.get("prompt_digest") or ""),
        params={
            **(params if isinstance(params, dict) else {"temperature": 0}),
            "finish_reason": reply.finish,
            "confidence": _number(proof.get("confidence")),
            "proof": voice.proof,
        },
        tokens_in=reply.tokens_in,
        tokens_out=reply.tokens_out,
        ttft_s=reply.ttft_s,
        latency_s=latency_s,
    )


def _fault(reply: Reply, voice: Voice) -> str:
    if not reply.model and not reply.text:
        return "the model server sent no answer in the OpenAI protocol"
    if reply.model != voice.model:
        return f"{voice.model} was asked, but {str(reply.model)[:60]!r} replied"
    if reply.finish not in ("stop", "length"):
        return f"the answer was cut off (finish reason {str(reply.finish)[:40] or 'missing'})"
    if not printable(reply.text).strip():
        return "the answer was empty"
    return _digests_fault(reply.proof or {}, voice) if voice.proof == "digests" else ""


def _digests_fault(proof: dict[str, Any], voice: Voice) -> str:
    base, adapter = proof.get("base_digest"), proof.get("adapter_digest")
    if not isinstance(base, str) or not base or base.startswith(NAMED) or not isinstance(adapter, str | None):
        return "the model server did not say which weights spoke"
    if voice.model == BASE_NAME and adapter is not None:
        return f"base was asked, but adapter {adapter[:12]} spoke"
    return ""


def failure(role: Role, error: Exception, voice: Voice, *, deadline_s: float, took_s: float) -> Answer:
    """What a server or the way to it did instead of answering, as a record that says whether another try may help."""
    causes = tuple(_causes(error))
    if any(isinstance(cause, httpx2.ConnectTimeout) for cause in causes):
        return _failed(role, f"{UNREACHABLE}: it takes no connection")
    if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
        late = took_s >= 0.95 * deadline_s
        reason = (
            f"no whole answer within {deadline_s:.0f} s"
            if late
            else f"no word from the model server for {took_s:.0f} s"
        )
        return Answer(role=role, status="timeout", reason=reason)
    if isinstance(error, openai.APIStatusError):
        curable = error.status_code == 429 or error.status_code >= 500
        said = f"{UNREACHABLE}: it said" if curable else f"{REFUSED}:"
        return _failed(role, f"{said} {error.status_code}")
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return _failed(role, f"{UNREACHABLE}: its TLS certificate is not valid")
    if isinstance(error, openai.APIConnectionError | httpx2.RequestError):
        return _failed(role, f"{UNREACHABLE} ({type(causes[-1]).__name__})")
    if isinstance(error, openai.APIError) and voice.server.ours:
        return _failed(role, f"the model stopped: {error.message[:200]}")
    return _failed(role, f"the model server's reply could not be read ({type(error).__name__})")


def _failed(role: Role, reason: str) -> Answer:
    return Answer(role=role, status="failed", reason=reason)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, nearest first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _count(value: Any) -> int:
    """A count that a ledger can hold, or 0."""
    return value if isinstance(value, int) and 0 <= value < LARGEST_COUNT else 0
