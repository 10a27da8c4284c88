"""The final look: a candidate that would be promoted is asked the sealed items, and judged on all that it was asked.

Knows scorecards and the plan of a sealed deal (eval/benchmark.py says which items are sealed); decides nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from bot.engine.model import LoadedModel
from eval.benchmark import Answerer
from eval.desk import Desk, Progress
from eval.hosted import HostedModel
from eval.joining import joined
from eval.sequential import LOOKS
from eval.suite import Plan, require_whole
from storage.digests import digest_of
from storage.ledger import Ledger
from storage.records import Scorecard

Subject = Literal["base", "champion", "candidate", "again"]  # again: the base once more (eval/again.py)


def final_look(
    model: LoadedModel | HostedModel,
    cards: Mapping[Subject, Scorecard],
    *,
    plan: Plan,
    ledger: Ledger,
    progress: Progress,
    run_id: int,
) -> dict[Subject, Scorecard]:
    """The cards of a run with the sealed items of `plan` added to the items of base and candidate.

    A benchmark of two looks is one score over all items seen: of a hand that a trial left early, over what was asked of it,
    judged as at the last look. Without a sealed item the cards stay as they are. Costs a
    pass over the sealed items for each of the two, the base's unless known from an earlier look. Raises EvenkeelError
    when the base cannot be measured on them; what the candidate cannot be measured on leaves its card, and so is unknown.
    """
    if not plan.general:
        return dict(cards)
    digest = digest_of([cards["base"].suite_digest, plan.digest])
    sealed: dict[Subject, Scorecard] = {}
    for subject in ("base", "candidate"):
        card = cards[subject]
        desk = Desk(Answerer(model=model, adapter=card.adapter_digest), ledger, progress, plan.cost, run_id)
        sealed[subject] = replace(card, scores=desk.line(plan.general))
        if subject == "base":
            desk.note(*plan.notes)
            require_whole(sealed[subject], plan, desk.faults)
    return {
        subject: replace(_widened(card, sealed.get(subject), plan, ledger), suite_digest=digest)
        for subject, card in cards.items()
    }


def _widened(card: Scorecard, sealed: Scorecard | None, plan: Plan, ledger: Ledger) -> Scorecard:
    """The card with each sealed score joined to its own, and kept; a score of which nothing is sealed stays as it was.

    One whose sealed items were asked and gave no score is left out: what its hand showed is not the whole answer.
    """
    scores = []
    for one in card.scores:
        more = sealed.get(one.benchmark, one.metric) if sealed else None
        if more is None and sealed and (one.benchmark, one.metric) in plan.expects:
            continue
        if more is not None:
            one = joined(one, more, key=digest_of([one.key, more.key]), look=LOOKS if one.look else 0)
            ledger.scores.add(one, base_digest=card.base_digest, adapter_digest=card.adapter_digest)
        scores.append(one)
    return replace(card, scores=tuple(scores))
