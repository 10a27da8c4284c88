"""What an emoji or a button means. That the fold of all of them equals Slack's state: tests/properties."""

from datetime import UTC, datetime
from typing import Any

import pytest

from bot.reactions import canonical, events_of, sign_of
from storage.records import InboxItem
from storage.settings import load_settings

SETTINGS = load_settings(_env_file=None)
UP, DOWN = SETTINGS.emoji_up, SETTINGS.emoji_down


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
