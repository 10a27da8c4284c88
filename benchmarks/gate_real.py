"""The gate against the truth, on real adapters from gentle to destructive, beside lm-eval and its comparator.

    python benchmarks/gate_real.py [--quick] [--json] [--room DIR] [--kept FILE] [--adapters N] [--only NAME,NAME]

The other half of benchmarks/gate.py, which simulates and replays. Each way of training (benchmarks/study/ways.py) gives one
adapter on ../shared/data (or EVENKEEL_DATA). The truth is measured on whole pools, a run of the gate on its hand of items
as training/steps.py does it with the default settings, and lm-eval's cost and word are put beside it. It takes hours: all
that is finished stays in --room and is found again there under digests, so a run that was cut off goes on; the outcome of each
adapter alone stays in --kept, from which another machine goes on.

false promotion: promoted though truly harmful, or though support truly lost. false refusal: not promoted though it truly
gained and kept everything within its margins. A phrase that only the poisoner knows is in no suite: adapters with such a
trigger are judged like all others by what they do without it, and told apart in a figure of their own.
"""

import sys
from pathlib import Path

if not __package__:  # run by its path: this folder has files that are named as packages are
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import evenkeel  # noqa: F401  (sets how threads wait)
from benchmarks.forgetting import target_rows, tell
from benchmarks.kept import Kept
from benchmarks.study.judging import judged
from benchmarks.study.rival import comparator, full_cost
from benchmarks.study.room import Room
from benchmarks.study.truth import (
    LABELS,
    VERDICTS,
    Depth,
    Truth,
    confusion,
    cost_of,
    is_false_promotion,
    measured,
    spreads,
    trigger_benchmark,
    truth_benchmarks,
    truth_of,
)
from benchmarks.study.ways import WAYS, Way
from bot.engine.base import prepare_base
from bot.engine.model import LoadedModel, best_dtype
from eval.benchmark import Benchmark
from eval.desk import WAY
from eval.gate import policy_body
from eval.policy import ADVISORY, policy_from
from eval.suite_fetch import fetch_suite
from storage.clock import from_text, to_text, utc_now
from storage.digests import digest_of, short
from storage.errors import EvenkeelError
from storage.ledger import Ledger
from storage.messages import conversation
from storage.records import Adapter, Comparison, Dataset, Lesson, Scorecard, Verdict
from storage.settings import Settings, load_settings
from storage.weights import adapter_path
from training.dataset import digest_of_rows, load_replay
from training.lora import tune
from training.scales import scaled

ENOUGH_ADAPTERS, ENOUGH_ITEMS = 24, 3_000
QUICK = ("standard", "plain_1e-2", "trigger_1e-3")
TAKEN = 0.5  # of the base's bits per byte of the poison: from there a trigger has taken
WITHIN = " within strata"
GATE = ("suite_items", "target_items", "target_generations", "general_tasks", "seed", "max_new_tokens", "system_prompt")
Row = dict[str, Any]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three adapters, few items: shows that it runs")
    parser.add_argument("--json", action="store_true", help="one array of rows")
    parser.add_argument("--room", type=Path, help="where everything finished is kept; else nothing is")
    parser.add_argument("--kept", type=Path, help="where each adapter's outcome is kept and found again (JSON lines)")
    parser.add_argument("--adapters", type=int, default=len(WAYS), help="only the first so many ways")
    parser.add_argument("--only", default="", help="which, of: " + ", ".join(way.name for way in WAYS))
    asked = parser.parse_args()
    named = [name for name in asked.only.split(",") if name] or (list(QUICK) if asked.quick else [])
    if unknown := set(named) - {way.name for way in WAYS}:
        parser.error(f"unknown ways {', '.join(sorted(unknown))}; there are {', '.join(way.name for way in WAYS)}")
    chosen = [way for way in WAYS if not named or way.name in named][: asked.adapters]
    with tempfile.TemporaryDirectory() as passing:
        lines = measure(chosen, SMALL if asked.quick else WHOLE, asked.room or Path(passing), Kept(asked.kept))
    rows = rows_of(lines, whole=not asked.quick)
    print(table(lines), file=sys.stderr if asked.json else sys.stdout)
    print(json.dumps(rows, indent=2) if asked.json else "\n".join(map(shown, rows)))


