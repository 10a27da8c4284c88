"""The dataset of all lessons there are now, what speaks for or against training on it, and how it is kept."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.errors import TooLittleData
from storage.ledger import Ledger
from storage.recipe import Recipe, warnings_for_rows
from storage.records import Dataset, Lesson
from storage.settings import Settings
from training.dataset import Built, build_dataset, load_replay, save_dataset
from training.preferences import counted, outlook
from training.sources import gather, lint_context


def collect(
    ledger: Ledger, settings: Settings, recipe: Recipe, tokens_of: Callable[[Lesson], int] | None = None
) -> Built:
    """The dataset of all lessons there are now, and the lint that it came through. Writes nothing."""
    gathered = gather(ledger, settings)
    return build_dataset(
        lessons=gathered.lessons, left_out=gathered.left_out, replay=load_replay(),
        context=lint_context(ledger, settings, max_tokens=recipe.max_tokens, tokens_of=tokens_of),
        replay_share=recipe.replay_share, seed=recipe.seed, preferences=gathered.preferences)  # fmt: skip


def keep_collected(ledger: Ledger, settings: Settings, collected: Callable[[], Dataset]) -> tuple[Dataset, Path]:
    """What is `collected`, written and recorded; collected again when somebody was forgotten or excluded meanwhile.

    Who is forgotten later finds the folder, for it is recorded in one step with the look at who may not teach.
    """
    while True:
        barred, dataset = ledger.consent.barred(), collected()
        is_new = not (settings.datasets_dir / dataset.digest).exists()
        path = save_dataset(dataset, settings.datasets_dir)
        with ledger.connections.write():
            if ledger.consent.barred() == barred:
                ledger.lessons.add_dataset(dataset.digest, str(path), dataset.manifest)
                return dataset, path
        if is_new:
            shutil.rmtree(path, ignore_errors=True)


def summary_of(dataset: Dataset, fewest: int) -> dict[str, Any]:
    """A dataset in numbers, and why a run would stop on it ("" if it would not)."""
    refusal = ""
    try:
        require_enough(dataset, fewest)
    except TooLittleData as error:
        refusal = str(error)
    return {
        "train": len(dataset.train),
        "holdout": len(dataset.holdout),
        "sources": dataset.manifest["train"]["by"]["source"],
        "dropped": dataset.manifest["dropped"],
        "redacted": dataset.manifest["redacted"],
        "preferences": outlook(dataset.preferences),
        "findings": [finding for finding in dataset.manifest["lint"] if finding["done"] in ("held", "warned")],
        "refusal": refusal,
    }


def warnings_of(dataset: Dataset, recipe: Recipe) -> list[str]:
    """What this recipe gives cause to say about these rows."""
    replay = sum(row.source == "replay" for row in dataset.train)
    found = list(warnings_for_rows(recipe, lessons=len(dataset.train) - replay, replay=replay))
    told = counted(dataset.preferences)
    return (
        [*found, f"preferences are not learned: {told.missing}."] if recipe.preferences and not told.method else found
    )


def require_enough(dataset: Dataset, fewest: int) -> None:
    """Raises TooLittleData naming how many lessons are missing, on either side of the holdout line."""
    lessons = sum(row.source != "replay" for row in dataset.train)
    if lessons < fewest:
        raise TooLittleData(
            f"{lessons} lessons to train on, {fewest} are needed: {fewest - lessons} are missing. Next: evenkeel import, or rate answers."
        )
    wanted = max(8, fewest // 5)
    if len(dataset.holdout) < wanted:
        raise TooLittleData(
            f"{len(dataset.holdout)} held-out rows to judge on, {wanted} are needed. Next: import more conversations."
        )
