"""A tiny base with two adapters on disk, and the engine served over HTTP on a free port."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import openai
import pytest
import uvicorn

from bot.engine.pairing import Pairing
from bot.engine.scheduler import Scheduler
from bot.engine.server import Engine, create_app
from bot.engine.stock import open_decoder
from storage.clock import utc_now
from storage.ledger import Ledger
from storage.records import Adapter, Decision
from storage.settings import load_settings
from tests.eval.conftest import _adapter, tiny_folder  # noqa: F401

PAIRED = Pairing(mode="paired", ratio=1.1, room=8, reach=8)
T = TypeVar("T")


@dataclass(slots=True)
class Served:
    """An engine over HTTP with its ledger and its weights folder."""

    engine: Engine
    ledger: Ledger
    url: str
    weights: Path
    base: Path

    @property
    def scheduler(self) -> Scheduler:
        assert self.engine.scheduler is not None
        return self.engine.scheduler

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=30)

    def adapter(self, seed: int) -> str:
        return _adapter(self.base, self.weights, seed).name

    def promote(self, digest: str) -> int:
        """A promotion row as the worker would write it."""
        serving = self.ledger.promotions.champion()
        base = self.scheduler.decoder.base_digest
        self.ledger.lessons.add_adapter(Adapter(digest=digest, base_digest=base, dataset_digest="d", path="", recipe={}, run_id=None,
                                                stats={}, created_at=utc_now()))  # fmt: skip
        decision = Decision(verdict="PROMOTE", reasons=("test",), comparisons=(), base_digest=base, candidate_digest=digest, policy={},
                            champion_digest=serving.adapter_digest if serving else None)  # fmt: skip
        number = self.ledger.promotions.decide(decision, run_id=None, actor="test")
        return self.ledger.promotions.promote(number, actor="test", reason="test").promotion_id

    def confirmed(self, promotion_id: int) -> str:
        """The engine's word on a promotion."""
        return wait(
            lambda: next(p.confirmed for p in self.ledger.promotions.history() if p.promotion_id == promotion_id)
        )


def wait(found: Callable[[], T], seconds: float = 15) -> T:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := found():
            return value
        time.sleep(0.02)
    raise AssertionError("did not happen in time")


@contextmanager
def serving(app: object) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait(lambda: server.started)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture
def served(tiny_folder: Path, tmp_path: Path) -> Iterator[Served]:  # noqa: F811
    settings = load_settings(_env_file=None, data_dir=tmp_path / "var", max_new_tokens=12)
    engine, ledger = Engine(settings=settings), Ledger(settings.ledger_path)
    engine.scheduler = Scheduler(*open_decoder(tiny_folder, device="cpu"), PAIRED)
    follower = threading.Thread(target=engine.follow, args=(ledger,), daemon=True)
    follower.start()
    with serving(create_app(engine)) as url:
        yield Served(engine=engine, ledger=ledger, url=url, weights=settings.weights_dir, base=tiny_folder)
    engine.stopping.set()
    follower.join(timeout=5)
    engine.scheduler.close()
    ledger.close()
