"""The word no, as Slack says it."""

from typing import Any


class Refused(Exception):
    """A request that is answered with `{"ok": false, "error": code}` and changes nothing."""

    def __init__(self, code: str, **details: Any) -> None:
        super().__init__(code)
        self.code, self.details = code, details
