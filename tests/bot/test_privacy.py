"""From the App Home: people delete their data, and call a person where there is no thread."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.app import Bot
from storage.errors import LostLease
from storage.forgetting import forget
from storage.ledger import Ledger
from storage.records import Adapter, Question
from tests.bot.conftest import ASK, OPS, SUPPORT, Live
from tests.bot.model_server import ModelServer
from tests.bot.test_answering import bots, final


@pytest.fixture
def ledger(live: Live) -> Ledger:
    return live.ledger


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that no running bot reads."""
    opened = Ledger(tmp_path / "own.db")
    yield opened
    opened.close()


@pytest.fixture
def team(live: Live) -> Iterator[Live]:
    """The bot with a usergroup to call and a channel for calls from direct messages."""
    before = live.bot.people.settings
    changed = before.model_copy(update={"support_group": "S0AGENTS", "ops_channel": OPS})
    object.__setattr__(live.bot.people, "settings", changed)
    yield live
    object.__setattr__(live.bot.people, "settings", before)


def home(slack: Any, user: str) -> dict[str, Any]:
    slack.open_home(user)
    slack.wait_for(lambda: slack.home(user), timeout=5)
    return dict(slack.home(user))


def count(ledger: Ledger, sql: str, *values: str) -> int:
    return int(ledger.connections.db.execute(sql, values).fetchone()[0])


def test_a_person_deletes_what_was_kept_of_them_and_sees_the_receipt(slack: Any, live: Live, ledger: Ledger) -> None:
    ts = slack.say("U0JONAS", SUPPORT, "<@U0EVENKEEL> My very own secret question is xyzzy-4711?")
    answer = final(slack, SUPPORT, ts)[0]["ts"]
    slack.react("U0JONAS", SUPPORT, answer, "+1")
    other = slack.say("U0MIA", SUPPORT, ASK)
    final(slack, SUPPORT, other)
    slack.wait_for(live.quiet)

    view = home(slack, "U0JONAS")
    slack.click_in_view("U0JONAS", view["id"], "evenkeel_forget_me")
    slack.wait_for(lambda: slack.view("U0JONAS"), timeout=5)
    slack.submit("U0JONAS", slack.view("U0JONAS")["id"], {})

    assert "*Deleted.*" in str(slack.view("U0JONAS")) and "ratings: 1" in str(slack.view("U0JONAS"))
    assert count(ledger, "SELECT count(*) FROM exchanges WHERE asker=?", "U0JONAS") == 0
    assert count(ledger, "SELECT count(*) FROM rating_events WHERE user=?", "U0JONAS") == 0
    assert count(ledger, "SELECT count(*) FROM inbox WHERE payload LIKE '%xyzzy%'") == 0
    assert ledger.exchanges.at("T0DEMO", SUPPORT, other) is not None
    assert b"xyzzy-4711" not in ledger.path.read_bytes()
    assert ledger.verify() == ()


def test_an_answer_that_is_under_way_goes_with_the_data_of_who_asked(
    slack: Any, live: Live, ledger: Ledger, engine: ModelServer
) -> None:
    engine.text, engine.delay_s = "word " * 400, 0.02
    ts = slack.say("U0MIA", SUPPORT, ASK)
    slack.wait_for(lambda: "word word" in str(bots(slack, SUPPORT, ts)))

    view = home(slack, "U0MIA")
    slack.click_in_view("U0MIA", view["id"], "evenkeel_forget_me")
    slack.wait_for(lambda: slack.view("U0MIA"), timeout=5)
    slack.submit("U0MIA", slack.view("U0MIA")["id"], {})

    slack.wait_for(lambda: not bots(slack, SUPPORT, ts))
    slack.wait_for(live.quiet)
    assert count(ledger, "SELECT count(*) FROM exchanges WHERE asker=?", "U0MIA") == 0


