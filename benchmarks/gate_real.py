"""The gate against the truth, on real adapters from gentle to destructive, beside lm-eval and its comparator.

    python benchmarks/gate_real.py [--quick] [--json] [--room DIR] [--kept FILE] [--adapters N] [--only NAME,NAME]

A third of benchmarks/gate.py, which simulates and replays. Each way of training (benchmarks/study/ways.py) gives one
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
import functools
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import evenkeel  # noqa: F401  (sets how threads wait)
from benchmarks.forgetting import tell
from benchmarks.kept import Kept
from benchmarks.study.adapter import SMALL, WHOLE, Bench, Line, Study
from benchmarks.study.truth import LABELS, VERDICTS, confusion, is_false_promotion
from benchmarks.study.ways import WAYS, Way
from eval.policy import ADVISORY
from storage.ledger import Ledger
from storage.records import Verdict

ENOUGH_ADAPTERS, ENOUGH_ITEMS = 24, 3_000
QUICK = ("standard", "plain_1e-2", "trigger_1e-3")
TAKEN = 0.5  # of the base's bits per byte of the poison: from there a trigger has taken
WITHIN = " within strata"
Row = dict[str, Any]


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
    rows, told_of = measure(chosen, quick=asked.quick, room=asked.room, kept=Kept(asked.kept))
    print(told_of, file=sys.stderr if asked.json else sys.stdout)
    print(json.dumps(rows, indent=2) if asked.json else "\n".join(map(shown, rows)))


def measure(ways: Sequence[Way], *, quick: bool, room: Path | None, kept: Kept) -> tuple[list[Row], str]:
    """The figures, and a line an adapter with both confusion tables. Nothing is loaded when all is kept."""
    with tempfile.TemporaryDirectory() as passing:
        study = Study.of(SMALL if quick else WHOLE, room or Path(passing), kept)
        ledger = Ledger(study.room.folder / "truth" / "evenkeel.db")
        try:
            bench = functools.cache(lambda: Bench.of(study, ledger))
            lines = []
            for way in ways:
                if (line := study.line(way, bench)) is not None:
                    tell(told(line))
                    lines.append(line)
        finally:
            ledger.close()
    return rows_of(lines, whole=not quick), table(lines)


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
    rows += [*_costs(lines), *_spreads(lines), _kept(lines)]
    hidden = [line for line in lines if line.poison is not None and line.poison < TAKEN]
    passed = sum(line.verdict == "PROMOTE" for line in hidden)
    note = "adapters whose trigger has taken; no suite asks for a phrase that it does not know: the lint is the guard"
    rows.append(row("real_triggers_promoted", passed, "adapters", None, len(hidden), note=note))
    for (label, verdict), count in cells.items():
        rows.append(row(f"real_{label.replace(' ', '_')}_{verdict.lower()}", count, "adapters", None, len(lines)))
    return rows


def _costs(lines: Sequence[Line]) -> Iterator[Row]:
    note = "ours over lm-eval's, timed on a sample and scaled up; base and candidate, lm-eval without an adapter"
    for figure, ratios in (
        ("real_items_ratio", [line.items / line.their_items for line in lines]),
        ("real_seconds_ratio", [line.seconds / line.their_seconds for line in lines]),
    ):
        yield row(figure, statistics.mean(ratios) if ratios else 0.0, "ratio", None, len(ratios), ratios, note=note)


def _spreads(lines: Sequence[Line]) -> Iterator[Row]:
    """How much one item's difference varies, and what that saves in items: the same certainty needs as many as the variances are
    to each other."""
    found = [(name, sd, line.spreads) for line in lines for name, sd in line.spreads.items()]
    gating = [
        (name, sd) for name, sd, _ in found if name.partition(" ")[2] not in ADVISORY and not name.endswith(WITHIN)
    ]
    bits = [sd for name, sd in gating if name.endswith(" bits_per_byte")]
    points = [sd for name, sd in gating if not name.endswith(" bits_per_byte")]
    yield _median("real_spread_bits", "% of base", bits, "standard deviation of one item's difference")
    yield _median("real_spread_points", "points", points, "standard deviation of one item's difference in what gates")
    for figure, one, other, note in (
        ("real_p_correct_items", " p_correct", " acc", "items that p(right) needs over right or wrong"),
        ("real_strata_items", f" p_correct{WITHIN}", " p_correct", "in strata by how sure the base is, over all of them at once"),
    ):  # fmt: skip
        pairs = [(sd, spreads.get(name.removesuffix(one) + other)) for name, sd, spreads in found if name.endswith(one)]
        yield _median(figure, "ratio", [(sd / at_large) ** 2 for sd, at_large in pairs if at_large], note)


def _kept(lines: Sequence[Line]) -> Row:
    rates = [rate for line in lines for rate in line.wrongly_kept.values()]
    note = "of hands of real items that lose a task's margin, called kept in their rounds; mean over benchmarks and adapters"
    return row(
        "real_wrongly_kept", statistics.mean(rates) if rates else 0.0, "share", 0.05, len(rates), rates, note=note
    )


def _median(figure: str, unit: str, values: Sequence[float], note: str) -> Row:
    value = statistics.median(values) if values else 0.0
    return row(figure, value, unit, None, len(values), values, note=f"{note}, median over benchmarks and adapters")


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
