"""lm-eval as our engine for benchmarks: it builds the prompts and judges the answers, we choose items and keep them.

Which items are drawn is decided by our seed, and what becomes of each is a score of ours; lm-eval's averages, caches
and environment reports are not used. Knows lm-eval. Where tasks come from is in local_tasks.py and registry.py.
"""

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import lm_eval.api.task
from lm_eval import evaluator
from lm_eval.api.task import Task

from eval.benchmark import Answerer, Measured, Tell
from eval.lm import AnswererLM
from eval.metrics import choice_probabilities
from storage.records import ItemScore

Sample = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One answered multiple-choice item: lm-eval's sample, its name and cluster, the position of the right choice."""

    item_id: str
    cluster: str
    answer: int
    sample: Sample


def run_tasks(
    tasks: dict[str, Task], chosen: dict[str, list[int]], answerer: Answerer, tell: Tell, *, chat: bool = False
) -> dict[str, list[Sample]]:
    """What lm-eval logged for each chosen item, by task. `chosen` holds ascending positions, none of them empty.

    `chat`: prompts go through the chat template; continuations of plain text (most multiple choice) must not.
    """
    wants_greedy = any(task.OUTPUT_TYPE == "loglikelihood" for task in tasks.values())
    lm = AnswererLM(answerer, tell, wants_greedy=wants_greedy)
    with quiet():
        results = evaluator.evaluate(
            lm=lm, task_dict={"tasks": tasks, "groups": {}}, samples=chosen, log_samples=True, bootstrap_iters=0,
            apply_chat_template=chat)  # fmt: skip
    return {name: list(results["samples"][name]) for name in tasks}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """lm-eval draws a bar and logs lines for every task that it builds; people see our one bar instead."""
    loud, logger = lm_eval.api.task.tqdm, logging.getLogger("lm_eval")
    level = logger.level
    lm_eval.api.task.tqdm = partial(loud, disable=True)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        lm_eval.api.task.tqdm = loud
        logger.setLevel(level)


def choice_scores(benchmark: str, metric: str, items: Sequence[Choice]) -> tuple[Measured, Measured]:
    """Right or wrong as `metric` (acc or acc_norm, by lm-eval), and p_correct; guessing gives 1/choices.

    An item whose likelihoods are not numbers is NaN in both: argmax would call it right or wrong all the same.
    """
    right, sure = [], []
    for item in items:
        shares = _shares(item.sample, metric)
        p = shares[item.answer]
        hit = float(item.sample[metric]) if math.isfinite(p) else math.nan
        right.append(ItemScore(item_id=item.item_id, cluster=item.cluster, value=hit))
        sure.append(ItemScore(item_id=item.item_id, cluster=item.cluster, value=p))
    chance = math.fsum(1 / len(item.sample["filtered_resps"]) for item in items) / len(items)
    return (
        Measured(benchmark=benchmark, metric=metric, items=tuple(right), chance=chance),
        Measured(benchmark=benchmark, metric="p_correct", items=tuple(sure), chance=chance),
    )


def _shares(sample: Sample, metric: str) -> tuple[float, ...]:
    likelihoods = [float(ll) for ll, _ in sample["filtered_resps"]]
    choices = [str(continuation).strip() for _, continuation in sample["arguments"]]
    return choice_probabilities(likelihoods, [len(choice) for choice in choices] if metric == "acc_norm" else None)


def accuracy_name(metrics: Sequence[str]) -> str:
    """The accuracy that people quote for a task: acc_norm where the task asks for it, else acc."""
    return "acc_norm" if "acc_norm" in metrics else "acc"
