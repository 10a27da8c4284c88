"""Does the adapter answer, or the base under its name? The proof for servers that do not name digests.

The same short prompts go to base and adapter, twice each in turns. The adapter is believed when it differs from the base
by more than each differs from itself: a server that answers with the base is caught, and so is one whose numbers only
wobble with its load. Where a server gives no numbers, its texts are compared. Knows the OpenAI protocol.
Source: CONTRIBUTING.md, trap 12; docs/decisions/0008.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import openai
from openai.types.chat import ChatCompletion

from storage.errors import WeightsError

T = TypeVar("T")
PROMPTS = (
    "Say in one sentence what you can help with.",
    "How do I reset my password?",
    "My last invoice is wrong. What now?",
    "Which plan includes single sign-on?",
)
TOP = 5  # most likely tokens whose numbers are asked for
WORDS = 24  # tokens of the texts that are compared where there are no numbers
FAR = 10.0  # nats between two readings that share no token
CLEARLY = 2.0  # how much farther than itself the other must be
SMALLEST = 1e-5  # nats
Numbers = dict[str, float]  # token → natural-log probability


class Away(Exception):
    """The server cannot be asked now: nothing is proven, and nothing is refused."""


class NoSuchModel(WeightsError):
    """The server does not know this model name."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one model answered to each prompt: numbers of the first token, or None where the server gives none."""

    numbers: tuple[Numbers, ...] | None
    texts: tuple[str, ...]


def prove(client: openai.OpenAI, *, base: str, tuned: str) -> None:
    """Return if `tuned` speaks and is not `base`. Raises WeightsError with the reason, NoSuchModel, or Away."""
    for numbers in (True, False):
        rounds = [read(client, name, numbers=numbers) for name in (base, tuned, base, tuned)]
        if all(reading.numbers is not None for reading in rounds) or not numbers:
            break
    if fault := (numbers_fault if rounds[0].numbers else texts_fault)(rounds[0::2], rounds[1::2]):
        raise WeightsError(f"{tuned} {fault}")


def read(client: openai.OpenAI, model: str, *, numbers: bool = True) -> Reading:
    """One reading of a model. Raises WeightsError, NoSuchModel, Away."""
    what = f"{model} could not be asked the canary"
    found = [asked(partial(_one, client, model, prompt, numbers), what) for prompt in PROMPTS]
    known = tuple(one for one, _ in found if one is not None)
    return Reading(numbers=known if len(known) == len(PROMPTS) else None, texts=tuple(text for _, text in found))


def numbers_fault(base: Sequence[Reading], tuned: Sequence[Reading]) -> str:
    """Why the numbers are no proof; empty when they are. Pure."""
    wobble = max(distance(*base), distance(*tuned))
    apart = min(distance(one, other) for one, other in itertools.product(base, tuned))
    if apart < SMALLEST:
        return (
            "answers the canary exactly as the base does: either the base speaks under its name, or it changes nothing"
        )
    if apart <= CLEARLY * wobble:
        return (
            f"cannot be told from the base: they differ by {apart:.4f} nats, and each from itself by up to {wobble:.4f}"
        )
    return ""


def texts_fault(base: Sequence[Reading], tuned: Sequence[Reading]) -> str:
    """The same of texts: on one prompt at least both repeat themselves, and differ. Pure."""
    answers = zip(base[0].texts, base[1].texts, tuned[0].texts, tuned[1].texts, strict=True)
    if any(one == again and other == other_again and one != other for one, again, other, other_again in answers):
        return ""
    return "cannot be told from the base: the server gives no log-probabilities, and its texts prove no difference"


def distance(one: Reading, other: Reading) -> float:
    """Nats between two readings: over the prompts, the sum of the largest difference of a token that both name."""
    pairs = zip(one.numbers or (), other.numbers or (), strict=True)
    return sum(max((abs(a[t] - b[t]) for t in a.keys() & b.keys()), default=FAR) for a, b in pairs)


def _one(client: openai.OpenAI, model: str, prompt: str, numbers: bool) -> tuple[Numbers | None, str]:
    """The numbers, if they are wanted and given, and the text of one reply; raises also what a strange shape raises."""

    def ask(**wants: Any) -> ChatCompletion:
        messages: Any = [{"role": "user", "content": prompt}]
        reply: ChatCompletion = client.chat.completions.create(model=model, messages=messages, temperature=0, **wants)
        return reply

    try:
        reply = ask(max_tokens=1, logprobs=True, top_logprobs=TOP) if numbers else ask(max_tokens=WORDS)
    except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
        if not numbers or "logprobs" not in str(error):
            raise
        reply = ask(max_tokens=1)  # it says that it gives no numbers
    if reply.model != model:
        raise WeightsError(f"{model} was asked the canary, but {str(reply.model)[:60]!r} replied")
    return (_numbers(reply, model) if numbers else None), str(reply.choices[0].message.content or "")


def _numbers(reply: ChatCompletion, model: str) -> Numbers | None:
    """The first token's numbers. Raises WeightsError when one is not finite."""
    content = reply.choices[0].logprobs.content if reply.choices[0].logprobs else None
    if not content:
        return None
    found = {top.token: top.logprob for top in (content[0].top_logprobs or content[:1]) if "\ufffd" not in top.token}
    if not all(math.isfinite(number) for number in found.values()):
        raise WeightsError(f"{model} answers the canary with numbers that are not finite")
    return found


def asked(ask: Callable[[], T], what: str, *, away_from: int = 500) -> T:
    """What `ask` returns. The server's no becomes WeightsError (NoSuchModel for 404), any other trouble and a reply of
    another shape become Away.

    A status from `away_from` on says something about the server, not about what was asked.
    """
    try:
        return ask()
    except WeightsError:
        raise
    except openai.NotFoundError as error:
        raise NoSuchModel(f"{what}: the server does not know it ({_said(error)})") from None
    except openai.APIStatusError as error:
        if error.status_code in (408, 429) or error.status_code >= away_from:
            raise Away(f"{what}: the server said {error.status_code}") from None
        raise WeightsError(f"{what}: the server said {error.status_code} ({_said(error)})") from None
    except Exception as error:  # the named place: no word of the server's, so nothing about the adapter
        raise Away(f"{what} ({type(error).__name__})") from None


def _said(error: openai.APIStatusError) -> str:
    return " ".join(str(error.message).split())[:200]
