"""Adapters as files that nobody can load, and their promotion as the worker would write it."""

from pathlib import Path

from storage.clock import utc_now
from storage.ledger import Ledger
from storage.records import Adapter, Decision
from storage.weights import keep_adapter

TRAINED_ON = "b" * 64


def made(ledger: Ledger, weights: Path, seed: int) -> str:
    """The digest of an adapter on disk that the ledger knows."""

    def write(folder: Path) -> None:
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapter_model.safetensors").write_text(f"weights {seed}")

    digest, _ = keep_adapter(weights, write, {"base_digest": TRAINED_ON})
    known(ledger, digest)
    return digest


def known(ledger: Ledger, digest: str, base: str = TRAINED_ON) -> None:
    ledger.lessons.add_adapter(Adapter(digest=digest, base_digest=base, dataset_digest="d", path="", recipe={}, run_id=None,
                                       stats={}, created_at=utc_now()))  # fmt: skip


def promote(ledger: Ledger, digest: str, base: str = TRAINED_ON) -> int:
    """The number of a new promotion of this adapter."""
    serving = ledger.promotions.champion()
    decision = Decision(verdict="PROMOTE", reasons=("test",), comparisons=(), base_digest=base, candidate_digest=digest, policy={},
                        champion_digest=serving.adapter_digest if serving else None)  # fmt: skip
    number = ledger.promotions.decide(decision, run_id=None, actor="test")
    return ledger.promotions.promote(number, actor="test", reason="test").promotion_id
