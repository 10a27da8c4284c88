"""A dataset as the two files of a fine-tuning job: what it trains on, and what it is watched on. Pure.

Promises: the files hold training rows alone, never the holdout; no conversation is in both; the same dataset and recipe give
the same bytes; what a server would refuse is refused here, by the row's name.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from storage.digests import canonical
from storage.errors import EvenkeelError, TooLittleData
from storage.recipe import Recipe
from storage.records import Dataset, Lesson
from training.sources import estimated_tokens

FEWEST_ROWS = 10  # OpenAI's fine-tuning guide
MOST_BYTES = 512 * 2**20  # of one file, by the same vendor's files API
SHARE, MOST_WATCHED, FEWEST_WATCHED = (
    0.08,
    200,
    4,
)  # of the lessons that are held back; the job reads them in every look
NAMED = 5  # faulty rows that are named
ROLES = ("system", "user", "assistant")
Which = Literal["train", "validation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFile:
    """One file of chat rows as it is uploaded."""

    data: bytes
    rows: int

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What a job gets. `validation` None: too few lessons to hold any back; `dropped`: rows longer than MAX_TOKENS."""

    train: RowFile
    validation: RowFile | None
    dropped: int

    @property
    def parts(self) -> tuple[tuple[Which, RowFile], ...]:
        train: tuple[tuple[Which, RowFile], ...] = (("train", self.train),)
        return (*train, ("validation", self.validation)) if self.validation else train


def files_of(dataset: Dataset, recipe: Recipe) -> Files:
    """Raises EvenkeelError naming rows that are no chat or a file that is too large, TooLittleData below FEWEST_ROWS rows."""
    fits = [row for row in dataset.train if estimated_tokens(row) <= recipe.max_tokens]
    if faults := [f"{row.lesson_id} {fault}" for row in fits if (fault := chat_fault(row))]:
        more = f" and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        raise EvenkeelError(
            f"{len(faults)} rows are no chat that a fine-tuning job takes: {'; '.join(faults[:NAMED])}{more}. "
            "Next: evenkeel data show ID, then exclude or correct them."
        )
    kept, watched = held_back(fits, recipe.seed)
    if len(kept) < FEWEST_ROWS:
        raise TooLittleData(f"{len(kept)} rows fit into max_tokens={recipe.max_tokens}, a job needs {FEWEST_ROWS}.")
    files = Files(
        train=_file(kept), validation=_file(watched) if watched else None, dropped=len(dataset.train) - len(fits)
    )
    if len(files.train.data) > MOST_BYTES:
        raise EvenkeelError(
            f"the training file has {len(files.train.data) / 2**20:.0f} MB, allowed are {MOST_BYTES / 2**20:.0f}. "
            "Next: a smaller replay share, or fewer lessons."
        )
    return files


def held_back(rows: Sequence[Lesson], seed: int) -> tuple[list[Lesson], list[Lesson]]:
    """(rows to train on, rows that the job is watched on): lessons of whole conversations, drawn by the seed; none of too
    few."""
    lessons = [row for row in rows if row.source != "replay"]
    wanted = min(MOST_WATCHED, int(SHARE * len(lessons)))
    sizes, chosen, count = Counter(row.conversation_id for row in lessons), set[str](), 0
    for conversation in random.Random(seed).sample(sorted(sizes), len(sizes)):
        if count + sizes[conversation] <= wanted:
            chosen.add(conversation)
            count += sizes[conversation]
    if count < FEWEST_WATCHED:
        return list(rows), []
    return [row for row in rows if row.conversation_id not in chosen], [
        r for r in lessons if r.conversation_id in chosen
    ]


def chat_fault(row: Lesson) -> str:
    """Why a row is no chat that a job takes, or nothing."""
    roles = [message.get("role") for message in row.messages]
    if unknown := [role for role in roles if role not in ROLES]:
        return f"has the role {unknown[0]!r}, allowed are {', '.join(ROLES)}"
    if "system" in roles[1:]:
        return "has a system message that is not its first"
    if not roles or roles[-1] != "user":
        return "does not end with the user's question"
    if not row.answer.strip() or not all(str(message.get("content", "")).strip() for message in row.messages):
        return "has an empty message"
    return ""


def _file(rows: Sequence[Lesson]) -> RowFile:
    return RowFile(data="".join(_lines(rows)).encode(), rows=len(rows))


def _lines(rows: Sequence[Lesson]) -> Iterator[str]:
    for row in rows:
        yield canonical({"messages": [*row.messages, {"role": "assistant", "content": row.answer}]}) + "\n"
