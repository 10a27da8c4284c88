"""Whatever people press under an answer, and however Slack tells us, the ledger ends at what Slack shows.

`benchmarks/delivery.py` runs ten thousand of these sequences; here are the first ones, and what they cover.
"""

from typing import Any

import pytest

from benchmarks.sequences import CHANNEL, ME, draw, faults, feed

SOME = 150


def test_after_any_sequence_the_ledger_equals_slack() -> None:
    assert faults(SOME) == {}


def test_a_sequence_is_drawn_from_its_seed_alone() -> None:
    assert draw(7) == draw(7) and draw(7) != draw(8)


def test_the_sequences_hold_every_kind_of_trouble() -> None:
    drawn = [draw(seed) for seed in range(SOME)]
    bodies = [body for each in drawn for body in each.heard]
    events = [body["event"] for body in bodies if "event" in body]

    assert {event["type"] for event in events} == {"reaction_added", "reaction_removed"}
    assert {"+1", "thumbsup", "+1::skin-tone-3", "acme-ship-it"} <= {event["reaction"] for event in events}
    assert {ME.user, "U0MIA", "U0ASHA"} <= {event["user"] for event in events}
    assert any("item_user" not in event for event in events) and any(e.get("item_user") == "U0JONAS" for e in events)
    assert sum("actions" in body for body in bodies) > 50
    assert sum(len(each.heard) > len(set(map(id, each.heard))) for each in drawn) > 50, "delivered twice"
    assert sum(moments(each.heard) != sorted(moments(each.heard)) for each in drawn) > 50, "in another order"
    assert sum(bool(each.row_at) for each in drawn) > 50, "heard before the answer's row"


def moments(bodies: list[dict[str, Any]]) -> list[str]:
    return [body["event"]["event_ts"] if "event" in body else body["actions"][0]["action_ts"] for body in bodies]


@pytest.mark.parametrize("lost", ["reaction_removed", "reaction_added", "actions"])
def test_a_bot_that_does_not_hear_one_kind_is_found_out(lost: str) -> None:
    """The oracle is no echo: what never arrives is missed."""
    with feed() as fed:
        found = []
        for seed in range(40):
            drawn = draw(seed)
            drawn.heard = [b for b in drawn.heard if lost not in b and b.get("event", {}).get("type") != lost]
            drawn.row_at = None if drawn.row_at is None else 0
            found += fed.faults(drawn)
    assert found


def test_a_message_of_a_person_has_no_ratings() -> None:
    drawn = next(each for each in map(draw, range(500)) if each.author != ME.user)
    with feed() as fed:
        assert drawn.reactions and fed.faults(drawn) == []
        assert fed.ledger.ratings.reactions_on(ME.team, CHANNEL, drawn.ts) == set()
