"""How often the gate errs and what its looks save: simulated, replayed, and searched for counterexamples.

    python benchmarks/gate.py [--quick] [--json] [--real] [--room DIR] [--kept FILE]

Simulation: trials of right-or-wrong items at the pooled margin of the default policy (2.5 points), over true differences of
−8 to +2 points, 4 to 20 % of items flipping, alone or in correlated clusters; the rule is the gate's for right or wrong, held
equal by tests/eval/test_sequential.py. The
fixed test is the same bound with one look, its number of items searched so that it promotes as often at a difference of 0.
`wrongly_kept_shares` is how often p(right), which a run certifies, is called kept at its margin, by three shapes of loss
(benchmarks/study/shares.py): each a score alone, while a promotion needs all of them kept.
`items_unchanged_ratio` is at a true difference of 0, `items_healthy_ratio` at +1 point, `items_broken_ratio` at −8: the mean
over all cells, spread over them. Replay and properties run the whole gate on random scorecards. All seeded.
With --real, the figures of benchmarks/multiple_choice.py (half an hour) and of benchmarks/gate_real.py, too: hours, but for the
adapters that --kept knows.
"""

import sys
from pathlib import Path

if not __package__:  # run by its path: this folder has files that are named as packages are
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
import collections
import json
import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.kept import Kept
from benchmarks.study.shares import kept_at_margin
from benchmarks.study.ways import WAYS
from eval.gate import decide
from eval.policy import Policy
from eval.replay import replay
from eval.sequential import LOOKS, Trial, planned_items
from eval.statistics import threshold
from storage.ledger import Ledger
from tests.eval.cards import CHAMPION
from tests.eval.cases import SHOWN, UNKNOWN, Case, cases, spoiled

SEED = 20_261_126
ROUNDS = 10_000  # a cell
MARGIN = Policy().pooled_points / 100
DIFFERENCES = (-0.08, -0.05, -MARGIN, -0.01, 0.0, 0.01, 0.02)
DISCORDANCE = (0.04, 0.08, 0.12, 0.16, 0.20)
CLUSTERS = ((1, 0.0), (4, 0.2))  # items in one, their correlation
BATCHES = 10  # between two looks, after each of which the candidate may turn out hopeless


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What became of the trials of one situation; `items` is the mean number that was measured."""

    difference: float
    discordance: float
    cluster: int
    safe: float
    hopeless: float
    items: float
    planned: int
    fixed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rates of flips instead of five, fewer cards")
    parser.add_argument("--json", action="store_true", help="one array of rows")
    parser.add_argument(
        "--real", action="store_true", help="the real model, too: multiple choice beside lm-eval, real adapters"
    )
    parser.add_argument("--room", type=Path, help="where everything finished of the real adapters is kept")
    parser.add_argument(
        "--kept", type=Path, help="where each real adapter's outcome is kept and found again (JSON lines)"
    )
    asked = parser.parse_args()
    rows = measure(quick=asked.quick)
    if asked.real:
        rows += real(quick=asked.quick, room=asked.room, kept=asked.kept)
    print(json.dumps(rows, indent=2) if asked.json else table(rows))


def measure(*, quick: bool) -> list[dict[str, Any]]:
    cells = list(simulated(DISCORDANCE[1::3] if quick else DISCORDANCE))
    replays, checked = (20, 60) if quick else (100, 1_000)
    return [*of_cells(cells), *of_shares(1_000 if quick else ROUNDS), *of_replays(replays), *of_properties(checked)]


def real(*, quick: bool, room: Path | None, kept: Path | None) -> list[dict[str, Any]]:
    """The rows of the two other benchmarks; the table of real adapters goes to stderr."""
    from benchmarks import gate_real, multiple_choice  # they load torch

    speed = multiple_choice.measure(quick=quick)
    ways = [way for way in WAYS if not quick or way.name in gate_real.QUICK]
    found, told = gate_real.measure(ways, quick=quick, room=room, kept=Kept(kept))
    print(told, file=sys.stderr)
    return [*speed, *found]


# The simulation


def simulated(rates: Sequence[float], rounds: int = ROUNDS) -> Iterator[Cell]:
    draw = np.random.default_rng(SEED)
    for size, correlation in CLUSTERS:
        for discordance in rates:
            design = 1 + (size - 1) * correlation
            planned = planned_items(margin=MARGIN, discordance=discordance, design=design)
            trial = Trial(margin=MARGIN, items=math.ceil(planned / (LOOKS * size)) * LOOKS * size)
            cells = [
                _cell(trial, difference, discordance, size, correlation, rounds, draw)
                for difference in DIFFERENCES
                if abs(difference) <= discordance
            ]
            power = next(cell.safe for cell in cells if cell.difference == 0)
            fixed = _fixed_items(trial, power, sums_of(0.0, discordance, size, correlation), size, rounds, draw)
            yield from (replace(cell, fixed=fixed) for cell in cells)


def sums_of(difference: float, discordance: float, size: int, correlation: float) -> np.ndarray:
    """How likely each sum of a cluster is, −size … size. An item copies its cluster's common draw with probability √ρ."""
    one = np.array([(discordance - difference) / 2, 1 - discordance, (discordance + difference) / 2])
    copies, found = math.sqrt(correlation), np.zeros(2 * size + 1)
    for place, common in enumerate(one):
        item, likely = (1 - copies) * one, np.ones(1)
        item[place] += copies
        for _ in range(size):
            likely = np.convolve(likely, item)
        found += common * likely
    return np.asarray(np.clip(found, 0, None) / found.sum())


