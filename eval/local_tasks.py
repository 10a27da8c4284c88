"""Task files over rows that lie on this disk, so that no network is needed: the project's and the operator's own.

Each is a plain lm-eval task file, NAME.yaml, whose `dataset_kwargs.data_files.test` names its rows. The project's are in
eval/tasks, their rows in eval/data or in the suite that `evenkeel suite fetch` made; `metadata.part` names a field that
splits one into benchmarks of their own. The operator's lie beside their rows in DATA_DIR/tasks.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.tasks import TaskManager

from eval.benchmark import DATA, Answerer, Benchmark, Deal, Hand, Measured, Row, Tell, cluster_of, nothing, read_rows
from eval.harness import Choice, accuracies, choice_scores, quiet, run_tasks
from eval.registry import task_benchmark
from eval.slices import rows_by_look
from storage.digests import digest_of
from storage.errors import ConfigurationError
from storage.settings import Settings

TASKS = Path(__file__).parent / "tasks"
RESERVED = frozenset(
    {
        "support",
        "general",
        "open_text",
        "instruct_answers",
        "refusal",
        "over_refusal",
        "honesty",
        "diversity",
        "instructions",
    }
)  # scores of ours that no task file makes; what follows a dot in a name is a part of one


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTask:
    """A task file as lm-eval reads it, and where its rows are or would be. `ours`: it came with the project.

    `system_prompt`: what stands before its questions where the answers are written.
    """

    config: Mapping[str, Any]
    rows: Path
    ours: bool
    system_prompt: str

    @property
    def name(self) -> str:
        return str(self.config["task"])


def local_tasks(settings: Settings) -> dict[str, LocalTask]:
    """All task files by name. Raises ConfigurationError for one in DATA_DIR/tasks that cannot be read, or whose name is
    taken or has a dot."""
    ours = {
        name: LocalTask(
            config=config,
            rows=_our_rows(_rows_file(config), settings.suite_dir),
            ours=True,
            system_prompt=settings.system_prompt,
        )
        for name, config in _our_configs().items()
    }
    theirs = dict(_theirs(settings.tasks_dir, settings.system_prompt))
    for name in sorted(theirs):
        _require_free(name, settings.tasks_dir, {*ours, *RESERVED})
    return ours | theirs


def _require_free(name: str, folder: Path, taken: Collection[str]) -> None:
    """A name of its own without a dot: under one of ours, or one of a part, a task would be judged as what it is not."""
    if name in taken:
        raise ConfigurationError(
            f"{folder}: {name} is the name of a benchmark that Evenkeel has. Next: rename the task."
        )
    if "." in name:
        raise ConfigurationError(
            f"{folder}: the task name {name} has a dot, by which parts of a benchmark are told, and parts have wider margins. "
            f"Next: call it {name.replace('.', '_')}."
        )


@cache
def _our_configs() -> dict[str, dict[str, Any]]:
    return _indexed(TASKS)


def _indexed(folder: Path) -> dict[str, dict[str, Any]]:
    index = TaskManager(include_path=str(folder), include_defaults=False).task_index
    return {name: dict(entry.cfg) for name, entry in sorted(index.items()) if entry.cfg}


def _rows_file(config: Mapping[str, Any]) -> str:
    return str(config["dataset_kwargs"]["data_files"]["test"])


def _our_rows(file: str, suite_dir: Path) -> Path:
    return DATA / file if (DATA / file).is_file() else suite_dir / file


def _theirs(folder: Path, system_prompt: str) -> Iterator[tuple[str, LocalTask]]:
    """The operator's tasks, by name. A file that lm-eval would skip or trip over is an error that names it."""
    files = sorted(folder.glob("*.yaml")) if folder.is_dir() else []
    for file in files:
        _require_readable(file)
    for name, config in _indexed(folder).items() if files else ():
        rows = folder / _rows_file(config)
        yield name, LocalTask(config=config, rows=rows, ours=False, system_prompt=system_prompt)


