"""What each way of training gains on the target and loses elsewhere, on one base, one data set, all arms in one run.

    python -m benchmarks.forgetting [--quick] [--json] [--arms plain,standard] [--seeds 1,2,3] [--picture FILE] [--kept FILE]

Target: held-out answers of a narrow support set (short answers about hotels and restaurants). General: bits per byte of
encyclopedic text and of answers to general instructions, instructions followed, and the right continuation in three
languages. Data lie in ../shared/data or EVENKEEL_DATA. `plain` is LoRA SFT at the learning rate that is best for this
base, without replay or any other protection; every mitigation alone is `plain` with that one switch. Gain and loss are
per cent of the base's own value; a gain on one general benchmark does not pay for a loss on another. An arm takes three to ten
minutes a seed on two cores: what stands in --kept with the same digests of base, rows, recipe and items, and the same type of
number, is not measured again.
"""

import sys
from pathlib import Path

if not __package__:  # run by its path: this folder has files that are named as packages are
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import evenkeel  # noqa: F401  (sets how threads wait)
from benchmarks.kept import Kept
from bot.engine.base import prepare_base
from bot.engine.model import LoadedModel, best_dtype
from eval.benchmark import Answerer, Benchmark, Deal
from eval.local_tasks import local_benchmark, local_tasks
from eval.own import instruct_answers, open_text, own_benchmarks
from eval.statistics import paired_interval
from storage.clock import utc_now
from storage.digests import short
from storage.messages import conversation
from storage.recipe import PROFILES, Recipe
from storage.records import Adapter, Dataset, ItemScore, Lesson
from storage.settings import load_settings
from training.dataset import in_holdout, load_replay
from training.lora import tune
from training.scales import scaled

PLAIN = Recipe(learning_rate=3e-3, replay_share=0.0, kl_weight=0.0)
ALONE: Mapping[str, Mapping[str, Any]] = {
    "replay": {"replay_share": 0.2},
    "own_replay": {"replay_share": 0.2, "own_replay": True},
    "kl": {"kl_weight": 0.1},
    "eaft": {"entropy_gate": True},
    "early_stop": {"early_stop": True},
    "kl_budget": {"kl_budget": 0.1, "replay_share": 0.2},
    "replay_kl": {"replay_share": 0.2, "kl_weight": 0.1},
    "cut_intruders": {"cut_intruders": True},
}
SCALES = (1.0, 0.7, 0.5)  # at which `plain` and `standard` are measured
TARGET, GENERAL = "target", ("general_text", "instruct", "instructions", "languages")
KEPT, LOST = 0.95, 0.40
NEAR = 0.85  # of the largest gain: what the right half of the picture shows
SEEDS = (1, 2, 3)
WAY = 1  # grows when the same arm would get other numbers
QUICK = ("plain", "standard")
Scores = dict[str, tuple[ItemScore, ...]]  # by benchmark; in `LOWER`, less is better
LOWER = (TARGET, "general_text", "instruct")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Rows to train on, items of each benchmark."""

    lessons: int
    items: int


@dataclass(slots=True, kw_only=True)
class Found:
    """What one arm did, by seed: changes in per cent of the base's value, better counted positive, and the adapters."""

    change: dict[str, list[float]] = field(default_factory=dict)
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)
    adapters: list[str] = field(default_factory=list)

    def add(self, one: Mapping[str, Any]) -> None:
        """What `judged` found of one seed."""
        self.adapters.append(one["adapter"])
        for name, value in one["change"].items():
            self.change.setdefault(name, []).append(value)
            self.bounds[name] = tuple(one["bounds"][name])

    def gain(self) -> float:
        return statistics.mean(self.change[TARGET])

    def lost(self) -> float:
        """Mean per cent lost over the general benchmarks; a benchmark that gained counts as 0."""
        return statistics.mean(max(0.0, -statistics.mean(self.change[name])) for name in GENERAL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="one seed, few rows; plain and standard unless --arms says more"
    )
    parser.add_argument("--json", action="store_true", help="one array of rows")
    parser.add_argument("--arms", default="", help="which, of: " + ", ".join(arms()))
    parser.add_argument("--seeds", default="", help="such as 1,2,3")
    parser.add_argument("--picture", type=Path, help="where to draw gain against loss (PNG)")
    parser.add_argument("--kept", type=Path, help="where results are kept and found again (JSON lines)")
    asked = parser.parse_args()
    seeds = [int(seed) for seed in asked.seeds.split(",") if seed] or ([SEEDS[0]] if asked.quick else list(SEEDS))
    chosen = [arm for arm in asked.arms.split(",") if arm] or (list(QUICK) if asked.quick else list(arms()))
    if unknown := set(chosen) - set(arms()):
        parser.error(f"unknown arms {', '.join(sorted(unknown))}; there are {', '.join(arms())}")
    size = Size(lessons=160, items=16) if asked.quick else Size(lessons=240, items=96)
    found = measure({name: arms()[name] for name in chosen}, seeds, size, Kept(asked.kept))
    if asked.picture:
        picture(found, asked.picture)
    print(json.dumps(rows_of(found), indent=2) if asked.json else table(found))


