"""Lessons into a dataset: chosen, redacted, split, de-duplicated, mixed with replay. Pure: same rows in, same bytes out.

Promises: all of a conversation lies on one side of the holdout line, and adding data never moves one across it (the
side is a hash of the conversation's id); nothing in training nearly equals something in the holdout.
Knows lessons, not where they are stored.
"""

import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from datasketch import MinHash, MinHashLSH

from storage.digests import canonical, digest_of
from storage.errors import WeightsError
from storage.messages import conversation
from storage.records import Dataset, Lesson, Message, Ticket
from storage.weights import sync
from training.redact import redact

SALT = "evenkeel-holdout-1"
NEAR = 0.8  # Jaccard similarity of word triples from which two rows count as the same
PERMUTATIONS = 64
PRIORITY = {"correction": 0, "taught": 1, "rating": 2, "ticket": 3}
REPLAY_FILE = Path(__file__).parent / "data" / "replay.jsonl"


@dataclass(slots=True)
class Tally:
    """What happened to the rows on their way: the manifest's counts."""

    dropped: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)


def build_dataset(
    *,
    tickets: Sequence[Ticket],
    liked: Sequence[Lesson],
    corrections: Sequence[Lesson],
    taught: Sequence[Lesson] = (),
    replay: Sequence[Lesson],
    system_prompt: str,
    learn_from_slack: bool,
    replay_share: float,
    seed: int,
    holdout_share: float = 0.2,
) -> Dataset:
    """The dataset of these sources. `replay_share` is the share of general rows in the finished training set."""
    tally = Tally()
    lessons = [
        *_from_slack([*corrections, *taught, *liked], learn_from_slack, tally),
        *_from_tickets(tickets, system_prompt, tally),
    ]
    lessons = [_redacted(lesson, tally) for lesson in lessons]
    lessons.sort(key=lambda x: (PRIORITY[x.source], x.lesson_id))
    held = [x for x in lessons if in_holdout(x.conversation_id, holdout_share)]
    learnt = [x for x in lessons if not in_holdout(x.conversation_id, holdout_share)]
    holdout = _distinct(_referees(held, tally), (), tally, "duplicates")
    train = _distinct(learnt, holdout, tally, "duplicates")
    general = _pick_replay(replay, replay_share, len(train), seed)
    rows = (*sorted(train, key=lambda x: x.lesson_id), *general)
    kept = tuple(sorted(holdout, key=lambda x: x.lesson_id))
    manifest = _manifest(
        rows,
        kept,
        tally,
        replay_share=replay_share,
        seed=seed,
        holdout_share=holdout_share,
        learn_from_slack=learn_from_slack,
    )
    return Dataset(digest=_digest(rows, kept), train=rows, holdout=kept, manifest=manifest)


def in_holdout(conversation_id: str, share: float) -> bool:
    """Which side a conversation lies on, for ever: a hash of its id alone."""
    raw = hashlib.blake2b(f"{SALT}|{conversation_id}".encode(), digest_size=8).digest()
    return int.from_bytes(raw, "big") / 2**64 < share


def _from_slack(lessons: Sequence[Lesson], allowed: bool, tally: Tally) -> list[Lesson]:
    if not allowed:
        tally.dropped["no consent (LEARN_FROM_SLACK is off)"] += len(lessons)
        return []
    return list(lessons)


def _from_tickets(tickets: Sequence[Ticket], system_prompt: str, tally: Tally) -> list[Lesson]:
    """Approved tickets, each with the earlier approved ones of its conversation as context, as it will be served."""
    threads: dict[str, list[Ticket]] = defaultdict(list)
    for ticket in sorted(tickets, key=lambda t: (t.conversation_id, t.created_at, t.ticket_id)):
        if ticket.approved:
            threads[ticket.conversation_id].append(ticket)
        else:
            tally.dropped["not approved"] += 1
    return [_ticket_lesson(t, thread[:i], system_prompt) for thread in threads.values() for i, t in enumerate(thread)]


def _ticket_lesson(ticket: Ticket, earlier: Sequence[Ticket], system_prompt: str) -> Lesson:
    history: list[Message] = []
    for turn in earlier:
        history += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
    return Lesson(
        lesson_id=f"ticket-{ticket.ticket_id}",
        source="ticket",
        conversation_id=ticket.conversation_id,
        messages=conversation(system_prompt, history, ticket.question),
        answer=ticket.answer,
        category=ticket.category,
        language=ticket.language,
    )


