"""How far a champion's lessons reach: the questions that it learned from as hashed n-grams, and where "far" begins.

Layout: datasets/<digest>/reach.npz, after a digest over the dataset's name and the file's own bytes.
Promise: a file that is damaged, of another dataset or of another version is refused, never misread. It holds no text.
Knows texts and files, not adapters.
"""

import hashlib
import io
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import WeightsError
from storage.grams import grams
from storage.records import Dataset, Message
from storage.weights import write_whole

REACH = "reach.npz"
VERSION = "evenkeel-reach-1"  # changes with the n-grams and with the layout
FEATURES = 4_096
Marks = NDArray[np.uint64]
BEYOND = 0.05  # share of holdout conversations that are far
MOST, SEED = 1_000, 20_261_126  # holdout conversations that are measured, by lot where there are more
DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reach:
    """Which n-grams each text has: (FEATURES / 64, texts), a bit for each feature, so that a question of any length costs the
    same. A conversation is far when its distance is greater than `threshold`.
    """

    marks: Marks
    sizes: NDArray[np.float64]  # how many each text has
    threshold: float

    def distance(self, said: Sequence[str]) -> float:
        """From the nearest of a conversation's texts to the nearest that was learned from: 0 (the same n-grams) to 1 (none
        in common). So a conversation that came near stays near, whatever "And then?" follows.
        """
        return min(self._distance(text) for text in said)

    def _distance(self, text: str) -> float:
        """One minus the cosine of the sets (Ochiai)."""
        own = _marks(text)[:, None]
        likeness = _count(self.marks & own) / np.sqrt(self.sizes * _count(own))
        return round(1 - float(likeness.max()), 4)


def said_by_user(messages: Iterable[Message]) -> tuple[str, ...]:
    return tuple(message["content"] for message in messages if message["role"] == "user")


def reach_of(learned: Iterable[str], held: Sequence[Sequence[str]]) -> Reach:
    """The reach of these texts; `threshold` is the distance that a twentieth of the held conversations exceed, at most."""
    marks = np.stack([_marks(text) for text in sorted(set(learned))], axis=1)
    reach = Reach(marks=marks, sizes=_count(marks), threshold=1.0)
    distances = [reach.distance(said) for said in held]
    return replace(reach, threshold=float(np.quantile(distances, 1 - BEYOND, method="higher")))


def keep_reach(dataset: Dataset, folder: Path) -> None:
    """Write the reach of a dataset into its folder, whole or not at all, unless it is there.

    General rows do not count: at what they show the base is as good as any champion.
    """
    if (folder / REACH).exists():
        return
    learned = [text for row in dataset.train if row.source != "replay" for text in said_by_user(row.messages)]
    held = random.Random(SEED).sample(dataset.holdout, min(len(dataset.holdout), MOST))
    reach = reach_of(learned, [said_by_user(row.messages) for row in held])
    body = io.BytesIO()
    np.savez_compressed(body, marks=reach.marks, threshold=reach.threshold)
    write_whole(folder / REACH, _digest(dataset.digest, body.getvalue()) + body.getvalue())


def load_reach(folder: Path) -> Reach:
    """The reach of the dataset that the folder is named by. Raises WeightsError: missing, damaged, of another dataset."""
    try:
        raw = (folder / REACH).read_bytes()
    except OSError as error:
        raise WeightsError(
            f"dataset {folder.name[:12]}: no {REACH} can be read ({error.strerror}). Next: retrain."
        ) from None
    digest, body = raw[:DIGEST_BYTES], raw[DIGEST_BYTES:]
    if digest != _digest(folder.name, body):
        raise WeightsError(
            f"dataset {folder.name[:12]}: {REACH} is damaged, or another dataset's. Next: delete it and retrain."
        )
    with np.load(io.BytesIO(body), allow_pickle=False) as kept:
        return Reach(marks=kept["marks"], sizes=_count(kept["marks"]), threshold=float(kept["threshold"]))


def _marks(text: str) -> Marks:
    bits = np.zeros(FEATURES, dtype=np.uint8)
    bits[grams(text, FEATURES)[0]] = 1
    return np.packbits(bits).view("<u8")


def _count(marks: Marks) -> NDArray[np.float64]:
    """Of each column's bits."""
    return np.asarray(np.bitwise_count(marks).sum(axis=0, dtype=np.uint16), dtype=np.float64)


def _digest(dataset: str, body: bytes) -> bytes:
    return hashlib.sha256(f"{VERSION}|{dataset}|".encode() + body).digest()
