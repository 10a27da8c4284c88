"""Bases and adapters on disk: content names, whole-or-nothing writes, checks before anything is loaded.

Layout: cache/base/<name>/ (safetensors folder), weights/adapters/<digest>/ (adapter_config.json,
adapter_model.safetensors, manifest.json, COMPLETE). Of a model that was tuned at its server there is a record, hosted.json,
in place of the two files. Knows file names and digests, not tensors.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.digests import digest_of, digest_of_file, short
from storage.errors import WeightsError

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
HOSTED_RECORD = "hosted.json"
MANIFEST = "manifest.json"
COMPLETE = "COMPLETE"
BASE_PATTERNS = (
    "*.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
)


def base_digest(folder: Path) -> str:
    """Digest over the names and bytes of a base folder's weights, config, tokenizer and template.

    Costs one read of the weights; callers keep it. Raises WeightsError when the folder has no safetensors.
    """
    names = sorted({path.name for pattern in BASE_PATTERNS for path in folder.glob(pattern) if path.is_file()})
    if not any(name.endswith(".safetensors") for name in names):
        raise WeightsError(f"{folder} holds no *.safetensors: not a base model. Next: evenkeel doctor.")
    return digest_of([[name, digest_of_file(folder / name)] for name in names])


def adapter_digest(folder: Path) -> str:
    """Digest over an adapter's config and weights, or over a hosted one's record. Raises WeightsError naming the file that
    is missing."""
    for name in files_of(folder):
        if not (folder / name).is_file() or (folder / name).is_symlink():
            raise WeightsError(f"adapter {folder.name}: {name} is missing or a link. Next: train again or roll back.")
    return digest_of([[name, digest_of_file(folder / name)] for name in files_of(folder)])


def files_of(folder: Path) -> tuple[str, ...]:
    """What an adapter's digest names."""
    return (HOSTED_RECORD,) if (folder / HOSTED_RECORD).is_file() else ADAPTER_FILES


def hosted_name(folder: Path) -> str:
    """The name of a hosted adapter at its server. Raises WeightsError when the folder holds no record of one."""
    try:
        record = json.loads((folder / HOSTED_RECORD).read_text())
    except (OSError, ValueError):
        record = None
    name = record.get("model") if isinstance(record, dict) else None
    if not isinstance(name, str) or not name:
        raise WeightsError(
            f"adapter {short(folder.name)} has no {HOSTED_RECORD} that names its model: it was not tuned at a server. "
            "Next: retrain, or roll back to one that was."
        )
    return name


def adapter_path(weights_dir: Path, digest: str) -> Path:
    return weights_dir / "adapters" / digest


def verify_adapter(folder: Path, *, base: str) -> dict[str, Any]:
    """The manifest of a whole adapter that was trained on `base`, its bytes re-hashed.

    Raises WeightsError: unfinished, changed on disk, or made for another base.
    """
    if not (folder / COMPLETE).is_file():
        raise WeightsError(f"adapter {short(folder.name)} has no {COMPLETE} marker: unfinished or foreign.")
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(f"adapter {short(folder.name)}: {MANIFEST} cannot be read ({error}).") from None
    if not isinstance(manifest, dict):
        raise WeightsError(f"adapter {short(folder.name)}: {MANIFEST} is no JSON object.")
    found = adapter_digest(folder)
    if found != manifest.get("digest") or found != folder.name:
        raise WeightsError(f"adapter {short(folder.name)} was changed on disk: its bytes give {short(found)}.")
    if manifest.get("base_digest") != base:
        raise WeightsError(
            f"adapter {short(folder.name)} was trained on base {short(manifest.get('base_digest'))}, "
            f"this base is {short(base)}. Next: retrain on this base."
        )
    return manifest


def keep_adapter(weights_dir: Path, write: Callable[[Path], None], manifest: dict[str, Any]) -> tuple[str, Path]:
    """Write an adapter beside the others under its digest, whole or not at all; one that was damaged since is replaced.

    `write(folder)` puts the two adapter files, or a hosted one's record, into an empty folder. The manifest gains "digest".
    Source: write, fsync, rename; a folder without COMPLETE is never loaded.
    """
    root = weights_dir / "adapters"
    root.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=root))
    try:
        write(draft)
        for extra in [p for p in draft.iterdir() if p.name not in files_of(draft)]:
            extra.unlink()
        digest = adapter_digest(draft)
        (draft / MANIFEST).write_text(json.dumps({**manifest, "digest": digest}, indent=2, sort_keys=True))
        (draft / COMPLETE).write_text(digest)
        for path in draft.iterdir():
            sync(path)
        target = root / digest
        if not _is_whole(target, digest):
            shutil.rmtree(target, ignore_errors=True)
            draft.replace(target)
            sync(root)
        return digest, target
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _is_whole(folder: Path, digest: str) -> bool:
    try:
        return (folder / COMPLETE).is_file() and (folder / MANIFEST).is_file() and adapter_digest(folder) == digest
    except WeightsError:
        return False


def write_whole(path: Path, body: bytes) -> None:
    """Write a file whole or not at all, for us alone (0600): beside it, synced, renamed. Raises OSError."""
    draft = path.with_name(path.name + ".draft")
    try:
        draft.touch(mode=0o600)
        draft.write_bytes(body)
        sync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