def _require_readable(file: Path) -> None:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise ConfigurationError(
            f"task file {file} cannot be read: {said}. Next: correct it or take it away."
        ) from None
    wanted = found if isinstance(found, dict) else {}
    try:
        named = bool(wanted["task"] and wanted["output_type"] and _rows_file(wanted))
    except (KeyError, TypeError):
        named = False
    if not named:
        raise ConfigurationError(
            f"task file {file} needs task, output_type and dataset_kwargs.data_files.test (the file of its rows beside "
            "it). Next: compare with eval/tasks/arc_easy.yaml."
        )


def local_benchmark(task: LocalTask, deal: Deal) -> Benchmark:
    """A hand of a local task, or of each of its parts. Raises ConfigurationError when its rows are missing or broken.

    Ours with choices are read by position ("answer"); all others as any task of lm-eval is.
    """
    rows = read_rows(task.rows)
    if task.ours and task.config["output_type"] == "multiple_choice":
        return _choices(task.config, {name: deal.hand(name, part) for name, part in _parts(task.config, rows).items()})
    hand = deal.hand(task.name, rows)
    if not hand.rows:
        return nothing(task.name, hand)
    made = {task.name: _readable_task(task, hand.rows)}
    return task_benchmark(task.name, made, system_prompt=task.system_prompt, left_out=hand.left_out)


def _readable_task(task: LocalTask, rows: tuple[Row, ...]) -> Task:
    """The task, each of its rows tried once: a row that a prompt cannot be made of is said before anything was trained."""
    try:
        with quiet():
            made = made_task(task.config, task.name, rows)
            for row in made.eval_docs:
                made.doc_to_text(row)
                made.doc_to_target(row)
    except Exception as error:  # the named place: lm-eval and jinja raise what they like on a row that does not fit
        raise ConfigurationError(
            f"task {task.name} does not fit its rows in {task.rows} ({type(error).__name__}: {error}). Next: compare the "
            "names in the task file with the fields of the rows."
        ) from None
    return made


def _parts(config: Mapping[str, Any], rows: list[Row]) -> dict[str, list[Row]]:
    field, parts = config["metadata"].get("part"), dict[str, list[Row]]()
    for row in rows:
        parts.setdefault(f"{config['task']}.{row[field]}" if field else config["task"], []).append(row)
    return parts


def _choices(config: Mapping[str, Any], hands: Mapping[str, Hand]) -> Benchmark:
    asked = {part: hand.rows for part, hand in hands.items() if hand.rows}
    metrics = accuracies(entry["metric"] for entry in config["metric_list"])
    return Benchmark(
        name=config["task"],
        domain="general",
        expects=tuple((part, metric) for part in asked for metric in (*metrics, "p_correct")),
        digest=digest_of([config, {part: list(rows) for part, rows in asked.items()}]),
        cost=sum(_cost(row) for rows in asked.values() for row in rows),
        measure=partial(_measure, config, asked, metrics),
        left_out=tuple(name for hand in hands.values() for name in hand.left_out),
        emptied=tuple(name for hand in hands.values() for name in hand.emptied),
        rounds=tuple(partial(_measure, config, part_of_it, metrics) for part_of_it in rows_by_look(asked)),
    )


def _cost(row: Row) -> int:
    """The question is read once, and every choice after it."""
    asked = len(row.get("query") or row.get("prompt") or "") + len(row.get("passage") or "")
    return asked + sum(map(len, row["choices"]))


def _measure(
    config: Mapping[str, Any],
    asked: Mapping[str, tuple[Row, ...]],
    metrics: tuple[str, ...],
    answerer: Answerer,
    tell: Tell,
) -> Iterator[Measured]:
    with quiet():
        tasks = {part: made_task(config, part, rows) for part, rows in asked.items()}
    for part, samples in run_tasks(tasks, answerer, tell).items():
        yield from choice_scores(part, metrics, [_choice(sample) for sample in samples])


def made_task(config: Mapping[str, Any], name: str, rows: tuple[Row, ...]) -> Task:
    """lm-eval's task over these rows and no others."""
    columns = sorted({key for row in rows for key in row})
    data = Dataset.from_list([{key: row.get(key) for key in columns} for row in rows])
    return ConfigurableTask(config={**config, "task": name, "custom_dataset": lambda **_: {"test": data}})


def _choice(sample: dict[str, Any]) -> Choice:
    row = sample["doc"]
    return Choice(item_id=str(row["id"]), cluster=cluster_of(row), answer=int(row["answer"]), sample=sample)
