"""Signs that somebody should look at, though nothing follows from them: tuned and base grow apart, the questions change.

Promise: each is told when it is past its bound, once a promotion and once a week; every look is a row of the ledger.
"""

import math
import random
from dataclasses import asdict
from datetime import timedelta

import structlog

from eval.drift import SEED, Apart, apart, distance, drift
from storage.errors import WeightsError
from storage.ledger import Ledger
from storage.settings import Settings
from training.dataset import load_dataset

log = structlog.get_logger()
WEEK, BEFORE = timedelta(days=7), timedelta(days=28)
FEWEST, MOST, STEP = 30, 200, 25  # answers or questions of a side; new ones until the answers are looked at again
LESSONS = 1_000  # training questions that the distance is taken to
RISE, SURE = 0.1, 2.33  # that tuned may part from base more than before; standard errors of 99 per cent
RARE = 0.01  # chance alone would do that so seldom: Holm's first step over the two tests


def look_at_signs(settings: Settings, ledger: Ledger) -> None:
    _look_at_answers(ledger)
    _look_at_questions(settings, ledger)


def _look_at_answers(ledger: Ledger) -> None:
    """How far the champion and the base are apart since the promotion, against who served before and the base."""
    champion = ledger.promotions.champion()
    if champion is None or champion.kind != "promote":
        return
    number, before = champion.promotion_id, ledger.promotions.before(champion)
    last = ledger.watches.last("disagreement", number)
    now = apart(ledger.watches.both_answers(champion.adapter_digest, since=champion.at, most=MOST))
    if now is None or now.n < FEWEST or (last and now.n < last.seen["now"]["n"] + STEP):
        return
    earlier = before and before.adapter_digest
    then = apart(ledger.watches.both_answers(earlier, until=champion.at, most=MOST)) if earlier else None
    bad = then is not None and then.n >= FEWEST and now.mean - then.mean - SURE * _error(now, then) > RISE
    said = f"v{champion.version} and the base differ in {now.mean:.0%} of their words ({now.n} answers)"
    said += f"; it was {then.mean:.0%} ({then.n} answers) before" if then else ""
    said += ". That is a clear rise: read some pairs in `/review`." if bad else ""
    seen = {"now": asdict(now), "before": asdict(then) if then else None}
    told = any((row.kind, row.promotion_id) == ("disagreement", number) for row in ledger.watches.news(champion.at))
    verdict = "alert" if bad and not told else "watching"
    ledger.watches.keep("disagreement", number, verdict=verdict, said=said, seen=seen)


def _error(one: Apart, other: Apart) -> float:
    return math.hypot(one.stderr, other.stderr)


def _look_at_questions(settings: Settings, ledger: Ledger) -> None:
    """The questions of the last week against the four weeks before it; at most once a day."""
    now, last = ledger.clock(), ledger.watches.last("drift", None)
    if last and now - last.at < timedelta(days=1):
        return
    week = ledger.watches.questions(now - WEEK, now, most=MOST)
    earlier = ledger.watches.questions(now - WEEK - BEFORE, now - WEEK, most=MOST)
    if min(len(week), len(earlier)) < FEWEST:
        return
    found = drift(earlier, week)
    changed = 2 * min(found.p_language, found.p_wording) < RARE
    language, was, share = found.shares[0]
    said = (
        f"Questions of the last 7 days ({len(week)}) against the 28 days before ({len(earlier)}): languages p = "
        f"{found.p_language:.3f} ({language or 'unknown'} {was:.0%} → {share:.0%}), wording and topics p = {found.p_wording:.3f}."
    )
    seen = asdict(found)
    if trained := _trained_on(settings, ledger):
        seen["distance"] = [round(distance([text for text, _ in side], trained), 4) for side in (earlier, week)]
        said += " Distance to the nearest training question: {:.2f}, before {:.2f}.".format(*reversed(seen["distance"]))
    said += " They have changed: check whether the lessons still fit." if changed else ""
    told = any(row.kind == "drift" for row in ledger.watches.news(now - WEEK))
    verdict = "alert" if changed and not told else "watching"
    ledger.watches.keep("drift", None, verdict=verdict, said=said, seen=seen)


def _trained_on(settings: Settings, ledger: Ledger) -> list[str]:
    """Questions that the champion learned from, by lot where they are many; none where its dataset is not on this disk."""
    champion = ledger.promotions.champion()
    adapter = ledger.lessons.adapter(champion.adapter_digest) if champion and champion.adapter_digest else None
    folder = settings.datasets_dir / adapter.dataset_digest if adapter else None
    if folder is None or not folder.is_dir():
        return []
    try:
        questions = [lesson.question for lesson in load_dataset(folder).train if lesson.source != "replay"]
    except WeightsError as error:
        log.warning("training_questions_unknown", reason=str(error))
        return []
    return random.Random(SEED).sample(questions, min(len(questions), LESSONS))