def _redacted(lesson: Lesson, tally: Tally) -> Lesson:
    def clean(text: str) -> str:
        text, found = redact(text)
        tally.redacted.update(found)
        return text

    messages = tuple(m if m["role"] == "system" else {**m, "content": clean(m["content"])} for m in lesson.messages)
    return replace(lesson, messages=messages, answer=clean(lesson.answer))


def _referees(held: Iterable[Lesson], tally: Tally) -> list[Lesson]:
    """A liked answer is the model's own: as a reference it would favour the champion. People's answers only."""
    kept = []
    for lesson in held:
        if lesson.source == "rating":
            tally.dropped["liked answers on the holdout side"] += 1
        else:
            kept.append(lesson)
    return kept


def _distinct(lessons: Sequence[Lesson], against: Sequence[Lesson], tally: Tally, reason: str) -> list[Lesson]:
    """The lessons, without those that nearly equal an earlier one or one of `against`.

    Source: MinHash over word triples with locality-sensitive hashing (datasketch).
    """
    index = MinHashLSH(threshold=NEAR, num_perm=PERMUTATIONS)
    for number, lesson in enumerate(against):
        index.insert(f"holdout-{number}", _sketch(lesson))
    kept = []
    for number, lesson in enumerate(lessons):
        sketch = _sketch(lesson)
        twins = index.query(sketch)
        if twins:
            tally.dropped["near a holdout row" if any(t.startswith("holdout-") for t in twins) else reason] += 1
            continue
        index.insert(f"row-{number}", sketch)
        kept.append(lesson)
    return kept


def _sketch(lesson: Lesson) -> MinHash:
    words = re.findall(r"\w+", f"{lesson.question} {lesson.answer}".lower())
    triples = {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}
    sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
    sketch.update_batch([t.encode() for t in sorted(triples)])
    return sketch


def _pick_replay(replay: Sequence[Lesson], share: float, train_rows: int, seed: int) -> tuple[Lesson, ...]:
    """As many general rows as make `share` of the whole, drawn by the seed; all of them when there are too few."""
    wanted = min(len(replay), round(train_rows * share / (1 - share)))
    drawn = random.Random(seed).sample(sorted(replay, key=lambda x: x.lesson_id), wanted)
    return tuple(sorted(drawn, key=lambda x: x.lesson_id))


def _manifest(train: Sequence[Lesson], holdout: Sequence[Lesson], tally: Tally, **settings: Any) -> dict[str, Any]:
    return {
        "digest": _digest(train, holdout),
        "settings": settings,
        "train": _counts(train),
        "holdout": _counts(holdout),
        "dropped": dict(sorted(tally.dropped.items())),
        "redacted": dict(sorted(tally.redacted.items())),
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


def _digest(train: Sequence[Lesson], holdout: Sequence[Lesson]) -> str:
    return digest_of({"train": [asdict(x) for x in train], "holdout": [asdict(x) for x in holdout]})


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
    """Write train.jsonl, holdout.jsonl and manifest.json under folder/<digest>/, whole or not at all."""
    target = folder / dataset.digest
    if (target / "manifest.json").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train.jsonl", dataset.train), ("holdout.jsonl", dataset.holdout)):
        _write(target / name, "".join(canonical(asdict(row)) + "\n" for row in rows))
    _write(target / "manifest.json", json.dumps(dataset.manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return target


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    sync(draft)
    draft.replace(path)


def load_dataset(folder: Path) -> Dataset:
    """The dataset of a folder, its rows re-hashed. Raises WeightsError when they do not give the folder's name."""
    train, holdout = (_read(folder / name) for name in ("train.jsonl", "holdout.jsonl"))
    digest = _digest(train, holdout)
    if digest != folder.name:
        raise WeightsError(
            f"dataset {folder.name[:12]} was changed on disk: its rows give {digest[:12]}. Next: retrain."
        )
    return Dataset(
        digest=digest, train=train, holdout=holdout, manifest=json.loads((folder / "manifest.json").read_text())
    )


def _read(path: Path) -> tuple[Lesson, ...]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line)  # U+2028 ends no row
    return tuple(Lesson(**{**row, "messages": tuple(row["messages"])}) for row in rows)
