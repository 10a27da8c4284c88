"""What must hold whatever happened: judged by what stands in Slack and in the ledger, not by what the bot says.

Pure but for reading. A fault is one line; none means sound.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.reactions import canonical
from bot.workspace.records import Json
from bot.workspace.running import Driver
from storage.errors import WeightsError
from storage.ledger import Ledger
from storage.weights import adapter_path, verify_adapter

from .jobs import BASE
from .stage import BOT, STOP, TEAM, is_final, last_word


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question that was put into Slack. `accepted`: the bot acked it, so it must come to an end."""

    word: str
    channel: str
    thread_ts: str
    ts: str
    accepted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the questions ended, and every fault by its kind."""

    questions: int
    answered: int
    noted: int
    lost: tuple[str, ...]
    duplicates: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not (self.lost or self.duplicates or self.faults)

    def __str__(self) -> str:
        said = f"{self.questions} questions, {self.answered} answered, {self.noted} with a failure note, "
        said += f"{len(self.lost)} lost, {len(self.duplicates)} twice, {len(self.faults)} other faults"
        return "\n  ".join((said, *self.lost[:20], *self.duplicates[:20], *self.faults[:20]))


def outcome(slack: Driver, ledger: Ledger, asked: Sequence[Asked], weights: Path) -> Outcome:
    """Look at every thread, then at the ledger."""
    lost, twice, left, answered, noted = list[str](), list[str](), list[str](), 0, 0
    threads = dict.fromkeys((a.channel, a.thread_ts) for a in asked)
    for place in threads:
        here = [a for a in asked if (a.channel, a.thread_ts) == place]
        messages = [m for m in slack.messages(*place) if m.get("user") == BOT]
        finals = Counter(last_word(m) for m in messages if is_final(m))
        notes = [m for m in messages if not is_final(m)]
        left += [f"left hanging in {place}: {m['text']!r}" for m in notes if m.get("streaming") or STOP in str(m)]
        missing = [a for a in here if not finals[a.word]]
        answered, noted = answered + len(here) - len(missing), noted + len(notes)
        twice += [f"{word} was answered {count} times in {place}" for word, count in finals.items() if count > 1]
        twice += [f"{len(notes)} notes for {len(missing)} unanswered in {place}"] * (len(notes) > len(missing))
        silent = sum(a.accepted for a in missing) - len(notes)
        lost += [f"{a.word} has no end in {place}" for a in missing if a.accepted][: max(0, silent)]
    faults = (*left, *ledger_faults(ledger), *rating_faults(slack, ledger, threads), *weight_faults(ledger, weights))
    return Outcome(questions=len(asked), answered=answered, noted=noted, lost=tuple(lost), duplicates=tuple(twice),
                   faults=faults)  # fmt: skip


def ledger_faults(ledger: Ledger) -> tuple[str, ...]:
    """What the ledger finds in itself; also where it is too broken to look."""
    try:
        return ledger.verify()
    except (sqlite3.DatabaseError, ValueError) as error:
        return (f"the ledger cannot be verified: {type(error).__name__}: {error}",)


def rating_faults(
    slack: Driver, ledger: Ledger, threads: Sequence[tuple[str, str]] | dict[tuple[str, str], None]
) -> Iterator[str]:
    """Where the fold of the ledger's ratings is not what stands under the answers in Slack."""
    for channel, thread_ts in threads:
        for message in slack.messages(channel, thread_ts):
            if message.get("user") == BOT:
                there, here = reactions_of(message), ledger.ratings.reactions_on(TEAM, channel, message["ts"])
                if there != here:
                    yield f"ratings of {channel} {message['ts']}: Slack {sorted(there)}, ledger {sorted(here)}"


def reactions_of(message: Json) -> set[tuple[str, str]]:
    return {(user, canonical(r["name"])) for r in message.get("reactions") or () for user in r["users"]}


def weight_faults(ledger: Ledger, weights: Path) -> Iterator[str]:
    """A champion that is not whole on disk, a named adapter that is not, a promotion that is half recorded."""
    champion = ledger.promotions.champion()
    folders = [path.name for path in (weights / "adapters").glob("*") if not path.name.startswith(".")]
    named = [champion.adapter_digest] if champion and champion.adapter_digest else []
    for digest in dict.fromkeys([*folders, *named]):
        try:
            verify_adapter(adapter_path(weights, digest), base=BASE)
        except WeightsError as error:
            yield str(error)
    promotions = len(ledger.promotions.history())
    audited = sum(entry["action"] in ("promote", "rollback") for entry in ledger.audits(limit=1_000_000))
    if promotions != audited:
        yield f"{promotions} promotions, but {audited} lines in the audit"
