"""The clock: when a run is asked for, and the champion looked after, without anybody asking. The truth is the ledger; this
only wakes up.

Knows APScheduler (memory store, UTC, nothing dropped, nothing doubled). Knows no training.
"""

from datetime import UTC, datetime

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from storage.crontab import cron
from storage.errors import Busy
from storage.ledger import Ledger
from storage.settings import Settings
from training.after import look_after
from training.signs import look_at_signs

log = structlog.get_logger()


def start_clock(settings: Settings, ledger: Ledger) -> BackgroundScheduler:
    """A running scheduler for the cron, for "N new lessons" and for the watch after a promotion. A slot that was missed while nobody ran is made up once.

    Raises ConfigurationError naming a crontab that cannot be read.
    """
    scheduler = BackgroundScheduler(
        timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
    )
    if settings.retrain_cron:
        trigger = cron(settings.retrain_cron)
        scheduler.add_job(lambda: ask(ledger, "cron"), trigger)
        if missed(trigger, last=last_request(ledger), now=ledger.clock()):
            ask(ledger, "cron")
    if settings.retrain_after_lessons:
        scheduler.add_job(lambda: ask_for_lessons(settings, ledger), IntervalTrigger(minutes=1))
    scheduler.add_job(lambda: watch(settings, ledger), IntervalTrigger(minutes=1))
    scheduler.add_job(lambda: watch_signs(settings, ledger), IntervalTrigger(hours=1))
    scheduler.start()
    return scheduler


def missed(trigger: CronTrigger, *, last: datetime | None, now: datetime) -> bool:
    """Whether a slot went by between the last run's request and now. Without any run there is nothing to make up."""
    if last is None:
        return False
    due = trigger.get_next_fire_time(None, last)
    return due is not None and last < due <= now


def last_request(ledger: Ledger) -> datetime | None:
    asked = (run.requested_at for run in ledger.runs.recent() if not run.overrides.get("dry_run"))
    return next(asked, None)


def ask_for_lessons(settings: Settings, ledger: Ledger) -> None:
    if ledger.lessons.count_since_last_run() >= settings.retrain_after_lessons:
        ask(ledger, "lessons")


def watch(settings: Settings, ledger: Ledger) -> None:
    try:
        look_after(settings, ledger)
    except Busy as error:
        log.warning("watch_waits", reason=str(error))


def watch_signs(settings: Settings, ledger: Ledger) -> None:
    try:
        look_at_signs(settings, ledger)
    except Busy as error:
        log.warning("watch_waits", reason=str(error))


def ask(ledger: Ledger, reason: str) -> None:
    """Request a run; one that is active already is as good."""
    try:
        run_id = ledger.runs.request(reason=reason, requested_by="clock", overrides={})
        log.info("run_requested", run_id=run_id, reason=reason)
    except Busy:
        log.debug("run_not_requested", reason=reason, why="one is active")
