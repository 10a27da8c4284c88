"""Random sequences of reactions and presses, and what Slack shows at their end: does the ledger add up to the same?

Promise: a sequence is drawn from its seed alone. The oracle is a set and a dict that change with every act, in the order
in which people act; what arrives is repeated, reordered and partly earlier than the answer's row. What a name means to
Slack stands here as a table, so that no code of the bot's is asked what is right.
"""

import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import structlog
from slack_sdk import WebClient

import evenkeel
from bot.intake import FEEDBACK_ACTION, Intake
from bot.reactions import Reactions
from bot.reasons import Reasons
from bot.roles import Roles
from bot.slack import Me
from storage.ledger import Ledger
from storage.records import Question, RaterRole
from storage.settings import Settings, load_settings

ME = Me(team="T0DEMO", user="U0EVENKEEL", bot_id="B0EVENKEEL")
CHANNEL = "C0SUPPORT"
ROLES: dict[str, RaterRole] = {"U0MIA": "customer", "U0JONAS": "customer", "U0ASHA": "agent", "U0TOM": "agent"}
# What Slack's clients may send → which reaction it is, whether it is a verdict under the default settings.
EMOJI = {
    "+1": ("+1", 1), "thumbsup": ("+1", 1), "-1": ("-1", -1), "thumbsdown": ("-1", -1),
    "+1::skin-tone-3": ("+1::skin-tone-3", 1), "thumbsup::skin-tone-3": ("+1::skin-tone-3", 1),
    "-1::skin-tone-6": ("-1::skin-tone-6", -1), "thumbsdown::skin-tone-6": ("-1::skin-tone-6", -1),
    "heart": ("heart", 1), "white_check_mark": ("white_check_mark", 1), "x": ("x", -1), "tada": ("tada", 0),
    "acme-ship-it": ("acme-ship-it", 0), "wave::skin-tone-2": ("wave::skin-tone-2", 0),
}  # fmt: skip
OPPOSITE = {"+1": "-1", "-1": "+1", "+1::skin-tone-3": "-1::skin-tone-6", "-1::skin-tone-6": "+1::skin-tone-3"}
SIGNS = dict(EMOJI.values())
PRESSES = {"up": ("feedback:up", 1), "down": ("feedback:down", -1)}
A_LEDGER = 250  # sequences of one ledger: more would make the inbox long, which is not what is looked at
Body = dict[str, Any]
Given = tuple[str, str]  # who, which reaction


@dataclass(slots=True, kw_only=True)
class Sequence:
    """What people did under one message, and in which order the app hears of it."""

    name: str
    ts: str
    author: str
    heard: list[Body] = field(default_factory=list)
    row_at: int | None = None  # before which of `heard` the answer's row is written; None: it is no answer of ours
    reactions: set[Given] = field(default_factory=set)
    pressed: dict[str, str] = field(default_factory=dict)

    @property
    def expected(self) -> tuple[set[Given], set[tuple[str, str, int]]]:
        """The reactions and the verdicts that must stand in the ledger."""
        if self.author != ME.user:
            return set(), set()
        given = {(user, name) for user, name in self.reactions if user != ME.user}
        verdicts = {(user, name, SIGNS[name]) for user, name in given if SIGNS[name]}
        return given, verdicts | {(user, *PRESSES[button]) for user, button in self.pressed.items()}


# Drawing


def draw(seed: int) -> Sequence:
    """The sequence of this seed: 1 to 14 acts of up to five people, one of them the bot."""
    dice = random.Random(seed)
    drawn = Sequence(name=f"sequence {seed}", ts=f"{1_700_000_000 + seed}.000100",
                     author=ME.user if dice.random() < 0.95 else "U0JONAS")  # fmt: skip
    for _ in range(dice.randint(1, 14)):
        act(drawn, dice)
    deliver(drawn, dice)
    return drawn


def act(drawn: Sequence, dice: random.Random) -> None:
    """One person adds or takes back a reaction, changes a thumb to its opposite, or presses a feedback button."""
    user, kind = dice.choice([*ROLES, ME.user]), dice.random()
    if kind < 0.25 and user != ME.user and drawn.author == ME.user:
        press(drawn, user, dice.choice(list(PRESSES)))
        return
    mine = sorted(name for who, name in drawn.reactions if who == user)
    if kind < 0.45 and (thumbs := [name for name in mine if name in OPPOSITE]):
        thumb = dice.choice(thumbs)
        turn(drawn, user, thumb)
        if (user, OPPOSITE[thumb]) not in drawn.reactions:
            turn(drawn, user, OPPOSITE[thumb])
        return
    turn(drawn, user, dice.choice(mine) if mine and kind < 0.6 else dice.choice(list(EMOJI)))


def turn(drawn: Sequence, user: str, spelled: str) -> None:
    """Add the reaction if this person has not given it, else take it back."""
    given = (user, EMOJI[spelled][0])
    kind = "reaction_removed" if given in drawn.reactions else "reaction_added"
    drawn.reactions ^= {given}
    event = {"type": kind, "user": user, "reaction": spelled, "item_user": drawn.author, "event_ts": moment(drawn),
             "item": {"type": "message", "channel": CHANNEL, "ts": drawn.ts}}  # fmt: skip
    event_id = f"Ev{drawn.ts}-{len(drawn.heard)}"
    drawn.heard.append({"type": "event_callback", "event_id": event_id, "team_id": ME.team, "event": event})


