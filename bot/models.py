"""The door to the models: one question in, one Answer out, with the proof of who spoke.

Promise: `ask` returns; it never raises and never waits longer than its deadline plus one silent read. What is not
proven (no digests, another model's name, a cut stream) is a failed answer with a reason.
Knows the OpenAI protocol and the engine's extension; knows no Slack.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import openai

from storage.digests import short
from storage.records import Answer, Message, Role

UNREACHABLE = "the model server cannot be reached"  # opens the reason of a failure that another try may cure
LONGEST_SILENCE_S = 60.0
LONGEST_ANSWER = 1_000_000


@dataclass(slots=True)
class _Reply:
    """A stream as it came in."""

    text: str = ""
    model: str = ""
    finish: str = ""
    proof: dict[str, Any] | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    ttft_s: float | None = None


class Models:
    """Asks `tuned` and `base` of one OpenAI-compatible server.

    `puts_people_first`: whether the server itself lets a shadow wait for people, so that it may be asked beside them.
    """

    puts_people_first = True

    def __init__(self, url: str, key: str, *, max_new_tokens: int) -> None:
        self._client = openai.OpenAI(base_url=url, api_key=key or "none", max_retries=0)
        self._max_new_tokens = max_new_tokens

    def ask(
        self,
        role: Role,
        messages: Sequence[Message],
        *,
        deadline_s: float,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """The answer of one model. `on_text` gets everything said so far, each time that more is said; what it raises
        ends the answer.
        """
        return self._ask(role, role, messages, deadline_s, on_text)

    def ask_adapter(self, digest: str, messages: Sequence[Message], *, deadline_s: float) -> Answer:
        """The answer of an adapter that need not be the champion. Only that very adapter is believed."""
        answer = self._ask(f"adapter-{short(digest)}", "tuned", messages, deadline_s, None)
        if answer.status == "ok" and answer.adapter_digest != digest:
            return Answer(role="tuned", status="failed", reason=f"another adapter than {short(digest)} spoke")
        return answer

    def _ask(
        self,
        model: str,
        role: Role,
        messages: Sequence[Message],
        deadline_s: float,
        on_text: Callable[[str], None] | None,
    ) -> Answer:
        started = time.monotonic()
        try:
            reply = self._stream(model, messages, started, deadline_s, on_text)
        except _TooLate:
            return _timeout(role, deadline_s)
        except Exception as error:  # the named place: whatever a server does becomes a failed answer
            return _failure(role, error, deadline_s)
        return answer_from(reply, role, model, latency_s=time.monotonic() - started)

    def _stream(
        self,
        model: str,
        messages: Sequence[Message],
        started: float,
        deadline_s: float,
        on_text: Callable[[str], None] | None,
    ) -> _Reply:
        reply = _Reply()
        stream = self._client.chat.completions.create(
            model=model,
            messages=cast(Any, list(messages)),
            max_tokens=self._max_new_tokens,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"evenkeel": {"role": "user" if model == "tuned" else "shadow"}},
            timeout=openai.Timeout(min(deadline_s, LONGEST_SILENCE_S), connect=min(deadline_s, 5.0)),
        )
        with stream:
            for chunk in stream:
                if time.monotonic() - started > deadline_s:
                    raise _TooLate
                if _take(reply, chunk) and reply.ttft_s is None:
                    reply.ttft_s = time.monotonic() - started
                if on_text is not None and reply.text:
                    on_text(reply.text)
        return reply

    def close(self) -> None:
        self._client.close()


class _TooLate(Exception):
    pass


def _take(reply: _Reply, chunk: Any) -> bool:
    """Add one chunk; True if it brought text."""
    reply.model = chunk.model or reply.model
    proof = (chunk.model_extra or {}).get("evenkeel")
    reply.proof = proof if isinstance(proof, dict) else reply.proof
    if chunk.usage:
        reply.tokens_in, reply.tokens_out = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
    if not chunk.choices:
        return False
    choice = chunk.choices[0]
    reply.finish = choice.finish_reason or reply.finish
    said = choice.delta.content or ""
    if len(reply.text) + len(said) > LONGEST_ANSWER:
        raise ValueError(f"the answer is longer than {LONGEST_ANSWER} characters")
    reply.text += said
    return bool(said)


def answer_from(reply: _Reply, role: Role, model: str, *, latency_s: float) -> Answer:
    """The reply as a record: ok only when it is whole, has text and proves who spoke."""
    fault = _fault(reply, role, model)
    text = reply.text.encode("utf-8", "replace").decode().replace("\x00", "")
    if fault:
        return Answer(role=role, status="failed", reason=fault, latency_s=latency_s)
    proof = reply.proof or {}
    params = proof.get("params")
    return Answer(
        role=role,
        status="ok",
        text=text.strip(),
        base_digest=str(proof["base_digest"]),
        adapter_digest=proof.get("adapter_digest"),
        template_digest=str(proof.get("template_digest") or ""),
        prompt_digest=str(proof.get("prompt_digest") or ""),
        params={
            **(params if isinstance(params, dict) else {}),
            "finish_reason": reply.finish,
            "confidence": _number(proof.get("confidence")),
        },
        tokens_in=reply.tokens_in,
        tokens_out=reply.tokens_out,
        ttft_s=reply.ttft_s,
        latency_s=latency_s,
    )


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _fault(reply: _Reply, role: Role, model: str) -> str:
    proof = reply.proof or {}
    if not reply.model and not reply.text:
        return "the model server sent no answer in the OpenAI protocol"
    if reply.model != model:
        return f"{model} was asked, but {reply.model[:60]!r} replied"
    if reply.finish not in ("stop", "length"):
        return f"the answer was cut off (finish reason {reply.finish or 'missing'})"
    if not reply.text.strip():
        return "the answer was empty"
    adapter = proof.get("adapter_digest")
    if not isinstance(proof.get("base_digest"), str) or not proof["base_digest"] or not isinstance(adapter, str | None):
        return "the model server did not say which weights spoke"
    if role == "base" and adapter is not None:
        return f"base was asked, but adapter {adapter[:12]} spoke"
    return ""


def _failure(role: Role, error: Exception, deadline_s: float) -> Answer:
    name = type(error).__name__
    if isinstance(error, openai.APITimeoutError) or "Timeout" in name:
        return _timeout(role, deadline_s)
    if isinstance(error, openai.APIStatusError):
        curable = error.status_code == 429 or error.status_code >= 500
        what = (
            f"{UNREACHABLE}: it said {error.status_code}"
            if curable
            else f"the model server refused: {error.status_code}"
        )
        return Answer(role=role, status="failed", reason=what)
    if isinstance(error, openai.APIConnectionError):
        return Answer(role=role, status="failed", reason=f"{UNREACHABLE} ({name})")
    return Answer(role=role, status="failed", reason=f"the model server's reply could not be read ({name})")


def _timeout(role: Role, deadline_s: float) -> Answer:
    return Answer(role=role, status="timeout", reason=f"no whole answer within {deadline_s:.0f} s")
