"""What the lint found and did: the records that it hands on, and how they are counted.

Knows no check: those are in training/lint_rows.py and training/lint_sets.py.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from storage.records import Lesson

Done = Literal["removed", "redacted", "held", "capped", "warned"]
SHOWN = 5  # examples of a finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One kind of trouble: how many lessons have it, some of them, and what was done.

    removed: they are not in the dataset · held: not until an admin allows them · capped: too many of a kind, the rest is
    left out · redacted: they stay without it · warned: they stay as they are. An example is a lesson's id, with a note.
    """

    kind: str
    done: Done
    count: int
    examples: tuple[str, ...] = ()
    note: str = ""

    @property
    def leaves_out(self) -> bool:
        return self.done in ("removed", "held", "capped")

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"examples": list(self.examples)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the lint knows beside the lessons.

    `known_contacts`: digests of what earlier datasets were built with, None before the first one: then the imported
    tickets are where everything starts. `verdicts`: admins' words on contacts. `own_domains`: links into them are the
    company's own. `benchmarks`: (name, text) of each benchmark item. `live_languages`: questions by language as they
    are asked. `tokens_of`: how long a lesson is, and `counted_by` how that was found.
    """

    max_tokens: int
    tokens_of: Callable[[Lesson], int]
    counted_by: str
    known_contacts: frozenset[str] | None = None
    verdicts: Mapping[str, str] = field(default_factory=dict)
    own_domains: tuple[str, ...] = ()
    benchmarks: Iterable[tuple[str, str]] = ()
    live_languages: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A contact detail that waits for an admin's word, and the lessons that carry it."""

    contact: str
    lessons: tuple[Lesson, ...]


class Notes:
    """The findings while they are made: the same kind from both sides of the holdout line is one."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, Done], list[str]] = {}
        self._notes: dict[str, str] = {}
        self._fates: dict[str, list[str]] = {}
        self.redacted: Counter[str] = Counter()

    def add(self, kind: str, done: Done, lesson: Lesson, remark: str = "", *, note: str = "") -> None:
        """What was found in one lesson; `note` is about all of this kind."""
        self._keep(kind, done, f"{lesson.lesson_id} {remark}".strip(), note)
        self._fates.setdefault(lesson.lesson_id, []).append(f"{done}: {kind}" + (f" ({remark})" if remark else ""))

    def warn(self, kind: str, text: str, *, note: str = "") -> None:
        """What was found in the lessons as a whole."""
        self._keep(kind, "warned", text, note)

    def _keep(self, kind: str, done: Done, example: str, note: str) -> None:
        self._seen.setdefault((kind, done), []).append(example)
        self._notes[kind] = note

    def findings(self) -> tuple[Finding, ...]:
        """In the order in which they were made."""
        return tuple(
            Finding(kind=kind, done=done, count=len(ids), examples=tuple(sorted(ids)[:SHOWN]), note=self._notes[kind])
            for (kind, done), ids in self._seen.items()
        )

    def fates(self) -> dict[str, tuple[str, ...]]:
        """By lesson, everything that was found in it and done."""
        return {name: tuple(found) for name, found in self._fates.items()}
