"""The ledger's ratings equal Slack's state, whatever is heard, how often, in which order and when."""

from collections.abc import Iterator
from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.sequences import MEANING, Hearing, Slack, difference, hearing, history, mismatched
from bot.reactions import sign_of
from storage.ratings import Ratings

NUMBERS = count(1)


@pytest.fixture(scope="module")
def bot() -> Iterator[Hearing]:
    with hearing() as found:
        yield found


@settings(max_examples=200, deadline=None)
@given(dice=st.randoms())
def test_after_any_history_the_ledger_is_what_slack_is(bot: Hearing, dice: Random) -> None:
    assert difference(history(dice, next(NUMBERS)), bot) == ""


def test_histories_have_everything_that_happens_in_slack_and_come_again_by_their_seed() -> None:
    made = [history(Random(seed), seed) for seed in range(300)]
    events = [body["event"] for slack in made for body in slack.sent if "event" in body]

    assert made[7].sent == history(Random(7), 7).sent
    assert {event["type"] for event in events} == {"reaction_added", "reaction_removed"}
    assert {"thumbsup", "+1", "thumbsup::skin-tone-2", "party_parrot", "eyes"} <= {e["reaction"] for e in events}
    assert {body["type"] for slack in made for body in slack.sent} == {"event_callback", "block_actions"}
    assert any(slack.votes()[0] and slack.votes()[1] for slack in made) and any(slack.parts > 1 for slack in made)


def test_what_the_emoji_mean_is_the_same_to_both_sides(bot: Hearing) -> None:
    up, down = bot.settings.emoji_up, bot.settings.emoji_down
    assert {emoji: sign_of("".join(emoji), up, down) for emoji in MEANING} == MEANING


def test_slack_tells_skin_tones_apart_and_refuses_what_changes_nothing() -> None:
    slack = Slack(number=0, parts=1, dice=Random(1))
    (ts,) = slack.messages
    for emoji in (("+1", ""), ("+1", "::skin-tone-2"), ("+1", "")):
        slack.react("U0ASHA", ts, emoji)
    slack.unreact("U0ASHA", ts, ("x", ""))

    assert len(slack.sent) == 2 and slack.votes() == (1, 0)
    assert [emoji for *_, emoji, _ in slack.standing()] == ["+1", "+1::skin-tone-2"]


def test_a_ledger_that_loses_removals_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Ratings.add
    monkeypatch.setattr(Ratings, "add", lambda self, event: event.action == "remove" or whole(self, event))

    assert mismatched(20, seed=3) > 0
