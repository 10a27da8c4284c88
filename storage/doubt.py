"""What was measured about each answerer's confidence: the threshold below which it says that it is not sure.

Promise: one threshold for each base with each adapter (or none), the newest measurement; nobody else's is ever used.
"""

import json
from dataclasses import asdict

from storage.clock import Clock, to_text
from storage.database import Connections
from storage.records import Threshold


class Doubt:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def keep(self, base_digest: str, adapter_digest: str | None, threshold: Threshold) -> None:
        """Store what was measured of this answerer; a newer measurement takes the place of the older."""
        body = json.dumps(asdict(threshold))
        with self._connections.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO thresholds(base_digest, adapter_digest, value, body, at) VALUES (?,?,?,?,?)",
                (base_digest, adapter_digest or "", threshold.value, body, to_text(self._clock())),
            )

    def of(self, base_digest: str, adapter_digest: str | None) -> Threshold | None:
        """The threshold of this very answerer, or None while it was not measured."""
        found = self._connections.db.execute(
            "SELECT body FROM thresholds WHERE base_digest=? AND adapter_digest=?", (base_digest, adapter_digest or "")
        ).fetchone()
        return None if found is None else Threshold(**json.loads(found[0]))
