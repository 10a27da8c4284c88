"""Random SIGKILLs while people ask and rate and new champions are made: nothing lost, nothing twice, the ledger whole.

The bot is killed at any moment of its life, its start included, and started anew. Slack misbehaves meanwhile: lost
responses, 429, 500, acks that do not arrive.
"""

import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bot.workspace.refused import Refused
from storage.ledger import Ledger

from .invariants import Asked, Outcome, outcome
from .nursery import Child
from .stage import READY_S, Stage, is_final

PEOPLE, RATERS = ("U0MIA", "U0JONAS"), ("U0ASHA", "U0TOM", "U0INES", "U0MIA")
PLACES = ("C0SUPPORT", "C0GENERAL", "C0LOAD1", "D0")
EMOJI = ("+1", "-1", "heart", "tada", "thumbsup::skin-tone-3")
TROUBLES: tuple[tuple[str, str], ...] = (
    ("chat.postMessage", "lost_response"), ("chat.postMessage", "ratelimited"), ("chat.postMessage", "http_500"),
    ("chat.update", "lost_response"), ("chat.update", "ratelimited"), ("chat.update", "http_500"),
    ("chat.startStream", "lost_response"), ("chat.startStream", "http_500"), ("conversations.replies", "http_500"))  # fmt: skip
LEASE_S = 61.0  # what the dead held is free by then: 15 s for a question, 60 for a rating
SETTLE_S = 90.0
BACKLOG = 150  # open questions at which people stop asking: a bot that dies every second answers about three a second
QUIET_S = 1.5  # as long as the bot's slowest clock pauses


@dataclass(kw_only=True)
class Load:
    """People who ask, follow up and rate, and a Slack that fails now and then, in a thread until `stop`."""

    stage: Stage
    random: random.Random
    pause_s: float
    asked: list[Asked] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    errors: list[BaseException] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.stopped.set()
        assert self._thread is not None
        self._thread.join()
        if self.errors:
            raise self.errors[0]

    def _run(self) -> None:
        acts: tuple[Callable[[], None], ...] = (self.ask, self.follow, self.rate, self.trouble)
        try:
            while not self.stopped.wait(self.random.uniform(0, 2 * self.pause_s)):
                self.random.choices(acts, weights=(35, 10, 45, 10))[0]()
        except BaseException as error:
            self.errors.append(error)

    def ask(self) -> None:
        if self._patient():
            return
        user, channel = self.random.choice(PEOPLE), self.random.choice(PLACES)
        channel = self.stage.slack.dm(user) if channel == "D0" else channel
        word, ts = self.stage.ask(user, channel)
        self.asked.append(Asked(word=word, channel=channel, thread_ts=ts, ts=ts))

    def follow(self) -> None:
        """One more question in a thread."""
        if self.asked and not self._patient():
            earlier = self.random.choice(self.asked[-20:])
            user = self.somebody(earlier.channel, PEOPLE)
            word, ts = self.stage.ask(user, earlier.channel, thread_ts=earlier.thread_ts)
            self.asked.append(replace(earlier, word=word, ts=ts))

    def _patient(self) -> bool:
        return len(self.asked) - len(self.stage.watch.shown) >= BACKLOG

    def rate(self) -> None:
        """Add a reaction to an answer, or take it back."""
        if not self.asked:
            return
        place, slack = self.random.choice(self.asked[-20:]), self.stage.slack
        answers = [m for m in slack.messages(place.channel, place.thread_ts) if is_final(m)]
        if not answers:
            return
        user, emoji, ts = (
            self.somebody(place.channel, RATERS),
            self.random.choice(EMOJI),
            self.random.choice(answers)["ts"],
        )
        try:
            slack.react(user, place.channel, ts, emoji)
        except Refused:
            slack.unreact(user, place.channel, ts, emoji)

    def somebody(self, channel: str, people: tuple[str, ...]) -> str:
        """One of these people, or the one whose direct message it is."""
        if channel.startswith("D"):
            return next(person for person in PEOPLE if self.stage.slack.dm(person) == channel)
        return self.random.choice(people)

    def trouble(self) -> None:
        """One thing goes wrong, if the last trouble of its kind is over: a dead bot must not pile them up."""
        workspace = self.stage.slack._workspace
        if self.random.random() < 0.25:
            self.stage.slack.drop_acks(int(not workspace.sockets.deaf))
            return
        method, kind = self.random.choice(TROUBLES)
        if not workspace.web_api.faults._coming.get(method):
            self.stage.slack.fault(method, kind, retry_after=0.5)  # type: ignore[arg-type]


