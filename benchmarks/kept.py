"""Results of a benchmark that takes longer than a day has quiet hours: each is a line of a file, and found again there.

Knows lines of JSON; not what they say. A line's origin is the digest of all that it came from, so that what was measured
otherwise is measured anew.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.digests import digest_of

Found = dict[str, Any]


@dataclass(slots=True)
class Kept:
    """Of one file, or of this process alone where there is none."""

    file: Path | None = None
    lines: dict[str, Found] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is not None and self.file.is_file():
            for line in self.file.read_text(encoding="utf-8").splitlines():
                found = json.loads(line)
                self.lines[found["origin"]] = found

    def get(self, origin: Any) -> Found | None:
        """What came of this, if it was measured before. `origin` is JSON."""
        return self.lines.get(digest_of(origin))

    def add(self, origin: Any, found: Found) -> Found:
        line = {**found, "origin": digest_of(origin)}
        self.lines[line["origin"]] = line
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        return line
