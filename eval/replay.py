"""A decision made again from what the ledger keeps: same verdict, same words, same bytes, or where they part.

Knows the ledger and the gate. Reads only; nothing of what was stored about the outcome is used to make it.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from eval.gate import decide_on, policy_of
from storage.digests import canonical
from storage.errors import LedgerError, UsageError
from storage.ledger import Ledger
from storage.records import Decision, Scorecard


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """`difference` is empty when the decision came out the same; else it names the first place that did not."""

    decision_id: int
    verdict: str
    difference: str
    scores: int
    items: int


def replay(ledger: Ledger, decision_id: int) -> Replay:
    """Judge the stored cards by the stored policy. A changed score, row or rule is a difference, never an exception.

    Raises UsageError when there is no such decision, or when it was made before decisions kept their evidence.
    """
    stored = ledger.promotions.decision(decision_id)
    if stored is None:
        raise UsageError(f"there is no decision {decision_id}. Next: evenkeel runs --json names them.")
    if not stored.evidence:
        raise UsageError(
            f"decision {decision_id} was made before decisions kept their evidence: it cannot be replayed."
        )
    cards: dict[str, Scorecard] = {}
    try:
        cards = {subject: ledger.scores.judged(card) for subject, card in stored.evidence.items()}
        made = decide_on(cards, policy_of(stored.policy))
        difference = first_difference(_plain(stored), _plain(made))
    except (LedgerError, TypeError, KeyError) as error:
        difference = f"it cannot be made again: {error}"
    if not ledger.promotions.is_sound(decision_id):
        difference = f"decision {decision_id}: the chain is broken here" + (f"; {difference}" if difference else "")
    return Replay(
        decision_id=decision_id,
        verdict=stored.verdict,
        difference=difference,
        scores=sum(len(card.scores) for card in cards.values()),
        items=sum(len(score.items) for card in cards.values() for score in card.scores),
    )


def _plain(decision: Decision) -> Any:
    return json.loads(json.dumps(asdict(decision)))


def first_difference(stored: Any, again: Any) -> str:
    """Where two JSON values part, as "comparisons[3].low: 0.1 stored, 0.2 now"; empty when their bytes are equal."""
    if canonical(stored) == canonical(again):
        return ""
    return next(_differences(stored, again, ""), "the order of fields")


def _differences(stored: Any, again: Any, path: str) -> Iterator[str]:
    if isinstance(stored, dict) and isinstance(again, dict) and stored.keys() == again.keys():
        for name in stored:
            yield from _differences(stored[name], again[name], f"{path}.{name}" if path else name)
    elif isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        for place, (one, other) in enumerate(zip(stored, again, strict=True)):
            yield from _differences(one, other, f"{path}[{place}]")
    elif canonical(stored) != canonical(again):
        yield f"{path}: {canonical(stored)} stored, {canonical(again)} now"
