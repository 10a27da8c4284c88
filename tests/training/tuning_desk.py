"""One run at a scripted tuning server, as its tests play it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from storage.clock import utc_now
from storage.recipe import Recipe
from storage.records import Adapter, Dataset, Lesson
from tests.training.tuning_server import BASE, TuningServer, tuning_server
from training import hosted
from training.hosted import Tuning, tune_hosted
from training.hosted_api import Notebook, TuningApi

UPLOAD, START, JOB = "POST files", "POST fine_tuning/jobs", "GET fine_tuning/jobs/ID"


class Desk:
    """One run at a scripted server; `wait` notes pauses in place of sleeping."""

    def __init__(self, server: TuningServer, room: Path) -> None:
        self.server, self.room = server, room
        self.pauses: list[float] = []
        self.shown: list[dict[str, Any]] = []
        self.told: list[str] = []
        self.warned: list[str] = []
        self.shutdown: date | None = None
        self.now: Callable[[], datetime] = utc_now
        self.patience_s = 3_600.0
        self.opened: list[TuningApi] = []

    def api(self) -> TuningApi:
        made = TuningApi(
            self.server.url, "key", tell=self.told.append, wait=self.pauses.append, patience_s=self.patience_s
        )
        self.opened.append(made)
        return made

    @property
    def notes(self) -> Notebook:
        return Notebook(self.room / "checkpoints" / hosted.NOTEBOOK)

    def at(self) -> Tuning:
        return Tuning(api=self.api(), base=BASE, shutdown=self.shutdown, clock=self.now)

    def tune(self, dataset: Dataset, **recipe: Any) -> Adapter:
        return tune_hosted(
            self.at(), dataset=dataset, recipe=Recipe(**recipe), weights_dir=self.room, notes=self.notes, run_id=7,
            show=lambda p: self.shown.append(dict(p)), warn=self.warned.append)  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with tuning_server() as server:
        made = Desk(server, tmp_path)
        yield made
        for api in made.opened:
            api.close()


@pytest.fixture
def to_learn() -> Dataset:
    rows = tuple(
        Lesson(lesson_id=f"t{n}", source="ticket" if n < 60 else "replay", conversation_id=f"c{n}", answer=f"Open menu {n}.",
               messages=({"role": "system", "content": "Be brief."}, {"role": "user", "content": f"How do I do {n}?"}))
        for n in range(70)
    )  # fmt: skip
    return Dataset(
        digest="d" * 64, train=rows, holdout=(replace(rows[0], lesson_id="h", conversation_id="h"),), manifest={}
    )


def record(adapter: Adapter) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(adapter.path) / "hosted.json").read_text())
    return found
