"""The Monday digest: the week that ended, against the one before, for OPS_CHANNEL.

Promise: said once a week, over restarts and two bots; silent when there is nothing to say; a change is only called one
when the intervals say so.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.answer_view import Part, context, section
from bot.once import Once
from bot.safe_text import escape, who
from bot.shares import share
from storage.ledger import Ledger
from storage.overview import Period, Votes, period
from storage.settings import Settings
from storage.shares import wilson

WEEK, READY = timedelta(days=7), timedelta(hours=8)  # Mondays at 08:00 UTC
FEWEST, FEWEST_OF_A_LANGUAGE, WORST = 10, 5, 3  # votes to compare weeks by; votes to name a language


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    settings: Settings
    ledger: Ledger
    once: Once

    def step(self) -> bool:
        """Say the digest of the last finished week if nobody did; always False: it is called again after a pause."""
        channel, monday = self.settings.ops_channel, last_monday(self.ledger.clock())
        key = f"digest:{monday - WEEK:%Y-%m-%d}"
        if not channel or self.ledger.notices.is_settled(key):
            return False
        connections = self.ledger.connections
        week, before = period(connections, monday - WEEK, monday), period(connections, monday - 2 * WEEK, monday - WEEK)
        part = digest(week, before, monday - WEEK)
        if part is None:
            self.ledger.notices.settle(key, channel)
        else:
            self.once.say(key, channel, part, since=monday.timestamp())
        return False


def last_monday(now: datetime) -> datetime:
    """The Monday, at 00:00, whose 08:00 went by last."""
    ready = now - READY
    return datetime(ready.year, ready.month, ready.day, tzinfo=now.tzinfo) - timedelta(days=ready.weekday())


def digest(week: Period, before: Period, monday: datetime) -> Part | None:
    """The message; None when nobody asked, wrote, promoted or trained."""
    if not (week.questions or week.corrections or week.taught or week.promotions or week.runs or week.watched):
        return None
    sunday = monday + timedelta(days=6)
    head = f"Week of {monday:%-d %B} to {sunday:%-d %B %Y}: {_counted(week.questions, 'question')}"
    lines = [
        f"*Questions*: {week.questions} (the week before: {before.questions})",
        f"*👍 share*: {share(*week.votes)}; the week before: {share(*before.votes)}. {change(week.votes, before.votes)}",
        *_worst(week),
        *_written(week),
        *_news(week),
        *_watched(week),
    ]
    return Part(
        text=head,
        blocks=(section(f"*{head}*"), section("\n".join(lines)[:3_000]), context("Votes as they stand today.")),
    )


def change(now: Votes, before: Votes) -> str:
    """Whether the share of 👍 moved, as far as the votes can tell."""
    if sum(now) < FEWEST or sum(before) < FEWEST:
        return f"Too few votes to compare: {FEWEST} a week are needed."
    (low, high), (low_before, high_before) = wilson(now[0], sum(now)), wilson(before[0], sum(before))
    if low > high_before:
        return "Clearly up."
    return "Clearly down." if high < low_before else "No clear change: the intervals overlap."


def _worst(week: Period) -> list[str]:
    """The languages with the lowest share of 👍, among those with votes enough; topics of questions are not known."""
    known = [(up / (up + down), name, up, down) for name, (up, down) in week.by_language.items() if down]
    enough = sorted(one for one in known if one[2] + one[3] >= FEWEST_OF_A_LANGUAGE)[:WORST]
    said = "; ".join(f"{escape(name)} {share(up, down)}" for _, name, up, down in enough)
    return [f"*Worst-rated languages*: {said}"] if said else []


def _written(week: Period) -> list[str]:
    total = sum(week.corrections.values())
    names = ", ".join(f"{who(author)} {count}" for author, count in list(week.corrections.items())[:10])
    lines = [f"*Corrections*: {total}, by {names}"] if total else []
    return [*lines, *([f"*Replies taught*: {week.taught}"] if week.taught else [])]


def _news(week: Period) -> list[str]:
    news = [
        f"v{version} went live, by {who(actor)}"
        if kind == "promote"
        else f"rolled back to {f'v{version}' if version else 'the base model'}, by {who(actor)}"
        for kind, version, actor in week.promotions
    ]
    news += [f"run {run_id}: {verdict or state}" for run_id, state, verdict in week.runs]
    shown = news[-10:]
    more = f" (and {len(news) - len(shown)} before)" if len(news) > len(shown) else ""
    return [f"*Model*: {'; '.join(shown)}{more}"] if news else []


def _watched(week: Period) -> list[str]:
    shown = [f"• {escape(said)[:400]}" for said in week.watched[-3:]]
    return ["*Watch*", *shown] if shown else []


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