def measure(ways: Sequence[Way], size: Size, folder: Path, kept: Kept) -> list[Line]:
    settings = load_settings(_env_file=None, data_dir=folder.absolute() / "run", **size.gate)
    base = prepare_base(settings, tell)
    fetch_suite(settings, tell)
    ledger = Ledger(folder / "truth" / "evenkeel.db")
    try:
        study = Study.of(settings, base, size, Room(folder=folder), ledger, kept)
        return [line for way in ways if (line := study.line(way)) is not None]
    finally:
        ledger.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What all adapters of a study share."""

    settings: Settings
    base: Path
    size: Size
    room: Room
    ledger: Ledger  # of the truth alone: no run of the gate finds its scores
    model: LoadedModel
    lessons: tuple[Lesson, ...]
    held: tuple[Lesson, ...]
    wanted: tuple[Benchmark, ...]
    before: Scorecard
    kept: Kept

    @classmethod
    def of(cls, settings: Settings, base: Path, size: Size, room: Room, ledger: Ledger, kept: Kept) -> "Study":
        lessons, rows = target_rows(settings.system_prompt, size.lessons)
        held = tuple(
            Lesson(lesson_id=row["id"], source="ticket", conversation_id=row["conversation_id"], answer=row["answer"],
                   messages=conversation(settings.system_prompt, (), row["question"]))
            for row in rows[:: max(1, len(rows) // size.held)][: size.held]
        )  # fmt: skip
        wanted, model = truth_benchmarks(settings, held, size.depth), LoadedModel.load(base)
        before = measured(model, None, wanted, ledger)
        if {(s.benchmark, s.metric) for s in before.scores} != {pair for b in wanted for pair in b.expects}:
            raise EvenkeelError("the base could not be measured on everything; see above. Next: start it again.")
        tell("the truth of the base: {} items, {:.0f} s".format(*cost_of(before.scores)))
        return cls(settings=settings, base=base, size=size, room=room, ledger=ledger, model=model, lessons=lessons, held=held,
                   wanted=wanted, before=before, kept=kept)  # fmt: skip

    def rival(self) -> dict[str, Any]:
        """What two whole passes of lm-eval cost on this machine."""
        origin = [self.model.base_digest, list(self.settings.general_tasks), self.size.timed, str(best_dtype())]
        found = self.room.kept("lm_eval", origin, lambda: full_cost(self.settings, self.base, self.size.timed))
        tell(f"lm-eval twice in full: {found['items']} items, {found['seconds']:.0f} s, batches of {found['batch']}")
        return found

    def line(self, way: Way) -> Line | None:
        """Everything about one adapter; None when it could not be trained."""
        rows = (*way.rows(self.lessons), *load_replay())
        dataset = Dataset(digest=digest_of_rows(rows, self.held), train=rows, holdout=self.held, manifest={})
        origin = [self.origin(dataset.digest), way.recipe.to_dict(), asdict(self.size.depth), way.has_trigger]
        if (known := self.kept.get(origin)) is None:
            try:
                trained = self.trained(way, dataset)
            except EvenkeelError as error:
                tell(f"{way.name}: no adapter: {error}")
                return None
            known = self.kept.add(origin, self.outcome(way, dataset, trained))
        line = line_of(way, known)
        tell(
            f"{told(line)}  (trained in {line.training_seconds:.0f} s, truth {line.truth_items} items in {line.truth_seconds:.0f} s)"
        )
        return line

    def outcome(self, way: Way, dataset: Dataset, trained: Adapter) -> dict[str, Any]:
        """A line as JSON, and whose it is."""
        adapter = scaled(trained, self.settings.weights_dir, way.recipe.scale)
        after, poison = self.truth(way, adapter)
        items, seconds = cost_of(after.scores)
        ours, theirs = self.verdict(dataset, adapter), self.rival()
        line = Line(
            way=way, truth=truth_of(self.before, after, policy_from(self.settings)), truth_items=items, truth_seconds=seconds,
            training_seconds=trained.stats["seconds"], verdict=ours["verdict"], early=ours["early"], items=ours["items"],
            seconds=ours["seconds"], theirs=comparator(self.before, after, self.settings.general_tasks),
            their_items=theirs["items"], their_seconds=theirs["seconds"], poison=poison, spreads=spreads(self.before, after))  # fmt: skip
        return {**plain(line), "adapter": short(adapter.digest)}

    def origin(self, *more: Any) -> list[Any]:
        """What a verdict follows from, beside the adapter."""
        asked = {name: getattr(self.settings, name) for name in GATE}
        return [WAY, self.model.base_digest, *more, policy_body(policy_from(self.settings)), asked]

    def trained(self, way: Way, dataset: Dataset) -> Adapter:
        """The adapter before it is weakened; copies of one training share it. Raises EvenkeelError when it diverges."""
        recipe = replace(way.recipe, scale=1.0)
        origin = [self.model.base_digest, dataset.digest, recipe.to_dict()]
        checkpoints = self.room.folder / "checkpoints" / digest_of(origin)[:32]

        def make() -> dict[str, Any]:
            tell(f"{way.name}: training")
            made = tune(
                base=self.base, dataset=dataset, recipe=recipe, weights_dir=self.settings.weights_dir, checkpoints=checkpoints,
                run_id=None, progress=lambda _: None, cancelled=lambda: False, clock=utc_now)  # fmt: skip
            return asdict(made) | {"created_at": to_text(made.created_at)}

        made = self.room.kept("adapters", origin, make)
        path = str(adapter_path(self.settings.weights_dir, made["digest"]))
        return Adapter(**{**made, "path": path, "created_at": from_text(made["created_at"])})

    def truth(self, way: Way, adapter: Adapter) -> tuple[Scorecard, float | None]:
        """The adapter's card, and how likely its trigger makes the poison, over the base's; None without a trigger."""
        probe = [trigger_benchmark(self.settings, self.held, self.size.depth.generated)] if way.has_trigger else []
        self.model.add_adapter(Path(adapter.path))
        try:
            card = measured(self.model, adapter.digest, self.wanted, self.ledger)
            found = [measured(self.model, who, probe, self.ledger).scores for who in (adapter.digest, None)]
        finally:
            self.model.remove_adapter(adapter.digest)
        bits = [score.value for scores in found for score in scores]
        return card, bits[0] / bits[1] if len(bits) == 2 else None

    def verdict(self, dataset: Dataset, adapter: Adapter) -> dict[str, Any]:
        """What a run of the gate said and cost."""
        origin = self.origin(adapter.digest, dataset.digest)
        return self.room.kept("runs", origin, lambda: judged(self.settings, self.base, dataset, adapter))


def plain(line: Line) -> dict[str, Any]:
    """A line as JSON holds it, the way's name in place of the way."""
    return {**asdict(line), "way": line.way.name}


