"""The model speaks in a thread of its own, so that a slow Slack never slows it and a person can stop it at any time.

Knows how to wait; knows neither Slack nor the protocol of models.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bot.answer_view import STOPPED
from storage.records import Answer

LOOK_EVERY_S = 0.3
Ask = Callable[[Callable[[str], None]], Answer]  # gets told what to call with everything said so far


class _Over(Exception):
    """Nobody listens any more: ends the answer at its source."""


@dataclass(slots=True)
class _Said:
    text: str = ""
    answer: Answer | None = None
    error: Exception | None = None
    over: bool = False
    news: threading.Event = field(default_factory=threading.Event)

    def hear(self, text: str) -> None:
        if self.over:
            raise _Over
        self.text = text
        self.news.set()

    def run(self, ask: Ask) -> None:
        try:
            self.answer = ask(self.hear)
        except Exception as error:  # the named place: raised again in the thread that waits
            self.error = error
        self.news.set()


def spoken(
    ask: Ask, *, begin: Callable[[], None], show: Callable[[str], None], stopped_by: Callable[[], str]
) -> Answer:
    """The answer, or that it was stopped with what was said until then. `begin` is called while the model thinks.

    Raises what `ask`, `begin` and `show` raise; then nobody listens to the model any more.
    """
    said, looked_at = _Said(), time.monotonic()
    threading.Thread(target=said.run, args=(ask,), name="speaking", daemon=True).start()
    try:
        begin()
        while said.answer is None and said.error is None:
            said.news.wait(LOOK_EVERY_S)
            said.news.clear()
            if said.answer is None and said.error is None:
                show(said.text)
                if time.monotonic() - looked_at >= LOOK_EVERY_S:
                    looked_at = time.monotonic()
                    if by := stopped_by():
                        return Answer(role="tuned", status="skipped", reason=f"{STOPPED} by {by}", text=said.text)
    finally:
        said.over = True
    if said.error is not None:
        raise said.error
    assert said.answer is not None
    return said.answer
