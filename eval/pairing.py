"""Which scores are put side by side: each of the base's beside the candidate's, wholes and the pool first.

Promise: where a trial measured a part of the items, the reference is cut to the same part, in every score, whole and pool.
Knows scorecards; proves nothing.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from eval.joining import over
from eval.policy import ADVISORY, GENERAL, POOLED, PROVEN_ONLY, above_chance
from storage.digests import digest_of
from storage.records import ItemScore, Score, Scorecard


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One score of a reference beside the candidate's, and the champion's where it was measured: in a run, on the target.

    `reference` has the items that the candidate was asked, `whole` all of them. `most`: what one item can lose at most,
    more than 1 where the pool gives it more weight.
    """

    reference: Score
    whole: Score
    candidate: Score | None
    champion: Score | None = None
    against: str = "base"
    most: float = 1.0

    @property
    def look(self) -> int:
        """The look that the candidate's score ended at; 0 outside a trial."""
        return self.candidate.look if self.candidate else 0


def pairs_of(base: Scorecard, champion: Scorecard | None, candidate: Scorecard) -> Iterator[Pair]:
    """Every base score, wholes and the pool first, then the champion's target scores, measured or not."""
    part = _part(base, candidate)
    theirs = _with_wholes(candidate, base)
    serving = _with_wholes(_part(champion, candidate), base) if champion else None
    most = max(_weights(_pooled(part, base)), default=1.0)
    for whole, reference in zip(_with_wholes(base, base).scores, _with_wholes(part, base).scores, strict=True):
        name, metric = whole.benchmark, whole.metric
        yield Pair(
            reference=reference,
            whole=whole,
            candidate=theirs.get(name, metric),
            champion=serving.get(name, metric) if serving else None,
            most=most if metric == POOLED else 1.0,
        )
    for score in (*champion.scores, *_unmeasured(champion, base)) if champion else ():
        if score.domain == "target":
            theirs_alone = candidate.get(score.benchmark, score.metric)
            yield Pair(reference=score, whole=score, candidate=theirs_alone, against="champion")


def _unmeasured(champion: Scorecard, base: Scorecard) -> Iterator[Score]:
    """What the base has on the target and the champion lacks, as scores without items: nobody may pass for want of a rival."""
    for score in base.scores:
        if score.domain == "target" and champion.get(score.benchmark, score.metric) is None:
            why = "not measured on the champion"
            yield replace(score, value=math.nan, n=0, items=(), chance=None, signature=why)


def _part(card: Scorecard, candidate: Scorecard) -> Scorecard:
    return replace(card, scores=tuple(_part_of(s, candidate.get(s.benchmark, s.metric)) for s in card.scores))


def _part_of(score: Score, asked: Score | None) -> Score:
    """The score over the items of `asked` where that is of a trial, else as it is."""
    if asked is None or not asked.look:
        return score
    wanted = {item.item_id for item in asked.items}
    items = tuple(item for item in score.items if item.item_id in wanted)
    return score if len(items) in (0, 1, len(score.items)) else over(score, items)


def _with_wholes(card: Scorecard, base: Scorecard) -> Scorecard:
    return replace(card, scores=(*pool(card, base), *wholes(card.scores), *card.scores))


def pool(card: Scorecard, base: Scorecard) -> Iterator[Score]:
    """All general shares as one score in which every benchmark weighs the same: many items prove what few cannot.

    Left out: what is shown only, at chance for the base, or right or wrong in generated text. Nothing where fewer than two
    benchmarks are left, or where the card lacks one of them.
    """
    parts = _pooled(card, base)
    if not parts:
        return
    weights, total = _weights(parts), sum(part.n for part in parts)
    values = [weight * item.value for part, weight in zip(parts, weights, strict=True) for item in part.items]
    items = tuple(replace(item, value=v) for item, v in zip(_renamed(parts), values, strict=True))
    yield replace(
        parts[0],
        key=digest_of([part.key for part in parts]),
        benchmark=GENERAL,
        metric=POOLED,
        value=math.fsum(values) / total,
        stderr=math.sqrt(sum((w * p.n * p.stderr) ** 2 for p, w in zip(parts, weights, strict=True))) / total,
        n=total,
        items=items,
        chance=None,
        look=_look(parts),
    )


def _pooled(card: Scorecard, base: Scorecard) -> list[Score]:
    asked = [
        s
        for s in base.scores
        if s.domain == "general" and s.unit == "share" and s.metric not in ADVISORY | PROVEN_ONLY and above_chance(s)
    ]
    scores = [card.get(s.benchmark, s.metric) for s in asked]
    parts = [s for s in scores if s is not None and s.items]
    return [] if len(parts) < 2 or len(parts) < len(asked) else parts


def _weights(parts: Sequence[Score]) -> list[float]:
    """What an item of each part counts, so that every family counts the same and all items together as many as they are."""
    families = {_family(part): 0 for part in parts}
    for part in parts:
        families[_family(part)] += part.n
    total = sum(families.values())
    return [total / (len(families) * families[_family(part)]) for part in parts]


def _family(score: Score) -> str:
    return score.benchmark.partition(".")[0]


def _look(parts: Iterable[Score]) -> int:
    """The earliest look of those that were measured in a trial."""
    return min((part.look for part in parts if part.look), default=0)


def _renamed(parts: Iterable[Score]) -> Iterator[ItemScore]:
    """The items of several scores under names that cannot meet."""
    for part in parts:
        for item in part.items:
            name, cluster = f"{part.benchmark}/{item.item_id}", f"{part.benchmark}/{item.cluster}"
            yield ItemScore(item_id=name, cluster=cluster, value=item.value)


def wholes(scores: tuple[Score, ...]) -> Iterator[Score]:
    """One score over all items of each benchmark that is measured in parts."""
    families: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        if "." in score.benchmark and score.items and score.metric not in ADVISORY:
            families.setdefault((_family(score), score.metric), []).append(score)
    for (family, _), parts in families.items():
        if len(parts) > 1:
            n = sum(p.n for p in parts)
            value, variance = (sum(p.n * p.value for p in parts) / n, sum((p.n * p.stderr) ** 2 for p in parts) / n**2)
            yield replace(
                parts[0],
                key=digest_of([p.key for p in parts]),
                benchmark=family,
                value=value,
                stderr=math.sqrt(variance),
                n=n,
                items=tuple(_renamed(parts)),
                look=_look(parts),
            )