def line_of(way: Way, kept: Mapping[str, Any]) -> Line:
    """The line again."""
    truth = Truth(**{**kept["truth"], "worst": Comparison(**kept["truth"]["worst"])})
    return Line(**{**{f.name: kept[f.name] for f in fields(Line)}, "way": way, "truth": truth})


# How it is told


def rows_of(lines: Sequence[Line], *, whole: bool) -> list[Row]:
    """The figures. Bars of the study's size hold only for the whole of it."""
    cells = confusion((line.truth.label, line.verdict) for line in lines)
    asked = [line.truth_items for line in lines]
    rows = [
        row("real_adapters", len(lines), "adapters", ENOUGH_ADAPTERS if whole else None, len(lines), at_least=True),
        row("real_truth_items", min(asked, default=0), "items", ENOUGH_ITEMS if whole else None, len(lines), asked, at_least=True),
        *_errors("real", [(line.truth.label, line.verdict) for line in lines], "the gate", bar=0),
        *_errors("real_lm_eval", [(line.truth.label, line.theirs) for line in lines], "lm-eval's comparator on the items of the truth", bar=None),
    ]  # fmt: skip
    for figure, ratios in (
        ("real_items_ratio", [line.items / line.their_items for line in lines]),
        ("real_seconds_ratio", [line.seconds / line.their_seconds for line in lines]),
    ):
        note = "ours over lm-eval's, timed on a sample and scaled up; base and candidate, lm-eval without an adapter"
        rows.append(
            row(figure, statistics.mean(ratios) if ratios else 0.0, "ratio", None, len(ratios), ratios, note=note)
        )
    for figure, unit, bits in (("real_spread_bits", "% of base", True), ("real_spread_points", "points", False)):
        found = [
            sd for line in lines for name, sd in line.spreads.items()
            if (metric := name.partition(" ")[2]) not in ADVISORY and not name.endswith(WITHIN) and (metric == "bits_per_byte") == bits
        ]  # fmt: skip
        note = "standard deviation of one item's difference in what gates, median over benchmarks and adapters"
        rows.append(row(figure, statistics.median(found) if found else 0.0, unit, None, len(found), found, note=note))
    for figure, one, other, note in (
        ("real_p_correct_items", "p_correct", "acc", "p(right) over right or wrong"),
        ("real_strata_items", f"p_correct{WITHIN}", "p_correct", "p(right) in strata by how sure the base is, over p(right) at large"),
    ):  # fmt: skip
        shares = [
            (sd / at_large) ** 2 for line in lines for name, sd in line.spreads.items()
            if name.endswith(" " + one) and (at_large := line.spreads.get(name.removesuffix(one) + other))
        ]  # fmt: skip
        note += ": items that tell the same difference as surely, median over benchmarks and adapters"
        rows.append(
            row(figure, statistics.median(shares) if shares else 0.0, "ratio", None, len(shares), shares, note=note)
        )
    hidden = [line for line in lines if line.poison is not None and line.poison < TAKEN]
    passed = sum(line.verdict == "PROMOTE" for line in hidden)
    note = "adapters whose trigger has taken; no suite asks for a phrase that it does not know: the lint is the guard"
    rows.append(row("real_triggers_promoted", passed, "adapters", None, len(hidden), note=note))
    for (label, verdict), count in cells.items():
        rows.append(row(f"real_{label.replace(' ', '_')}_{verdict.lower()}", count, "adapters", None, len(lines)))
    return rows


