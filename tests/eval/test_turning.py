"""What would change a verdict, in words, for each verdict and each thing that stands in its way."""

from dataclasses import replace
from typing import Any

import pytest

from eval.comparing import UNMEASURED
from eval.gate import Policy, decide
from eval.turning import what_would_change
from storage.records import Comparison, Decision
from tests.eval.cards import CANDIDATE, card


def decision(**candidate: float) -> Decision:
    return decide(base=card(None), champion=None, candidate=card(CANDIDATE, **candidate), policy=Policy())


def with_one(verdict: str, **changes: Any) -> Decision:
    """A decision of one comparison, which differs from a share that is kept by what a test says."""
    kept = Comparison(
        benchmark="arc_easy", metric="p_correct", domain="general", against="base", reference=0.6, candidate=0.59, gain=-0.01,
        low=-0.02, high=0.0, margin=0.075, n=60, unit="share", confidence=0.95, gates=True, state="kept")  # fmt: skip
    made = decision(support=1.0)
    return replace(made, verdict=verdict, reasons=(), comparisons=(replace(kept, **changes),))


def test_a_promotion_names_what_came_nearest_to_its_margin() -> None:
    made = decision(support=1.0, text=1.318)

    (said,) = what_would_change(made)

    text = next(c for c in made.comparisons if c.benchmark == "open_text")
    assert made.verdict == "PROMOTE"
    assert said == (
        f"Nearest to its margin: open text (bits per byte), at worst a loss of {-100 * text.low / text.reference:.1f} %; "
        f"the margin is 2.0 %. {100 * (text.low + text.margin) / text.reference:.1f} % more would have changed the verdict."
    )


def test_a_promotion_that_lost_nothing_says_so() -> None:
    (said,) = what_would_change(with_one("PROMOTE", low=0.005, gain=0.01))
    assert "at worst no loss; the margin is 7.5 points. 8.0 points more" in said


def test_followed_instructions_are_as_near_as_they_were_measured() -> None:
    (said,) = what_would_change(
        with_one("PROMOTE", metric="pass", state="undecided", gain=-0.05, low=-0.2, margin=0.15)
    )
    assert "arc easy (pass), as measured a loss of 5.0 points; the margin is 15.0 points. 10.0 points more" in said


def test_a_refusal_says_how_far_each_loss_is_past_its_margin_the_worst_first() -> None:
    made = decision(support=1.0, text=1.53, choice=0.4)

    said = what_would_change(made)

    assert made.verdict == "REFUSE"
    assert said == [
        "open text (bits per byte): its loss of 17.6 % is 15.6 % past its margin of 2.0 %; a candidate that loses less would pass.",
        "arc easy (p correct): its loss of 20.0 points is 12.5 points past its margin of 7.5 points; a candidate that loses less "
        "would pass.",
    ]


def test_a_hold_says_how_many_items_would_decide() -> None:
    made = with_one("HOLD", state="undecided", low=-0.09, note="about 140 items would decide")
    assert what_would_change(made) == ["arc easy (p correct): about 140 items would decide, it had 60."]


def test_where_items_would_not_help_a_hold_says_what_would() -> None:
    nothing = with_one("HOLD", state="undecided", margin=0.0, note="more items would not help")
    over = with_one("HOLD", state="undecided", gain=-0.09, note="more items would not help")
    assert what_would_change(nothing) == [
        "arc easy (p correct): it gained nothing, and more items would not help; a better candidate would."
    ]
    assert what_would_change(over) == [
        "arc easy (p correct): its loss of 9.0 points is not under the 7.5 points that are tolerated, and more items would not "
        "help; a candidate that loses less would."
    ]


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("not on this disk. Next: evenkeel suite fetch", "not on this disk. Next: evenkeel suite fetch."),
        (UNMEASURED, f"{UNMEASURED}. Next: start the run again; its history says what went wrong."),
        ("its 60 items are of 3 clusters; at least 5 are needed", "Next: a benchmark of more subjects, or more items."),
    ],
)
def test_what_is_unknown_is_named_with_the_next_step(note: str, said: str) -> None:
    (line,) = what_would_change(with_one("HOLD", state="unknown", note=note))
    assert line.startswith("arc easy (p correct) is unknown: ") and line.endswith(said)


def test_support_of_too_few_conversations_wants_more_of_them() -> None:
    (line,) = what_would_change(with_one("HOLD", state="unknown", domain="target", note="at least 5 are needed"))
    assert line.endswith("Next: more conversations to hold out.")


def test_a_trial_that_ended_on_a_certain_loss_does_not_ask_for_what_it_spared() -> None:
    assert what_would_change(with_one("REFUSE", state="unknown", note=UNMEASURED)) == []


def test_a_fault_of_the_comparison_itself_comes_first() -> None:
    made = decide(
        base=card(None), champion=None, candidate=replace(card(CANDIDATE), suite_digest="other"), policy=Policy()
    )
    first = what_would_change(made)[0]
    assert first == "Before any score counts: the scores are of different suites. Next: put that right and retrain."
    blind = replace(made, reasons=("self-test: a planted loss of twice every margin was not refused",))
    assert what_would_change(blind)[0].endswith("Next: a larger SUITE_ITEMS.")


def test_an_overspent_budget_is_a_loss_past_its_margin() -> None:
    made = with_one("HOLD", metric="pass", state="undecided", gain=-0.2, low=-0.3, margin=0.15)
    made = replace(made, reasons=("the forgetting budget is overspent: …",))
    assert what_would_change(made)[-1].startswith(
        "arc easy (pass): its loss of 20.0 points is 5.0 points past its margin"
    )


def test_what_is_only_shown_changes_nothing() -> None:
    assert what_would_change(with_one("HOLD", gates=False, state="lost", gain=-0.5)) == []
