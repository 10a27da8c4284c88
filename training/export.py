"""A dataset for other trainers: JSONL in the chat format that fine-tuning services take, with the lineage beside it."""

import json
from contextlib import suppress
from pathlib import Path

from storage.digests import canonical
from storage.errors import UsageError
from storage.records import Dataset
from storage.weights import write_whole

LINEAGE = ("lesson_id", "source", "conversation_id", "author", "customer", "origin", "consent", "at", "began")


def export_dataset(dataset: Dataset, target: Path) -> Path:
    """Write the training rows to `target`, one {"messages": […]} a line, and to `target`.lineage.json the manifest and
    whose row each line is; returns the latter. The holdout stays here.

    Raises UsageError when one of the two exists or cannot be written: then neither was changed.
    """
    beside = target.with_name(target.name + ".lineage.json")
    for path in (target, beside):
        if path.exists():
            raise UsageError(f"{path} exists already. Next: name another file.")
    rows = [[*row.messages, {"role": "assistant", "content": row.answer}] for row in dataset.train]
    lineage = [{name: getattr(row, name) for name in LINEAGE} for row in dataset.train]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, "".join(canonical({"messages": row}) + "\n" for row in rows).encode())
        told = json.dumps({"manifest": dataset.manifest, "rows": lineage}, indent=1, ensure_ascii=False) + "\n"
        write_whole(beside, told.encode())
    except OSError as error:
        with suppress(OSError):
            target.unlink(missing_ok=True)
        raise UsageError(f"{target} cannot be written: {error.strerror}. Next: name another file.") from None
    return beside
