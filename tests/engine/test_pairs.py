"""A question's two answers on a real model: they share the passes, and neither changes the other."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from bot.engine.decoder import Decoder
from bot.engine.layers import Interrupted, Segment
from bot.engine.pairing import Mode, Pairing
from bot.engine.rows import Ask, End, Role
from bot.engine.scheduler import Scheduler
from bot.engine.stock import open_decoder
from tests.engine.test_decoder import adapter_of, base, opened  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
TOKENS = 24
QUESTION = [{"role": "user", "content": "How do I reset my password, please?"}]


@dataclass
class Heard:
    text: str = ""
    end: End | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def hear(self, event: str | End) -> None:
        if isinstance(event, End):
            self.end = event
            self.done.set()
        else:
            self.text += event

    def wait(self) -> tuple[str, float | None]:
        assert self.done.wait(30) and self.end is not None and self.end.reason == "length"
        return self.text, self.end.confidence


@dataclass
class Served:
    """A scheduler whose passes are written down as (adapter, tokens) of each row."""

    scheduler: Scheduler
    tuned: str
    passes: list[list[tuple[str | None, int]]]

    def ask(self, role: Role, who: str | None, messages: Any = QUESTION, tokens: int = TOKENS) -> Heard:
        heard, prompt = Heard(), self.scheduler.renderer.prompt(messages)
        self.scheduler.submit(Ask(role=role, adapter=who, prompt=prompt, max_new_tokens=tokens, emit=heard.hear))
        return heard


Serving = Callable[..., Served]


@pytest.fixture
def serving(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:  # noqa: F811
    """Makes a scheduler of a mode; each pass that came to its end is written down."""
    passes: list[list[tuple[str | None, int]]] = []
    forward, made = Decoder.forward, list[Scheduler]()

    def noted(decoder: Decoder, segments: Sequence[Segment], **more: Any) -> torch.Tensor:
        logits = forward(decoder, segments, **more)
        passes.append([(row.adapter, len(row.ids)) for row in segments])
        return logits

    def make(mode: Mode, dtype: torch.dtype = torch.float32) -> Served:
        decoder, renderer = open_decoder(base, device="cpu", dtype=dtype)
        renderer.end_ids = frozenset()
        made.append(Scheduler(decoder, renderer, Pairing(mode=mode, ratio=1.0, room=8, reach=8)))
        return Served(made[0], made[0].fetch(adapter_of(base, tmp_path, 2)), passes)

    monkeypatch.setattr(Decoder, "forward", noted)
    yield make
    made[0].close()


def test_a_questions_two_rows_share_the_passes_and_say_what_each_says_alone(serving: Serving) -> None:
    served = serving("paired")
    alone = {who: served.ask("user", who).wait()[0] for who in (served.tuned, None)}
    served.passes.clear()

    ask_both = lambda: (served.ask("user", served.tuned), served.ask("shadow", None))  # noqa: E731
    user, shadow = served.scheduler._call(ask_both)  # between two passes, however busy this machine is
    assert {served.tuned: user.wait()[0], None: shadow.wait()[0]} == alone

    shared = [rows for rows in served.passes if {who for who, _ in rows} == {served.tuned, None}]
    assert len(shared) >= TOKENS / 2 and len(served.passes) < 1.6 * TOKENS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_deferred_a_users_numbers_are_the_same_to_the_last_bit_with_a_shadow_and_without(
    serving: Serving, dtype: torch.dtype
) -> None:
    served = serving("deferred", dtype)
    served.scheduler._prefixes.room = 0  # both times the whole prompt is read
    without = served.ask("user", served.tuned).wait()
    served.passes.clear()
    shadow = served.ask("shadow", None)
    beside = served.ask("user", served.tuned).wait()
    shadow.wait()

    assert beside == without
    assert all(len({who for who, _ in rows}) == 1 for rows in served.passes)


def test_a_follow_up_reads_only_what_is_new(serving: Serving) -> None:
    served = serving("paired")
    answer, _ = served.ask("user", served.tuned).wait()
    served.passes.clear()
    thread = [*QUESTION, {"role": "assistant", "content": answer}, {"role": "user", "content": "And then?"}]
    whole = len(served.scheduler.renderer.prompt(thread))
    served.ask("user", served.tuned, thread, 4).wait()
    first = served.passes[0][0][1]
    served.passes.clear()
    served.ask("user", None, thread, 4).wait()

    assert first < whole - len(served.scheduler.renderer.prompt(QUESTION)) + 1
    assert sum(count for _, count in served.passes[0]) == whole  # the base has read nothing of it


def test_a_pass_can_be_given_up_between_the_last_layer_and_the_words(base: Path) -> None:  # noqa: F811
    decoder = opened(base)
    cache = decoder.new_cache(8)
    calls = iter([False] * len(decoder.layers) + [True])

    with pytest.raises(Interrupted):
        decoder.forward([Segment(ids=[5], cache=cache, adapter=None)], interrupt=lambda: next(calls))

    assert cache.tokens == []
