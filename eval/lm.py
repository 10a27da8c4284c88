"""lm-eval's view of one answerer: log-likelihoods and greedy text of one adapter over weights that are already loaded.

lm-eval's own response cache (`use_cache`) is never used: its key does not know which model answered, so the tuned model
would be given the base's answers. What is kept is kept by suite.py, under the adapter's digest.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from bot.engine.model import Generation
from eval.benchmark import Answerer, Tell
from eval.hosted import HostedModel
from eval.prefix import Row, log_likelihoods
from storage.digests import canonical
from storage.records import Message

WINDOW = 2048  # longest row in tokens; older context is cut off on the left
NEW_TOKENS = 256
Pair = tuple[list[int], list[int]]  # token ids of a context and of its continuation


class AnswererLM(TemplateLM):  # type: ignore[misc]
    """One adapter (or none) of a LoadedModel. Log-probabilities come from a float32 softmax, greedy text from generate.

    `wants_greedy`: whether somebody asks if a continuation is what greedy decoding says; only then is that looked up.
    """

    def __init__(self, answerer: Answerer, tell: Tell, *, wants_greedy: bool = False) -> None:
        super().__init__()
        self._answerer, self._tell, self._wants_greedy = answerer, tell, wants_greedy
        self._renderer = answerer.model.renderer
        self.tokenizer = self._renderer.tokenizer

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        return prefix_id(self._answerer)

    @property
    def tokenizer_name(self) -> str:
        return str(self._renderer.template_digest)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        return list(self.tokenizer(string, add_special_tokens=bool(add_special_tokens)).input_ids)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return str(self.tokenizer.apply_chat_template(
            chat_history, tokenize=False, add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt))  # fmt: skip

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-likelihood, is greedy) of each (context, continuation), without lm-eval's bar."""
        return list(super().loglikelihood(requests, disable_tqdm=True))

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        pairs = [(context, continuation) for _, context, continuation in requests]
        if not self._wants_greedy:
            return [(value, False) for value in continuations(self._answerer, pairs, self._tell)]
        steps, found = 2 * len(pairs), list[tuple[float, bool]]()
        sums = continuations(self._answerer, pairs, lambda done, _: self._tell(done, steps))
        for value, pair in zip(sums, pairs, strict=True):
            found.append((value, self._is_greedy(*pair)))
            self._tell(len(pairs) + len(found), steps)
        return found

    def _is_greedy(self, context: list[int], continuation: list[int]) -> bool:
        (said,) = self._answerer.model.generate(
            [context[-WINDOW:]], adapter=self._answerer.adapter, max_new_tokens=len(continuation)
        )
        return list(said.ids)[: len(continuation)] == continuation

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, each token once, with as much context before it as fits."""
        return rolling(self._answerer, [request.args[0] for request in requests], self._tell)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy text up to a stop string; other decoding parameters of a task are not followed."""
        texts: list[str] = []
        for settings, group in groupby((request.args for request in requests), key=lambda args: canonical(args[1])):
            contexts = [self.tok_encode(context)[-self._window :] for context, _ in group]
            texts += self._speak(contexts, json.loads(settings), len(texts), len(requests))
        return texts

    @property
    def _window(self) -> int:
        """Ids of a prompt that are read; a hosted model's are the bytes of a chat, which is whole or nothing."""
        model = self._answerer.model
        return model.context if isinstance(model, HostedModel) else WINDOW

    def _speak(self, contexts: list[list[int]], settings: dict[str, Any], done: int, total: int) -> list[str]:
        stop = settings.get("until") or []
        said = self._answerer.model.generate(
            contexts, adapter=self._answerer.adapter, max_new_tokens=int(settings.get("max_gen_toks") or NEW_TOKENS),
            stop=(stop,) if isinstance(stop, str) else tuple(stop), tell=lambda n, _: self._tell(done + n, total))  # fmt: skip
        return [one.text for one in said]


