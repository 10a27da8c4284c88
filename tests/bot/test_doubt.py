"""An answer is held back only on evidence, and never the surer one of two."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.doubt import unsure
from storage.records import Answer, Threshold
from tests.storage.test_doubt import MEASURED, NOTHING


def answer(confidence: Any, **more: Any) -> Answer:
    return Answer(role="tuned", text="Open the menu.", params={"confidence": confidence}, **{"status": "ok", **more})


def test_an_answer_below_the_threshold_is_held_back_when_the_operator_allows_it() -> None:
    assert unsure(answer(-1.2), MEASURED, admit=True)
    assert not unsure(answer(-0.9), MEASURED, admit=True)
    assert not unsure(answer(-1.2), MEASURED, admit=False)


@pytest.mark.parametrize("threshold", [None, NOTHING])
def test_without_evidence_nothing_is_held_back(threshold: Threshold | None) -> None:
    assert not unsure(answer(-99.0), threshold, admit=True)


@pytest.mark.parametrize("confidence", [None, "low", True, float("nan"), [], {}])
def test_an_answer_that_says_nothing_about_itself_is_never_held_back(confidence: Any) -> None:
    assert not unsure(answer(confidence), MEASURED, admit=True)
    assert not unsure(Answer(role="tuned", status="ok"), MEASURED, admit=True)


def test_a_failure_stays_a_failure() -> None:
    assert not unsure(answer(-9.0, status="failed", reason="cut off"), MEASURED, admit=True)


@given(st.floats(-20, 0), st.floats(0, 20))
def test_a_surer_answer_is_never_held_back_where_a_less_sure_one_is_shown(confidence: float, more: float) -> None:
    if not unsure(answer(confidence), MEASURED, admit=True):
        assert not unsure(answer(confidence + more), MEASURED, admit=True)
