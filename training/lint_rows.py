"""The checks that look at one lesson alone: what is redacted, what is no answer, what is in the wrong language. Pure.

Each takes the lessons and gives back those that stay, as they stay; what it did goes to the notes.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import py3langid
from py3langid.langid import LanguageIdentifier

from storage.records import Lesson, Message
from training.contacts import allowed_phones
from training.findings import Context, Notes
from training.near import words_of
from training.redact import redact

SURE = 0.95  # probability from which a language is believed
ENOUGH_LETTERS = 40  # of a text whose language is looked at
# What other systems use to tell turns apart. Source: the chat templates of SmolLM2, Qwen, Llama 2 and 3, Gemma, Mistral, Phi.
CONTROL = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|</?s>|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|<(?:bos|eos|pad|unk)>|<\uff5c[^\uff5c<>\n]{1,40}\uff5c>"
)
_PLACEHOLDER = re.compile(r"\[(?:email|phone|card|iban|id|ip|secret)\]")
BOILERPLATE = frozenset({  # whole answers, their words in lower case
    "ok", "okay", "done", "thanks", "thank you", "thank you very much", "fixed", "solved", "resolved", "closed", "n a", "na", "none",
    "nil", "test", "same", "same as above", "see above", "as above", "duplicate", "noted", "todo", "tbd", "please wait", "hello", "hi",
    "we will get back to you", "we will get back to you soon", "we will look into it", "we are looking into it",
    "please contact support", "contact support", "i do not know", "i don t know", "no idea",
    "erledigt", "danke", "vielen dank", "gelöst", "siehe oben", "wir melden uns", "gerne", "keine ahnung",
    "hecho", "gracias", "muchas gracias", "resuelto", "ver arriba", "le contactaremos", "nos pondremos en contacto", "de nada",
})  # fmt: skip


def redacted(lessons: Sequence[Lesson], context: Context, notes: Notes) -> list[Lesson]:
    """Every lesson without personal data and secrets, in question, history and answer."""
    ours = allowed_phones(context)
    done: dict[str, tuple[str, Counter[str]]] = {}  # a conversation's turns come again as the history of the next one

    def clean(text: str) -> str:
        if text not in done:
            done[text] = redact(text, ours)
        notes.redacted.update(done[text][1])
        return done[text][0]

    return _rewritten(lessons, clean, "personal data or a secret", notes)


def defused(lessons: Sequence[Lesson], notes: Notes) -> list[Lesson]:
    """Every lesson with a space inside each control token, so that no trainer and no service reads it as one."""
    return _rewritten(lessons, lambda text: CONTROL.sub(_with_a_space, text), "control token", notes)


def _with_a_space(match: re.Match[str]) -> str:
    return f"{match[0][0]} {match[0][1:]}"


def _rewritten(lessons: Iterable[Lesson], clean: Callable[[str], str], kind: str, notes: Notes) -> list[Lesson]:
    """The lessons with each text but the system prompt cleaned, and a note for each that this changed."""
    kept = list[Lesson]()
    for lesson in lessons:
        messages: tuple[Message, ...] = tuple(
            m if m["role"] == "system" else {**m, "content": clean(m["content"])} for m in lesson.messages
        )
        kept.append(replace(lesson, messages=messages, answer=clean(lesson.answer)))
        if kept[-1] != lesson:
            notes.add(kind, "redacted", lesson)
    return kept


def with_content(lessons: Iterable[Lesson], notes: Notes) -> list[Lesson]:
    """Those with a question and an answer that says something."""
    kept = list[Lesson]()
    for lesson in lessons:
        if not words_of(lesson.question) or not words_of(_PLACEHOLDER.sub("", lesson.answer)):
            notes.add("empty question or answer", "removed", lesson)
        elif " ".join(words_of(lesson.answer)) in BOILERPLATE:
            notes.add("boilerplate answer", "removed", lesson)
        else:
            kept.append(lesson)
    return kept


def language_of(text: str) -> str:
    """The language of a text that is long enough to tell, as an ISO 639-1 code; else ""."""
    plain = _PLACEHOLDER.sub(" ", text)
    if sum(c.isalpha() for c in plain) < ENOUGH_LETTERS:
        return ""
    code, sure = _identifier().classify(plain)
    return str(code) if sure >= SURE else ""


@cache
def _identifier() -> Any:
    """Half a second to read, so it is read once a process."""
    return LanguageIdentifier.from_model_file(py3langid.langid.MODEL_FILE, norm_probs=True)


def in_its_language(lessons: Iterable[Lesson], notes: Notes) -> list[Lesson]:
    """Those answered in the question's language, and those of which that cannot be told."""
    kept = list[Lesson]()
    for lesson in lessons:
        asked, said = language_of(lesson.question), language_of(lesson.answer)
        if asked and said and asked != said:
            notes.add("answer in another language", "removed", lesson, f"({asked} → {said})")
        else:
            kept.append(lesson)
    return kept
