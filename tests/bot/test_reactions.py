"""Ratings equal what Slack shows, whatever the order, the repeats and the skin tones."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.reactions import canonical, events_of, sign_of
from storage.ledger import Ledger
from storage.records import InboxItem, Question
from storage.settings import load_settings

SETTINGS = load_settings(_env_file=None)
UP, DOWN = SETTINGS.emoji_up, SETTINGS.emoji_down
NAMES = ("+1", "thumbsup", "-1", "thumbsdown", "+1::skin-tone-6", "thumbsup::skin-tone-2", "heart", "eyes", "+1-evil")


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("+1", 1),
        ("thumbsup", 1),
        ("+1::skin-tone-6", 1),
        ("thumbsup::skin-tone-2", 1),
        ("white_check_mark", 1),
        ("heart", 1),
        ("-1", -1),
        ("thumbsdown", -1),
        ("thumbsdown::skin-tone-4", -1),
        ("x", -1),
        ("eyes", 0),
        ("+1-evil", 0),
        ("+1::skin-tone-9", 0),
        ("", 0),
    ],
)
def test_an_emoji_has_the_sign_of_the_settings_map(name: str, sign: int) -> None:
    assert sign_of(name, UP, DOWN) == sign


def test_the_map_understands_aliases_too() -> None:
    assert sign_of("+1", ("thumbsup",), ()) == 1
    assert canonical("thumbsup::skin-tone-3") == "+1::skin-tone-3"


def item(number: int, **payload: Any) -> InboxItem:
    return InboxItem(
        inbox_id=number,
        event_id=f"Ev{number}",
        kind="reaction",
        team="T",
        channel="C",
        ts="100.000002",
        payload=payload,
        received_at=datetime.now(UTC),
        attempts=1,
        fence=1,
    )


def test_a_press_on_the_other_button_takes_back_the_first() -> None:
    events = events_of(item(1, user="U1", button="down", event_ts="5.000001"), "customer", SETTINGS)

    assert [(e.reaction, e.action, e.sign) for e in events] == [
        ("feedback:up", "remove", 1),
        ("feedback:down", "add", -1),
    ]


def exchange(ledger: Ledger) -> int:
    found = ledger.exchanges.open(
        Question(
            team="T",
            channel="C",
            thread_ts="100.000001",
            ts="100.000001",
            asker="U1",
            text="?",
            messages=(),
            asked_at=ledger.clock(),
        )
    )
    message, _ = ledger.exchanges.intend_message(found, 0, team="T", channel="C")
    ledger.exchanges.message_posted(message.message_id, "100.000002")
    return found


steps = st.lists(
    st.tuples(st.sampled_from(("U1", "U2")), st.sampled_from(NAMES), st.sampled_from(("add", "remove"))), max_size=14
)


@settings(max_examples=12, deadline=None)
@given(steps, st.randoms(), st.booleans())
def test_the_fold_equals_slacks_state_out_of_order_repeated_and_early(
    history: list[Any], chance: Any, early: bool
) -> None:
    """Slack sends a change only when something changed; we may hear of it in any order, twice, or before our row."""
    state: set[tuple[str, str]] = set()
    heard = []
    for number, (user, name, action) in enumerate(history):
        key = (user, canonical(name))
        if (key in state) == (action == "add"):
            continue
        (state.add if action == "add" else state.discard)(key)
        heard.append(item(number, user=user, reaction=name, action=action, event_ts=f"{200 + number}.000001"))
    heard += heard[:3]
    chance.shuffle(heard)
    with TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "evenkeel.db")
        found = None if early else exchange(ledger)
        for one in heard:
            for event in events_of(one, "agent", SETTINGS):
                ledger.ratings.add(event)
        stands = {(r.user, r.reaction) for r in ledger.ratings.of(found or exchange(ledger))}
        ledger.close()

    assert stands == {(user, name) for user, name in state if sign_of(name, UP, DOWN)}
