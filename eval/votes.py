"""What votes prove about a champion: too many 👎, more of them than on its predecessor, or no more than that.

Promise: however often one looks, each of the three is claimed falsely with probability ALPHA at most, nobody's votes alone
claim any of them, and all is a function of the votes that stand: their order does not matter. Turning a 👍 on the champion
into a 👎 never makes it look better. Knows counts, not people; one row of counts is one person's.

One unit is bet against each claim's opposite, vote after vote, at fixed stakes; what it has become is the evidence (an
e-value, fair while the opposite holds). Each person's votes are a bet of their own, and the fortunes are multiplied. No
person's may exceed CAP, the root of what proves, so that it takes two; the least of a fair fortune and a constant is
still no better than fair. One hostile person among fair ones raises the chance of a false claim from 5 to 22 % at most. Votes that are taken back leave the sum: whoever takes back only what spoke against their opinion
can raise the evidence, by no more than their CAP; what was done at a look stays done.
Fair means that each next vote is a 👎 with at most the tolerated chance whatever came before; people with moods of their own
are simulated in benchmarks/watch.py.
Source: Waudby-Smith and Ramdas 2024, Estimating Means of Bounded Random Variables by Betting (the bets; of differences, too);
Turner, Ly and Grünwald 2021, arXiv 2106.02693 (two streams in blocks, here of one vote each of the same person); Ville 1939.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Word = Literal["watching", "rollback", "graduated"]
ALPHA = 0.05
PROOF = round(1 / ALPHA)
MARGIN = 0.1  # by which the share of 👎 may be above the predecessor's
CAP = math.log(PROOF) / 2
STAKES = (0.1, 0.2, 0.4, 0.7)  # of what is there; the mean of their fortunes is the evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballots:
    """The votes that count, person by person and without names.

    `own`: each person's (👍, 👎) on the champion's answers. `paired`: their first vote on the champion beside their first on its
    predecessor in the same time, the second beside the second and so on: (times the champion did worse, the same, better).
    """

    own: tuple[tuple[int, int], ...]
    paired: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Evidence (e-values; PROOF proves) that the share of 👎 is above the bound, that it is above the predecessor's by more than
    MARGIN, and that it is not; and what follows."""

    word: Word
    disliked: float
    worse: float
    kept: float


def judge(ballots: Ballots, *, bound: float) -> Finding:
    """What the votes prove. `bound`: the share of 👎 that is tolerated, in (0, 1]."""
    own = np.array(ballots.own or [(0, 0)], dtype=np.float64)
    paired = np.array(ballots.paired or [(0, 0, 0)], dtype=np.float64)
    disliked = math.exp(float(dislike(own[:, 1], own[:, 0], bound)))
    worse, kept = (math.exp(float(difference(*columns, MARGIN))) for columns in _both_ways(paired))
    word: Word = "watching"
    if max(disliked, worse) >= PROOF * (1 - 1e-9):
        word = "rollback"
    elif kept >= PROOF * (1 - 1e-9):
        word = "graduated"
    return Finding(word=word, disliked=round(disliked, 4), worse=round(worse, 4), kept=round(kept, 4))


def _both_ways(paired: Floats) -> tuple[tuple[Floats, Floats, Floats, float], ...]:
    worse, same, better = paired.T
    return (worse, same, better, 1.0), (better, same, worse, -1.0)


def dislike(down: ArrayLike, up: ArrayLike, bound: float) -> Floats:
    """Logarithm of the evidence against "a vote is a 👎 with chance `bound` at most": (…,) from counts (…, people)."""
    stakes = np.array(STAKES)
    fortunes = _times(down, np.log1p(stakes * (1 - bound) / bound)) + _times(up, np.log1p(-stakes))
    return _together(fortunes)


def difference(worse: ArrayLike, same: ArrayLike, better: ArrayLike, side: float, margin: float) -> Floats:
    """Logarithm of the evidence about the mean difference of paired votes: (…,) from counts (…, people).

    `side` 1: against "the champion's share of 👎 is above by `margin` at most"; `worse` counts the pairs that speak so.
    `side` −1: against "it is above by `margin` or more"; then the first counts are of the pairs that speak for the champion.
    """
    tolerated = side * margin
    stakes = np.array(STAKES) / (1 + tolerated)  # the most that one pair can lose is the stake
    fortunes = (
        _times(worse, np.log1p(stakes * (1 - tolerated)))
        + _times(same, np.log1p(-stakes * tolerated))
        + _times(better, np.log1p(-stakes * (1 + tolerated)))
    )
    return _together(fortunes)


def _times(counts: ArrayLike, logarithms: Floats) -> Floats:
    """(…, people, stakes)."""
    return np.asarray(np.asarray(counts, dtype=np.float64)[..., None] * logarithms)


def _together(fortunes: Floats) -> Floats:
    """Nobody's fortune above the cap; all people's multiplied; the mean over the stakes. Logarithms, (…, people, stakes)."""
    whole = np.minimum(fortunes, CAP).sum(-2)
    best = whole.max(-1)
    return np.asarray(best + np.log(np.exp(whole - best[..., None]).mean(-1)))


def ballots_of(votes: Sequence[tuple[str, bool, int]]) -> Ballots:
    """Votes in the order of their giving, as (person, whether on the champion's answer, +1 or −1), without the persons."""
    new: dict[str, list[int]] = {}
    old: dict[str, list[int]] = {}
    for person, on_champion, verdict in votes:
        (new if on_champion else old).setdefault(person, []).append(verdict)
    pairs = {person: list(zip(given, old[person], strict=False)) for person, given in new.items() if person in old}
    own = sorted((sum(v > 0 for v in given), sum(v < 0 for v in given)) for given in new.values())
    paired = sorted(
        (sum(n < o for n, o in both), sum(n == o for n, o in both), sum(n > o for n, o in both))
        for both in pairs.values()
    )
    return Ballots(own=tuple(own), paired=tuple(paired))


def told(ballots: Ballots, finding: Finding, *, bound: float) -> str:
    """The evidence in words."""
    up, down = (sum(row[side] for row in ballots.own) for side in (0, 1))
    many = "nobody has voted" if not up + down else f"{_many(up + down, 'vote')} of {_people(ballots)}, {down} 👎"
    said = f"{many}; evidence that more than {bound:.0%} are 👎: {_short(finding.disliked)} of {PROOF}"
    if not ballots.paired:
        return said
    pairs = _many(sum(map(sum, ballots.paired)), "pair")
    return (
        f"{said}; beside the version before ({pairs} of votes), evidence that it is worse: {_short(finding.worse)},"
        f" that it is not: {_short(finding.kept)} of {PROOF}"
    )


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _people(ballots: Ballots) -> str:
    return "1 person" if len(ballots.own) == 1 else f"{len(ballots.own)} people"


def as_data(ballots: Ballots, finding: Finding, *, bound: float) -> dict[str, Any]:
    """What a row of the ledger keeps, and `judge` can be asked again with."""
    return {**asdict(ballots), **asdict(finding), "bound": bound}


def _short(evidence: float) -> str:
    return f"{evidence:.1f}" if evidence < 10 else f"{min(evidence, 1e6):.0f}"
