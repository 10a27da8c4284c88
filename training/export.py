"""A dataset for other trainers: JSONL in the chat format that fine-tuning services take, with the lineage beside it."""

import json
from pathlib import Path

from storage.digests import canonical
from storage.errors import UsageError
from storage.records import Dataset
from storage.weights import sync

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
        _write(target, "".join(canonical({"messages": row}) + "\n" for row in rows))
        _write(beside, json.dumps({"manifest": dataset.manifest, "rows": lineage}, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}. Next: name another file.") from None
    return beside


def _write(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".draft")
    draft.write_text(text, encoding="utf-8")
    draft.chmod(0o600)
    sync(draft)
    draft.replace(path)
