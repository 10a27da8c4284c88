"""Content names: SHA-256 as lower-case hex over canonical JSON or over a file's bytes."""

import hashlib
import json
from pathlib import Path
from typing import Any

SHORT = 12
NAMED = "name:"  # stands in a digest's place before the name of weights that only their server knows


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. Raises ValueError on NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short(digest: str | None) -> str:
    """The first 12 characters, as people see it, or the name of weights that have no digest; "none" for no adapter."""
    if not digest:
        return "none"
    return digest.removeprefix(NAMED) if digest.startswith(NAMED) else digest[:SHORT]
