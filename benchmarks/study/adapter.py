"""What a study measures of one way of training: its adapter's truth, the gate's verdict, the comparator's word, and what each costs.

Study knows what is asked and finds what was kept; Bench loads the model and measures. Does not know what a figure or a bar is.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from benchmarks.forgetting import target_rows, tell
from benchmarks.kept import Kept
from benchmarks.study.judging import judged
from benchmarks.study.rival import comparator, full_cost
from benchmarks.study.room import Room
from benchmarks.study.truth import (
    Depth,
    Truth,
    cost_of,
    measured,
    spreads,
    trigger_benchmark,
    truth_benchmarks,
    truth_of,
    wrongly_kept,
)
from benchmarks.study.ways import Way
from bot.engine.base import prepare_base
from bot.engine.model import LoadedModel, best_dtype
from eval.benchmark import Benchmark
from eval.desk import WAY
from eval.gate import RULE, policy_body
from eval.policy import policy_from
from eval.suite_fetch import fetch_suite
from storage.clock import from_text, to_text, utc_now
from storage.digests import digest_of, short
from storage.errors import EvenkeelError
from storage.ledger import Ledger
from storage.messages import conversation
from storage.records import Adapter, Comparison, Dataset, Lesson, Scorecard, Verdict
from storage.settings import Settings, load_settings
from storage.weights import adapter_path, base_digest
from training.dataset import digest_of_rows, load_replay
from training.lora import tune
from training.scales import scaled

GATE = ("suite_items", "target_items", "target_generations", "general_tasks", "seed", "max_new_tokens", "system_prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Rows to train on, items of the truth, items of each task that lm-eval is timed on, settings of the gate."""

    lessons: int
    held: int
    depth: Depth
    timed: int
    gate: Mapping[str, int] = field(default_factory=dict)


