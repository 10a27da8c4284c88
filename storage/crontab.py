"""A crontab line as a trigger: when the next scheduled run is due. Knows APScheduler's triggers, no scheduler."""

import re
from datetime import UTC

from apscheduler.triggers.cron import CronTrigger

from storage.errors import ConfigurationError

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def cron(text: str) -> CronTrigger:
    """The trigger of a crontab line, where 0 and 7 are Sunday: APScheduler itself counts weekdays from Monday.

    Raises ConfigurationError naming the line.
    """
    fields = text.split()
    try:
        return CronTrigger.from_crontab(" ".join([*fields[:4], *map(named_weekdays, fields[4:])]), timezone=UTC)
    except ValueError as error:
        raise ConfigurationError(
            f"RETRAIN_CRON={text!r} is no crontab ({error}). Example: 0 3 * * 1 (Mondays at 3:00 UTC); empty: none."
        ) from None


def named_weekdays(field: str) -> str:
    """A crontab's weekdays by name, `0-4` and `*/2` spelled out; what is not written in numbers stays as it is."""
    return ",".join(_spelled(part) for part in field.split(","))


def _spelled(part: str) -> str:
    found = re.fullmatch(r"(?:([0-7])(?:-([0-7]))?|\*(?=/))(?:/([1-9]))?", part)
    if found is None:
        return part
    low, high, every = found.groups()
    first = int(low or 0)
    last = int(high) if high else 6 if low is None or every else first
    if first > last:
        raise ValueError(f"the weekdays {part} run backwards")
    return ",".join(WEEKDAYS[day % 7] for day in range(first, last + 1, int(every or 1)))
