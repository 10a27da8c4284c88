"""What every command shares: settings and ledger for the time of one command, data on stdout, messages and logs on stderr."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import structlog
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


def configure_logs(level: str) -> None:
    """One event a line on stderr: readable on a terminal, JSON elsewhere. The SDKs speak from warning up."""
    renderer: Any = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    for name in ("slack_bolt", "slack_sdk", "httpx", "httpx2", "openai", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
