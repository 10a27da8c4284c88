"""The forgetting budget: how much of each margin against the original base is spent, over all promotions so far.

Knows decisions. The gate enforces it; this says where it stands.
"""

from collections.abc import Sequence

from eval.wording import amount
from storage.ledger import Ledger
from storage.records import Comparison, Decision


def budget_lines(ledger: Ledger, decision: Decision) -> list[str]:
    """Where the candidate would leave it, and the path of the champions up to it; empty when nothing is known."""
    worst = most_spent(decision.comparisons)
    if worst is None:
        return []
    name, share = worst.benchmark.replace("_", " "), spent_share(worst)
    said = f"{100 * share:.0f} % of {amount(worst.margin, worst)} on {name}" if share else "nothing"
    before = [(version, most_spent(made.comparisons)) for version, made in _promoted(ledger, decision)]
    path = [f"v{version} {100 * spent_share(c):.0f} %" for version, c in before if c is not None]
    lines = [f"Forgetting budget against the original base: this candidate would have spent {said}."]
    return [*lines, f"Most spent so far: {', '.join(path)}."] if path else lines


def most_spent(comparisons: Sequence[Comparison]) -> Comparison | None:
    """The general score whose budget is used up most; None when none is known."""
    known = [c for c in comparisons if c.gates and c.domain == "general" and c.state != "unknown" and c.margin]
    return max(known, key=spent_share, default=None)


def spent_share(c: Comparison) -> float:
    """What of the margin was lost, 0 where something was gained."""
    return max(0.0, -c.gain / c.margin)


def _promoted(ledger: Ledger, until: Decision) -> list[tuple[int, Decision]]:
    """(version, decision) of every champion that was made from this base before this candidate."""
    found = []
    for promotion in ledger.promotions.history():
        made = ledger.promotions.decision(promotion.decision_id) if promotion.decision_id else None
        if promotion.kind == "promote" and made is not None and made.base_digest == until.base_digest:
            if made.candidate_digest == until.candidate_digest:
                break
            found.append((promotion.version, made))
    return found
