"""Does an answerer know when it guesses? Its confidence against the quality of its answers on the holdout.

Promise: no threshold without evidence. Below a threshold the bot says that it is not sure; a threshold is set only where
confidence is proven to tell good answers from bad ones, and never so that more than a fifth of the answers are held back.
Knows numbers. Knows no model, no ledger and no Slack.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from storage.records import Score, Threshold

CONFIDENCE = "confidence"  # the metric; surer is not better, so it is no score of a card
BAD = 0.2
HELD_BACK = 0.2  # largest share of answers that may be held back
TIMES_WORSE = 2.0  # how much more often those must be bad than the others
FEWEST = 20  # answers
FEWEST_CONVERSATIONS = 10
FEWEST_OF_A_KIND = 5  # good ones, bad ones
ROUNDS = 2_000
SEED = 20_261_124


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One answer of the holdout: mean log-probability a token, ROUGE-L against the approved answer, conversation."""

    confidence: float
    quality: float
    cluster: str


def pairs_of(scores: Sequence[Score]) -> tuple[Pair, ...]:
    """The pairs in an answerer's scores, item by item; none where either metric is missing."""
    sure = next((s for s in scores if s.metric == CONFIDENCE), None)
    near = next(
        (s for s in scores if sure is not None and (s.benchmark, s.metric) == (sure.benchmark, "rouge_l")), None
    )
    if sure is None or near is None:
        return ()
    quality = {item.item_id: item.value for item in near.items}
    return tuple(
        Pair(confidence=item.value, quality=quality[item.item_id], cluster=item.cluster)
        for item in sure.items
        if item.item_id in quality
    )


def threshold(pairs: Sequence[Pair]) -> Threshold:
    """The confidence below which an answer is held back, or None with the reason.

    An answer is bad below ROUGE-L `BAD`: of people's answers to *other* questions, in the same language, 98 % lie below
    it (median 0.10, 95 % below 0.17; 1,844 pairs of a holdout), so what lies above has some content in common. The AUC is the chance that a good answer is surer than a bad one (ties count
    half); its 95 % interval is a percentile bootstrap over conversations with a fixed seed, so raising a good answer's
    confidence never lowers it. Only if it lies above 0.5 a value is set: the largest that holds back at most
    `HELD_BACK` of the answers, those being bad at least `TIMES_WORSE` as often as the others. Pairs with a number that
    is not finite are left out: unknown is no evidence. Where confidence is noise a value is set in 0 to 2 % of holdouts
    of 20 to 86 answers (simulated); where most of the others are bad, too, none can be worse twice as often.
    Source: Hanley and McNeil 1982 (the area under a ROC curve as a rank statistic); El-Yaniv and Wiener 2010, JMLR 11
    (selective answers, coverage).
    """
    known = [p for p in pairs if math.isfinite(p.confidence) and math.isfinite(p.quality)]
    bad = np.array([p.quality < BAD for p in known], dtype=bool)
    if few := _too_few(bad, len({p.cluster for p in known})):
        return _none(len(known), few)
    sure = np.array([p.confidence for p in known])
    auc, low, high = _auc(sure, bad, [p.cluster for p in known])
    evidence = f"AUC {auc:.2f} ({low:.2f} to {high:.2f}), n = {len(known)}"
    if low <= 0.5:
        return _none(len(known), f"confidence says nothing about quality here: {evidence}", auc, low, high)
    value = _largest_cut(sure, bad)
    if value is None:
        reason = f"no cut among the least sure {100 * HELD_BACK:.0f} % finds bad answers twice as often: {evidence}"
        return _none(len(known), reason, auc, low, high)
    below = sure < value
    good_above, good_below = float((~bad[~below]).mean()), float((~bad[below]).mean())
    return Threshold(
        value=value, auc=auc, low=low, high=high, n=len(known), coverage=float((~below).mean()), good_above=good_above,
        good_below=good_below, reason=f"{100 * good_below:.0f} % of the {below.sum()} held-out answers below are good, "
        f"{100 * good_above:.0f} % of the {(~below).sum()} above: {evidence}")  # fmt: skip


def sentence(measured: Threshold) -> str:
    """What a run's history and the report card say of an answerer."""
    if measured.value is None:
        return f"never says that it is not sure: {measured.reason}"
    return f"says it is not sure below {measured.value:.2f}: {measured.reason}"


def _none(
    n: int, reason: str, auc: float | None = None, low: float | None = None, high: float | None = None
) -> Threshold:
    return Threshold(
        value=None, auc=auc, low=low, high=high, n=n, coverage=1.0, good_above=None, good_below=None, reason=reason
    )


def _too_few(bad: np.ndarray, conversations: int) -> str:
    """Why these answers can prove nothing, or nothing."""
    if len(bad) < FEWEST:
        return f"{len(bad)} held-out answers are too few to tell, {FEWEST} are needed"
    if conversations < FEWEST_CONVERSATIONS:
        return f"{conversations} held-out conversations are too few to tell, {FEWEST_CONVERSATIONS} are needed"
    good = int((~bad).sum())
    if min(good, len(bad) - good) < FEWEST_OF_A_KIND:
        return f"{good} of {len(bad)} held-out answers are good: {FEWEST_OF_A_KIND} good and {FEWEST_OF_A_KIND} bad are needed"
    return ""


def _auc(sure: np.ndarray, bad: np.ndarray, clusters: Sequence[str]) -> tuple[float, float, float]:
    """The AUC with its bounds, from (n,) confidences; a resample without a good or a bad answer says nothing."""
    ahead = (np.sign(sure[~bad][:, None] - sure[bad][None, :]) + 1) / 2
    _, place = np.unique(np.asarray(clusters), return_inverse=True)
    groups = int(place.max()) + 1
    times = np.random.default_rng(SEED).multinomial(groups, np.full(groups, 1 / groups), size=ROUNDS)[:, place]
    good_times, bad_times = times[:, ~bad].astype(float), times[:, bad].astype(float)
    weight = good_times.sum(1) * bad_times.sum(1)
    drawn = ((good_times @ ahead) * bad_times).sum(1)[weight > 0] / weight[weight > 0]
    low, high = np.quantile(drawn, [0.025, 0.975], method="lower")
    return float(ahead.mean()), float(low), float(high)


def _largest_cut(sure: np.ndarray, bad: np.ndarray) -> float | None:
    for value in np.unique(sure)[:0:-1]:  # not the smallest: it would hold nothing back
        below = sure < value
        rare = below.sum() <= HELD_BACK * len(sure)
        if rare and bad[below].any() and bad[below].mean() >= TIMES_WORSE * bad[~below].mean():
            return float(value)
    return None
