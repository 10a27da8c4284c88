"""A hosted base and what was tuned on it, asked over HTTP: to the benchmarks what LoadedModel is for weights that are here.

Promises: the model that was asked is the one that answered, or the item is not measured; numbers are the server's own
log-probabilities, and where it gives none of a prompt, what needs them raises Unread: unknown, never zero.
The ids of a prompt are the bytes of its text or, for a chat, of its messages as JSON: tokens are the server's.
Knows the OpenAI protocol, and vLLM's /tokenize, which renders a chat as it is served.
"""

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import httpx2
import openai
from openai.types import Completion

from bot.engine.model import Generation, cut, mean_log_prob
from storage.digests import NAMED, canonical, digest_of, short
from storage.errors import EvenkeelError
from storage.records import Message
from storage.servers import Server
from storage.weights import hosted_name, verify_adapter

AT_ONCE = 8  # requests under way
RETRIES = 6  # by the openai client, which keeps to Retry-After
TIMEOUT_S = 120.0
CANNOT = (400, 403, 404, 405, 422, 501)  # what servers say to a request that they do not know
CONTEXT = 1_000_000  # bytes: a prompt that is too long for the server is its own to refuse
T = TypeVar("T")
R = TypeVar("R")


class Unread(EvenkeelError):
    """The server gives no log-probabilities of a prompt, or does not render a chat for them."""


class HostedTokenizer:
    """Bytes as ids, so that whoever cuts a text by ids can have it back."""

    eos_token_id, bos_token_id = 0, None

    def __call__(self, text: str, add_special_tokens: bool = False) -> Any:
        return SimpleNamespace(input_ids=list(text.encode()))

    def apply_chat_template(self, messages: Sequence[Message], **_: Any) -> str:
        return canonical(list(messages))