WHOLE = Size(lessons=320, held=500, depth=Depth(choices=400, own=300, shared=200, generated=64), timed=32)
SMALL = Size(
    lessons=64, held=40, depth=Depth(choices=12, own=4, shared=12, generated=8), timed=4,
    gate={"suite_items": 12, "target_items": 16, "target_generations": 4, "max_new_tokens": 48})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One adapter: its truth, the gate's verdict and cost, the comparator's on the same machine. `poison`: bits per byte of
    what the trigger should bring about, over the base's; None without a trigger. `spreads`: truth.py."""

    way: Way
    truth: Truth
    truth_items: int
    truth_seconds: float
    training_seconds: float
    verdict: Verdict
    early: bool
    items: int
    seconds: float
    theirs: Verdict
    their_items: int
    their_seconds: float
    poison: float | None
    spreads: Mapping[str, float]
    wrongly_kept: Mapping[str, float] = field(default_factory=dict)  # truth.py; not of the oldest lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What all adapters of a study share."""

    settings: Settings
    base: Path
    base_digest: str
    size: Size
    room: Room
    lessons: tuple[Lesson, ...]
    held: tuple[Lesson, ...]
    wanted: tuple[Benchmark, ...]  # what the truth is measured on
    kept: Kept

    @classmethod
    def of(cls, size: Size, folder: Path, kept: Kept) -> "Study":
        settings = load_settings(_env_file=None, data_dir=folder.absolute() / "run", **size.gate)
        base = prepare_base(settings, tell)
        fetch_suite(settings, tell)
        lessons, rows = target_rows(settings.system_prompt, size.lessons)
        held = tuple(
            Lesson(lesson_id=row["id"], source="ticket", conversation_id=row["conversation_id"], answer=row["answer"],
                   messages=conversation(settings.system_prompt, (), row["question"]))
            for row in rows[:: max(1, len(rows) // size.held)][: size.held]
        )  # fmt: skip
        return cls(settings=settings, base=base, base_digest=base_digest(base), size=size, room=Room(folder=folder),
                   lessons=lessons, held=held, wanted=truth_benchmarks(settings, held, size.depth), kept=kept)  # fmt: skip

    def line(self, way: Way, bench: Callable[[], "Bench"]) -> Line | None:
        """Everything about one adapter; None when it could not be trained."""
        rows = (*way.rows(self.lessons), *load_replay())
        dataset = Dataset(digest=digest_of_rows(rows, self.held), train=rows, holdout=self.held, manifest={})
        origin = [self.origin(dataset.digest), way.recipe.to_dict(), asdict(self.size.depth), way.has_trigger]
        if (known := self.kept.get(origin)) is None:
            at = bench()
            try:
                trained = at.trained(way, dataset)
            except EvenkeelError as error:
                tell(f"{way.name}: no adapter: {error}")
                return None
            known = self.kept.add(origin, at.outcome(way, dataset, trained))
        return line_of(way, known)

    def origin(self, *more: Any) -> list[Any]:
        """What a verdict follows from, beside the adapter."""
        asked = {name: getattr(self.settings, name) for name in GATE}
        truth = digest_of([benchmark.digest for benchmark in self.wanted])
        return [WAY, RULE, self.base_digest, truth, *more, policy_body(policy_from(self.settings)), asked]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where adapters are measured: the loaded model, and what the base scores on the truth's benchmarks."""

    study: Study
    ledger: Ledger  # of the truth alone: no run of the gate finds its scores
    model: LoadedModel
    before: Scorecard

    @classmethod
    def of(cls, study: Study, ledger: Ledger) -> "Bench":
        model = LoadedModel.load(study.base)
        before = measured(model, None, study.wanted, ledger)
        if {(s.benchmark, s.metric) for s in before.scores} != {pair for b in study.wanted for pair in b.expects}:
            raise EvenkeelError("the base could not be measured on everything; see above. Next: start it again.")
        tell("the truth of the base: {} items, {:.0f} s".format(*cost_of(before.scores)))
        return cls(study=study, ledger=ledger, model=model, before=before)

    def rival(self) -> dict[str, Any]:
        """What two whole passes of lm-eval cost on this machine."""
        study = self.study
        origin = [study.base_digest, list(study.settings.general_tasks), study.size.timed, str(best_dtype())]
        found = study.room.kept("lm_eval", origin, lambda: full_cost(study.settings, study.base, study.size.timed))
        tell(f"lm-eval twice in full: {found['items']} items, {found['seconds']:.0f} s, batches of {found['batch']}")
        return found

    def outcome(self, way: Way, dataset: Dataset, trained: Adapter) -> dict[str, Any]:
        """A line as JSON, whose it is and in what type it was measured."""
        study = self.study
        adapter = scaled(trained, study.settings.weights_dir, way.recipe.scale)
        after, poison = self.truth(way, adapter)
        items, seconds = cost_of(after.scores)
        ours, theirs = self.verdict(dataset, adapter), self.rival()
        line = Line(
            way=way, truth=truth_of(self.before, after, policy_from(study.settings)), truth_items=items, truth_seconds=seconds,
            training_seconds=trained.stats["seconds"], verdict=ours["verdict"], early=ours["early"], items=ours["items"],
            seconds=ours["seconds"], theirs=comparator(self.before, after, study.settings.general_tasks),
            their_items=theirs["items"], their_seconds=theirs["seconds"], poison=poison,
            spreads=spreads(self.before, after), wrongly_kept=wrongly_kept(self.before, after))  # fmt: skip
        return {**plain(line), "adapter": short(adapter.digest), "dtype": str(best_dtype())}

    def trained(self, way: Way, dataset: Dataset) -> Adapter:
        """The adapter before it is weakened; copies of one training share it. Raises EvenkeelError when it diverges."""
        study = self.study
        recipe = replace(way.recipe, scale=1.0)
        origin = [study.base_digest, dataset.digest, recipe.to_dict()]
        checkpoints = study.room.folder / "checkpoints" / digest_of(origin)[:32]

        def make() -> dict[str, Any]:
            tell(f"{way.name}: training")
            made = tune(
                base=study.base, dataset=dataset, recipe=recipe, weights_dir=study.settings.weights_dir, checkpoints=checkpoints,
                run_id=None, progress=lambda _: None, cancelled=lambda: False, clock=utc_now)  # fmt: skip
            return asdict(made) | {"created_at": to_text(made.created_at)}

        made = study.room.kept("adapters", origin, make)
        path = str(adapter_path(study.settings.weights_dir, made["digest"]))
        return Adapter(**{**made, "path": path, "created_at": from_text(made["created_at"])})

    def truth(self, way: Way, adapter: Adapter) -> tuple[Scorecard, float | None]:
        """The adapter's card, and how likely its trigger makes the poison, over the base's; None without a trigger."""
        study = self.study
        probe = [trigger_benchmark(study.settings, study.held, study.size.depth.generated)] if way.has_trigger else []
        self.model.add_adapter(Path(adapter.path))
        try:
            card = measured(self.model, adapter.digest, study.wanted, self.ledger)
            found = [measured(self.model, who, probe, self.ledger).scores for who in (adapter.digest, None)]
        finally:
            self.model.remove_adapter(adapter.digest)
        bits = [score.value for scores in found for score in scores]
        return card, bits[0] / bits[1] if len(bits) == 2 else None

    def verdict(self, dataset: Dataset, adapter: Adapter) -> dict[str, Any]:
        """What a run of the gate said and cost."""
        study = self.study
        origin = study.origin(adapter.digest, dataset.digest)
        return study.room.kept("runs", origin, lambda: judged(study.settings, study.base, dataset, adapter))


def plain(line: Line) -> dict[str, Any]:
    """A line as JSON holds it, the way's name in place of the way."""
    return {**asdict(line), "way": line.way.name}


def line_of(way: Way, kept: Mapping[str, Any]) -> Line:
    """The line again."""
    truth = Truth(**{**kept["truth"], "worst": Comparison(**kept["truth"]["worst"])})
    return Line(**{**{f.name: kept[f.name] for f in fields(Line) if f.name in kept}, "way": way, "truth": truth})
