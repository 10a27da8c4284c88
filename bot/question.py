"""What somebody asked, read from a Slack message: text without the mention, its language, its faults.

Pure. Knows Slack's text syntax; knows no ledger and no model.
"""

import functools
import re
import threading
from typing import Any

from bot.safe_text import printable

LONGEST_QUESTION = 8_000
SHORTEST_FOR_LANGUAGE = 12
SURE = 0.5
_reading = threading.Lock()

_USER = re.compile(r"<@([A-Z0-9]+)(?:\|([^>]*))?>")
_CHANNEL = re.compile(r"<#[A-Z0-9]+\|([^>]*)>")
_SPECIAL = re.compile(r"<!(?:subteam\^[A-Z0-9]+(?:\|@?([^>]*))?|date\^[^>|]*(?:\|([^>]*))?|([a-z]+)(?:\|[^>]*)?)>")
_LINK = re.compile(r"<((?:https?|mailto|tel):[^>|]+)(?:\|([^>]*))?>")


def mentions(text: str, user: str) -> bool:
    return re.search(rf"<@{re.escape(user)}(?:\|[^>]*)?>", text) is not None


def meant_for_another(text: str, me: str) -> bool:
    """A reply in a thread that starts by naming somebody else."""
    first = _USER.match(text.strip())
    return first is not None and first[1] != me


def plain(text: str, me: str) -> str:
    """Slack's text as a person reads it: our mention gone, other references by name, entities unescaped."""
    text = _USER.sub(lambda m: "" if m[1] == me else f"@{m[2] or m[1]}", text)
    text = _CHANNEL.sub(r"#\1", text)
    text = _SPECIAL.sub(lambda m: "@" + (m[1] or m[3]) if m[1] or m[3] else (m[2] or ""), text)
    text = _LINK.sub(
        lambda m: m[1] if not m[2] or m[2] == m[1] or m[1] == f"mailto:{m[2]}" else f"{m[2]} ({m[1]})", text
    )
    text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return re.sub(r"[ \t]{2,}", " ", printable(text)).strip()


def fault_of(text: str, *, files: int) -> str | None:
    """Why this cannot be asked, as a sentence for the person who asked; None when it can."""
    if not any(c.isalnum() for c in text):
        extra = " I cannot read files: please paste the text." if files else ""
        return f"Hello! Ask me a question in words, for example: _How do I reset my password?_{extra}"
    if len(text) > LONGEST_QUESTION:
        return (
            f"Your message has {len(text):,} characters, and I read at most {LONGEST_QUESTION:,}. "
            "Please send the part that matters most."
        )
    return None


def language_of(text: str) -> str | None:
    """ISO 639-1 code, or None for a text too short or too mixed to tell."""
    if len(text) < SHORTEST_FOR_LANGUAGE:
        return None
    code, sure = _identifier().classify(text[:2000])
    return str(code) if sure >= SURE else None


def know_languages() -> None:
    """Read the table by which languages are told apart (half a second), so that no question waits for it."""
    _identifier()


def _identifier() -> Any:
    with _reading:  # several workers may get the first questions at once
        return _read()


@functools.cache
def _read() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
