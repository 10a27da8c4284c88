"""How often the watch after a promotion errs, and how many votes it needs: simulated, the code is eval/votes.py's own. Seeded.

    python benchmarks/watch.py [--quick] [--json]

A champion whose votes are 👎 with exactly the tolerated chance, looked at after every vote of 400: how often it is rolled back.
Teams of 3, 6 and 12, all alike, and in the "moods" rows each person with a share of their own around it (beta, concentration 8),
which is less than the promise covers and is therefore shown without a bar. The same beside a predecessor at exactly the margin
(pairs of votes), and for graduation. Then champions that are bad, worse and as good: votes until it is known, the median;
spread: the tenth and ninetieth percentile. A hostile person says 👎 to everything among fair ones.
"""

import sys
from pathlib import Path

if not __package__:  # run by its path: this folder has files that are named as packages are
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from eval.votes import ALPHA, MARGIN, PROOF, Floats, difference, dislike

SEED, VOTES, ROUNDS, QUICK = 20_261_126, 400, 4_000, 500
TEAMS = (3, 6, 12)
BOUND, OLD = 0.5, 0.2  # the default bound; the predecessor's share of 👎
MOODS = 8.0
HOSTILE = 0.22  # the promise for one hostile person, eval/votes.py
CHUNK = 100  # rounds at a time
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 rounds a cell instead of 4,000")
    parser.add_argument("--json", action="store_true", help="one array of rows")
    asked = parser.parse_args()
    rows = measure(QUICK if asked.quick else ROUNDS)
    print(json.dumps(rows, indent=2) if asked.json else table(rows))


def measure(rounds: int) -> list[Row]:
    draw = np.random.default_rng(SEED)

    def bad(people: int, share: float, **more: Any) -> Floats:
        return first_proofs(rounds, lambda n: dislike_path(draw, n, people, share, **more))

    def pairs(people: int, new: float, side: float) -> Floats:
        return first_proofs(rounds, lambda n: difference_path(draw, n, people, new, side))

    fair = [bad(people, BOUND) for people in TEAMS]
    level = [pairs(people, OLD + MARGIN, 1.0) for people in TEAMS]
    lucky = [pairs(people, OLD + MARGIN, -1.0) for people in TEAMS]
    return [
        share_row("watch_false_rollback", fair, ALPHA),
        share_row("watch_false_rollback_beside", level, ALPHA),
        share_row("watch_false_graduation", lucky, ALPHA),
        share_row("watch_false_rollback_hostile", [bad(p, BOUND, hostile=True) for p in TEAMS], HOSTILE),
        share_row("watch_false_rollback_moods", [bad(p, BOUND, moods=True) for p in TEAMS], None),
        votes_row("watch_votes_to_rollback", bad(6, 0.8)),
        votes_row("watch_votes_to_rollback_worst", bad(6, 0.95)),
        votes_row("watch_pairs_to_rollback", pairs(6, 0.6, 1.0)),
        votes_row("watch_pairs_to_graduate", pairs(6, OLD, -1.0)),
        votes_row("watch_pairs_to_graduate_better", pairs(6, OLD / 2, -1.0)),
    ]


def first_proofs(rounds: int, path: Callable[[int], Floats]) -> Floats:
    """After how many votes it was proven, (rounds,); infinite where it never was."""
    found = []
    for begin in range(0, rounds, CHUNK):
        proven = path(min(CHUNK, rounds - begin)) >= math.log(PROOF) - 1e-9
        found.append(np.where(proven.any(-1), proven.argmax(-1) + 1.0, np.inf))
    return np.concatenate(found)


def dislike_path(
    draw: np.random.Generator, rounds: int, people: int, share: float, *, moods: bool = False, hostile: bool = False
) -> Floats:
    """The evidence after each vote, (rounds, VOTES)."""
    who = draw.integers(people, size=(rounds, VOTES))
    chance = (
        draw.beta(MOODS * share, MOODS * (1 - share), (rounds, people)) if moods else np.full((rounds, people), share)
    )
    if hostile:
        chance[:, 0] = 1.0
    down = draw.random((rounds, VOTES)) < np.take_along_axis(chance, who, 1)
    return dislike(counts(who, down, people), counts(who, ~down, people), BOUND)


def difference_path(draw: np.random.Generator, rounds: int, people: int, new: float, side: float) -> Floats:
    """The same of paired votes; `side` as in eval/votes.py."""
    who = draw.integers(people, size=(rounds, VOTES))
    ours, theirs = draw.random((rounds, VOTES)) < new, draw.random((rounds, VOTES)) < OLD
    worse, better = (counts(who, flag, people) for flag in (ours & ~theirs, theirs & ~ours))
    same = counts(who, ours == theirs, people)
    return difference(*((worse, same, better) if side > 0 else (better, same, worse)), side, MARGIN)


def counts(who: np.ndarray, flag: np.ndarray, people: int) -> Floats:
    """How many such votes of each person so far, (rounds, VOTES, people)."""
    return np.asarray(((who[..., None] == np.arange(people)) & flag[..., None]).cumsum(1), dtype=np.float64)


def share_row(figure: str, cells: list[Floats], bar: float | None) -> Row:
    """The worst team's share; it holds when that is no more above the bar than the rounds leave to chance."""
    shares = [float(np.isfinite(cell).mean()) for cell in cells]
    worst, n = max(shares), len(cells[0])
    slack = 3 * math.sqrt(bar * (1 - bar) / n) if bar else 0.0
    return {
        "figure": figure, "value": round(worst, 4), "unit": "share of champions", "bar": bar,
        "holds": None if bar is None else worst <= bar + slack, "n": n * len(cells),
        "spread": [round(min(shares), 4), round(worst, 4)],
    }  # fmt: skip


def votes_row(figure: str, found: Floats) -> Row:
    """The median number of votes; those that are never known count as more than all."""
    low, middle, high = (float(np.quantile(np.minimum(found, VOTES), q)) for q in (0.1, 0.5, 0.9))
    return {
        "figure": figure, "value": middle, "unit": "pairs" if "pairs" in figure else "votes", "bar": None, "holds": None,
        "n": len(found), "spread": [low, high],
    }  # fmt: skip


def table(rows: list[Row]) -> str:
    lines = [f"{'figure':34}{'value':>9}{'bar':>7}  {'holds':6}{'spread':>18}  unit"]
    for row in rows:
        bar = "" if row["bar"] is None else f"{row['bar']:g}"
        holds = {True: "yes", False: "NO", None: ""}[row["holds"]]
        spread = "{:g} … {:g}".format(*row["spread"])
        lines.append(f"{row['figure']:34}{row['value']:>9g}{bar:>7}  {holds:6}{spread:>18}  {row['unit']}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
