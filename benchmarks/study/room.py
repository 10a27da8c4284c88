"""The room of a study: what was finished is kept there under the digest of all that it came from, and found again.

Knows a folder and JSON. Does not know what is kept.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.digests import digest_of

Found = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    folder: Path

    def kept(self, kind: str, origin: Any, make: Callable[[], Found]) -> Found:
        """What was made of this origin before, else what `make` gives now; whole in its file or not there at all.

        `origin` is JSON: equal origins are the same thing. What `make` raises is kept nowhere.
        """
        path = self.path(kind, origin)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".draft")
            draft.write_text(json.dumps({"origin": origin, "found": make()}, indent=1), encoding="utf-8")
            draft.replace(path)
        found: Found = json.loads(path.read_text(encoding="utf-8"))["found"]
        return found

    def path(self, kind: str, origin: Any) -> Path:
        return self.folder / kind / f"{digest_of(origin)[:32]}.json"
