"""Our own task files: eval/tasks/NAME.yaml over rows that lie on this disk, so that no network is needed.

Each is a plain lm-eval task file. Its `dataset_kwargs.data_files.test` names the rows: with the project (eval/data) or
in the suite that `evenkeel suite fetch` made. `metadata.part` names a field that splits it into benchmarks of their own.
"""

from functools import cache, partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.tasks import TaskManager

from eval.benchmark import DATA, Answerer, Benchmark, Measured, Row, Tell, draw, read_rows
from eval.harness import Choice, accuracy_name, choice_scores, quiet, run_tasks
from storage.digests import digest_of

TASKS = Path(__file__).parent / "tasks"
Parts = dict[str, list[Row]]


@cache
def local_tasks() -> dict[str, dict[str, Any]]:
    """Our task files by name, as lm-eval reads them."""
    index = TaskManager(include_path=str(TASKS), include_defaults=False).task_index
    return {name: dict(entry.cfg) for name, entry in sorted(index.items())}


def rows_path(name: str, suite_dir: Path) -> Path:
    file = str(local_tasks()[name]["dataset_kwargs"]["data_files"]["test"])
    return DATA / file if (DATA / file).is_file() else suite_dir / file


def local_benchmark(name: str, suite_dir: Path, *, items: int, seed: int) -> Benchmark:
    """A seeded slice of a local multiple-choice task, `items` of each part.

    Raises ConfigurationError when its rows are missing or broken.
    """
    config = local_tasks()[name]
    parts = _parts(config, read_rows(rows_path(name, suite_dir)))
    chosen = {part: draw(len(rows), items, seed=seed, name=part) for part, rows in parts.items()}
    metric = accuracy_name([entry["metric"] for entry in config["metric_list"]])
    return Benchmark(
        name=name,
        domain="general",
        expects=tuple((part, m) for part in parts for m in (metric, "p_correct")),
        digest=digest_of([config, {part: [rows[i] for i in chosen[part]] for part, rows in parts.items()}]),
        cost=sum(_cost(parts[part][i]) for part, positions in chosen.items() for i in positions),
        measure=partial(_measure, config, parts, chosen, metric),
    )


def _cost(row: Row) -> int:
    """Every choice is read with its question before it."""
    asked = len(row.get("query") or row.get("prompt") or "") + len(row.get("passage") or "")
    return sum(asked + len(choice) for choice in row["choices"])


def _parts(config: dict[str, Any], rows: list[Row]) -> Parts:
    field, parts = config["metadata"].get("part"), Parts()
    for row in rows:
        parts.setdefault(f"{config['task']}.{row[field]}" if field else config["task"], []).append(row)
    return parts


def _measure(
    config: dict[str, Any], parts: Parts, chosen: dict[str, list[int]], metric: str, answerer: Answerer, tell: Tell
) -> list[Measured]:
    with quiet():
        tasks = {part: _task(config, part, rows) for part, rows in parts.items()}
    samples = run_tasks(tasks, chosen, answerer, tell)
    return [
        measured
        for part, found in samples.items()
        for measured in choice_scores(part, metric, [_choice(sample) for sample in found])
    ]


def _task(config: dict[str, Any], name: str, rows: list[Row]) -> Task:
    columns = sorted({key for row in rows for key in row})
    data = Dataset.from_list([{key: row.get(key) for key in columns} for row in rows])
    return ConfigurableTask(config={**config, "task": name, "custom_dataset": lambda **_: {"test": data}})


def _choice(sample: dict[str, Any]) -> Choice:
    row = sample["doc"]
    item_id = str(row["id"])
    return Choice(item_id=item_id, cluster=str(row.get("cluster") or item_id), answer=int(row["answer"]), sample=sample)
