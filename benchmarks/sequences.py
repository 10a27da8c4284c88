"""Random histories of reactions and button presses, what Slack shows after them, and whether the ledger agrees.

    python benchmarks/sequences.py [COUNT] [SEED]

`Slack` plays the workspace and keeps the truth in its own words; it shares no code with the bot. The bot's side is the real
one: the intake's sorting, the inbox, the events of a payload, the log of ratings and its fold. What is heard comes late,
twice, in any order and before the answer's row is known, and whoever works on it may be killed between any two writes.
The same seed gives the same histories.
"""

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bot.arrivals import FEEDBACK_ACTION, sort
from bot.reactions import events_of
from bot.slack import Me
from storage.ledger import Ledger
from storage.records import Question, RaterRole
from storage.settings import Settings, load_settings

TEAM, CHANNEL = "T0DEMO", "C0SUPPORT"
ME = Me(team=TEAM, user="U0EVENKEEL", bot_id="B0EVENKEEL")
PEOPLE: dict[str, RaterRole] = {"U0MIA": "customer", "U0ASHA": "agent", "U0TOM": "agent", "U0INES": "admin"}
SPELLINGS = {"+1": ("+1", "thumbsup"), "-1": ("-1", "thumbsdown")}  # Slack's two names of one emoji
MEANING = {  # what MAP makes of what people react with; Slack counts every skin tone as an emoji of its own
    ("+1", ""): 1, ("+1", "::skin-tone-2"): 1, ("+1", "::skin-tone-6"): 1, ("heart", ""): 1, ("party_parrot", ""): 1,
    ("-1", ""): -1, ("-1", "::skin-tone-3"): -1, ("x", ""): -1, ("sad-parrot", ""): -1,
    ("eyes", ""): 0, ("+1-evil", ""): 0, ("handshake", "::skin-tone-2::skin-tone-4"): 0,
}  # fmt: skip
MAP = {"emoji_up": "+1,heart,party_parrot", "emoji_down": "thumbsdown,x,sad-parrot"}
LEASE_S = 60.0
Body = dict[str, Any]
Emoji = tuple[str, str]  # (name, skin tones)


