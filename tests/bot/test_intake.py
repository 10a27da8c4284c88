"""What the intake keeps, what it ignores, and that nothing is acked before it is stored."""

import sqlite3
import time
from typing import Any

import pytest

from bot.arrivals import is_ours_to_store, sort
from bot.intake import Intake
from bot.slack import Me
from storage.errors import Busy
from storage.ledger import Ledger
from storage.settings import load_settings

ME = Me(team="T0DEMO", user="U0EVENKEEL", bot_id="B0EVENKEEL")
SETTINGS = load_settings(_env_file=None)
MENTION = {
    "type": "app_mention",
    "user": "U0MIA",
    "text": "<@U0EVENKEEL> hi there",
    "channel": "C0SUPPORT",
    "ts": "100.000001",
}
REACTION = {
    "type": "reaction_added",
    "user": "U0ASHA",
    "reaction": "+1",
    "item_user": "U0EVENKEEL",
    "event_ts": "101.000001",
    "item": {"type": "message", "channel": "C0SUPPORT", "ts": "100.000002"},
}


def envelope(event: Any, event_id: str = "Ev1", team: str = "T0DEMO") -> dict[str, Any]:
    return {"type": "event_callback", "event_id": event_id, "team_id": team, "event": event}


def kind(event: Any, *, asked: bool = False, **more: Any) -> str | None:
    found = sort(envelope(event, **more), ME, Threads(askers=frozenset({"U0MIA"} if asked else ())))
    return found and found.kind


class Threads:
    """What is known of every thread."""

    def __init__(self, askers: frozenset[str] = frozenset(), person_speaks: bool = False, asked: bool = False) -> None:
        self.askers_, self.person_speaks, self.asked_ = askers, person_speaks, asked

    def askers(self, channel: str, thread_ts: str) -> frozenset[str]:
        return self.askers_

    def bot_speaks(self, channel: str, thread_ts: str) -> bool:
        return not self.person_speaks

    def asked(self, channel: str, ts: str) -> bool:
        return self.asked_


def message(**changes: Any) -> dict[str, Any]:
    return {**MENTION, "type": "message", "channel_type": "channel", **changes}


@pytest.mark.parametrize(
    "event",
    [
        MENTION,
        message(),
        message(text="hello bot", channel="D01", channel_type="im"),
        message(subtype="file_share"),
        message(subtype="thread_broadcast", thread_ts="90.000001"),
        {**MENTION, "ts": "4000000000.000001"},
    ],
)
def test_a_question_to_the_bot_is_kept(event: dict[str, Any]) -> None:
    assert kind(event) == "question"


def test_a_follow_up_is_kept_only_in_a_thread_where_the_bot_was_asked() -> None:
    reply = message(text="and on Windows?", thread_ts="90.000001")

    assert kind(reply, asked=True) == "question"
    assert kind(reply, asked=False) is None
    assert kind({**reply, "text": "<@U0TOM> can you take this?"}, asked=True) is None
    assert kind(message(text="no thread, no mention"), asked=True) is None


@pytest.mark.parametrize(
    "event",
    [
        None,
        "x",
        5,
        [],
        {},
        message(user="U0EVENKEEL"),
        message(user=None),
        message(user=5),
        message(bot_id="B0OTHER"),
        message(user="USLACKBOT"),
        message(subtype="message_changed"),
        message(subtype="message_deleted"),
        message(subtype="channel_join"),
        message(subtype="bot_message"),
        message(edited={"user": "U0MIA", "ts": "1.1"}),
        message(ts="abc"),
        message(ts="0"),
        message(channel=None),
        message(text="just talking"),
        {"type": "team_join"},
        {**REACTION, "item": {"type": "file"}},
        {**REACTION, "item": "x"},
        {**REACTION, "user": "U0EVENKEEL"},
        {**REACTION, "item_user": "U0TOM"},
        {**REACTION, "reaction": 5},
        {**REACTION, "item": {"type": "message"}},
    ],
)
def test_what_is_not_for_us_is_ignored(event: Any) -> None:
    assert kind(event) is None


def test_another_workspace_is_ignored_unless_we_are_among_its_authorizations() -> None:
    assert kind(MENTION, team="T0OTHER") is None
    shared = {**envelope(MENTION, team="T0OTHER"), "authorizations": [{"team_id": "T0DEMO"}]}
    assert sort(shared, ME, Threads()) is not None


def test_events_without_an_id_or_without_an_event_are_ignored() -> None:
    assert sort({"type": "event_callback", "team_id": "T0DEMO", "event": MENTION}, ME, Threads()) is None
    assert sort({"type": "event_callback", "team_id": "T0DEMO", "event_id": "Ev1"}, ME, Threads()) is None


def test_a_reaction_without_an_author_is_kept_for_a_later_look() -> None:
    anonymous = {name: value for name, value in REACTION.items() if name != "item_user"}

    found = sort(envelope(anonymous), ME, Threads())

    assert found is not None and found.payload["author_known"] is False


def test_one_message_is_one_question_however_it_arrives(ledger: Ledger) -> None:
    woken: list[str] = []
    receive = Intake(SETTINGS, ledger, ME, woken.append).receive

    for event, event_id in ((MENTION, "Ev1"), (MENTION, "Ev1"), (message(), "Ev2"), (message(), "Ev3")):
        assert receive(envelope(event, event_id), lambda: None).status == 200

    assert ledger.inbox.depth() == 1 and woken == ["questions"]


