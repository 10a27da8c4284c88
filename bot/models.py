"""The door to the models: one question in, one Answer out, with the proof of who spoke.

Promise: `ask` returns by its deadline and never raises. What is not proven (no digests, an adapter without its canary,
another model's name, a cut stream) is a failed answer with a reason.
Knows the OpenAI protocol and the engine's extension; knows no Slack.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import openai

from bot.canary import Away
from bot.completion import REFUSED, UNREACHABLE, Reply, Voice, answer_from, failure
from bot.control_tokens import apart
from bot.lines import Lines, within
from bot.voices import Voices
from storage.digests import short
from storage.errors import EvenkeelError
from storage.ledger import Ledger
from storage.records import Answer, Message, Role
from storage.servers import Server
from storage.settings import BASE_NAME, Settings

__all__ = ["UNREACHABLE", "Models", "models_of"]
SHADOW_PRIORITY = 10  # vLLM serves lower numbers first, and a customer has 0


def models_of(settings: Settings, ledger: Ledger) -> "Models":
    """The models where the settings say that they are."""
    return Models(
        settings.engine_url,
        settings.engine_key.get_secret_value(),
        max_new_tokens=settings.max_new_tokens,
        voices=Voices(settings, ledger),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """One question. `silent`: nobody waits for its answer, so it yields to those that somebody does."""

    role: Role
    messages: Sequence[Message]
    deadline_s: float
    silent: bool
    on_text: Callable[[str], None] | None = None

    def failed(self, reason: str) -> Answer:
        return Answer(role=self.role, status="failed", reason=reason)


class Models:
    """Asks `tuned` and `base` of our engine at `url`, or of whom `voices` names."""

    def __init__(self, url: str, key: str, *, max_new_tokens: int, voices: Voices | None = None) -> None:
        self._voices = voices
        self._engine = Server(url=url.rstrip("/"), key=key, name="")
        self._max_new_tokens = max_new_tokens
        self._lines = voices.lines if voices is not None else Lines()
        self._no_priority: set[str] = set()  # servers that refuse the field

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
        wanted = _Wanted(role=role, messages=messages, deadline_s=deadline_s, silent=role == "base", on_text=on_text)
        return self._ask(wanted, lambda: self._voice(role))

    def ask_other(
        self,
        digest: str | None,
        messages: Sequence[Message],
        *,
        deadline_s: float,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """A customer's answer by another than the champion: this adapter, or the base alone (None).

        Where its server is away or refuses that one, the champion answers: nobody goes without an answer for the sake of another's.
        """
        until = time.monotonic() + deadline_s
        wanted = _Wanted(role="tuned", messages=messages, deadline_s=deadline_s, silent=False, on_text=on_text)
        answer = self._ask(wanted, lambda: self._other(digest))
        if answer.reason.startswith((REFUSED, UNREACHABLE)):
            return self.ask("tuned", messages, deadline_s=max(0.1, until - time.monotonic()), on_text=on_text)
        return answer

    def ask_adapter(self, digest: str, messages: Sequence[Message], *, deadline_s: float) -> Answer:
        """The answer of an adapter that need not be the champion. Only that very adapter is believed."""
        wanted = _Wanted(role="tuned", messages=messages, deadline_s=deadline_s, silent=True)
        answer = self._ask(wanted, lambda: self._adapter(digest))
        if answer.status == "ok" and answer.adapter_digest != digest:
            return Answer(role="tuned", status="failed", reason=f"another adapter than {short(digest)} spoke")
        return answer

    def close(self) -> None:
        self._lines.close()

    @property
    def puts_people_first(self) -> bool:
        """Whether a shadow may be asked beside people: our engine lets it wait, and so does a server that takes `priority`
        or has no people to answer.
        """
        return self._voices is None or self._voices.apart or self._voices.base_url not in self._no_priority

    # Who is asked

    @property
    def follows(self) -> bool:
        """Whether somebody must call `follow`: the server of tuned does not follow promotions itself."""
        return self._voices is not None and self._voices.follows

    def follow(self) -> bool:
        """A worker's step: whoever the ledger's last promotion names speaks, as soon as that is proven."""
        return self._voices is not None and self._voices.step()

    def _voice(self, role: Role) -> Voice:
        return self._voices.of(role) if self._voices is not None else Voice(server=self._engine, model=role)

    def _other(self, digest: str | None) -> Voice:
        if self._voices is not None:
            return self._voices.other(digest)
        return self._adapter(digest) if digest else Voice(server=self._engine, model=BASE_NAME)

    def _adapter(self, digest: str) -> Voice:
        if self._voices is not None:
            return self._voices.adapter(digest)
        return Voice(server=self._engine, model=f"adapter-{short(digest)}")

    # How

    def _ask(self, wanted: _Wanted, who: Callable[[], Voice]) -> Answer:
        with within(wanted.deadline_s) as timeout:
            try:
                return self._answer(wanted, who(), timeout)
            except Away as error:
                return wanted.failed(f"{UNREACHABLE}: {error}")
            except EvenkeelError as error:
                return wanted.failed(str(error))

    def _answer(self, wanted: _Wanted, voice: Voice, timeout: openai.Timeout) -> Answer:
        started = time.monotonic()
        try:
            reply = self._heard(wanted, voice, timeout)
            return answer_from(reply, wanted.role, voice, latency_s=time.monotonic() - started)
        except Exception as error:  # the named place: whatever a server does becomes a failed answer
            if isinstance(error, openai.NotFoundError) and self._voices is not None and voice.proof == "canary":
                self._voices.lost(voice)
                return wanted.failed(f"{UNREACHABLE}: it has forgotten {voice.model}")
            took_s = time.monotonic() - started
            return failure(wanted.role, error, voice, deadline_s=wanted.deadline_s, took_s=took_s)

    def _heard(self, wanted: _Wanted, voice: Voice, timeout: openai.Timeout) -> Reply:
        """The whole stream. Raises what httpx2, openai, a chunk of another shape and `on_text` raise."""
        reply, started = Reply(), time.monotonic()
        with self._stream(wanted, voice, timeout) as stream:
            for chunk in stream:
                if reply.take(chunk) and reply.ttft_s is None:
                    reply.ttft_s = time.monotonic() - started
                if wanted.on_text is not None and reply.text:
                    wanted.on_text(reply.text)
        return reply

    def _stream(self, wanted: _Wanted, voice: Voice, timeout: openai.Timeout) -> Any:
        """The reply as it begins. A server that refuses `priority` is asked again without, and never again with it."""
        ours, url = voice.proof == "digests", voice.server.url
        client = self._lines.to(voice.server)
        ranked = wanted.silent and not ours and url not in self._no_priority

        def create(extra: dict[str, Any]) -> Any:
            return client.chat.completions.create(
                model=voice.model,
                messages=cast(Any, list(wanted.messages) if ours else apart(wanted.messages)),
                max_tokens=self._max_new_tokens,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
                extra_body=extra,
                timeout=timeout,
            )

        if ours:
            return create({"evenkeel": {"role": "shadow" if wanted.silent else "user"}})
        try:
            return create({"priority": SHADOW_PRIORITY} if ranked else {})
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if not ranked or "priority" not in str(error).lower():
                raise
            self._no_priority.add(url)
            return create({})