def press(drawn: Sequence, user: str, button: str) -> None:
    """The last press of a person stands."""
    drawn.pressed[user] = button
    action = {"action_id": FEEDBACK_ACTION, "type": "feedback_buttons", "value": button, "action_ts": moment(drawn)}
    place = {"type": "message", "channel_id": CHANNEL, "message_ts": drawn.ts}
    drawn.heard.append({"type": "block_actions", "team": {"id": ME.team}, "user": {"id": user}, "container": place,
                        "actions": [action]})  # fmt: skip


def moment(drawn: Sequence) -> str:
    """Slack's time of the next act: later than that of the last."""
    return f"{drawn.ts.split('.')[0]}.{200 + len(drawn.heard):06d}"


def deliver(drawn: Sequence, dice: random.Random) -> None:
    """Repeat some, change the order of some or all, and let the answer's row be written somewhere among them."""
    heard, order = drawn.heard, dice.random()
    if order < 0.35:
        dice.shuffle(heard)
    elif order < 0.7:
        for at in range(1, len(heard)):
            if dice.random() < 0.4:
                heard[at - 1], heard[at] = heard[at], heard[at - 1]
    for body in [body for body in heard if dice.random() < 0.25]:
        heard.insert(dice.randint(heard.index(body) + 1, len(heard)), body)
    if drawn.author == ME.user:
        drawn.row_at = dice.choice([0, dice.randint(0, len(heard)), len(heard)])
    if drawn.row_at == 0 and dice.random() < 0.3:  # Slack does not always name the author
        for body in heard:
            body.get("event", {}).pop("item_user", None)


# Feeding


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """The bot's own way from an event to the fold, without Slack."""

    ledger: Ledger
    intake: Intake
    reactions: Reactions

    def faults(self, drawn: Sequence) -> list[str]:
        """Where the ledger is not what Slack shows; one transaction, as only the outcome matters here."""
        dice, exchange_id = random.Random(drawn.name), None
        with self.ledger.connections.write():
            for at, body in enumerate([*drawn.heard, None]):
                if at == drawn.row_at:
                    exchange_id = self.write_row(drawn.ts)
                if body is not None:
                    self.intake.take_in(body)
                if body is None or dice.random() < 0.5:
                    while self.reactions.step():
                        pass
        reactions, verdicts = drawn.expected
        here = self.ledger.ratings.reactions_on(ME.team, CHANNEL, drawn.ts)
        rated = self.ledger.ratings.of(exchange_id) if exchange_id is not None else ()
        stored = {(r.user, r.reaction, r.sign) for r in rated}
        wrong_role = [r.user for r in rated if r.role != ROLES[r.user]]
        return [
            *([f"{drawn.name}: Slack {sorted(reactions)}, ledger {sorted(here)}"] if here != reactions else []),
            *([f"{drawn.name}: verdicts {sorted(verdicts)}, ledger {sorted(stored)}"] if stored != verdicts else []),
            *([f"{drawn.name}: counted twice"] if len(rated) != len(stored) else []),
            *([f"{drawn.name}: the role of {wrong_role} is another"] if wrong_role else []),
            *([f"{drawn.name}: {depth} events are still open"] if (depth := self.ledger.inbox.depth()) else []),
        ]

    def write_row(self, ts: str) -> int:
        """The answer that carries this ts; its question was asked in a thread of its own."""
        asked = f"{ts.split('.')[0]}.000050"
        question = Question(team=ME.team, channel=CHANNEL, thread_ts=asked, ts=asked, asker="U0MIA", text="How?",
                            messages=({"role": "user", "content": "How?"},), asked_at=self.ledger.clock())  # fmt: skip
        exchange_id = self.ledger.exchanges.open(question)
        message, _ = self.ledger.exchanges.intend_message(exchange_id, 0, team=ME.team, channel=CHANNEL)
        self.ledger.exchanges.message_posted(message.message_id, ts)
        return exchange_id


class KnownRoles:
    """Who is what, without asking Slack."""

    def role_of(self, user: str) -> RaterRole:
        return ROLES[user]


@contextmanager
def feed() -> Iterator[Feed]:
    """An empty ledger and the parts that fill it."""
    settings: Settings = load_settings(_env_file=None)
    nobody = WebClient(token="xoxb-nobody", base_url="http://127.0.0.1:9/", retry_handlers=[])
    with tempfile.TemporaryDirectory(prefix="evenkeel-sequences-") as folder, quiet():
        ledger = Ledger(Path(folder) / "evenkeel.db")
        try:
            roles = cast(Roles, KnownRoles())
            reasons = Reasons(ledger=ledger, client=nobody, roles=roles)
            yield Feed(
                ledger=ledger,
                intake=Intake(settings, ledger, ME, lambda name: None),
                reactions=Reactions(settings=settings, ledger=ledger, roles=roles, reasons=reasons),
            )
        finally:
            ledger.close()


@contextmanager
def quiet() -> Iterator[None]:
    """Only errors are logged inside."""
    before = structlog.get_config()
    evenkeel.configure_logs("error")
    try:
        yield
    finally:
        structlog.configure(**before)


def faults(count: int, *, seed: int = 0) -> dict[str, list[str]]:
    """What is wrong, by the sequence; of `count` sequences from this seed on."""
    found = {}
    for first in range(seed, seed + count, A_LEDGER):
        with feed() as fed:
            for number in range(first, min(first + A_LEDGER, seed + count)):
                drawn = draw(number)
                if wrong := fed.faults(drawn):
                    found[drawn.name] = wrong
    return found


def mismatched(count: int, *, seed: int = 0) -> int:
    """Of so many sequences, after how many the ledger is not what Slack is; the first of them on stderr."""
    found = faults(count, seed=seed)
    for lines in list(found.values())[:5]:
        print(*lines, sep="\n", file=sys.stderr)
    return len(found)
