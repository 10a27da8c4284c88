"""The suite is cut short only for a verdict that the rest could not change."""

import random
from dataclasses import replace

from eval.gate import Policy, decide
from eval.watch import Watch
from storage.records import Scorecard
from tests.eval.cards import CANDIDATE, CHAMPION, card

BASE_CARD = card(None)


def watch(champion: Scorecard | None = None) -> Watch:
    return Watch(base=BASE_CARD, champion=champion, policy=Policy())


def test_a_proven_loss_ends_the_trial_before_the_rest_is_measured_and_the_gate_agrees() -> None:
    ruined = card(CANDIDATE, support=1.0, text=1.5)
    support, text, _ = ruined.scores

    assert watch().verdict_is_certain([support]) == ()
    certain = watch().verdict_is_certain([support, text])

    decision = decide(base=BASE_CARD, champion=None, candidate=replace(ruined, scores=(support, text)), policy=Policy())
    assert certain and certain[0].startswith("open text") and decision.verdict == "REFUSE"
    assert decision.reasons == (*certain, "not measured: arc easy (p correct)")


def test_a_healthy_candidate_is_never_cut_short() -> None:
    healthy = card(CANDIDATE, support=1.0)

    assert all(watch().verdict_is_certain(healthy.scores[:n]) == () for n in range(4))


def test_whatever_the_rest_shows_the_whole_card_is_refused_too() -> None:
    draw, stopped = random.Random(3), 0
    champion = card(CHAMPION, support=1.02)
    for _ in range(25):
        tried = card(
            CANDIDATE, support=draw.uniform(0.9, 1.2), text=draw.uniform(1.3, 1.36), choice=draw.uniform(0.5, 0.65)
        )
        if watch(champion).verdict_is_certain(tried.scores[:2]):
            stopped += 1
            assert decide(base=BASE_CARD, champion=champion, candidate=tried, policy=Policy()).verdict == "REFUSE"
    assert 3 < stopped < 25
