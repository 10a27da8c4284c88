"""The suite: what is measured of every answerer, and the one function that measures it.

Promise: base, champion and candidate of one plan are asked the same items in the same way. How the desk measures them is
eval/desk.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bot.engine.model import LoadedModel
from eval.benchmark import Answerer, Benchmark, Deal
from eval.desk import Desk, Progress
from eval.doubt import CONFIDENCE, pairs_of, threshold
from eval.hosted import HostedModel
from eval.local_tasks import local_benchmark, local_tasks
from eval.overlap import Seen
from eval.own import own_benchmarks
from eval.policy import SAFETY, above_chance
from eval.registry import registry_benchmark
from eval.target import target_benchmarks
from eval.watch import Watch
from storage.digests import digest_of
from storage.errors import EvenkeelError
from storage.ledger import Ledger
from storage.picks import WinRate
from storage.records import Lesson, Score, Scorecard
from storage.settings import Settings

ALWAYS = ("languages", "arithmetic")  # tasks of ours that every plan has
NAMED = 5  # left-out items that are named
AT_CHANCE = ("at chance, so it is no evidence", "at chance, so only a proven loss counts")  # of ability, of safety
UNASKED = "unasked"  # the metric of what was asked for and cannot be
NOT_HERE = "not on this disk. Next: evenkeel suite fetch, or take it out of GENERAL_TASKS"
ALL_KNOWN = "too few items are left that the training rows do not hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which general benchmarks with which items, and how the target is measured. Equal digests: comparable scorecards.

    All answerers of one run are asked by one plan; plans of two runs ask different items and are not comparable.
    `missing` names the benchmarks that GENERAL_TASKS asks for and that are not on this disk: no answerer is asked them.
    """

    general: tuple[Benchmark, ...]
    missing: tuple[str, ...]
    seed: int
    target_items: int
    target_generations: int
    max_new_tokens: int

    @property
    def digest(self) -> str:
        target = [self.seed, self.target_items, self.target_generations, self.max_new_tokens]
        return digest_of([[[b.name, b.digest] for b in self.general], list(self.missing), target])

    @property
    def cost(self) -> int:
        return sum(benchmark.cost for benchmark in self.general)

    @property
    def expects(self) -> tuple[tuple[str, str], ...]:
        """Each general (benchmark, metric) that a whole scorecard of this plan has."""
        return tuple(pair for benchmark in self.general for pair in benchmark.expects)

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator must know of the plan: what is not there, and which items nobody is asked."""
        return (
            *(f"{name} is {NOT_HERE}" for name in self.missing),
            *(_left_out(b) for b in self.general if b.left_out),
        )

    @property
    def unasked(self) -> tuple[tuple[str, str], ...]:
        """(name, why) of each general benchmark, or part of one, that should be asked and cannot be."""
        emptied = (name for benchmark in self.general for name in benchmark.emptied)
        return (*((name, NOT_HERE) for name in self.missing), *((name, ALL_KNOWN) for name in emptied))


def _left_out(benchmark: Benchmark) -> str:
    names = ", ".join(benchmark.left_out[:NAMED])
    more = len(benchmark.left_out) - NAMED
    return (
        f"{benchmark.name}: {len(benchmark.left_out)} items are left out, because the training rows hold them: {names}"
        + (f" and {more} more" if more > 0 else "")
    )


def plan_from(settings: Settings, *, turn: int = 0, sealed: bool = False, train: Sequence[Lesson] = ()) -> Plan:
    """The plan of these settings and of what lies on this disk now.

    `turn`: how many runs were scored before, which is the place of this run's hand of items in each pool. `sealed`: the
    sealed items instead, of the benchmarks that have some. Items that `train` holds are left out.
    Raises ConfigurationError for an unknown name in GENERAL_TASKS or a broken file, EvenkeelError when a task of
    lm-eval's registry cannot be loaded (it may need the network).
    """
    deal = Deal(items=settings.suite_items, seed=settings.seed, turn=turn, sealed=sealed, known=Seen(train).holds)
    tasks, own = local_tasks(settings), own_benchmarks(system_prompt=settings.system_prompt, deal=deal)
    names = [name for name in dict.fromkeys(settings.general_tasks) if name not in ALWAYS]
    absent = [name for name in names if name in tasks and tasks[name].ours and not tasks[name].rows.is_file()]
    asked = [name for name in (*names, *ALWAYS) if name not in absent]
    theirs = partial(registry_benchmark, deal=deal, system_prompt=settings.system_prompt)
    general = (local_benchmark(tasks[n], deal) if n in tasks else theirs(n) for n in asked)
    return Plan(
        general=tuple(benchmark for benchmark in (*general, *own) if benchmark.expects or benchmark.left_out),
        missing=() if sealed else tuple(absent),
        seed=settings.seed,
        target_items=settings.target_items,
        target_generations=settings.target_generations,
        max_new_tokens=settings.max_new_tokens,
    )


def score(
    model: LoadedModel | HostedModel,
    adapter: str | None,
    *,
    plan: Plan,
    holdout: Sequence[Lesson],
    ledger: Ledger,
    progress: Progress,
    train: Sequence[Lesson] = (),
    run_id: int | None = None,
    general: bool = True,
    watch: Watch | None = None,
    dataset: Path | None = None,
) -> Scorecard:
    """All scores of one answerer, target first; what the ledger knows is taken from there.

    `general` false: its target scores alone, which is all that a champion is compared by. Keeps the answerer's
    threshold in the ledger, too: how sure it was is no score, since surer is not better. `train` only names the topics
    of answers. `run_id`: the run whose history is told what is missing or left out and why, which benchmarks the base is
    no better at than guessing, and how often reviewers picked this adapter. Cheap benchmarks are measured first; once
    `watch` knows that the verdict is certain, the rest is spared, and once enough is proven, the rest of the choices.
    `dataset`: the folder that keeps what was said (eval/said.py).
    Raises EvenkeelError when the base itself lacks a general score: nothing could be compared on it, and a gate that
    never sees a benchmark cannot call it unknown. What nobody can be asked is on the base's card, without items, so that the
    gate holds and says why. What was measured until then is kept. Only a hosted base may lack what
    its server does not give: then the target's bits per byte are among it, without which the gate holds.
    """
    target = target_benchmarks(
        holdout, train, items=plan.target_items, generations=plan.target_generations,
        max_new_tokens=plan.max_new_tokens, seed=plan.seed)  # fmt: skip
    line = (*target, *(plan.general if general else ()))
    desk = Desk(Answerer(model=model, adapter=adapter), ledger, progress, sum(b.cost for b in line), run_id)
    desk.watch, desk.dataset = watch, dataset
    measured = desk.line(line)
    ledger.doubt.keep(model.base_digest, adapter, threshold(pairs_of(measured)))
    scores = tuple(one for one in measured if one.metric != CONFIDENCE)
    if adapter is None:
        scores += unasked(plan, model.base_digest, ledger)
    card = Scorecard(
        base_digest=model.base_digest, adapter_digest=adapter, suite_digest=plan.digest, scores=scores,
        template_digest=model.renderer.template_digest)  # fmt: skip
    if adapter is not None:
        desk.note(*picked(ledger.picks.win_rate(adapter)))
    else:
        unread = model.unread if isinstance(model, HostedModel) else ()
        desk.note(
            *plan.notes,
            *against_chance(card),
            *(f"{why}: what needs them is unknown, so the gate holds" for why in unread),
        )
        if not unread:
            require_whole(card, plan, desk.faults)
    return card


def unasked(plan: Plan, base_digest: str, ledger: Ledger) -> tuple[Score, ...]:
    """A score without items for each benchmark that nobody can be asked, kept; its signature says why."""
    scores = tuple(
        Score(
            key=digest_of([UNASKED, base_digest, name, why]), benchmark=name, metric=UNASKED, domain="general",
            direction="higher", unit="", value=0.0, stderr=0.0, n=0, items=(), signature=why)
        for name, why in plan.unasked
    )  # fmt: skip
    for one in scores:
        ledger.scores.add(one, base_digest=base_digest, adapter_digest=None)
    return scores


def picked(rate: WinRate) -> tuple[str, ...]:
    """What reviewers preferred, blind, as a sentence; none of an adapter that nobody has compared with the base."""
    if rate.share is None:
        return ()
    low, high = 100 * rate.low, 100 * rate.high
    return (
        f"picked over base in {100 * rate.share:.1f} % of {rate.n} blind pairs, ties as half ({low:.1f} to {high:.1f} %)",
    )


def require_whole(base: Scorecard, plan: Plan, faults: Sequence[str]) -> None:
    if any(base.get(*pair) is None for pair in plan.expects):
        raise EvenkeelError(
            f"the base could not be measured: {'; '.join(faults)}. Next: start the run again; if it stays, take the "
            "benchmark out of GENERAL_TASKS."
        )


def against_chance(card: Scorecard) -> tuple[str, ...]:
    """One sentence for each benchmark that can be guessed: whether this answerer is better than guessing."""
    return tuple(
        f"{s.benchmark} ({s.metric}): {100 * s.value:.1f} % of {s.n} items, guessing gives {100 * s.chance:.1f} %: "
        + ("above chance" if above_chance(s) else AT_CHANCE[s.benchmark in SAFETY])
        for s in card.scores
        if s.chance is not None
    )
