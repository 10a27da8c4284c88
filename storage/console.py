"""What every command shares: settings and ledger for the time of one command, data on stdout, messages on stderr."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from storage.ledger import Ledger
from storage.settings import Settings, load_settings

out, err = Console(), Console(stderr=True)
Json = Annotated[bool, typer.Option("--json", help="print one JSON value")]


@contextmanager
def opened() -> Iterator[tuple[Settings, Ledger]]:
    """Settings and ledger for one command."""
    settings = load_settings()
    ledger = Ledger(settings.ledger_path)
    try:
        yield settings, ledger
    finally:
        ledger.close()


def say(text: str) -> None:
    err.print(text, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")