def test_who_was_forgotten_does_not_come_back_with_a_question_that_a_worker_still_holds(
    still: Bot, own: Ledger, tmp_path: Path
) -> None:
    payload = {"user": "U1", "text": "mine", "thread_ts": "1.1", "files": 0, "direct": False}
    own.inbox.accept(event_id="e", kind="question", team="T", channel="C", ts="1.1", payload=payload)
    item = own.inbox.claim(owner_kinds=("question",), lease_s=60)
    assert item is not None
    forget(own, tmp_path, "U1", actor="U1")

    with pytest.raises(LostLease):
        replace(still.asking, ledger=own).open(item)

    assert count(own, "SELECT count(*) FROM exchanges") == 0


def test_what_a_dataset_holds_of_somebody_goes_and_the_adapter_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "evenkeel.db")
    messages = ({"role": "system", "content": "s"}, {"role": "user", "content": "mine"})
    ask = {"team": "T", "channel": "C", "thread_ts": "1.1", "source": "slack", "asked_at": ledger.clock()}
    ledger.exchanges.open(Question(ts="1.1", asker="U1", text="mine", messages=messages, **ask))
    follow = (*messages, {"role": "assistant", "content": "a"}, {"role": "user", "content": "and mine?"})
    kept = ledger.exchanges.open(Question(ts="1.2", asker="U2", text="and mine?", messages=follow, **ask))
    for digest, thread in (("d1", "T:C:1.1"), ("d2", "T:C:9.9")):
        (tmp_path / "datasets" / digest).mkdir(parents=True)
        (tmp_path / "datasets" / digest / "train.jsonl").write_text(json.dumps({"conversation_id": thread}) + "\n")
        ledger.lessons.add_adapter(
            Adapter(digest=f"adapter-{digest}", base_digest="b", dataset_digest=digest, path="p", recipe={}, run_id=None,
                    stats={}, created_at=ledger.clock()))  # fmt: skip

    receipt = forget(ledger, tmp_path / "datasets", "U1", actor="U1")

    assert (receipt.questions, receipt.datasets, receipt.adapters) == (1, 1, ("adapter-d1",))
    assert [p.name for p in (tmp_path / "datasets").iterdir()] == ["d2"]
    left = ledger.exchanges.get(kept)
    assert left is not None and [m["content"] for m in left.question.messages] == ["s", "and mine?"]
    assert forget(ledger, tmp_path / "datasets", "U1", actor="U1").questions == 0
    ledger.close()


def test_a_person_is_called_from_the_app_home(slack: Any, team: Live) -> None:
    view = home(slack, "U0JONAS")
    before = len(slack.messages(OPS))
    assert slack.click_in_view("U0JONAS", view["id"], "evenkeel_person_home")
    slack.wait_for(lambda: len(slack.messages(OPS)) > before, timeout=5)

    assert slack.messages(OPS)[-1]["text"].startswith("<!subteam^S0AGENTS> <@U0JONAS> asks for a person")
    slack.wait_for(lambda: any("told the support team" in n["text"] for n in slack.ephemerals("U0JONAS")))
    slack.wait_for(team.quiet)


def test_an_agents_home_leads_to_the_review_queue_and_to_their_lessons(slack: Any, live: Live, ledger: Ledger) -> None:
    ts = slack.say("U0MIA", SUPPORT, ASK)
    final(slack, SUPPORT, ts)
    found = ledger.exchanges.at("T0DEMO", SUPPORT, ts)
    assert found is not None
    ledger.lessons.correct(found.exchange_id, author="U0TOM", role="agent", text="Press F5.")
    view = home(slack, "U0TOM")
    assert "Review queue" in str(view["blocks"]) and "Your lessons" in str(view["blocks"])

    slack.click_in_view("U0TOM", view["id"], "evenkeel_take_back")
    slack.wait_for(lambda: ledger.taught.of_author("U0TOM")[0].removed, timeout=5)
    assert "Your lessons" not in str(home(slack, "U0MIA")["blocks"])