@dataclass(slots=True, kw_only=True)
class Slack:
    """One answer of the bot's in Slack: who reacted with what, who pressed which button, and the payloads of it all."""

    number: int
    parts: int  # a long answer has several messages
    dice: random.Random
    reactions: set[tuple[str, str, Emoji]] = field(default_factory=set)  # (message, user, emoji)
    pressed: dict[tuple[str, str], str] = field(default_factory=dict)  # (message, user): the button pressed last
    sent: list[Body] = field(default_factory=list)
    micros: int = 0

    @property
    def thread_ts(self) -> str:
        return f"{1_700_000_000 + 100 * self.number}.000001"

    @property
    def messages(self) -> list[str]:
        return [f"{1_700_000_001 + 100 * self.number}.{part:06}" for part in range(self.parts)]

    def react(self, user: str, ts: str, emoji: Emoji) -> None:
        """Slack refuses a second one (already_reacted): then nobody hears of it."""
        if (ts, user, emoji) not in self.reactions:
            self.reactions.add((ts, user, emoji))
            self._reacted("reaction_added", user, ts, emoji, author=ME.user)

    def unreact(self, user: str, ts: str, emoji: Emoji) -> None:
        """Slack refuses what is not there (no_reaction)."""
        if (ts, user, emoji) in self.reactions:
            self.reactions.remove((ts, user, emoji))
            self._reacted("reaction_removed", user, ts, emoji, author=ME.user)

    def toggle(self, user: str, ts: str, emoji: Emoji) -> None:
        (self.unreact if (ts, user, emoji) in self.reactions else self.react)(user, ts, emoji)

    def flip(self, user: str, ts: str) -> None:
        """Somebody changes their mind: everything of theirs goes, its opposite comes."""
        mine = sorted(emoji for at, who, emoji in self.reactions if (at, who) == (ts, user))
        for emoji in mine:
            self.unreact(user, ts, emoji)
        liked = any(MEANING[emoji] > 0 for emoji in mine)
        self.react(user, ts, ("-1", "") if liked else ("+1", ""))

    def press(self, user: str, ts: str, button: str) -> None:
        self.pressed[ts, user] = button
        self.sent.append({
            "type": "block_actions", "user": {"id": user},
            "container": {"type": "message", "channel_id": CHANNEL, "message_ts": ts, "thread_ts": self.thread_ts},
            "actions": [{"action_id": FEEDBACK_ACTION, "value": button, "action_ts": self._tick()}],
        })  # fmt: skip

    def react_elsewhere(self, user: str, emoji: Emoji) -> None:
        """On the question, which is somebody else's message."""
        self._reacted("reaction_added", user, self.thread_ts, emoji, author="U0JONAS")

    def _tick(self) -> str:
        """Slack gives every change a time of its own; two may share a second."""
        self.micros += self.dice.choice((1, 250, 40_000, 1_700_000))
        return f"{1_700_000_010 + 100 * self.number + self.micros // 1_000_000}.{self.micros % 1_000_000:06}"

    def _reacted(self, kind: str, user: str, ts: str, emoji: Emoji, *, author: str) -> None:
        name, tones = emoji
        event = {
            "type": kind, "user": user, "reaction": self.dice.choice(SPELLINGS.get(name, (name,))) + tones,
            "item_user": author, "item": {"type": "message", "channel": CHANNEL, "ts": ts}, "event_ts": self._tick(),
        }  # fmt: skip
        event_id = f"Ev{self.number}.{len(self.sent)}"
        self.sent.append({"type": "event_callback", "event_id": event_id, "team_id": TEAM, "event": event})

    # What stands

    def standing(self) -> list[tuple[str, str, str, int]]:
        """(user, role, emoji or button, meaning) of everything that means something."""
        emoji = [(user, PEOPLE[user], "".join(e), MEANING[e]) for _, user, e in self.reactions if MEANING[e]]
        buttons = [
            (user, PEOPLE[user], f"feedback:{button}", 1 if button == "up" else -1)
            for (_, user), button in self.pressed.items()
        ]
        return sorted([*emoji, *buttons])

    def votes(self) -> tuple[int, int]:
        """Agents and admins for and against; who says both in equal parts is for neither."""
        team = [user for user, role in PEOPLE.items() if role != "customer"]
        sums = [sum(sign for who, _, _, sign in self.standing() if who == user) for user in team]
        return sum(n > 0 for n in sums), sum(n < 0 for n in sums)


def history(dice: random.Random, number: int) -> Slack:
    """One to sixteen things that people do; a few emoji and people only, so that they come back to what they did."""
    slack = Slack(number=number, parts=dice.choice((1, 1, 1, 2)), dice=dice)
    people = dice.sample(sorted(PEOPLE), dice.randint(1, 3))
    emoji = dice.sample(sorted(MEANING), dice.randint(1, 4))
    for _ in range(dice.randint(1, 16)):
        user, ts = dice.choice(people), dice.choice(slack.messages)
        match dice.choice(("toggle", "toggle", "toggle", "add", "remove", "flip", "press", "elsewhere")):
            case "toggle":
                slack.toggle(user, ts, dice.choice(emoji))
            case "add":
                slack.react(user, ts, dice.choice(emoji))
            case "remove":
                slack.unreact(user, ts, dice.choice(emoji))
            case "flip":
                slack.flip(user, ts)
            case "press":
                slack.press(user, ts, dice.choice(("up", "down")))
            case _:
                slack.react_elsewhere(user, dice.choice(emoji))
    return slack


def heard(dice: random.Random, sent: Sequence[Body]) -> list[Body]:
    """The payloads as they arrive: every one at least once, some again, in order or not."""
    found = [body for body in sent for _ in range(dice.choice((1, 1, 1, 2, 3)))]
    match dice.choice(("in order", "swapped", "backwards", "anyhow")):
        case "swapped":
            for n, _ in pairwise(range(len(found))):
                if dice.random() < 0.4:
                    found[n], found[n + 1] = found[n + 1], found[n]
        case "backwards":
            found.reverse()
        case "anyhow":
            dice.shuffle(found)
    return found


