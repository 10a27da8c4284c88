"""What corrections changed: near the correction, or clearly nearer than before; in time, and only once."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.engine.model import Generation, LoadedModel
from eval.benchmark import Answerer
from eval.learned import check_corrections, passes
from storage.ledger import Ledger
from tests.storage.test_doubt import corrected


@pytest.fixture
def answerer(tiny_model: LoadedModel, adapters: tuple[str, str]) -> Answerer:
    return Answerer(model=tiny_model, adapter=adapters[0])


def parrot(model: LoadedModel, monkeypatch: pytest.MonkeyPatch, text: str) -> list[int]:
    """One answer to everything; returns the sizes of the groups that were asked."""
    groups: list[int] = []

    def speak(prompts: list[Any], **_: Any) -> list[Generation]:
        groups.append(len(prompts))
        return [Generation(ids=(), text=text, finished=True, confidence=-1.0)] * len(prompts)

    monkeypatch.setattr(model, "generate", speak)
    return groups


def ticking(step: float) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += step


def test_an_answer_passes_near_the_correction_or_clearly_nearer_than_before() -> None:
    assert passes(0.5, before=0.5) and passes(0.4, before=0.2)
    assert not passes(0.49, before=0.4) and not passes(0.1, before=0.0)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_nearer_answer_never_passes_less(near: float, nearer: float, before: float) -> None:
    low, high = sorted((near, nearer))
    assert passes(high, before=before) >= passes(low, before=before)


def test_a_real_answerer_is_asked_what_the_bot_was_asked_and_each_check_is_kept_once(
    answerer: Answerer, ledger: Ledger
) -> None:
    model, adapter = answerer.model, answerer.adapter or ""
    prompt = model.renderer.prompt([{"role": "user", "content": "Question 1?"}])
    (said,) = model.generate([prompt], adapter=adapter, max_new_tokens=8)
    corrected(ledger, 1, text=said.text)
    corrected(ledger, 2, text="Something that random weights do not say.")

    assert check_corrections(answerer, ledger, max_new_tokens=8) == (1, 2)

    assert ledger.learned.of("U0ASHA", adapter) == (1, 2)
    rows = list(ledger.connections.db.query("SELECT passed, similarity FROM correction_checks ORDER BY correction_id"))
    assert rows[0] == {"passed": 1, "similarity": 1.0} and rows[1]["passed"] == 0
    assert check_corrections(answerer, ledger, max_new_tokens=8) == (0, 0)


def test_without_corrections_the_model_is_not_asked(
    answerer: Answerer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = parrot(answerer.model, monkeypatch, "never said")

    assert check_corrections(answerer, ledger, max_new_tokens=8) == (0, 0) and groups == []


def test_checking_stops_when_its_minute_is_used_up_and_what_was_checked_stays(
    answerer: Answerer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        corrected(ledger, number)
    groups, clock = parrot(answerer.model, monkeypatch, "Right 9."), ticking(16.0)

    passed, checked = check_corrections(answerer, ledger, max_new_tokens=8, now=lambda: next(clock))

    assert groups[0] == 1 and sum(groups) == checked < 10
    assert ledger.learned.of("U0ASHA", answerer.adapter or "") == (passed, checked)


def test_quick_answers_are_asked_in_groups_and_a_question_that_does_not_fit_is_left_out(
    answerer: Answerer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        corrected(ledger, number)
    groups, clock = parrot(answerer.model, monkeypatch, "Right 9."), ticking(0.1)

    assert check_corrections(answerer, ledger, max_new_tokens=8, now=lambda: next(clock))[1] == 10
    assert groups == [1, 8, 1]

    monkeypatch.setattr(answerer.model, "context", 20)
    corrected(ledger, 10)
    assert check_corrections(answerer, ledger, max_new_tokens=8) == (0, 0)