def test_what_cannot_be_stored_is_not_acked(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(**_: Any) -> bool:
        raise Busy("the ledger is locked")

    monkeypatch.setattr(ledger.inbox, "accept", locked)
    (ledger.path.parent / "spool").write_text("not a folder")

    with pytest.raises(OSError):
        Intake(SETTINGS, ledger, ME, lambda _: None).receive(envelope(MENTION), lambda: None)


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_while_the_ledger_is_locked_an_event_is_kept_in_the_spool_and_acked_at_once(ledger: Ledger, lock: str) -> None:
    intake = Intake(SETTINGS, ledger, ME, lambda _: None)
    assert intake.take_in(envelope(MENTION, "Ev0")) is None  # this thread's connection is open
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute(f"BEGIN {lock}")

    began = time.monotonic()
    answer = intake.receive(envelope({**MENTION, "ts": "200.000001"}, "Ev1"), lambda: None)

    assert answer.status == 200 and time.monotonic() - began < 0.5
    assert intake.spool.step() is False
    other.execute("ROLLBACK")
    other.close()
    assert ledger.inbox.depth() == 1

    intake.spool.step()
    assert ledger.inbox.depth() == 2 and not list((ledger.path.parent / "spool").iterdir())


def test_a_spooled_event_survives_a_crash_and_a_torn_file_does_not_stop_the_others(ledger: Ledger) -> None:
    Intake(SETTINGS, ledger, ME, lambda _: None).spool.keep(envelope(MENTION, "Ev1"))
    (ledger.path.parent / "spool" / "0.json").write_text('{"half')

    second = Intake(SETTINGS, ledger, ME, lambda _: None)
    second.spool.step()
    second.take_in(envelope(MENTION, "Ev1"))  # Slack delivers it once more

    assert ledger.inbox.depth() == 1
    assert [path.name for path in (ledger.path.parent / "spool").iterdir()] == ["0.unreadable"]


def test_a_quick_follow_up_is_kept_before_the_first_question_was_looked_at(ledger: Ledger) -> None:
    receive = Intake(SETTINGS, ledger, ME, lambda _: None).receive
    receive(envelope(MENTION, "Ev1"), lambda: None)

    receive(envelope(message(text="on Windows, please", ts="100.000009", thread_ts=MENTION["ts"]), "Ev2"), lambda: None)

    assert ledger.inbox.depth() == 2


def test_home_commands_and_forms_go_on_to_their_listeners(ledger: Ledger) -> None:
    receive = Intake(SETTINGS, ledger, ME, lambda _: None).receive

    for body in (
        envelope({"type": "app_home_opened", "user": "U0MIA"}),
        {"type": "view_submission"},
        {"command": "/retrain", "team_id": "T0DEMO"},
        {"type": "block_actions", "actions": [{"action_id": "evenkeel_approve"}]},
    ):
        assert receive(body, lambda: "passed on") == "passed on"


def test_a_press_on_a_feedback_button_is_stored_before_the_ack(ledger: Ledger) -> None:
    click = {
        "type": "block_actions",
        "user": {"id": "U0MIA"},
        "container": {"channel_id": "C1", "message_ts": "1.000001"},
        "actions": [{"action_id": "evenkeel_feedback", "value": "up", "action_ts": "2.000001"}],
    }

    receive = Intake(SETTINGS, ledger, ME, lambda _: None).receive
    receive(click, lambda: None)
    receive(click, lambda: None)
    receive({**click, "actions": [{"action_id": "evenkeel_feedback", "value": "=HYPERLINK()"}]}, lambda: None)
    receive({**click, "container": None, "user": 5}, lambda: None)

    item = ledger.inbox.claim(owner_kinds=("reaction",), lease_s=5)
    assert item is not None and item.payload["button"] == "up" and ledger.inbox.depth() == 1


PRESSED = {"action_id": "evenkeel_take", "value": "D0MIA:1.000001", "action_ts": "2.000001"}


def under_a_call(**changes: Any) -> dict[str, Any]:
    """A press under a direct message's call, which stands in a channel of its own."""
    place = {"channel_id": "C0OPS", "message_ts": "1.000009"}
    click = {**PRESSED, **changes}
    return {"type": "block_actions", "user": {"id": "U0ASHA"}, "container": place, "actions": [click]}


def test_a_press_under_a_call_is_stored_at_the_thread_that_it_is_about(ledger: Ledger) -> None:
    receive = Intake(SETTINGS, ledger, ME, lambda _: None).receive
    for _ in range(2):
        receive(under_a_call(), lambda: None)

    item = ledger.inbox.claim(owner_kinds=("handover",), lease_s=5)
    assert item is not None and ledger.inbox.depth() == 1 and item.channel == "D0MIA"
    assert item.payload == {
        "user": "U0ASHA",
        "action": "evenkeel_take",
        "thread_ts": "1.000001",
        "room": "C0OPS",
        "under": None,
    }


@pytest.mark.parametrize("value", [None, "", "D0MIA", "D0MIA:", ":1.1", "d0:1.1", "D0MIA:1.1:2", "\ud83d:1.1"])
def test_a_press_whose_button_names_no_thread_is_not_kept(value: str | None) -> None:
    body = under_a_call(value=value)

    assert is_ours_to_store(body) and sort(body, ME, Threads()) is None