def random_kills(stage: Stage, *, kills: int, seed: int, pause_s: float = 0.06, say: Callable[[str], None]) -> Outcome:
    """The outcome after so many SIGKILLs of the bot, and half as many of the process that makes champions."""
    dice = random.Random(seed)
    load = Load(stage=stage, random=random.Random(seed + 1), pause_s=pause_s)
    promoter = start_promoter(stage, 0)
    load.start()
    try:
        for number in range(1, kills + 1):
            bot = stage.nursery.start("bot", stage.environment, stage.log)
            live_a_while(stage, bot, dice)
            if (code := bot.kill()) != -9:
                raise RuntimeError(f"the bot ended by itself with {code}:\n{stage.log.read_text()[-3000:]}")
            if number % 2 == 0:
                promoter.kill()
                promoter = start_promoter(stage, number)
            if number % 50 == 0:
                say(f"{number} kills, {len(load.asked)} questions")
    finally:
        load.stop()
        promoter.kill()
    return settle(stage, load.asked)


def start_promoter(stage: Stage, seed: int) -> Child:
    return stage.nursery.start("promotions", stage.environment, stage.folder / "promoter.log", seed=seed)


def live_a_while(stage: Stage, bot: Child, dice: random.Random) -> None:
    """One life in five ends while the bot starts, half of them soon after, the others within two seconds."""
    kind = dice.random()
    if kind < 0.2:
        time.sleep(dice.uniform(0.0, 0.4))
        return
    until = time.monotonic() + READY_S
    while not stage.slack.connections and bot.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(dice.expovariate(4) % 1.0 if kind < 0.7 else dice.uniform(0.5, 2.0))


def settle(stage: Stage, asked: list[Asked], *, ahead_s: float = LEASE_S) -> Outcome:
    """Let a last bot finish everything, under a clock by which all leases have run out; then judge."""
    bot = stage.nursery.start("bot", stage.environment, stage.log, ahead_s=ahead_s)
    stage.await_connections(1)
    ledger = Ledger(stage.data / "evenkeel.db")
    try:
        await_rest(stage, ledger)
        bot.send_signal(signal.SIGTERM)
        bot.wait(40)
        return judge(stage, ledger, asked)
    finally:
        ledger.close()


def await_rest(stage: Stage, ledger: Ledger) -> None:
    """Until nothing was open for a while, or nothing got less for SETTLE_S."""
    left, until, since = None, 0.0, None
    while left is None or time.monotonic() < until:
        open_ = ledger.inbox.depth() + len(list(stage.data.glob("spool/*.json"))) + stage.watch.undelivered
        if left is None or open_ < left:
            left, until = open_, time.monotonic() + SETTLE_S
        since = None if open_ else since or time.monotonic()
        if since is not None and time.monotonic() - since > QUIET_S:
            return
        time.sleep(0.05)


def judge(stage: Stage, ledger: Ledger, asked: list[Asked]) -> Outcome:
    """The outcome, where accepted is what the bot acked at least once."""
    acked = {ack.event.get("ts") for ack in tuple(stage.watch.acks) if ack.seconds is not None}
    marked = [replace(a, accepted=a.ts in acked) for a in asked]
    return outcome(stage.slack, ledger, marked, stage.data / "weights")
