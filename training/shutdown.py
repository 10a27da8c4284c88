"""How long a hosted base will be there: what is tuned on it ends with it.

Promise: a base that ends before its tuning could pay is refused before anything is uploaded; one that ends soon is warned of.
Knows dates. Asks nobody.
"""

from dataclasses import dataclass
from datetime import date
from urllib.parse import urlsplit

from storage.errors import EvenkeelError

REFUSED_DAYS, WARNED_DAYS = (
    14,
    90,
)  # our judgement: two runs of a weekly clock, and a quarter of a year to change the base
PAGE = "OpenAI's deprecations page (developers.openai.com/api/docs/deprecations), read on 2026-11-23"
OPENAI = "api.openai.com"
LAST_JOBS = date(2027, 1, 6)  # from here on nobody can start a job there
ENDS = {
    "gpt-4o": date(2027, 1, 14),
    "gpt-4o-mini": date(2027, 1, 14),
    "gpt-4.1": date(2027, 1, 14),
    "gpt-4.1-mini": date(2027, 1, 14),
    "gpt-4.1-nano": date(2026, 10, 31),  # the page says October
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A day, and who says so."""

    on: date
    says: str


def ending(*, url: str, model: str, told: str | None, set_to: date | None) -> Ending | None:
    """When the base ends: by the setting, else by its server (`told`, ISO 8601), else by our table; None: nobody says.

    The table is of models at OpenAI alone: others serve the same names by schedules of their own.
    """
    if set_to is not None:
        return Ending(on=set_to, says="BASE_SHUTDOWN")
    if day := _day(told):
        return Ending(on=day, says="its server")
    if urlsplit(url).hostname != OPENAI:
        return None
    family = next((name for name in ENDS if model == name or model.startswith(f"{name}-20")), None)
    return Ending(on=ENDS[family], says=PAGE) if family else None


def time_left(model: str, ends: Ending | None, *, url: str, today: date) -> str:
    """A warning in words where the end is near, "" where it is not. Raises EvenkeelError where too little time is left."""
    next_step = "Next: another BASE_NAME, or correct BASE_SHUTDOWN if the date is wrong."
    if urlsplit(url).hostname == OPENAI and today >= LAST_JOBS:
        raise EvenkeelError(
            f"{OPENAI} starts no fine-tuning job since {LAST_JOBS}, says {PAGE}. Next: another BASE_URL."
        )
    if ends is None:
        return ""
    days = (ends.on - today).days
    if days < 0:
        raise EvenkeelError(f"{model} ended on {ends.on}, says {ends.says}. {next_step}")
    if days < REFUSED_DAYS:
        raise EvenkeelError(
            f"{model} ends on {ends.on}, in {days} days, says {ends.says}, and what is tuned on it ends with it; "
            f"{REFUSED_DAYS} days are the least. {next_step}"
        )
    if days < WARNED_DAYS:
        return f"{model} ends on {ends.on}, in {days} days, says {ends.says}: what is tuned on it ends with it."
    return ""


def _day(told: str | None) -> date | None:
    try:
        return date.fromisoformat((told or "")[:10])
    except ValueError:
        return None
