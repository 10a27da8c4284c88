"""What a child of the nursery does: be the bot, or one step of the line from the first write to the last.

`bot` is the whole process. The others act in one thread after a sign, so that the n-th write is the same in every run.
"""

import ctypes
import os
import sqlite3
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from slack_bolt import BoltRequest

from bot.app import Bot, build_bot
from bot.question import know_languages
from bot.run import run_bot, running_bot
from bot.slack import make_client, who_am_i
from storage.clock import Clock, utc_now
from storage.console import configure_logs
from storage.ledger import Ledger
from storage.records import Adapter, Decision, Promotion
from storage.settings import Settings, load_settings
from storage.weights import keep_adapter

BASE = "b" * 64
ACKED = 1.0  # the sign's time of change once everything was acked
LET_ANYBODY_TRACE = (0x59616D61, -1)  # prctl: PR_SET_PTRACER, PR_SET_PTRACER_ANY
PATIENCE_S = 30.0
Body = dict[str, Any]
know_languages()  # once, in the nursery: its children are born with it


def opened(ahead_s: float = 0.0) -> tuple[Settings, Ledger]:
    """Settings from the environment, and the ledger under a clock that is ahead."""
    settings = load_settings(_env_file=None)
    configure_logs(settings.log_level)
    return settings, Ledger(settings.ledger_path, clock=ahead(ahead_s))


def ahead(seconds: float) -> Clock:
    def clock() -> datetime:
        return utc_now() + timedelta(seconds=seconds)

    return clock if seconds else utc_now


def bot(ahead_s: float = 0.0) -> None:
    """As `evenkeel bot`. `ahead_s`: so much later that the leases of the dead have run out."""
    run_bot(*opened(ahead_s))


def question(sign: str, bodies: list[Body]) -> None:
    """Take these events in, then answer."""
    bot = still()
    await_sign(sign)
    take_in(bot, bodies, sign)
    answer(bot)


def spooled(sign: str, bodies: list[Body]) -> None:
    """The same, while another connection has the ledger locked; it is let go after the ack."""
    bot = still()
    lock = sqlite3.connect(load_settings(_env_file=None).ledger_path, isolation_level=None)
    await_sign(sign)
    lock.execute("BEGIN IMMEDIATE")
    take_in(bot, bodies, sign)
    lock.execute("ROLLBACK")
    bot.intake.spool.step()
    answer(bot)


def rating(sign: str, bodies: list[Body]) -> None:
    """Take a reaction in, then store it as a rating."""
    bot = still()
    await_sign(sign)
    take_in(bot, bodies, sign)
    until_idle(bot.reactions.step)


def promotion(sign: str, name: str) -> None:
    """Keep an adapter, decide for it, and let it serve."""
    settings, ledger = opened()
    await_sign(sign)
    promote(settings, ledger, name)


def promotions(seed: int) -> None:
    """One new champion after the other, until killed."""
    settings, ledger = opened()
    for number in range(10_000):
        promote(settings, ledger, f"{seed}-{number}")
        time.sleep(0.2)


def recovery(bodies: list[Body]) -> None:
    """A bot started anew, a minute later; Slack delivers again what was not acked; until nothing is open."""
    settings, ledger = opened(ahead_s=60.0)
    with running_bot(settings, ledger) as bot:
        for body in bodies:
            deliver(bot, body)
        until = time.monotonic() + PATIENCE_S
        while waits(settings, ledger):
            if time.monotonic() > until:
                raise TimeoutError(f"{ledger.inbox.depth()} items are still open")
            time.sleep(0.005)
    ledger.close()


def waits(settings: Settings, ledger: Ledger) -> bool:
    spool = settings.data_dir / "spool"
    return bool(ledger.inbox.depth() or list(spool.glob("*.json")) or ledger.exchanges.awaiting_shadow(max_age_s=3600))


# The steps


def still() -> Bot:
    """A bot that is wired and does nothing by itself."""
    settings, ledger = opened()
    client = make_client(settings.slack_bot_token.get_secret_value(), settings.slack_api_url)
    bot = build_bot(settings, ledger, client, who_am_i(client))
    object.__setattr__(bot.shadow, "most", 0)  # no shadow in a thread of its own beside the answer
    return bot


def await_sign(sign: str) -> None:
    """Let ourselves be traced, and begin when there is the file."""
    ctypes.CDLL(None).prctl(*(ctypes.c_ulong(n) for n in LET_ANYBODY_TRACE))
    Path(sign).with_suffix(".ready").touch()
    while not Path(sign).exists():
        time.sleep(0.002)


def take_in(bot: Bot, bodies: list[Body], sign: str) -> None:
    """All of them, then say that all were acked in a way that writes nothing."""
    for body in bodies:
        deliver(bot, body)
    os.utime(sign, (ACKED, ACKED))


def deliver(bot: Bot, body: Body) -> None:
    response = bot.bolt.dispatch(BoltRequest(body=body, mode="socket_mode"))
    if response.status != 200:
        raise RuntimeError(f"not acked: {response.status}")


def answer(bot: Bot) -> None:
    until_idle(bot.asking.step)
    until_idle(bot.shadow.step)


def until_idle(step: Callable[[], bool | None]) -> None:
    while step():
        pass


def promote(settings: Settings, ledger: Ledger, name: str) -> Promotion:
    """A small adapter named by its content, a decision for it, and its promotion."""

    def write(folder: Path) -> None:
        (folder / "adapter_config.json").write_text(f'{{"name": "{name}"}}')
        (folder / "adapter_model.safetensors").write_bytes(name.encode() * 1000)

    digest, path = keep_adapter(settings.weights_dir, write, {"base_digest": BASE})
    ledger.lessons.add_adapter(
        Adapter(digest=digest, base_digest=BASE, dataset_digest="d" * 64, path=str(path), recipe={}, run_id=None,
                stats={}, created_at=ledger.clock()))  # fmt: skip
    champion = ledger.promotions.champion()
    serving = champion.adapter_digest if champion else None
    decision = Decision(verdict="PROMOTE", reasons=("better",), comparisons=(), base_digest=BASE,
                        champion_digest=serving, candidate_digest=digest, policy={})  # fmt: skip
    number = ledger.promotions.decide(decision, run_id=None, actor="gate")
    return ledger.promotions.promote(number, actor="U0INES", reason="better")
