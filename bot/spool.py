"""Where an event waits when the ledger is locked at the moment of its ack: one synced file for each.

Promise: what `keep` returned for is on disk and reaches the ledger, also over a crash; the ledger's keys make a second
delivery harmless. Source of the manner: write, sync, rename, sync the folder.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from storage.errors import Busy

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """The folder of waiting events, and who takes them in. `take_in` raises Busy while the ledger is still locked."""

    folder: Path
    take_in: Callable[[dict[str, Any]], None]

    def keep(self, body: dict[str, Any]) -> None:
        """Write one event. Raises OSError when it cannot be: then it must not be acked."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        half = self.folder / f"{uuid4().hex}.half"
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(body, file)
            file.flush()
            os.fsync(file.fileno())
        half.rename(half.with_suffix(".json"))
        self._sync()
        log.warning("spooled", reason="the ledger is locked")

    def step(self) -> bool:
        """Take in all that waits, oldest first; always False: it is called again after a pause."""
        for path in sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
            try:
                self.take_in(json.loads(path.read_text(encoding="utf-8")))
            except Busy:
                return False
            except ValueError:
                log.error("spool_unreadable", file=path.name)
                path.rename(path.with_suffix(".unreadable"))
                continue
            path.unlink()
        return False

    def _sync(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