def arms() -> dict[str, Recipe]:
    """Every way of training by name. `trl_default` is what SFTTrainer does unasked (2e-5, 3 epochs, batches of 8)."""
    profiles = {
        name: Recipe(profile=name, epochs=p.epochs, replay_share=p.replay_share, kl_weight=p.kl_weight, scale=p.scale)
        for name, p in PROFILES.items()
    }
    return {
        "trl_default": replace(PLAIN, learning_rate=2e-5, epochs=3.0, batch_size=8),
        "sft_3e-4_5_epochs": replace(PLAIN, learning_rate=3e-4, epochs=5.0),
        "plain_1e-3": replace(PLAIN, learning_rate=1e-3),
        "plain": PLAIN,
        "plain_5_epochs": replace(PLAIN, epochs=5.0),
        **profiles,
        **{name: replace(PLAIN, **switch) for name, switch in ALONE.items()},
    }


def data(name: str) -> list[dict[str, Any]]:
    folder = Path(os.environ.get("EVENKEEL_DATA") or Path(__file__).parents[1].parent / "shared" / "data")
    path = folder / f"{name}.jsonl"
    if not path.is_file():
        sys.exit(
            f"{path} is missing. Next: put the benchmark's data into ../shared/data, or name its folder in EVENKEEL_DATA."
        )
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def target_rows(system_prompt: str, lessons: int) -> tuple[tuple[Lesson, ...], list[dict[str, Any]]]:
    """(what is learnt, what is held out): no conversation on both sides."""
    rows = data("support_hospitality_faq")
    learnt = [row for row in rows if not in_holdout(row["conversation_id"], 0.3)]
    held = [row for row in rows if in_holdout(row["conversation_id"], 0.3)]
    step = max(1, len(learnt) // lessons)
    taught = tuple(
        Lesson(lesson_id=row["id"], source="ticket", conversation_id=row["conversation_id"], answer=row["answer"],
               messages=conversation(system_prompt, (), row["question"]))
        for row in learnt[::step][:lessons]
    )  # fmt: skip
    return taught, held


def benchmarks(system_prompt: str, held: Sequence[dict[str, Any]], items: int) -> dict[str, Benchmark]:
    """The measurements by name, `items` rows each."""
    settings = load_settings(_env_file=None)
    asked = [{"id": row["id"], "prompt": row["question"], "answer": row["answer"], "cluster": row["conversation_id"]} for row in held[:: len(held) // items][:items]]  # fmt: skip
    wiki = [{"id": row["id"], "text": row["text"][:400], "register": "wiki"} for row in data("wikitext2_valid")]
    general = [row for row in data("instruct_rasbt") if len(row["answer"]) < 600]
    own = {b.name: b for b in own_benchmarks(system_prompt=system_prompt, deal=Deal(items=items, seed=1))}
    return {
        TARGET: instruct_answers(asked, system_prompt),
        "general_text": open_text(wiki[:: len(wiki) // items][:items]),
        "instruct": instruct_answers(general[:: len(general) // items][:items], system_prompt),
        "instructions": own["instructions"],
        "languages": local_benchmark(local_tasks(settings)["languages"], Deal(items=items, seed=1)),
    }


def measure(recipes: Mapping[str, Recipe], seeds: Sequence[int], size: Size, kept: Kept) -> dict[str, Found]:
    """Train and score every arm with every seed; of `plain` and `standard` also weaker copies."""
    settings = load_settings(_env_file=None)
    base = prepare_base(settings, tell)
    lessons, held = target_rows(settings.system_prompt, size.lessons)
    rows = Dataset(digest="forgetting", train=(*lessons, *load_replay()), holdout=(), manifest={})
    wanted = benchmarks(settings.system_prompt, held, size.items)
    model, found = LoadedModel.load(base), dict[str, Found]()
    before = score(Answerer(model=model, adapter=None), wanted)
    tell("base: " + ", ".join(f"{name} {mean(items):.4f}" for name, items in before.items()))
    dtype, asked = str(best_dtype()), [benchmark.digest for benchmark in wanted.values()]
    on = [WAY, dtype, model.base_digest, [asdict(row) for row in rows.train], asked]
    with tempfile.TemporaryDirectory() as room:
        for seed in seeds:
            for name, recipe in recipes.items():
                origins = {
                    label: [on, seed, replace(recipe, scale=scale).to_dict()]
                    for label, scale in copies(name, recipe.scale)
                }
                known = {label: kept.get(origin) for label, origin in origins.items()}
                if None in known.values():
                    adapter = tune(base=base, dataset=rows, recipe=replace(recipe, seed=seed), weights_dir=Path(room),
                                   checkpoints=Path(room, name, str(seed)), run_id=None, progress=lambda _: None,
                                   cancelled=lambda: False, clock=utc_now)  # fmt: skip
                    for label, scale in copies(name, recipe.scale):
                        one = judged(scaled(adapter, Path(room), scale), model, wanted, before)
                        known[label] = kept.add(origins[label], {"arm": label, "seed": seed, "dtype": dtype, **one})
                for label, done in known.items():
                    assert done is not None
                    found.setdefault(label, Found()).add(done)
                    tell(f"{label} seed {seed}: " + line(found[label]))
    return found


def copies(name: str, scale: float) -> list[tuple[str, float]]:
    """(name, scale) of an arm's adapter as its recipe wants it, and of what else can be made of it after its training."""
    others = [other for other in SCALES if other != scale] if name in QUICK else []
    return [(name, scale), *((f"{name}_at_{other:g}", other) for other in others)]


def judged(adapter: Adapter, model: LoadedModel, wanted: Mapping[str, Benchmark], before: Scores) -> dict[str, Any]:
    """What an adapter changes, by benchmark, and the 95 % bounds over the items."""
    digest = model.add_adapter(Path(adapter.path))
    after = score(Answerer(model=model, adapter=digest), wanted)
    model.remove_adapter(digest)
    change, bounds = dict[str, float](), dict[str, tuple[float, float]]()
    for name, items in after.items():
        scale = (-1 if name in LOWER else 1) * 100 / mean(before[name])
        changes = [scale * (a.value - b.value) for a, b in zip(items, before[name], strict=True)]
        found = paired_interval(changes, [item.cluster for item in items], confidence=0.975)
        change[name], bounds[name] = round(statistics.mean(changes), 4), (round(found.low, 2), round(found.high, 2))
    return {
        "adapter": short(digest),
        "change": change,
        "bounds": bounds,
        "trained_s": round(adapter.stats["seconds"], 1),
        "intruders": adapter.stats.get("intruders"),
    }


def score(answerer: Answerer, wanted: Mapping[str, Benchmark]) -> Scores:
    """The items of each benchmark; of one with several parts, all their items of one metric."""
    found: Scores = {}
    for name, benchmark in wanted.items():
        measured = list(benchmark.measure(answerer, lambda *_: None))
        metric = "p_correct" if name == "languages" else measured[0].metric
        found[name] = tuple(item for m in measured if m.metric == metric for item in m.items)
    return found


def mean(items: Sequence[ItemScore]) -> float:
    return statistics.mean(item.value for item in items)


def rows_of(found: Mapping[str, Found]) -> list[dict[str, Any]]:
    """One row an arm and benchmark; and, where both were run, what `standard` keeps of the gain and of the loss of `plain`."""
    rows = [
        row(f"{arm}_{name}", statistics.mean(values), "% of base", None, len(values), spread(f, name))
        for arm, f in found.items()
        for name, values in f.change.items()
    ]
    if {"plain", "standard"} <= found.keys():
        kept, lost = ratios(found["standard"], found["plain"])
        n = len(found["plain"].adapters)
        rows.append(row("gain_kept_ratio", kept, "ratio", KEPT, n, [kept, kept], holds=kept >= KEPT))
        if lost is not None:
            rows.append(row("loss_ratio", lost, "ratio", LOST, n, [lost, lost], holds=lost <= LOST))
    return rows


def ratios(ours: Found, plain: Found) -> tuple[float, float | None]:
    """(gain kept, loss left) of plain SFT's; None where plain lost nothing: then there is nothing to compare with."""
    return ours.gain() / plain.gain(), ours.lost() / plain.lost() if plain.lost() else None


def row(figure: str, value: float, unit: str, bar: float | None, n: int, spread: Sequence[float], holds: bool | None = None) -> dict[str, Any]:  # fmt: skip
    return {"figure": figure, "value": round(value, 3), "unit": unit, "bar": bar, "holds": holds, "n": n, "spread": [round(x, 3) for x in spread]}  # fmt: skip


def spread(found: Found, name: str) -> list[float]:
    """Lowest and highest of the seeds; of one seed, the bootstrap's 95 % over the items."""
    values = found.change[name]
    return [min(values), max(values)] if len(values) > 1 else list(found.bounds[name])


def table(found: Mapping[str, Found]) -> str:
    lines = [f"{'arm':18} {'gain':>7} {'lost':>6} {'gain/lost':>9}  " + "  ".join(f"{name:>22}" for name in GENERAL)]
    lines += [f"{arm:18} " + line(f) for arm, f in found.items()]
    if {"plain", "standard"} <= found.keys():
        kept, lost = ratios(found["standard"], found["plain"])
        left = "plain lost nothing" if lost is None else f"with {lost:.2f} of its loss (bar {LOST})"
        lines.append(f"standard keeps {kept:.2f} of plain's gain (bar {KEPT}); {left}")
    return "\n".join(lines)


def line(found: Found) -> str:
    gain, lost = found.gain(), found.lost()
    each = (f"{statistics.mean(found.change[n]):+6.1f} ({spread(found, n)[0]:+5.1f} {spread(found, n)[1]:+5.1f})" for n in GENERAL)  # fmt: skip
    return f"{gain:+6.1f}% {lost:5.2f}% {gain / lost if lost else float('inf'):9.1f}  " + "  ".join(f"{x:>22}" for x in each)  # fmt: skip


def picture(found: Mapping[str, Found], target: Path) -> None:
    """Gain against loss: all arms, and beside them those that gain nearly as much as plain. What no other beats is joined."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), dpi=150, layout="constrained")
    least = NEAR * max(f.gain() for f in found.values())
    near = {arm: f for arm, f in found.items() if f.gain() >= least}
    panels = (
        ("all ways", found, [arm for arm in found if arm not in near]),
        (f"those that gain {least:.0f} % or more", near, list(near)),
    )
    for axes, (title, shown, named) in zip(figure.subplots(1, 2), panels, strict=True):
        _panel(axes, shown, named)
        axes.set_title(title, fontsize=9, color="#555555")
        axes.set_xlabel("lost elsewhere: mean % of the base's value (left is better)", fontsize=9)
    figure.axes[0].set_ylabel("gained on support: % of the base's bits per byte", fontsize=9)
    figure.savefig(target)


def _panel(axes: Any, found: Mapping[str, Found], named: Sequence[str]) -> None:
    points = {arm: (f.lost(), f.gain()) for arm, f in found.items()}
    front = sorted(p for p in points.values() if not any(beats(q, p) for q in points.values()))
    axes.plot([x for x, _ in front], [y for _, y in front], color="#1a7f4b", lw=1, zorder=1)
    for name in QUICK:  # an arm and its weaker copies
        copies = [points[label] for label in points if label == name or label.startswith(f"{name}_at_")]
        axes.plot([x for x, _ in copies], [y for _, y in copies], color="#999999", lw=1, ls=":", zorder=1)
    for arm, (x, y) in points.items():
        color = "#1a7f4b" if arm in PROFILES else "#555555"
        low, high = spread(found[arm], TARGET)
        axes.errorbar(x, y, yerr=[[max(0.0, y - low)], [max(0.0, high - y)]] if len(found[arm].adapters) > 1 else None,
                      fmt="o", color=color, ms=5 if arm in PROFILES else 4, lw=0.6, alpha=0.9)  # fmt: skip
        if arm in named and (same := [other for other in named if points[other] == (x, y)])[0] == arm:
            label = ", ".join(same).replace("_at_", " × ").replace("_", " ")
            right = x > 0.7 * max(x for x, _ in points.values())  # of the picture, where a label would be cut off
            axes.annotate(label, (x, y), xytext=(-5 if right else 5, 3), ha="right" if right else "left", fontsize=7.5,
                          textcoords="offset points", color=color)  # fmt: skip
    axes.margins(x=0.18)
    axes.grid(alpha=0.2)


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether (lost, gained) is no worse on both and better on one."""
    return one[0] <= other[0] and one[1] >= other[1] and one != other


tell = partial(print, file=sys.stderr, flush=True)

if __name__ == "__main__":
    main()
