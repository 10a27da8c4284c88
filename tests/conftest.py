"""Fixtures that every room shares: a ledger in a temporary folder, the converted base model."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import evenkeel  # noqa: F401  first: it tells OpenMP to wait without spinning before anything loads torch
from storage.ledger import Ledger
from storage.settings import load_settings

SECRETS = (
    "SLACK_",
    "ADMINS",
    "AGENTS",
    "DATA_DIR",
    "ENGINE_",
    "TUNED_",
    "BASE_",
    "ADAPTERS_",
    "LEARN_FROM_SLACK",
    "RETRAIN_",
)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the developer's settings."""
    for name in [n for n in os.environ if n.startswith(SECRETS)]:
        monkeypatch.delenv(name)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "data" / "evenkeel.db")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def base_folder() -> Path:
    """The converted embedded base, fetched once into the cache folder."""
    from bot.engine.base import prepare_base

    return prepare_base(load_settings(_env_file=None), print)
