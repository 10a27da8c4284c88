"""Lessons into a dataset: split, linted, mixed with replay. Pure: same lessons in, same bytes out.

Promises: all of a conversation lies on one side of the holdout line, and adding data never moves one across it: the side
follows from the conversation's id and from when it began, as the ledger saw it first (docs/decisions/0009). The line is
drawn before anything is dropped. Nothing in training nearly equals something in the holdout.
Knows lessons, not where they are stored; what is dropped and why is the lint's.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.digests import canonical, digest_of
from storage.errors import WeightsError
from storage.records import Dataset, Lesson, Preference
from storage.weights import write_whole
from training.findings import Context
from training.lint import Linted, lint
from training.preferences import lint_preferences, manifest_of

SALT = "evenkeel-holdout-1"
WINDOW_DAYS, HELD_DAYS = 30, 2  # of every 30 days since 1970, what began in the last 2 is held out
TRAIN, HOLDOUT, PREFERENCES = "train.jsonl", "holdout.jsonl", "preferences.jsonl"
REPLAY_FILE = Path(__file__).parent / "data" / "replay.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A dataset and the lint that it came through."""

    dataset: Dataset
    linted: Linted


def build_dataset(
    *,
    lessons: Sequence[Lesson],
    left_out: Mapping[str, int],
    replay: Sequence[Lesson],
    context: Context,
    replay_share: float,
    seed: int,
    holdout_share: float = 0.2,
    preferences: Sequence[Preference] = (),
) -> Built:
    """The dataset of these lessons and preferences. `replay_share` is the share of general rows in the finished training
    set; `left_out` counts the rows that had no consent, for the manifest.
    """
    sides: dict[bool, list[Lesson]] = {True: [], False: []}
    for lesson in lessons:
        sides[is_held(lesson, holdout_share)].append(lesson)
    linted = lint(sides[False], sides[True], context)
    general = _pick_replay(replay, replay_share, len(linted.train), seed)
    rows = (*linted.train, *general)
    settings = {
        "replay_share": replay_share,
        "seed": seed,
        "holdout_share": holdout_share,
        "max_tokens": context.max_tokens,
    }
    told, dropped = lint_preferences(
        [preference for preference in preferences if not is_held(preference, holdout_share)], linted, context
    )
    manifest = {
        "digest": digest_of_rows(rows, linted.holdout, told),
        **_manifest(rows, linted, left_out, settings),
        "preferences": manifest_of(told, dropped),
    }
    dataset = Dataset(
        digest=manifest["digest"], train=rows, holdout=linted.holdout, manifest=manifest, preferences=told
    )
    return Built(dataset=dataset, linted=linted)


def is_held(lesson: Lesson, share: float) -> bool:
    """Which side a lesson's conversation lies on, for ever."""
    return in_holdout(lesson.conversation_id, share) or ends_a_window(lesson.began)


def in_holdout(conversation_id: str, share: float) -> bool:
    """The holdout by conversation: a hash of its id alone."""
    raw = hashlib.blake2b(f"{SALT}|{conversation_id}".encode(), digest_size=8).digest()
    return int.from_bytes(raw, "big") / 2**64 < share


def ends_a_window(began: str) -> bool:
    """The holdout by time: whether a conversation began in the last 2 of 30 days, so that the newest of each window judge
    what was learned from the days before them. False where nobody knows when it began.
    """
    try:
        moment = datetime.fromisoformat(began)
    except ValueError:
        return False
    days = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() // 86_400)
    return days % WINDOW_DAYS >= WINDOW_DAYS - HELD_DAYS


def _pick_replay(replay: Sequence[Lesson], share: float, train_rows: int, seed: int) -> tuple[Lesson, ...]:
    """As many general rows as make `share` of the whole, drawn by the seed; all of them when there are too few."""
    wanted = min(len(replay), round(train_rows * share / (1 - share)))
    drawn = random.Random(seed).sample(sorted(replay, key=lambda x: x.lesson_id), wanted)
    return tuple(sorted(drawn, key=lambda x: x.lesson_id))


