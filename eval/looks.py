"""How a trial went: at each look, how far above its margin the candidate stood, and where the boundary was.

Knows the ledger's cards, which keep what a score was at each look. Decides nothing.
"""

from dataclasses import replace
from typing import Any

from eval.comparing import gates, height
from eval.gate import policy_of
from eval.pairing import Pair, pairs_of
from eval.policy import POOLED, Policy
from eval.sequential import boundaries
from eval.wording import title
from storage.ledger import Ledger
from storage.records import Decision, Run, Scorecard

Point = dict[str, Any]  # {"look", "n", "at_end", "height" and "boundary" in standard errors above −margin}


def courses(ledger: Ledger, run: Run, decision: Decision) -> list[dict[str, Any]]:
    """The pool's course, and that of the score which stood lowest against its boundary at the end, as plain JSON.

    Empty where no trial took place, or the cards are gone.
    """
    base, candidate = (ledger.scores.card(run.run_id, subject) for subject in ("base", "candidate"))
    if base is None or candidate is None or not any(score.look for score in candidate.scores):
        return []
    policy, found = policy_of(decision.policy), dict[tuple[str, str], list[Point]]()
    for card in _at_each_look(ledger, candidate):
        for pair in pairs_of(base, None, card):
            if pair.look and gates(pair) and (point := _point(pair, policy)):
                _add(found.setdefault((pair.whole.benchmark, pair.whole.metric), []), point, at_end=card is candidate)
    pooled = [name for name in found if name[1] == POOLED]
    alone = sorted((name for name in found if name[1] != POOLED), key=lambda name: (_slack(found[name]), name))
    edges = [round(edge, 3) for edge in boundaries(1 - policy.level)]
    return [
        {"name": title(*name), "points": found[name], "boundaries": edges, "said": _said(title(*name), found[name])}
        for name in (*pooled, *alone[:1])
    ]


def _add(points: list[Point], point: Point, *, at_end: bool) -> None:
    """What was judged is said once more only where items came to the last look's: its sixth slice, or the sealed ones."""
    if not at_end:
        points.append(point)
    elif not points or point["n"] > points[-1]["n"]:
        points.append(point | {"at_end": True})


def _at_each_look(ledger: Ledger, candidate: Scorecard) -> list[Scorecard]:
    """The candidate's card as it stood at each look of the trial, and at last as it was judged."""
    earlier = [
        {
            before.look: before
            for before in ledger.scores.earlier_looks(
                score, base_digest=candidate.base_digest, adapter_digest=candidate.adapter_digest
            )
        }
        for score in candidate.scores
    ]
    looks = sorted({look for known in earlier for look in known})
    then = [
        replace(candidate, scores=tuple(k.get(look, s) for k, s in zip(earlier, candidate.scores, strict=True)))
        for look in looks
    ]
    return [*then, candidate]


def _point(pair: Pair, policy: Policy) -> Point | None:
    above = height(pair, policy)
    if above is None:
        return None
    edge = boundaries(1 - policy.level)[pair.look - 1]
    return {
        "look": pair.look,
        "n": pair.reference.n,
        "at_end": False,
        "height": round(above, 3),
        "boundary": round(edge, 3),
    }


def _slack(points: list[Point]) -> float:
    return float(points[-1]["height"] - points[-1]["boundary"])


def _said(name: str, points: list[Point]) -> str:
    at = "; ".join(
        f"{'at the end' if p['at_end'] else 'look ' + str(p['look'])} ({p['n']} items) {p['height']:+.1f}, boundary {p['boundary']:.1f}"
        for p in points
    )
    return f"{name}, standard errors above the largest tolerated loss: {at.replace('-', '−')}."
