"""Any task of lm-eval by its name: its rows come from wherever lm-eval gets them, usually the network.

Loaded when the plan is made, so that a wrong name or a missing network is said before anything was trained.
"""

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from eval.benchmark import Answerer, Benchmark, Measured, Tell, draw
from eval.harness import Choice, Sample, accuracy_name, choice_scores, quiet, run_tasks
from eval.metrics import bits_per_byte
from storage.digests import digest_of
from storage.errors import ConfigurationError, EvenkeelError
from storage.records import ItemScore

PER_ITEM = ("exact_match", "acc", "f1")  # what we can read from an item that is not multiple choice, best first
Chosen = dict[str, list[int]]


@cache
def known_tasks() -> TaskManager:
    """lm-eval's index of its tasks; reading it takes seconds, so only where somebody asks for one."""
    return TaskManager()


def registry_benchmark(name: str, *, items: int, seed: int) -> Benchmark:
    """A task, group or tag of lm-eval's registry, `items` in all.

    Raises ConfigurationError for a name that lm-eval does not know or that we cannot read; EvenkeelError when its rows
    cannot be had.
    """
    if name not in known_tasks().all_tasks:
        raise ConfigurationError(
            f"GENERAL_TASKS: {name!r} is neither one of our task files nor a task of lm-eval. Next: correct the name."
        )
    tasks = _load(name)
    chosen = _draw(tasks, items, seed=seed, name=name)
    metrics = _metrics(name, [tasks[task] for task in chosen])
    docs = {task: [tasks[task].eval_docs[i] for i in found] for task, found in chosen.items()}
    return Benchmark(
        name=name,
        domain="general",
        expects=tuple((name, metric) for metric in metrics),
        digest=digest_of([{task: repr(tasks[task].dump_config()) for task in chosen}, repr(docs)]),
        cost=len(repr(docs)),
        measure=partial(_measure, name, {task: tasks[task] for task in chosen}, chosen, metrics),
    )


def _load(name: str) -> dict[str, Task]:
    try:
        with quiet():
            return dict(known_tasks().load([name])["tasks"])
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        said = (str(error).splitlines() or ["no message"])[0]
        raise EvenkeelError(
            f"lm-eval's task {name} could not be loaded ({type(error).__name__}: {said}). Next: its rows come from the "
            "network; check it, or take the name out of GENERAL_TASKS."
        ) from None


def _draw(tasks: dict[str, Task], items: int, *, seed: int, name: str) -> Chosen:
    """A seeded slice over all tasks of a group together; tasks without an item fall away."""
    pool = [(task, i) for task in sorted(tasks) for i in range(len(tasks[task].eval_docs))]
    chosen = Chosen()
    for task, i in (pool[position] for position in draw(len(pool), items, seed=seed, name=name)):
        chosen.setdefault(task, []).append(i)
    return chosen


def _metrics(name: str, tasks: list[Task]) -> tuple[str, ...]:
    """What we read of every item. Raises ConfigurationError when the tasks differ in kind or log nothing that we know."""
    kinds, logged = {task.OUTPUT_TYPE for task in tasks}, set.intersection(*[set(t.higher_is_better()) for t in tasks])
    if kinds == {"multiple_choice"} and all(_plain(task) for task in tasks):
        return accuracy_name(sorted(logged)), "p_correct"
    if kinds == {"loglikelihood_rolling"} and "bits_per_byte" in logged:
        return ("bits_per_byte",)
    found = [metric for metric in PER_ITEM if metric in logged]
    if len(kinds) != 1 or not found:
        raise ConfigurationError(
            f"GENERAL_TASKS: {name} answers by {', '.join(sorted(kinds))} and logs {', '.join(sorted(logged)) or 'nothing'}; "
            f"readable are multiple choice, bits_per_byte, {', '.join(PER_ITEM)}. Next: take it out."
        )
    return (found[0],)


def _plain(task: Task) -> bool:
    """Multiple choice with one right choice, given by position."""
    return isinstance(task.doc_to_target(task.eval_docs[0]), int) and not task.multiple_input


def _measure(
    name: str, tasks: dict[str, Task], chosen: Chosen, metrics: tuple[str, ...], answerer: Answerer, tell: Tell
) -> Iterator[Measured]:
    chat = all(task.OUTPUT_TYPE == "generate_until" for task in tasks.values())
    logged = [
        (task, sample)
        for task, found in run_tasks(tasks, chosen, answerer, tell, chat=chat).items()
        for sample in found
    ]
    if "p_correct" in metrics:
        yield from choice_scores(name, metrics[0], [_choice(task, sample, len(tasks)) for task, sample in logged])
        return
    items = tuple(_item(task, sample, metrics[0], len(tasks)) for task, sample in logged)
    if metrics[0] == "bits_per_byte":
        yield Measured(benchmark=name, metric="bits_per_byte", items=items, direction="lower", unit="bits/byte")
    else:
        yield Measured(benchmark=name, metric=metrics[0], items=items)


def _choice(task: str, sample: Sample, tasks: int) -> Choice:
    item_id = f"{task}-{sample['doc_id']}"
    return Choice(item_id=item_id, cluster=task if tasks > 1 else item_id, answer=int(sample["target"]), sample=sample)


def _item(task: str, sample: Sample, metric: str, tasks: int) -> ItemScore:
    item_id, value = f"{task}-{sample['doc_id']}", _value(sample[metric])
    return ItemScore(item_id=item_id, cluster=task if tasks > 1 else item_id, value=value)


def _value(logged: Any) -> float:
    """lm-eval logs a number, or (log-likelihood, bytes) for bits per byte."""
    if isinstance(logged, tuple):
        log_likelihood, size = logged
        return bits_per_byte(-log_likelihood, "x" * int(size))
    return float(logged)
