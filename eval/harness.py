"""lm-eval as our engine for benchmarks: it builds the prompts and judges the answers, we choose items and keep them.

Which items are drawn is decided by our seed, and what becomes of each is a score of ours; lm-eval's averages, caches
and environment reports are not used. Knows lm-eval. Where tasks come from is in local_tasks.py and registry.py.
"""

import contextlib
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
FEW_SHOT_SEED = 1_234  # of the examples before a question; lm-eval's own default


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One answered multiple-choice item: lm-eval's sample, its name and cluster, the position of the right choice."""

    item_id: str
    cluster: str
    answer: int
    sample: Sample


def run_tasks(
    tasks: Mapping[str, Task],
    answerer: Answerer,
    tell: Tell,
    *,
    chosen: Mapping[str, list[int]] | None = None,
    system_prompt: str | None = None,
) -> dict[str, list[Sample]]:
    """What lm-eval logged for each item, by task. `chosen`: only those positions of each task, none of them empty.

    Few-shot examples are drawn anew with the same seed, so that every answerer sees the same prompts in whatever process.
    `system_prompt`: prompts go through the chat template after it, as the bot's do. None: they are plain text, as lm-eval
    asks multiple choice, whose continuations are no turns of a chat.
    """
    for task in tasks.values():
        task.set_fewshot_seed(FEW_SHOT_SEED)
    wants_greedy = any(task.OUTPUT_TYPE == "loglikelihood" for task in tasks.values())
    lm = AnswererLM(answerer, tell, wants_greedy=wants_greedy)
    with quiet():
        results = evaluator.evaluate(
            lm=lm, task_dict={"tasks": dict(tasks), "groups": {}}, samples=chosen and dict(chosen), log_samples=True,
            bootstrap_iters=0, apply_chat_template=system_prompt is not None, system_instruction=system_prompt)  # fmt: skip
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


def choice_scores(benchmark: str, metrics: Sequence[str], items: Sequence[Choice]) -> Iterator[Measured]:
    """Right or wrong by each of `metrics` (acc, acc_norm, by lm-eval) and p_correct; guessing gives 1/choices.

    p_correct is scaled by length where acc_norm is among them. An item whose likelihoods are not numbers is NaN in all:
    argmax would call it right or wrong all the same.
    """
    chance = math.fsum(1 / len(item.sample["filtered_resps"]) for item in items) / len(items)
    sure = [_shares(item.sample, "acc_norm" in metrics)[item.answer] for item in items]

    def scored(metric: str, values: Iterable[float]) -> Measured:
        scores = (
            ItemScore(item_id=item.item_id, cluster=item.cluster, value=value)
            for item, value in zip(items, values, strict=True)
        )
        return Measured(benchmark=benchmark, metric=metric, items=tuple(scores), chance=chance)

    for metric in metrics:
        hits = (
            float(item.sample[metric]) if math.isfinite(p) else math.nan for item, p in zip(items, sure, strict=True)
        )
        yield scored(metric, hits)
    yield scored("p_correct", sure)


def _shares(sample: Sample, by_length: bool) -> tuple[float, ...]:
    likelihoods = [float(ll) for ll, _ in sample["filtered_resps"]]
    choices = [str(continuation).strip() for _, continuation in sample["arguments"]]
    return choice_probabilities(likelihoods, [len(choice) for choice in choices] if by_length else None)


def accuracies(logged: Iterable[str]) -> tuple[str, ...]:
    """The accuracies among what a task logs: acc, and acc_norm where choices are weighed by their length."""
    return tuple(metric for metric in ("acc", "acc_norm") if metric in set(logged))
