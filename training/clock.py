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
EVERY_MINUTE = IntervalTrigger(minutes=1)


def start_clock(settings: Settings, ledger: Ledger) -> BackgroundScheduler:
    """A running scheduler for the cron, for "N new lessons" and for the watch after a promotion.

    Whether a slot of the cron went by is asked of the ledger every minute: one that passed while nobody ran, beside a dry run
    or while the ledger was locked is made up once. Raises ConfigurationError naming a crontab that cannot be read.
    """
    scheduler = BackgroundScheduler(
        timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
    )
    if settings.retrain_cron:
        trigger, since = cron(settings.retrain_cron), ledger.clock()
        scheduler.add_job(lambda: ask_for_slot(trigger, since, ledger), EVERY_MINUTE, next_run_time=datetime.now(UTC))
    if settings.retrain_after_lessons:
        scheduler.add_job(lambda: ask_for_lessons(settings, ledger), EVERY_MINUTE)
    scheduler.add_job(lambda: watch(settings, ledger), EVERY_MINUTE)
    scheduler.add_job(lambda: watch_signs(settings, ledger), IntervalTrigger(hours=1))
    scheduler.start()
    return scheduler


def missed(trigger: CronTrigger, *, last: datetime, now: datetime) -> bool:
    """Whether a slot went by between `last` and now."""
    due = trigger.get_next_fire_time(None, last)
    return due is not None and last < due <= now


def ask_for_slot(trigger: CronTrigger, since: datetime, ledger: Ledger) -> None:
    """Request a run when a slot of the crontab went by with no run active; before the first run, since `since`."""
    if missed(trigger, last=ledger.runs.last_active() or since, now=ledger.clock()):
        ask(ledger, "cron")


def ask_for_lessons(settings: Settings, ledger: Ledger) -> None:
    new = ledger.lessons.count_since_last_run(with_slack=settings.learn_from_slack)
    if new >= settings.retrain_after_lessons:
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
    """Request a run, unless another one is active or the ledger is locked: then a minute later it is asked for again."""
    try:
        run_id = ledger.runs.request(reason=reason, requested_by="clock", overrides={})
        log.info("run_requested", run_id=run_id, reason=reason)
    except Busy as error:
        log.info("run_waits", reason=reason, why=str(error))
