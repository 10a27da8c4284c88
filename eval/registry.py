"""Any task of lm-eval by its name: its rows come from wherever lm-eval gets them, usually the network.

Loaded when the plan is made, so that a wrong name or a missing network is said before anything was trained.
"""

from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Any

from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from eval.benchmark import Answerer, Benchmark, Deal, Measured, Tell, nothing
from eval.harness import FEW_SHOT_SEED, Choice, Sample, accuracies, choice_scores, quiet, run_tasks
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


def registry_benchmark(name: str, deal: Deal, *, system_prompt: str) -> Benchmark:
    """A task, group or tag of lm-eval's registry, one hand over all of its tasks together.

    Raises ConfigurationError for a name that lm-eval does not know or that we cannot read, and for one with a dot, which
    would be judged as a part of a benchmark; EvenkeelError when its rows cannot be had.
    """
    if "." in name:
        raise ConfigurationError(
            f"GENERAL_TASKS: {name} has a dot, by which parts of a benchmark are told. Next: copy its task file into "
            "DATA_DIR/tasks under another name."
        )
    if name not in known_tasks().all_tasks:
        raise ConfigurationError(
            f"GENERAL_TASKS: {name!r} is neither a task file here nor a task of lm-eval. Next: correct the name."
        )
    tasks = _load(name)
    pool = [
        {**doc, "id": f"{task}-{i}", "task": task, "position": i}
        for task in sorted(tasks)
        for i, doc in enumerate(tasks[task].eval_docs)
    ]
    hand = deal.hand(name, pool)
    if not hand.rows:
        return nothing(name, hand)
    chosen = Chosen()
    for row in hand.rows:
        chosen.setdefault(row["task"], []).append(row["position"])
    asked = {task: tasks[task] for task in chosen}
    return task_benchmark(name, asked, system_prompt=system_prompt, chosen=chosen, left_out=hand.left_out)


def task_benchmark(
    name: str,
    tasks: Mapping[str, Task],
    *,
    system_prompt: str,
    chosen: Chosen | None = None,
    left_out: tuple[str, ...] = (),
) -> Benchmark:
    """What lm-eval makes of these tasks, of all of their rows or of those `chosen` by position, as one benchmark.

    Tasks whose answers are written are asked as the bot asks, in the chat template and after the system prompt; the others
    as plain text, so that it is no part of their digest.
    Raises ConfigurationError when the tasks differ in kind or log nothing that we can read.
    """
    metrics = _metrics(name, list(tasks.values()))
    written = all(task.OUTPUT_TYPE == "generate_until" for task in tasks.values())
    asked = (system_prompt,) if written else ()
    docs = {
        key: [task.eval_docs[i] for i in (chosen[key] if chosen else range(len(task.eval_docs)))]
        for key, task in tasks.items()
    }
    return Benchmark(
        name=name,
        domain="general",
        expects=tuple((name, metric) for metric in metrics),
        digest=digest_of([{key: repr(_settings(task)) for key, task in tasks.items()}, repr(docs), *asked]),
        cost=len(repr(docs)),
        measure=partial(_measure, name, tasks, chosen, metrics, system_prompt if written else None),
        left_out=left_out,
    )


def _settings(task: Task) -> dict[str, Any]:
    """What a task does, but for the function that hands it our rows: its name in memory differs in every process. With
    examples before its questions, the seed that they are drawn with."""
    kept = {key: value for key, value in task.dump_config().items() if key != "custom_dataset"}
    return kept | ({"few_shot_seed": FEW_SHOT_SEED} if kept.get("num_fewshot") else {})


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


def _metrics(name: str, tasks: list[Task]) -> tuple[str, ...]:
    """What we read of every item. Raises ConfigurationError when the tasks differ in kind or log nothing that we know."""
    kinds, logged = {task.OUTPUT_TYPE for task in tasks}, set.intersection(*[set(t.higher_is_better()) for t in tasks])
    if kinds == {"multiple_choice"} and all(_plain(task) for task in tasks):
        return (*accuracies(logged), "p_correct")
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
    name: str,
    tasks: Mapping[str, Task],
    chosen: Chosen | None,
    metrics: tuple[str, ...],
    system_prompt: str | None,
    answerer: Answerer,
    tell: Tell,
) -> Iterator[Measured]:
    logged = [
        (task, sample)
        for task, found in run_tasks(tasks, answerer, tell, chosen=chosen, system_prompt=system_prompt).items()
        for sample in found
    ]
    if "p_correct" in metrics:
        items = [_choice(task, sample, len(tasks)) for task, sample in logged]
        yield from choice_scores(name, [m for m in metrics if m != "p_correct"], items)
        return
    scores = tuple(_item(task, sample, metrics[0], len(tasks)) for task, sample in logged)
    if metrics[0] == "bits_per_byte":
        yield Measured(benchmark=name, metric="bits_per_byte", items=scores, direction="lower", unit="bits/byte")
    else:
        yield Measured(benchmark=name, metric=metrics[0], items=scores)


def _named(task: str, sample: Sample, tasks: int) -> tuple[str, str]:
    """Its id and cluster: those that its row has, else its place, and its task where there are several."""
    row, place = sample["doc"], f"{task}-{sample['doc_id']}"
    item_id = str(row.get("id", place)) if tasks == 1 else place
    return item_id, str(row.get("cluster") or (task if tasks > 1 else item_id))


def _choice(task: str, sample: Sample, tasks: int) -> Choice:
    item_id, cluster = _named(task, sample, tasks)
    return Choice(item_id=item_id, cluster=cluster, answer=int(sample["target"]), sample=sample)


def _item(task: str, sample: Sample, metric: str, tasks: int) -> ItemScore:
    item_id, cluster = _named(task, sample, tasks)
    return ItemScore(item_id=item_id, cluster=cluster, value=_value(sample[metric]))


def _value(logged: Any) -> float:
    """lm-eval logs a number, or (log-likelihood, bytes) for bits per byte."""
    if isinstance(logged, tuple):
        log_likelihood, size = logged
        return bits_per_byte(-log_likelihood, "x" * int(size))
    return float(logged)