def answers_to(
    answerer: Answerer, chats: Iterable[Sequence[Message]], *, max_new_tokens: int, tell: Tell
) -> list[Generation]:
    """Greedy answers in the order of the chats, rendered as they are served, with how sure the answerer was of each."""
    prompts = [answerer.model.renderer.prompt(messages) for messages in chats]
    return answerer.model.generate(prompts, adapter=answerer.adapter, max_new_tokens=max_new_tokens, tell=tell)


def prefix_id(answerer: Answerer) -> int:
    """The token before a text that has nothing before it: the tokenizer's beginning, else its end, mark."""
    tokenizer = answerer.model.renderer.tokenizer
    return int(tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id)


def continuations(answerer: Answerer, pairs: Sequence[Pair], tell: Tell) -> list[float]:
    """log p(continuation | context) in nats, in the order of the pairs; an empty continuation has 0.

    What neighbours have in common is read once: eval/prefix.py. A hosted model reads texts: its ids are their bytes.
    """
    model = answerer.model
    if isinstance(model, HostedModel):
        texts = [(bytes(context).decode(), bytes(continuation).decode()) for context, continuation in pairs]
        return model.text_log_likelihoods(texts, answerer.adapter, tell)
    sums = [0.0] * len(pairs)
    owners = [i for i, (_, continuation) in enumerate(pairs) if continuation]
    rows = [_row(*pairs[i]) for i in owners]
    done = len(pairs) - len(owners)
    for numbers, values in log_likelihoods(model, answerer.adapter, rows):
        for n, value in zip(numbers, values, strict=True):
            sums[owners[n]] = value
        done += len(numbers)
        tell(done, len(pairs))
    return sums


def _row(context: Sequence[int], continuation: Sequence[int]) -> Row:
    """At most WINDOW ids, older context cut off; one id of it always stays, since something must predict the first."""
    kept = context[-max(WINDOW - len(continuation), 1) :]
    return Row(ids=[*kept, *continuation], size=len(continuation))


def answer_log_likelihoods(
    answerer: Answerer, pairs: Sequence[tuple[Sequence[Message], str]], tell: Tell, *, ends: bool = True
) -> list[float]:
    """log p(answer | messages) in nats, rendered exactly as it is served and trained.

    `ends`: the answer's end token counts, too, as it does in training; not so for texts that only begin an answer.
    Raises ValueError when the renderer marks no token as the answer's: a mask of zeros would measure nothing.
    """
    model = answerer.model
    if isinstance(model, HostedModel):
        return model.answer_log_likelihoods(pairs, answerer.adapter, tell, ends=ends)
    parted = [_parted(*model.renderer.example(*pair)) for pair in pairs]
    if not ends:
        parted = [(context, answer[:-1]) for context, answer in parted]
    return continuations(answerer, parted, tell)


def _parted(ids: list[int], mask: list[bool]) -> Pair:
    if True not in mask:
        raise ValueError("the rendered example marks no token as the answer's")
    start, end = mask.index(True), len(mask) - mask[::-1].index(True)
    return list(ids[:start]), list(ids[start:end])


def rolling(answerer: Answerer, texts: Sequence[str], tell: Tell) -> list[float]:
    """log p(text) in nats for each text, after the prefix token; long texts in windows that share context."""
    if isinstance(answerer.model, HostedModel):
        return answerer.model.text_log_likelihoods([("", text) for text in texts], answerer.adapter, tell)
    tokenizer, begin = answerer.model.renderer.tokenizer, prefix_id(answerer)
    pairs, owners = list[Pair](), list[int]()
    for owner, text in enumerate(texts):
        ids = list(tokenizer(text, add_special_tokens=False).input_ids)
        windows = get_rolling_token_windows(ids, prefix_token=begin, max_seq_len=WINDOW - 1, context_len=1)
        for window in map(make_disjoint_window, windows):
            pairs.append((list(window[0]), list(window[1])))
            owners.append(owner)
    sums = [0.0] * len(texts)
    for owner, value in zip(owners, continuations(answerer, pairs, tell), strict=True):
        sums[owner] += value
    return sums