def _cell(
    trial: Trial,
    difference: float,
    discordance: float,
    size: int,
    correlation: float,
    rounds: int,
    draw: np.random.Generator,
) -> Cell:
    """`rounds` trials at once: only how often each cluster sum was seen is kept, which is all that the rules ask."""
    likely = sums_of(difference, discordance, size, correlation)
    sums, sizes = np.arange(-size, size + 1), np.full(2 * size + 1, size)
    seen, used = np.zeros((rounds, len(sums))), np.full(rounds, trial.items)
    outcome = np.zeros(rounds, dtype=np.int8)
    for look in range(1, LOOKS + 1):
        for part in _parts(trial.items // (LOOKS * size)):
            seen += draw.multinomial(part, likely, size=rounds)
            lost = (outcome == 0) & trial.is_hopeless(sums, sizes, seen)
            outcome[lost], used[lost] = -1, seen[0].sum() * size
        safe = (outcome == 0) & trial.is_safe(sums, sizes, seen, look)
        outcome[safe], used[safe] = 1, seen[0].sum() * size
    return Cell(
        difference=difference, discordance=discordance, cluster=size, safe=float((outcome == 1).mean()),
        hopeless=float((outcome == -1).mean()), items=float(used.mean()), planned=trial.items, fixed=0)  # fmt: skip


def _parts(clusters: int) -> list[int]:
    edges = [round(clusters * k / BATCHES) for k in range(BATCHES + 1)]
    return [b - a for a, b in zip(edges, edges[1:], strict=False) if b > a]


def _fixed_items(
    trial: Trial, power: float, likely: np.ndarray, size: int, rounds: int, draw: np.random.Generator
) -> int:
    """Items of a test with one look that calls an unchanged candidate safe with this power."""
    sums, sizes = np.arange(-size, size + 1), np.full(2 * size + 1, size)

    def promotes(clusters: int) -> float:
        seen = draw.multinomial(clusters, likely, size=2 * rounds).astype(np.float64)
        return float((trial.root(sums, sizes, seen) > threshold(trial.confidence, clusters)).mean())

    few, many = trial.items // (2 * size), 2 * trial.items // size
    while many - few > max(1, few // 200):
        middle = (few + many) // 2
        few, many = (middle, many) if promotes(middle) < power else (few, middle)
    return many * size


def of_cells(cells: Sequence[Cell], rounds: int = ROUNDS) -> list[dict[str, Any]]:
    def at(*wanted: float) -> list[Cell]:
        return [c for c in cells if c.difference in wanted]

    wrong, refused = [c.safe for c in at(-MARGIN)], [1 - c.safe for c in at(0.0, 0.01, 0.02)]
    rows = [
        row("false_promotion_at_margin", max(wrong), "share", 0.05, rounds * len(wrong), wrong),
        row("false_refusal_harmless", max(refused), "share", 0.10, rounds * len(refused), refused),
    ]
    for figure, difference, bar in (
        ("items_unchanged_ratio", 0.0, 0.72),
        ("items_healthy_ratio", 0.01, 0.60),
        ("items_broken_ratio", -0.08, 0.30),
    ):
        ratios = [c.items / c.fixed for c in at(difference)]
        rows.append(row(figure, statistics.mean(ratios), "ratio", bar, rounds * len(ratios), ratios))
    stated = [c.planned / c.fixed for c in at(0.0)]
    return [*rows, row("items_planned_ratio", statistics.mean(stated), "ratio", None, len(stated), stated)]


def of_shares(rounds: int) -> list[dict[str, Any]]:
    """The worst shape's rate decides; each shape's is told."""
    cells = list(kept_at_margin(rounds, SEED))
    for cell in cells:
        print(f"{cell.hand}, {cell.move}: {cell.in_rounds:.4f} in rounds, {cell.at_once:.4f} at once", file=sys.stderr)
    found = [cell.in_rounds for cell in cells]
    return [row("wrongly_kept_shares", max(found), "share", 0.05, rounds * len(found), found)]


# The whole gate


def of_replays(count: int) -> list[dict[str, Any]]:
    """Decisions of random cards, appended to a ledger and made again from it."""
    found, differ = collections.Counter[str](), 0
    with tempfile.TemporaryDirectory() as room:
        ledger = Ledger(Path(room, "evenkeel.db"))
        try:
            for number, case in enumerate(drawn(count)):
                rival = replace(case.raised, adapter_digest=CHAMPION) if number % 3 == 0 else None
                second = named(case.base, f"{number}/again") if number % 2 else None
                for card in filter(None, (case.base, case.candidate, rival, second)):
                    for one in card.scores:
                        ledger.scores.add(one, base_digest=card.base_digest, adapter_digest=card.adapter_digest)
                made = decide(
                    base=case.base, champion=rival, candidate=case.candidate, policy=case.policy, again=second
                )
                again = replay(ledger, ledger.promotions.decide(made, run_id=None, actor="gate"))
                differ += bool(again.difference)
                found[made.verdict] += 1
        finally:
            ledger.close()
    print_verdicts("replayed", found)
    return [row("replay_mismatches", differ, "decisions", 0, count, None)]


def of_properties(count: int) -> list[dict[str, Any]]:
    """Whether raising a score ever unmade a promotion, and whether anything unknown was ever promoted."""
    found, unmade, blind = collections.Counter[str](), 0, 0
    for number, case in enumerate(drawn(count)):
        before, after = (
            decide(base=case.base, champion=None, candidate=card, policy=case.policy).verdict
            for card in (case.candidate, case.raised)
        )
        unmade += before == "PROMOTE" and after != "PROMOTE"
        unknown = spoiled(case.raised, number % len(SHOWN), UNKNOWN[number // len(SHOWN) % len(UNKNOWN)])
        blind += decide(base=case.base, champion=None, candidate=unknown, policy=case.policy).verdict == "PROMOTE"
        rival = spoiled(replace(case.raised, adapter_digest=CHAMPION), 0, UNKNOWN[number % len(UNKNOWN)])
        blind += (
            decide(base=case.base, champion=rival, candidate=case.candidate, policy=case.policy).verdict == "PROMOTE"
        )
        found[after] += 1
    print_verdicts("judged", found)
    return [
        row("monotonicity_violations", unmade, "cases", 0, count, None),
        row("unknown_promoted", blind, "cases", 0, count, None),
        row("properties_promoted", found["PROMOTE"], "cases", None, count, None),
    ]


def drawn(count: int) -> list[Case]:
    """So many cases of Hypothesis, the same in every run."""
    kept: list[Case] = []

    @seed(SEED)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def collect(data: st.DataObject) -> None:
        case = data.draw(cases())
        number = len(kept)
        kept.append(
            replace(
                case,
                **{name: named(getattr(case, name), f"{number}/{name}") for name in ("base", "candidate", "raised")},
            )
        )

    collect()
    return kept[:count]


def named(card: Any, name: str) -> Any:
    """The card with keys of its own, as each measurement in a ledger has."""
    return replace(card, scores=tuple(replace(s, key=f"{name}/{s.benchmark}/{s.metric}") for s in card.scores))


# How it is told


def print_verdicts(what: str, found: collections.Counter[str]) -> None:
    print(f"{what}: {dict(sorted(found.items()))}", file=sys.stderr)


def row(
    figure: str, value: float, unit: str, bar: float | None, n: int, values: Sequence[float] | None
) -> dict[str, Any]:
    return {"figure": figure, "value": round(value, 4), "unit": unit, "bar": bar, "holds": None if bar is None else value <= bar,
            "n": n, "spread": [round(min(values), 4), round(max(values), 4)] if values else None}  # fmt: skip


def table(rows: Sequence[dict[str, Any]]) -> str:
    said = {True: "holds", False: "MISSED", None: ""}
    return "\n".join(
        f"{r['figure']:28} {r['value']:8.4f} {r['unit']:10} bar {r['bar'] if r['bar'] is not None else '–':<6} {said[r['holds']]:7}"
        f" n={r['n']:<7} {r['spread'] or ''}"
        for r in rows
    )


if __name__ == "__main__":
    main()