class HostedRenderer:
    """`template_digest` names the servers, since a chat is rendered there."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.tokenizer = HostedTokenizer()
        self.template_digest = digest_of(["hosted", *urls])

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        return list(canonical(list(messages)).encode())


class HostedModel:
    """The base at one server and tuned models at the same or another. Raises EvenkeelError where the base does not answer."""

    def __init__(self, base: Server, tuned: Server) -> None:
        self.base_digest, self.context = NAMED + base.name, CONTEXT
        self.renderer = HostedRenderer((base.url, tuned.url))
        self._base, self._tuned = base, tuned
        self._clients = {server.url: _client(server) for server in (base, tuned)}
        self._names: dict[str, str] = {}
        self._asked: dict[tuple[str | None, str], list[int]] = {}  # one prompt stands before several answers
        try:
            self._unread = self._why_unread()
        except EvenkeelError:
            self.close()
            raise

    def add_adapter(self, folder: Path) -> str:
        """Verify a record, and let its model be asked; returns its digest. Raises WeightsError."""
        digest = str(verify_adapter(folder, base=self.base_digest)["digest"])
        self._names[digest] = hosted_name(folder)
        return digest

    def remove_adapter(self, digest: str) -> None:
        self._names.pop(digest, None)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    @property
    def unread(self) -> tuple[str, ...]:
        """Why some benchmarks stay unknown, in sentences; none where everything can be measured."""
        return tuple(dict.fromkeys(filter(None, self._unread.values())))

    # What it says

    def generate(
        self, prompts: Sequence[Sequence[int]], *, adapter: str | None, max_new_tokens: int, stop: Sequence[str] = (),
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Generation]:  # fmt: skip
        """Greedy answers to chats, in their order. Raises Unread for a prompt that is plain text."""
        return self._told(lambda ids: self._said(_messages(ids), adapter, max_new_tokens, stop), prompts, tell)

    def _said(self, messages: list[Message], adapter: str | None, limit: int, stop: Sequence[str]) -> Generation:
        client, name = self._who(adapter)
        wants: dict[str, Any] = {"model": name, "messages": messages, "max_tokens": limit, "temperature": 0}
        try:
            reply = client.chat.completions.create(**wants, logprobs=True)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if "logprobs" not in str(error):
                raise
            reply = client.chat.completions.create(**wants)
        _require(reply.model, name)
        choice = reply.choices[0]
        numbers = choice.logprobs.content if choice.logprobs and choice.logprobs.content else []
        text, stopped = cut(choice.message.content or "", stop)
        sure = mean_log_prob([one.logprob for one in numbers])
        return Generation(ids=(), text=text, finished=stopped or choice.finish_reason == "stop", confidence=sure)

    # How likely it finds a text

    def text_log_likelihoods(
        self, pairs: Sequence[tuple[str, str]], adapter: str | None, tell: Callable[[int, int], None]
    ) -> list[float]:
        """log p(continuation | context) in nats of plain texts; where the context is empty, the first token is not counted.

        Raises Unread.
        """
        self._require_read("text")
        return self._told(lambda pair: self._text(*pair, adapter), pairs, tell)

    def _text(self, context: str, continuation: str, adapter: str | None) -> float:
        values, begins = self._echo(context + continuation, adapter)
        whole = len(context + continuation)
        counted = [
            value
            for begin, end, value in zip(begins, [*begins[1:], whole + 1], values, strict=True)
            if begin < whole and end > len(context) and value is not None
        ]
        return math.fsum(counted) if counted or not continuation else math.nan

    def answer_log_likelihoods(
        self, pairs: Sequence[tuple[Sequence[Message], str]], adapter: str | None, tell: Callable[[int, int], None], *,
        ends: bool,
    ) -> list[float]:  # fmt: skip
        """log p(answer | messages) in nats, rendered by the server. `ends`: what closes the answer counts, too.

        Raises Unread.
        """
        self._require_read("chat")
        return self._told(lambda pair: self._answer(*pair, adapter, ends), pairs, tell)

    def _answer(self, messages: Sequence[Message], answer: str, adapter: str | None, ends: bool) -> float:
        key = (adapter, canonical(list(messages)))
        context = self._asked.get(key) or self._ids(messages, adapter, add_generation_prompt=True)
        self._asked[key] = context
        said = [*messages, {"role": "assistant", "content": answer}]
        ids = self._ids(said, adapter, add_generation_prompt=False, continue_final_message=not ends)
        start = next(
            (n for n, (one, other) in enumerate(zip(context, ids, strict=False)) if one != other), len(context)
        )
        counted = self._echo(ids, adapter)[0][max(start, 1) : len(ids)]
        sound = [value for value in counted if value is not None]
        return math.fsum(sound) if len(sound) == len(ids) - max(start, 1) else math.nan

    def _ids(self, messages: Sequence[Message], adapter: str | None, **how: bool) -> list[int]:
        """Token ids of a chat, by vLLM's /tokenize, which lies beside /v1."""
        client, name = self._who(adapter)
        where = str(client.base_url).rstrip("/").removesuffix("/v1") + "/tokenize"
        body = {"model": name, "messages": list(messages), **how}
        found = client.post(where, body=body, cast_to=httpx2.Response).json()
        return [int(token) for token in found["tokens"]]

    def _echo(self, prompt: str | list[int], adapter: str | None) -> tuple[list[float | None], list[int]]:
        """(log-probability, first character) of each token of a prompt, and of the one after it, since some servers want one.

        The first token of all has no log-probability.
        """
        client, name = self._who(adapter)
        reply: Completion = client.completions.create(
            model=name, prompt=prompt, echo=True, logprobs=1, max_tokens=1, temperature=0
        )
        _require(reply.model, name)
        found = reply.choices[0].logprobs
        if found is None or not found.token_logprobs or not found.text_offset:
            raise Unread(f"{name} gave none")
        return list(found.token_logprobs), list(found.text_offset)

    # What it can

    def _why_unread(self) -> dict[str, str]:
        """By kind of prompt, why its log-probabilities cannot be had; "" where they can."""
        kinds: dict[str, tuple[str, Callable[[], Any]]] = {
            "text": ("gives no log-probabilities of a prompt", lambda: self._text("Water is", " wet.", None)),
            "chat": (
                "renders no chat at /tokenize",
                lambda: self._ids([{"role": "user", "content": "Hello."}], None, add_generation_prompt=True),
            ),
        }
        why = {kind: self._trouble(lacks, ask) for kind, (lacks, ask) in kinds.items()}
        return why | {"chat": why["text"] or why["chat"]}

    def _trouble(self, lacks: str, ask: Callable[[], Any]) -> str:
        try:
            ask()
        except openai.APIStatusError as error:
            if error.status_code in CANNOT:
                return f"{self._base.url} {lacks} ({_short(error)})"
            raise EvenkeelError(f"{self._base.name} at {self._base.url} could not be asked: {_short(error)}") from None
        except openai.APIError as error:
            raise EvenkeelError(f"{self._base.name} at {self._base.url} could not be asked: {_short(error)}") from None
        except (Unread, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            return f"{self._base.url} {lacks} ({_short(error)})"
        return ""

    def _require_read(self, kind: str) -> None:
        if why := self._unread[kind]:
            raise Unread(why)

    # How it is asked

    def _who(self, adapter: str | None) -> tuple[openai.OpenAI, str]:
        if adapter is None:
            return self._clients[self._base.url], self._base.name
        if adapter not in self._names:
            raise EvenkeelError(f"adapter {short(adapter)} is not known to be at a server")
        return self._clients[self._tuned.url], self._names[adapter]

    def _told(self, ask: Callable[[T], R], items: Sequence[T], tell: Callable[[int, int], None]) -> list[R]:
        found = list[R]()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for one in pool.map(ask, items):
                found.append(one)
                tell(len(found), len(items))
        return found


def _client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=server.url, api_key=server.key or "none", max_retries=RETRIES, timeout=TIMEOUT_S,
        http_client=openai.DefaultHttpxClient(follow_redirects=False))  # fmt: skip


def _messages(ids: Sequence[int]) -> list[Message]:
    try:
        found = json.loads(bytes(ids).decode())
        return [{"role": str(m["role"]), "content": str(m["content"])} for m in found]
    except (ValueError, TypeError, KeyError):
        raise Unread("a hosted model is asked chats alone, and this prompt is plain text") from None


def _require(found: str | None, name: str) -> None:
    if found != name:
        raise EvenkeelError(
            f"{name} was asked, but {str(found)[:60]!r} answered. Next: a name that the server keeps to."
        )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
