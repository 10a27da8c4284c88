"""Below the threshold that was measured on the holdout, the bot says that it is not sure and shows no guess."""

from collections.abc import Iterator
from typing import Any

import pytest

from storage.ledger import Ledger
from storage.records import Threshold
from tests.bot.conftest import ASK, SUPPORT, Live
from tests.bot.model_server import BASE, ModelServer
from tests.bot.test_answering import bots, exchange, final


@pytest.fixture
def ledger(live: Live) -> Ledger:
    return live.ledger


@pytest.fixture
def measured(live: Live) -> Iterator[None]:
    """A threshold of -1.0 for the model that speaks."""
    found = Threshold(
        value=-1.0, auc=0.8, low=0.65, high=0.93, n=64, coverage=0.85, good_above=0.7, good_below=0.2, reason=""
    )
    live.ledger.doubt.keep(BASE, None, found)
    yield
    live.ledger.connections.db.execute("DELETE FROM thresholds")


def test_a_guess_is_kept_on_record_and_not_shown(
    slack: Any, live: Live, engine: ModelServer, measured: None, ledger: Ledger
) -> None:
    engine.confidence, engine.text = -1.7, "It is certainly the third option."
    ts = slack.say("U0MIA", SUPPORT, ASK)
    (shown,) = final(slack, SUPPORT, ts)

    assert shown["text"].startswith("I am not sure about this one")
    assert "evenkeel_person" in str(shown["blocks"]) and "evenkeel_feedback" not in str(shown["blocks"])
    tuned = exchange(slack, ledger, ts).tuned
    assert tuned is not None and tuned.status == "skipped" and tuned.text == "It is certainly the third option."
    assert tuned.reason == "not sure: confidence -1.70 is below -1.00"


def test_nobody_can_like_an_answer_that_was_not_shown(
    slack: Any, live: Live, engine: ModelServer, measured: None, ledger: Ledger
) -> None:
    engine.confidence = -1.7
    ts = slack.say("U0MIA", SUPPORT, ASK)
    (shown,) = final(slack, SUPPORT, ts)
    slack.react("U0ASHA", SUPPORT, shown["ts"], "+1")
    slack.wait_for(live.quiet)

    assert f"exchange-{exchange(slack, ledger, ts).exchange_id}" not in {x.lesson_id for x in ledger.lessons.liked()}


@pytest.mark.parametrize("confidence", [-0.4, -1.0, None])
def test_a_sure_answer_or_one_without_a_measure_is_shown(
    slack: Any, live: Live, engine: ModelServer, measured: None, confidence: float | None
) -> None:
    engine.confidence = confidence
    ts = slack.say("U0MIA", SUPPORT, ASK)

    assert final(slack, SUPPORT, ts)[0]["text"] == engine.text


def test_without_a_measurement_nothing_is_held_back(slack: Any, live: Live, engine: ModelServer) -> None:
    engine.confidence = -9.0
    ts = slack.say("U0MIA", SUPPORT, ASK)

    assert final(slack, SUPPORT, ts)[0]["text"] == engine.text


def test_the_note_is_in_the_language_of_the_question(
    slack: Any, live: Live, engine: ModelServer, measured: None
) -> None:
    engine.confidence = -2.0
    ts = slack.say("U0MIA", SUPPORT, "<@U0EVENKEEL> Wie kann ich bitte mein Passwort zurücksetzen?")
    final(slack, SUPPORT, ts)

    assert bots(slack, SUPPORT, ts)[0]["text"].startswith("Hier bin ich nicht sicher")
