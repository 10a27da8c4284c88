"""Checkpoints that survive a kill: written beside, digested, renamed; the newest whole one is found again.

Layout: FOLDER/step-000123/{adapter.safetensors, trainer.pt, state.json, COMPLETE}. Knows files and tensors.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from storage.digests import digest_of_file
from storage.weights import COMPLETE, sync

KEPT = 2
FILES = ("adapter.safetensors", "trainer.pt", "state.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything that a run needs to go on as if it had not stopped after `step` steps."""

    step: int
    identity: str  # digest of base, dataset and recipe: a checkpoint of another run is not ours
    adapter: dict[str, torch.Tensor]
    trainer: dict[str, Any]  # optimiser state and random state
    state: dict[str, Any]  # counters and the loss curve


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint whole or not at all, and keep the newest two. Raises OSError when the disk is full."""
    target, draft = folder / f"step-{checkpoint.step:06}", folder / f".draft-{checkpoint.step:06}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in checkpoint.adapter.items()}, draft / FILES[0])
    torch.save(checkpoint.trainer, draft / FILES[1])
    (draft / FILES[2]).write_text(
        json.dumps({"identity": checkpoint.identity, "step": checkpoint.step, **checkpoint.state})
    )
    (draft / COMPLETE).write_text(json.dumps({name: digest_of_file(draft / name) for name in FILES}))
    for name in (*FILES, COMPLETE):
        sync(draft / name)
    shutil.rmtree(target, ignore_errors=True)
    draft.replace(target)
    sync(folder)
    for old in steps(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def newest(folder: Path, identity: str) -> Checkpoint | None:
    """The newest whole checkpoint of this identity, or None: then training starts from the beginning."""
    for path in reversed(steps(folder)):
        if is_whole(path):
            state = json.loads((path / FILES[2]).read_text())
            if state.pop("identity") == identity:
                return Checkpoint(
                    step=state.pop("step"),
                    identity=identity,
                    adapter=load_file(path / FILES[0]),
                    trainer=torch.load(path / FILES[1], weights_only=True),
                    state=state,
                )
    return None


def steps(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def is_whole(path: Path) -> bool:
    """Whether every file is there with the digest that COMPLETE names."""
    try:
        digests = json.loads((path / COMPLETE).read_text())
        return set(digests) == set(FILES) and all(digest_of_file(path / name) == digests[name] for name in FILES)
    except (OSError, ValueError, TypeError):
        return False
