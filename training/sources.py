"""Where lessons come from, and who may teach: everything the ledger holds, with its lineage, less what has no consent.

Promise: nothing from Slack without LEARN_FROM_SLACK; nothing of a person who was excluded or forgotten, not even as the
context of somebody else's question; how many rows were left out, and why, is said. Knows the ledger and files, not datasets.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from storage.consent import Barred
from storage.ledger import Ledger
from storage.messages import conversation
from storage.records import Lesson, Message, Preference, Ticket
from storage.settings import Settings
from training.findings import Context
from training.preferences import preferences_of

SHIPPED = Path(__file__).parents[1] / "eval" / "data"  # eval.benchmark.DATA, without loading torch into the worker
NO_CONSENT = "no consent (LEARN_FROM_SLACK is off)"
BYTES_A_TOKEN = 3.0  # so few even in German and Spanish: the estimate is rather too long than too short
TOKENS_A_MESSAGE = 8  # of the chat template


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All lessons and preferences that may be learned from, and how many lessons were left out for which reason."""

    lessons: tuple[Lesson, ...]
    left_out: dict[str, int]
    preferences: tuple[Preference, ...] = ()


def gather(ledger: Ledger, settings: Settings) -> Gathered:
    """Every lesson of the ledger that has consent."""
    barred, left_out, prompt = ledger.consent.barred(), Counter[str](), settings.system_prompt
    slack = _from_slack(ledger, lambda without: _slack_lessons(ledger, prompt, without), barred, left_out)
    preferences: tuple[Preference, ...] = ()
    if settings.learn_from_slack:
        disliked = _from_slack(ledger, lambda without: _disliked(ledger, without), barred, Counter())
        preferences = preferences_of(slack, disliked, ledger.preferences.verdicts(barred.excluded))
    else:
        left_out[NO_CONSENT] += len(slack)
        slack = []
    tickets = ticket_lessons(ledger.lessons.tickets(), prompt, barred, left_out)
    return Gathered(lessons=(*slack, *tickets), left_out=dict(sorted((+left_out).items())), preferences=preferences)


def _from_slack(
    ledger: Ledger, found: Callable[[frozenset[str]], dict[str, Lesson]], barred: Barred, left_out: Counter[str]
) -> list[Lesson]:
    """What is `found` of Slack, by id, without certain people: as if the excluded had never said anything."""
    without = barred.excluded
    everything, allowed = found(frozenset()), found(without)
    cut = ledger.lessons.conversations_of(without)
    kept = list[Lesson]()
    for lesson in allowed.values():
        reason = barred.reason(lesson.author, lesson.customer)
        if reason == "":
            kept.append(_alone(lesson) if lesson.conversation_id in cut else lesson)
        else:
            left_out[reason] += 1
    left_out["excluded person"] += len(everything.keys() - allowed.keys())
    return kept


def _slack_lessons(ledger: Ledger, system_prompt: str, without: frozenset[str]) -> dict[str, Lesson]:
    """Corrections, taught replies, likes and picks."""
    found = (
        *ledger.lessons.corrections(without),
        *ledger.taught.lessons(system_prompt, without),
        *ledger.picks.lessons(without),
        *ledger.lessons.liked(without),
    )
    return {lesson.lesson_id: lesson for lesson in found}


def _disliked(ledger: Ledger, without: frozenset[str]) -> dict[str, Lesson]:
    return {lesson.lesson_id: lesson for lesson in ledger.preferences.disliked(without)}


def _alone(lesson: Lesson) -> Lesson:
    """Without what was said before the question: an excluded person may have said it."""
    system = tuple(m for m in lesson.messages[:-1] if m["role"] == "system")
    return replace(lesson, messages=(*system, lesson.messages[-1]))


def ticket_lessons(
    tickets: Sequence[Ticket], system_prompt: str, barred: Barred | None = None, left_out: Counter[str] | None = None
) -> list[Lesson]:
    """Approved tickets, each with the earlier ones of its conversation as context, as it will be served.

    Of a ticket that was imported again with another answer, the last import's counts.
    """
    counts, threads = Counter[str]() if left_out is None else left_out, defaultdict[str, list[Ticket]](list)
    current = {(t.ticket_id, t.question): t for t in tickets}
    counts["replaced by a later import"] += len(tickets) - len(current)
    for ticket in sorted(current.values(), key=lambda t: (t.conversation_id, t.created_at, t.ticket_id, t.question)):
        reason = "not approved" if not ticket.approved else (barred or Barred()).reason(ticket.customer, ticket.agent)
        if reason:
            counts[reason] += 1
        else:
            threads[ticket.conversation_id].append(ticket)
    names = _names([ticket for thread in threads.values() for ticket in thread])
    return [
        _ticket_lesson(t, thread[:i], system_prompt, names[t.ticket_id, t.question])
        for thread in threads.values()
        for i, t in enumerate(thread)
    ]


def _names(tickets: Sequence[Ticket]) -> dict[tuple[str, str], str]:
    """A lesson's id for each ticket. Two systems may number alike: then the ids say so, "ticket-7" and "ticket-7~2"."""
    names, taken = dict[tuple[str, str], str](), set[str]()
    for ticket in sorted(tickets, key=lambda t: (t.ticket_id, t.question)):
        name, number = f"ticket-{ticket.ticket_id}", 1
        while name in taken:
            number += 1
            name = f"ticket-{ticket.ticket_id}~{number}"
        taken.add(name)
        names[ticket.ticket_id, ticket.question] = name
    return names


def _ticket_lesson(ticket: Ticket, earlier: Sequence[Ticket], system_prompt: str, name: str) -> Lesson:
    history: list[Message] = []
    for turn in earlier:
        history += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
    return Lesson(
        lesson_id=name,
        source="ticket",
        conversation_id=ticket.conversation_id,
        messages=conversation(system_prompt, history, ticket.question),
        answer=ticket.answer,
        category=ticket.category,
        language=ticket.language,
        author=ticket.agent,
        customer=ticket.customer,
        origin=ticket.origin,
        consent=ticket.consent,
        at=ticket.created_at,
        began=ticket.began,
    )


def lint_context(
    ledger: Ledger, settings: Settings, *, max_tokens: int, tokens_of: Callable[[Lesson], int] | None = None
) -> Context:
    """What the lint knows beside the lessons; without a renderer's `tokens_of`, lengths are estimated."""
    return Context(
        max_tokens=max_tokens,
        tokens_of=tokens_of or estimated_tokens,
        counted_by="counted by the base's tokenizer" if tokens_of else f"estimated at {BYTES_A_TOKEN:g} bytes a token",
        known_contacts=ledger.lessons.known_contacts(),
        verdicts=ledger.consent.verdicts(),
        own_domains=settings.link_domains,
        benchmarks=tuple(benchmark_texts(settings.suite_dir)),
        live_languages=ledger.exchanges.languages(),
    )


def estimated_tokens(lesson: Lesson) -> int:
    """About how many tokens a lesson has, without a tokenizer."""
    texts = [*(m["content"] for m in lesson.messages), lesson.answer]
    return sum(TOKENS_A_MESSAGE + round(len(text.encode()) / BYTES_A_TOKEN) for text in texts)


def benchmark_texts(suite_dir: Path) -> Iterator[tuple[str, str]]:
    """(benchmark, text) of every item that is shipped or lies in the suite: what a model must not have been trained on."""
    for path in sorted([*SHIPPED.glob("*.jsonl"), *suite_dir.glob("*.jsonl")]):
        with path.open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                for value in row.values():
                    texts = value if isinstance(value, list) else [value]
                    yield from ((path.stem, text) for text in texts if isinstance(text, str))