def _manifest(
    train: Sequence[Lesson], linted: Linted, left_out: Mapping[str, int], settings: Mapping[str, Any]
) -> dict[str, Any]:
    dropped = Counter(left_out)
    for finding in linted.findings:
        if finding.leaves_out:
            dropped[finding.kind] += finding.count
    return {
        "settings": dict(settings),
        "train": _counts(train),
        "holdout": _counts(linted.holdout),
        "dropped": dict(sorted(dropped.items())),
        "redacted": linted.redacted,
        "lint": [finding.as_json() for finding in linted.findings],
        "contacts": list(linted.contacts),
    }


def _counts(lessons: Sequence[Lesson]) -> dict[str, Any]:
    by = {
        name: dict(sorted(Counter(getattr(x, name) or "unknown" for x in lessons).items()))
        for name in ("source", "language", "category")
    }
    return {
        "rows": len(lessons),
        "conversations": len({x.conversation_id for x in lessons}),
        "by": by,
        "digest": digest_of([asdict(x) for x in lessons]),
    }


def digest_of_rows(train: Sequence[Lesson], holdout: Sequence[Lesson], preferences: Sequence[Preference] = ()) -> str:
    """The digest of a dataset; without preferences it is that of the lessons alone, as datasets had it before there were any."""
    parts = {"train": train, "holdout": holdout} | ({"preferences": preferences} if preferences else {})
    return digest_of({name: [asdict(x) for x in rows] for name, rows in parts.items()})


def load_replay() -> tuple[Lesson, ...]:
    """The project's own general rows: what the base can do already and must keep."""
    rows = [json.loads(line) for line in REPLAY_FILE.read_text(encoding="utf-8").splitlines()]
    return tuple(
        Lesson(
            lesson_id=f"replay-{r['id']}",
            source="replay",
            conversation_id=f"replay-{r['id']}",
            messages=({"role": "user", "content": r["prompt"]},),
            answer=r["answer"],
        )
        for r in rows
    )


def save_dataset(dataset: Dataset, folder: Path) -> Path:
    """Write train.jsonl, holdout.jsonl, preferences.jsonl and manifest.json under folder/<digest>/, whole or not at all.

    One that is there and whole stays; one that was damaged is written again.
    """
    target = folder / dataset.digest
    with suppress(WeightsError):
        load_dataset(target)
        return target
    target.mkdir(parents=True, exist_ok=True)
    for name, rows in ((TRAIN, dataset.train), (HOLDOUT, dataset.holdout), (PREFERENCES, dataset.preferences)):
        write_whole(target / name, "".join(canonical(asdict(row)) + "\n" for row in rows).encode())
    manifest = json.dumps(dataset.manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    write_whole(target / "manifest.json", manifest.encode())
    return target


def load_dataset(folder: Path) -> Dataset:
    """The dataset of a folder, its rows re-hashed.

    Raises WeightsError when it is gone, cannot be read, or its rows do not give the folder's name.
    """
    if not (folder / "manifest.json").exists():
        raise WeightsError(f"dataset {folder.name[:12]} is not there: was somebody in it forgotten? Next: retrain.")
    try:
        train, holdout = (tuple(Lesson(**row) for row in _read(folder / name)) for name in (TRAIN, HOLDOUT))
        told = _read(folder / PREFERENCES) if (folder / PREFERENCES).exists() else []  # older datasets have none
        preferences = tuple(Preference(**{**row, "judges": tuple(row["judges"])}) for row in told)
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"dataset {folder.name[:12]} cannot be read ({type(error).__name__}: {error}). Next: retrain."
        ) from None
    digest = digest_of_rows(train, holdout, preferences)
    if digest != folder.name:
        raise WeightsError(
            f"dataset {folder.name[:12]} was changed on disk: its rows give {digest[:12]}. Next: retrain."
        )
    return Dataset(digest=digest, train=train, holdout=holdout, manifest=manifest, preferences=preferences)


def _read(path: Path) -> list[dict[str, Any]]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line)  # U+2028 ends no row
    return [{**row, "messages": tuple(row["messages"])} for row in rows]
