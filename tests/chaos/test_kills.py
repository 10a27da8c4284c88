"""The short form of the chaos tests; `make chaos` is the long one."""

import random
import signal
import time
from collections.abc import Sequence

import pytest

from benchmarks.chaos.kills import Load, await_rest, judge, random_kills
from benchmarks.chaos.stage import stage
from benchmarks.chaos.sweep import ACTS, Case, sweep, tracing
from storage.ledger import Ledger

pytestmark = pytest.mark.chaos
SEED = 20


def test_twelve_kills_under_load_lose_nothing_and_say_nothing_twice() -> None:
    with stage(ack_timeout_s=1.0, engine_s=0.05, ANSWER_WORKERS="4") as here:
        found = random_kills(here, kills=12, seed=SEED, say=lambda text: None)

    assert found.sound, str(found)
    assert found.answered > 20  # what nobody acked may be missing: Slack gives up after three more deliveries


@pytest.mark.skipif(bool(tracing()), reason=f"calls cannot be traced here: {tracing()}")
def test_killed_at_any_write_sync_or_removal_the_bot_goes_on_where_it_stopped() -> None:
    dice = random.Random(SEED)

    def some(every: Sequence[Case]) -> Sequence[Case]:
        return dice.sample(every, 1)

    with stage(ANSWER_WORKERS="2") as here:
        swept = [sweep(here, act, cases=some) for act in ACTS]

    assert [str(act) for act in swept if act.faults] == []
    assert sum(act.killed for act in swept) == len(ACTS)


def test_a_rolling_restart_loses_nothing_and_says_nothing_twice() -> None:
    """A second bot starts, then the first is asked to stop, both under load."""
    with stage(ack_timeout_s=1.0, engine_s=0.2, ANSWER_WORKERS="4") as here:
        load = Load(stage=here, random=random.Random(SEED), pause_s=0.05)
        first = here.start_bot(connections=1)
        load.start()
        time.sleep(1.0)
        second = here.start_bot(connections=2)
        time.sleep(0.5)
        begun = time.monotonic()
        first.send_signal(signal.SIGTERM)
        assert first.wait(25) == 0
        stopped_after = time.monotonic() - begun
        time.sleep(0.5)
        load.stop()
        ledger = Ledger(here.data / "evenkeel.db")
        await_rest(here, ledger)
        found = judge(here, ledger, load.asked)
        ledger.close()
        second.send_signal(signal.SIGTERM)
        assert second.wait(25) == 0

    assert stopped_after < 25
    assert found.sound, str(found)
    assert found.questions > 10 and found.answered == found.questions
