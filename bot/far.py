"""Which questions are too far from the champion's lessons for it to answer: the base does (FAR_QUESTIONS).

Promise: reads only, the lessons' reach once a champion; where there is none to read, no question is far, and the log says
so once. Knows no model.
"""

import threading
from dataclasses import dataclass, field

import structlog

from storage.errors import WeightsError
from storage.ledger import Ledger
from storage.reach import Reach, load_reach, said_by_user
from storage.records import Question
from storage.settings import Settings

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Far:
    settings: Settings
    ledger: Ledger
    _adapter: str | None = None  # whose reach is known
    _reach: Reach | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, question: Question) -> dict[str, float] | None:
        """How far a question is whose conversation is far from all lessons, for the answer's row; None when it is not."""
        if self.settings.far_questions == "tuned":
            return None
        champion = self.ledger.promotions.champion()
        reach = self._of(champion.adapter_digest) if champion and champion.adapter_digest else None
        if reach is None:
            return None
        distance = reach.distance(said_by_user(question.messages))
        return {"distance": distance, "threshold": reach.threshold} if distance > reach.threshold else None

    def _of(self, adapter: str) -> Reach | None:
        with self._lock:
            if adapter != self._adapter:
                self._adapter, self._reach = adapter, self._read(adapter)
            return self._reach

    def _read(self, adapter: str) -> Reach | None:
        known = self.ledger.lessons.adapter(adapter)
        try:
            return load_reach(self.settings.datasets_dir / known.dataset_digest) if known else None
        except WeightsError as error:
            log.warning("far_questions_unknown", reason=str(error))
            return None
