"""Two candidates that are no candidates, the base under another name and the base with a loss that was planted; and the
base measured twice.

What the gate says of the two shows whether it can see with this suite; they are made from the base's scores and a fixed
seed alone. That the base comes out the same twice shows that the scores are the model's and not the measurement's.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from eval.policy import RIGHT_OR_WRONG, Policy, margin_of
from eval.statistics import SEED
from eval.wording import score_name
from storage.records import ItemScore, Score, Scorecard

NOBODY = "self-test"  # where a candidate has the digest of its adapter
PLANTED = 2.0  # margins
SAME = 0.1  # of a margin: so far two measurements of one model may lie apart, as those of two devices do
AGAIN = "self-test: measured again, the base"


def unchanged(base: Scorecard) -> Scorecard:
    """The base as a candidate."""
    return replace(base, adapter_digest=NOBODY)


def planted(base: Scorecard, policy: Policy) -> Scorecard:
    """The base with a loss of twice the margin on everything general, as noisy as the policy plans for."""
    spoiled = tuple(spoil(s, policy) if s.domain == "general" and s.items else s for s in base.scores)
    return replace(base, adapter_digest=NOBODY, scores=spoiled)


def spoil(score: Score, policy: Policy) -> Score:
    """The score, twice its margin worse: right items turned wrong, or every item worse by that and by centred noise."""
    items = tuple(_spoiled(score, policy))
    return replace(score, items=items, value=math.fsum(i.value for i in items) / len(items))


def _spoiled(score: Score, policy: Policy) -> Iterator[ItemScore]:
    loss = PLANTED * margin_of(score, policy).value
    if score.metric in RIGHT_OR_WRONG:
        left = math.ceil(loss * score.n)
        for item in score.items:
            turned = item.value > 0 and left > 0
            left -= turned
            yield replace(item, value=0.0) if turned else item
        return
    noise = np.random.default_rng(SEED).standard_normal(len(score.items))
    spread = policy.spread_bits / 100 * score.value if score.metric == "bits_per_byte" else policy.spread_points / 100
    worse = 1.0 if score.direction == "lower" else -1.0
    for item, wobble in zip(score.items, noise - noise.mean(), strict=True):
        yield replace(item, value=item.value + worse * loss + spread * float(wobble))


def unlike(base: Scorecard, again: Scorecard, policy: Policy) -> Iterator[str]:
    """Where the base is not what it was, as sentences; nothing measured, other items and NaN are not the same either."""
    model = (base.base_digest, None, base.template_digest)
    if (again.base_digest, again.adapter_digest, again.template_digest) != model:
        yield f"{AGAIN} was another model, or was asked by another chat template"
    if not again.scores:
        yield f"{AGAIN} has no scores"
    for now in again.scores:
        name, was = score_name(now.benchmark, now.metric), base.get(now.benchmark, now.metric)
        known = {item.item_id: item.value for item in was.items} if was else {}
        if was is None or not now.items or any(item.item_id not in known for item in now.items):
            yield f"{AGAIN} was asked other items of {name}"
            continue
        before = math.fsum(known[item.item_id] for item in now.items) / len(now.items)
        after = math.fsum(item.value for item in now.items) / len(now.items)
        if not abs(after - before) <= SAME * margin_of(was, policy).value:
            yield f"{AGAIN} has {after:.4f} on {name} where it had {before:.4f}, more than a tenth of the margin apart"
