"""How an answer looks in Slack: texts and blocks. Pure; knows no ledger and no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bot.arrivals import FEEDBACK_ACTION, PERSON_ACTION, STOP_ACTION
from bot.phrases import phrase
from bot.safe_text import safe, split
from storage.digests import short
from storage.records import Answer

PART = 2_900  # characters of one message: a section takes 3,000, chat.update's text 4,000
STOPPED = "stopped"  # opens the reason of an answer that somebody stopped
DOUBT = "not sure"  # opens the reason of an answer that is kept back


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


def button(text: str, action_id: str, value: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "button",
        "action_id": action_id,
        "value": value,
        "text": {"type": "plain_text", "text": text},
        **more,
    }


def actions(*buttons: dict[str, Any]) -> dict[str, Any]:
    return {"type": "actions", "elements": list(buttons)}


def waiting(language: str | None, *, place: int = 0) -> Part:
    """The placeholder; `place` in the queue where somebody has to wait."""
    text = phrase("queued", language, place=place) if place else phrase("placeholder", language)
    return Part(text=text, blocks=(section(text), _stop(language)))


def preview(text: str, language: str | None, domains: Sequence[str]) -> Part:
    """What the model has said so far, and a way to stop it."""
    shown = safe(text, domains)
    if not shown:
        return waiting(language)
    begun = split(shown, PART - 2)[0] + " …"
    return Part(text=begun, blocks=(section(begun), _stop(language)))


def _stop(language: str | None) -> dict[str, Any]:
    return actions(button(phrase("stop", language), STOP_ACTION, "stop"))


def parts_of(
    answer: Answer, version: int | None, *, language: str | None = None, domains: Sequence[str] = ()
) -> tuple[Part, ...]:
    """A whole answer as one or more messages; the last one asks for a rating and offers a person. Empty when nothing
    printable is left.
    """
    texts = split(safe(answer.text, domains), PART)
    closing = (*rating_blocks(answer, version, language), _person(language))
    return tuple(
        Part(text=text, blocks=(section(text), *(closing if n == len(texts) else ())))
        for n, text in enumerate(texts, start=1)
    )


def speaker_of(answer: Answer, version: int | None) -> str:
    """base model, v7, or the digest of an adapter that is no version."""
    if answer.adapter_digest is None:
        return "base model"
    return f"v{version}" if version else short(answer.adapter_digest)


def rating_blocks(answer: Answer, version: int | None, language: str | None) -> tuple[dict[str, Any], ...]:
    def side(text: str, value: str, label: str) -> dict[str, Any]:
        return {"text": {"type": "plain_text", "text": text}, "value": value, "accessibility_label": label}

    return (
        context(phrase("footer", language, speaker=speaker_of(answer, version))),
        {
            "type": "context_actions",
            "elements": [
                {
                    "type": "feedback_buttons",
                    "action_id": FEEDBACK_ACTION,
                    "positive_button": side("Good answer", "up", "Rate this answer as good"),
                    "negative_button": side("Bad answer", "down", "Rate this answer as bad"),
                }
            ],
        },
    )


def _person(language: str | None) -> dict[str, Any]:
    return actions(button(phrase("person", language), PERSON_ACTION, "answer"))


def apology(answer: Answer, language: str | None = None, domains: Sequence[str] = ()) -> Part:
    """What a person reads when there is no answer: honest, and with a next step."""
    if answer.reason.startswith(STOPPED):
        begun = split(safe(answer.text, domains), PART - 20)[:1]
        return note("\n\n".join([*begun, phrase("stopped", language)]))
    if answer.reason.startswith(DOUBT):
        return _with_person(phrase("doubt", language), language)
    if answer.status == "skipped":
        return note(answer.reason)
    if answer.status == "timeout":
        return _with_person(phrase("too_slow", language), language)
    return _with_person(phrase("failed", language, reason=safe(answer.reason)), language)


def _with_person(text: str, language: str | None) -> Part:
    return Part(text=text, blocks=(section(text), _person(language)))
