"""How far the champion is from the base on what people really ask, told beside the other signs; nothing follows from it.

Promise: measured in a child process while the worker has nothing else to do, once when there are enough answers after a
promotion and then at most daily, of new answers only; a run that is asked for ends it. What goes wrong is a line of the log.
The held-out questions are answered and measured in the same child, so that both numbers are of one kind.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from bot.engine.base import base_folder
from eval.divergence import FEWEST_HELD_OUT, chance_above, divergence, is_clear
from storage.errors import Busy, EvenkeelError
from storage.ledger import Ledger
from storage.records import Promotion
from storage.servers import base_server, tuned_server
from storage.settings import Settings
from storage.watches import FIRST
from training.child import run_child

log = structlog.get_logger()
KIND = "divergence"
FEWEST, MOST = 24, 48  # answers that are measured
DAY, LOOK_EVERY = timedelta(days=1), timedelta(minutes=15)


class RunComes(EvenkeelError):
    """A run is active: it needs the machine."""


@dataclass(slots=True, kw_only=True)
class DivergenceWatch:
    """Looks when it is due. `waits_until` is not in the ledger: a worker that starts again may look at once."""

    settings: Settings
    ledger: Ledger
    waits_until: datetime = FIRST

    def look(self) -> None:
        """Measure if it is time to, and keep what was found. Raises Busy where the ledger is locked."""
        now = self.ledger.clock()
        if now < self.waits_until:
            return
        self.waits_until = now + LOOK_EVERY
        champion = self.ledger.promotions.champion()
        if champion is None or champion.kind != "promote" or champion.adapter_digest is None:
            return
        if not is_measurable(self.settings):
            said = f"How far v{champion.version} is from the base is not measured: one of them is at another server"
            self.ledger.watches.keep(KIND, champion.promotion_id, verdict="watching", said=said, seen={})
        elif is_due(self.ledger, champion):
            self._measure(champion, now)

    def _measure(self, champion: Promotion, now: datetime) -> None:
        try:
            found = run_child("diverge", self._job(champion), self._give_way)
            keep(self.ledger, champion, found)
        except RunComes:
            log.info("divergence_waits", reason="a run is active")
        except Busy:
            raise
        except Exception as error:  # the named place: a sign that cannot be measured fails nothing
            self.waits_until = now + DAY
            log.warning(
                "divergence_not_measured", version=champion.version, error=type(error).__name__, reason=str(error)
            )

    def _job(self, champion: Promotion) -> dict[str, Any]:
        settings = self.settings.model_dump(mode="json")
        return {"settings": settings, "base": str(base_folder(self.settings)), "promotion": champion.promotion_id}

    def _give_way(self, _: Mapping[str, Any] | None) -> None:
        if self.ledger.runs.active() is not None:
            raise RunComes


def is_measurable(settings: Settings) -> bool:
    """Only where our engine speaks both: other servers give no whole distributions."""
    return tuned_server(settings).ours and base_server(settings).ours and not settings.is_hosted


def is_due(ledger: Ledger, champion: Promotion) -> bool:
    """Enough answers, one of them new, a day since the last look, and no run."""
    last = ledger.watches.last(KIND, champion.promotion_id)
    if ledger.runs.active() is not None or (last and ledger.clock() - last.at < DAY):
        return False
    newest = ledger.watches.answered_by(champion, most=MOST)
    return len(newest) >= FEWEST and (last is None or last.seen.get("newest") != newest[0].exchange_id)


def keep(ledger: Ledger, champion: Promotion, found: Mapping[str, Any]) -> None:
    """The look at what a child measured: values of live answers and of held-out ones, and the newest live exchange."""
    live, held_out = found["live"], found["held_out"]
    if not live:
        return
    now, clear = divergence(live), is_clear(live, held_out)
    said = f"v{champion.version} is {now.mean:.3f} nats a token from the base on the newest questions"
    said += f" ({now.low:.3f} to {now.high:.3f}, {now.n} answers)"
    seen = {**found, "now": asdict(now)}
    if len(held_out) >= FEWEST_HELD_OUT:
        then = divergence(held_out)
        seen |= {"then": asdict(then), "p": chance_above(live, held_out)}
        said += f"; {then.mean:.3f} on held-out ones ({then.low:.3f} to {then.high:.3f}, {then.n}), p = {seen['p']:.4f}"
    else:
        said += f"; {len(held_out)} held-out ones on this disk are too few to compare with"
    said += ". That is clearly farther than it was judged at: read some pairs in `/review`." if clear else ""
    told = any(
        (row.kind, row.promotion_id) == (KIND, champion.promotion_id) for row in ledger.watches.news(champion.at)
    )
    verdict = "alert" if clear and not told else "watching"
    ledger.watches.keep(KIND, champion.promotion_id, verdict=verdict, said=said, seen=seen)