class Nobody:
    """What the intake knows of threads: no reaction depends on it."""

    def askers(self, channel: str, thread_ts: str) -> frozenset[str]:
        return frozenset()

    def bot_speaks(self, channel: str, thread_ts: str) -> bool:
        return True

    def asked(self, channel: str, ts: str) -> bool:
        return False


@dataclass(slots=True, kw_only=True)
class Hearing:
    """The bot's side: one ledger for many histories, with a clock of its own."""

    ledger: Ledger
    settings: Settings
    now: list[datetime]

    def hear(self, slack: Slack) -> int:
        """Take everything in; returns the exchange. The answer's row becomes known at any point, also last."""
        dice, bodies = slack.dice, heard(slack.dice, slack.sent)
        known_at, exchange_id = dice.randint(0, len(bodies)), 0
        for n, body in enumerate(bodies):
            if n == known_at:
                exchange_id = self._answered(slack)
            self._accept(body)
            if dice.random() < 0.5:
                self._work(dice)
        exchange_id = exchange_id or self._answered(slack)
        self._work(dice)
        return exchange_id

    def _accept(self, body: Body) -> None:
        found = sort(body, ME, Nobody())
        if found is not None:
            self.ledger.inbox.accept(event_id=found.event_id, kind=found.kind, team=TEAM, channel=found.channel,
                                     ts=found.ts, payload=found.payload)  # fmt: skip

    def _work(self, dice: random.Random) -> None:
        """Everything that is open; a worker that is killed leaves its item to the next one, whatever it had written."""
        while item := self.ledger.inbox.claim(owner_kinds=("reaction",), lease_s=LEASE_S):
            events = events_of(item, PEOPLE[item.payload["user"]], self.settings)
            killed = item.attempts < 4 and dice.random() > 0.9
            for event in events[: dice.randint(0, len(events))] if killed else events:
                self.ledger.ratings.add(event)
            if killed:
                self.now[0] += timedelta(seconds=2 * LEASE_S)
            else:
                self.ledger.inbox.finish(item)

    def _answered(self, slack: Slack) -> int:
        exchange_id = self.ledger.exchanges.open(
            Question(team=TEAM, channel=CHANNEL, thread_ts=slack.thread_ts, ts=slack.thread_ts, asker="U0JONAS", text="?",
                     messages=(), asked_at=self.now[0])
        )  # fmt: skip
        for part, ts in enumerate(slack.messages):
            message, _ = self.ledger.exchanges.intend_message(exchange_id, part, team=TEAM, channel=CHANNEL)
            self.ledger.exchanges.message_posted(message.message_id, ts)
        return exchange_id


@contextmanager
def hearing() -> Iterator[Hearing]:
    """A fresh ledger inside the block."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    with TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "evenkeel.db", clock=lambda: now[0])
        yield Hearing(ledger=ledger, settings=load_settings(_env_file=None, **MAP), now=now)
        ledger.close()


def difference(slack: Slack, bot: Hearing) -> str:
    """Where the ledger is not what Slack is once everything was heard; "" where it is. One transaction, for speed."""
    with bot.ledger.connections.write():
        exchange_id = bot.hear(slack)
        ratings = bot.ledger.ratings
        stands = sorted((r.user, r.role, r.reaction, r.sign) for r in ratings.of(exchange_id))
        if stands != slack.standing():
            return f"ratings: ledger {stands}, Slack {slack.standing()}"
        if ratings.split(exchange_id) != slack.votes():
            return f"votes: ledger {ratings.split(exchange_id)}, Slack {slack.votes()}"
        for ts in (slack.thread_ts, *slack.messages):
            there = {(user, "".join(emoji)) for at, user, emoji in slack.reactions if at == ts}
            here = ratings.reactions_on(TEAM, CHANNEL, ts)
            if here != there:
                return f"reactions on {ts}: ledger {here}, Slack {there}"
    return ""


def mismatched(count: int, seed: int = 20) -> int:
    """How many of so many random histories end with a ledger that is not what Slack is."""
    found = 0
    with hearing() as bot:
        for number in range(count):
            if words := difference(history(random.Random(f"{seed}.{number}"), number), bot):
                found += 1
                print(f"history {seed}.{number}: {words}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:3]]
    print(f"{mismatched(*(given or [10_000]))} mismatched")
