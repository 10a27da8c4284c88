"""The base measured once more beside a candidate that would be promoted: what the self-test holds its scores against.

The base was measured before the candidate was loaded, or in an earlier run by another release, driver or device. Read
again with the candidate in memory and switched off, it must be what it was; else the difference that is judged is not the
adapter's alone. Knows the plan of a run; decides nothing (eval/selftest.py does).
"""

from collections.abc import Mapping, Sequence

from bot.engine.model import LoadedModel
from eval.benchmark import Answerer, Benchmark
from eval.desk import Desk, Progress
from eval.hosted import HostedModel
from eval.sealed import Subject
from eval.suite import Plan
from eval.target import target_benchmarks
from storage.errors import EvenkeelError
from storage.ledger import Ledger
from storage.records import Lesson, Scorecard


def measured_again(
    model: LoadedModel | HostedModel,
    cards: Mapping[Subject, Scorecard],
    *,
    plan: Plan,
    holdout: Sequence[Lesson],
    ledger: Ledger,
    progress: Progress,
    run_id: int,
) -> Scorecard:
    """The base's bits per byte of the approved answers, where a candidate that stayed on shows most, and of the cheapest
    general text, of the same items as before.

    Looked up only where this very run had measured it again before it was cut off. Costs one pass over those texts. Raises
    EvenkeelError when they cannot be measured a second time.
    """
    base, candidate = cards["base"], cards["candidate"]
    target = target_benchmarks(
        holdout, (), items=plan.target_items, generations=plan.target_generations, max_new_tokens=plan.max_new_tokens,
        seed=plan.seed)  # fmt: skip
    chosen = [_cheapest_text(line, base) for line in (target, plan.general)]
    asked = [one for one in chosen if one is not None]
    cost = sum(one.cost for one in asked)
    desk = Desk(Answerer(model=model, adapter=None), ledger, progress, cost, run_id)
    desk.anew = (str(run_id), candidate.adapter_digest or "")
    scores = desk.line(asked)
    if desk.faults:
        raise EvenkeelError(
            f"the base could not be measured again: {'; '.join(desk.faults)}. Next: start the run again."
        )
    items, seconds = sum(one.n for one in scores), sum(one.seconds for one in scores)
    desk.note(f"the base measured again on {items} texts ({seconds:.0f} s)")
    return Scorecard(
        base_digest=model.base_digest, adapter_digest=None, suite_digest=plan.digest, scores=scores,
        template_digest=model.renderer.template_digest)  # fmt: skip


def _cheapest_text(line: Sequence[Benchmark], base: Scorecard) -> Benchmark | None:
    """Of those that are read as text alone and that the base's card has whole."""
    texts = [
        one
        for one in line
        if one.expects and all(metric == "bits_per_byte" and base.get(name, metric) for name, metric in one.expects)
    ]
    return min(texts, key=lambda one: one.cost, default=None)