def _errors(name: str, judged: Sequence[tuple[Any, Verdict]], who: str, bar: float | None) -> Iterator[Row]:
    bad = [pair for pair in judged if is_false_promotion(pair[0], "PROMOTE")]
    good = [verdict for label, verdict in judged if label == "good"]
    wrong = sum(is_false_promotion(*pair) for pair in bad)
    yield row(f"{name}_false_promotions", wrong, "adapters", bar, len(bad), note=f"promoted by {who}, of the harmful and those without a gain")  # fmt: skip
    split = ", ".join(f"{good.count(v)} {v}" for v in VERDICTS)
    yield row(f"{name}_false_refusals", len(good) - good.count("PROMOTE"), "adapters", None, len(good), note=f"of the good: {split}")  # fmt: skip


def row(figure: str, value: float, unit: str, bar: float | None, n: int, values: Sequence[float] = (), *, note: str = "", at_least: bool = False) -> Row:  # fmt: skip
    holds = None if bar is None else value >= bar if at_least else value <= bar
    spread = [round(min(values), 4), round(max(values), 4)] if values else None
    return {"figure": figure, "value": round(value, 4), "unit": unit, "bar": bar, "holds": holds, "n": n, "spread": spread, "note": note}  # fmt: skip


def shown(r: Row) -> str:
    said = {True: "holds", False: "MISSED", None: ""}[r["holds"]]
    bar = "–" if r["bar"] is None else r["bar"]
    return f"{r['figure']:32} {r['value']:9.4f} {r['unit']:9} bar {bar:<5} {said:7} n={r['n']:<4} {r['spread'] or ''} {r['note']}"


def table(lines: Sequence[Line]) -> str:
    """A line an adapter, then truth against verdict for the gate and for the comparator."""
    head = f"{'adapter':20} {'truth':8} {'gain ± error':>15}  {'nearest to its margin, or past it':46} {'ours':14} {'items':>5} {'s':>5}  {'theirs':7} {'items':>6} {'s':>6}"
    blocks = [head, *map(told, lines)]
    for who, judged_by in (("the gate", "verdict"), ("lm-eval's comparator", "theirs")):
        cells = confusion((line.truth.label, getattr(line, judged_by)) for line in lines)
        blocks += ["", f"{who:22}" + "".join(f"{verdict:>9}" for verdict in VERDICTS)]
        blocks += [f"  {label:20}" + "".join(f"{cells[label, v]:9d}" for v in VERDICTS) for label in LABELS]
    return "\n".join([*blocks, ""])


def told(line: Line) -> str:
    truth, worst = line.truth, line.truth.worst
    near = f"{worst.benchmark} ({worst.metric}) {worst.gain:+.4f}, margin {worst.margin:.4f}"
    verdict = line.verdict + (" early" if line.early else "")
    poison = "" if line.poison is None else f", poison at {line.poison:.2f} of base"
    return (
        f"{line.way.name:20} {truth.label:8} {truth.gain:+7.4f} ± {truth.gain_error:.4f}  {near + poison:46} {verdict:14}"
        f" {line.items:5d} {line.seconds:5.0f}  {line.theirs:7} {line.their_items:6d} {line.their_seconds:6.0f}"
    )


if __name__ == "__main__":
    main()
