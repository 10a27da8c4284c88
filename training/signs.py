"""Signs that somebody should look at, though nothing follows from them: tuned and base grow apart, the questions change.

Promise: each is told when it is past its bound, once a promotion and once a week; every look is a row of the ledger.
"""

import math
from dataclasses import asdict
from datetime import timedelta

from eval.drift import Apart, apart, drift
from storage.ledger import Ledger

WEEK, BEFORE = timedelta(days=7), timedelta(days=28)
FEWEST, MOST, STEP = 30, 200, 25  # answers or questions of a side; new ones until the answers are looked at again
RISE, SURE = 0.1, 2.33  # that tuned may part from base more than before; standard errors of 99 per cent
RARE = 0.01  # chance alone would do that so seldom: Holm's first step over the two tests


def look_at_signs(ledger: Ledger) -> None:
    _look_at_answers(ledger)
    _look_at_questions(ledger)


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


def _look_at_questions(ledger: Ledger) -> None:
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
    said += " They have changed: check whether the lessons still fit." if changed else ""
    told = any(row.kind == "drift" for row in ledger.watches.news(now - WEEK))
    verdict = "alert" if changed and not told else "watching"
    ledger.watches.keep("drift", None, verdict=verdict, said=said, seen=asdict(found))
