"""Trouble on demand: what goes wrong with the next calls of a method."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Kind = Literal["ratelimited", "http_500", "lost_response", "error", "hang"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. `lost_response`: the call acts and its answer never arrives; `hang`: it acts `seconds` later."""

    kind: Kind
    retry_after: float = 1
    code: str = "internal_error"
    seconds: float = 5.0


@dataclass(slots=True)
class Faults:
    """The faults that are still to come, by method, in order."""

    _coming: dict[str, list[Fault]] = field(default_factory=dict)

    def add(self, method: str, kind: Kind, *, times: int = 1, **details: Any) -> None:
        """The next `times` calls of `method` fail like this. Raises ValueError on an unknown kind."""
        if kind not in get_args(Kind):
            raise ValueError(f"no fault {kind!r}: it is one of {', '.join(get_args(Kind))}")
        self._coming.setdefault(method, []).extend([Fault(kind=kind, **details)] * times)

    def clear(self) -> None:
        """No fault is to come any more."""
        self._coming.clear()

    def next(self, method: str) -> Fault | None:
        """The fault of this call, which is then used up."""
        coming = self._coming.get(method)
        return coming.pop(0) if coming else None
