"""A model as judge of two answers: advice in the run's history, never part of a decision.

Promises: every pair is shown in both orders, and a judge that contradicts itself has said "tie"; what it says that is
no verdict counts nowhere. Off unless JUDGE_URL is set, since questions and answers leave the house.
Sources: Zheng et al. 2023, arXiv 2306.05685 (judges and their bias); Shi et al. 2024, arXiv 2406.07791 (how often the
order decides). Knows the OpenAI protocol; knows no weights.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import openai

from storage.picks import WinRate, win_rate

Side = Literal["base", "tuned", "tie"]
Ask = Callable[[str], str]
TIMEOUT_S = 60.0
LONGEST = 2_000  # characters of a text that is shown to the judge
_VERDICT = re.compile(r"\W*(A|B|TIE)\b", re.IGNORECASE)
_QUESTION = """A customer asked:
{question}

A person approved this answer:
{approved}

Answer A:
{first}

Answer B:
{second}

Which answer would help this customer more, measured by the approved one? Longer is not better. \
Reply with one word: A, B or TIE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two answers to one question, and the one that a person approved."""

    question: str
    approved: str
    base: str
    tuned: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How often tuned was preferred; `swayed`: ties that were contradictions; `unclear`: pairs without two verdicts."""

    rate: WinRate
    swayed: int
    unclear: int


def judge(pairs: Iterable[Pair], ask: Ask) -> Judged:
    """Both orders of each pair. Equal answers are a tie that nobody is asked about. What `ask` raises is raised."""
    count = {"tuned": 0, "base": 0, "tie": 0}
    swayed = unclear = 0
    for pair in pairs:
        one, other = ("tie", "tie") if pair.base.strip() == pair.tuned.strip() else _both_orders(pair, ask)
        if one is None or other is None:
            unclear += 1
            continue
        count[one if one == other else "tie"] += 1
        swayed += one != other
    return Judged(rate=win_rate(count["tuned"], count["base"], count["tie"]), swayed=swayed, unclear=unclear)


def _both_orders(pair: Pair, ask: Ask) -> tuple[Side | None, Side | None]:
    return _verdict(ask(_shown(pair, pair.tuned, pair.base)), "tuned", "base"), _verdict(
        ask(_shown(pair, pair.base, pair.tuned)), "base", "tuned"
    )


def _shown(pair: Pair, first: str, second: str) -> str:
    texts = {"question": pair.question, "approved": pair.approved, "first": first, "second": second}
    return _QUESTION.format(**{name: text[:LONGEST] for name, text in texts.items()})


def _verdict(said: str, first: Side, second: Side) -> Side | None:
    """Whom a reply prefers: its first word counts, since judges explain themselves unasked."""
    found = _VERDICT.match(said)
    sides: dict[str, Side] = {"A": first, "B": second, "TIE": "tie"}
    return sides[found[1].upper()] if found else None


def asker(url: str, key: str, model: str) -> Ask:
    """Asks a model of an OpenAI-compatible server. Each question raises openai.OpenAIError when it gets no answer."""
    client = openai.OpenAI(base_url=url, api_key=key or "none", timeout=TIMEOUT_S)

    def ask(prompt: str) -> str:
        reply = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], temperature=0, max_tokens=8
        )
        return (reply.choices[0].message.content or "") if reply.choices else ""

    return ask


def in_words(judged: Judged) -> str:
    """One line for a run's history."""
    rate = judged.rate
    if rate.share is None:
        return f"the judge gave no verdict on {judged.unclear} pairs"
    return (
        f"the judge prefers the candidate to the base in {100 * rate.share:.1f} % of {rate.n} pairs, ties as half "
        f"({100 * rate.low:.1f} to {100 * rate.high:.1f} %); the order decided {judged.swayed}, {judged.unclear} unclear; "
        "advice only"
    )
