"""How an answer looks in Slack: texts and blocks. Pure; knows no ledger and no model."""

from dataclasses import dataclass
from typing import Any

from bot.intake import FEEDBACK_ACTION
from bot.safe_text import escape, safe, split
from storage.digests import short
from storage.records import Answer

PART = 2_900  # characters of one message: a section takes 3,000, chat.update's text 4,000
PLACEHOLDER = "_Looking into it …_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One Slack message: `text` is what notifications show, `blocks` what people read."""

    text: str
    blocks: tuple[dict[str, Any], ...]


def section(text: str) -> dict[str, Any]:
    """mrkdwn that Slack takes verbatim: no name or address in it is turned into a link or a mention."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def context(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text, "verbatim": True}]}


def note(text: str) -> Part:
    """Our own words, as one message."""
    return Part(text=text, blocks=(section(text),))


def preview(text: str) -> Part:
    """What the model has said so far."""
    shown = safe(text)
    return note(PLACEHOLDER if not shown else split(shown, PART - 2)[0] + " …")


def parts_of(answer: Answer, version: int | None) -> tuple[Part, ...]:
    """A whole answer as one or more messages; the last one asks for a rating. Empty when nothing printable is left."""
    texts = split(safe(answer.text), PART)
    return tuple(
        Part(text=text, blocks=(section(text), *(rating_blocks(answer, version) if n == len(texts) else ())))
        for n, text in enumerate(texts, start=1)
    )


def rating_blocks(answer: Answer, version: int | None) -> tuple[dict[str, Any], ...]:
    speaker = (
        "base model" if answer.adapter_digest is None else f"v{version}" if version else short(answer.adapter_digest)
    )
    return (
        context(f"AI answer · {speaker} · rate with 👍 or 👎"),
        {
            "type": "context_actions",
            "elements": [
                {
                    "type": "feedback_buttons",
                    "action_id": FEEDBACK_ACTION,
                    "positive_button": {
                        "text": {"type": "plain_text", "text": "Good answer"},
                        "value": "up",
                        "accessibility_label": "Rate this answer as good",
                    },
                    "negative_button": {
                        "text": {"type": "plain_text", "text": "Bad answer"},
                        "value": "down",
                        "accessibility_label": "Rate this answer as bad",
                    },
                }
            ],
        },
    )


def apology(answer: Answer) -> Part:
    """What a person reads when there is no answer: honest, and with a next step."""
    if answer.status == "skipped":
        return note(answer.reason)
    what = "it took too long" if answer.status == "timeout" else escape(answer.reason)
    return note(
        f"Sorry, I could not answer this: {what}. Please ask again in a minute, or wait for a person to reply here."
    )
