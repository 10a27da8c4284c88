"""The worker process: the clock, one run after the other, and between them a look at how far the champion is from the base.

Promise: a run is worked on by one worker; SIGTERM saves a checkpoint and leaves the run to the next worker at once.
"""

import os
import secrets
import signal
import socket
import threading
from contextlib import suppress

import structlog

from storage.errors import Busy, LostLease
from storage.ledger import Ledger
from storage.settings import Settings
from training.clock import start_clock
from training.cycle import LEASE_S, run_cycle
from training.divergence import DivergenceWatch
from training.trainers import trainer_of

log = structlog.get_logger()
LOOK_EVERY_S = 1.0


class Stopped(BaseException):
    """SIGTERM: unwinds the run where it stands, so that its child saves and ends and its row waits to be resumed."""


def run_worker(settings: Settings, ledger: Ledger) -> None:
    """Claim and run until SIGTERM or Ctrl-C. Raises ConfigurationError for a bad crontab."""
    clock = start_clock(settings, ledger)
    quiet, divergence = threading.Event(), DivergenceWatch(settings=settings, ledger=ledger)
    try:
        signal.signal(signal.SIGTERM, _stop)
        log.info("worker_ready", cron=settings.retrain_cron or "none", after_lessons=settings.retrain_after_lessons)
        while True:
            try:
                busy = work_once(settings, ledger)
                if not busy:
                    divergence.look()
            except Busy as error:  # the ledger is locked: look again
                log.warning("worker_waits", reason=str(error))
                busy = False
            if not busy:
                quiet.wait(LOOK_EVERY_S)
    except Stopped:
        log.info("worker_stopped")
    finally:
        clock.shutdown(wait=False)


def _stop(*_: object) -> None:
    raise Stopped


def work_once(settings: Settings, ledger: Ledger) -> bool:
    """Claim the active run and bring it to its end; False when there is none to claim.

    Raises Busy when the ledger was locked for long: the run waits to be resumed.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    run = ledger.runs.claim(owner=owner, lease_s=LEASE_S)
    if run is None:
        return False
    log.info("run_claimed", run_id=run.run_id, fence=run.fence, state=run.state)
    try:
        run_cycle(run, ledger=ledger, settings=settings, trainer=trainer_of(settings))
    except LostLease as error:
        log.warning("run_lost", run_id=run.run_id, reason=str(error))
    except (Busy, Stopped, KeyboardInterrupt):
        with suppress(Busy):  # then the lease runs out
            ledger.runs.release(run)
        raise
    return True
