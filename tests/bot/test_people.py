"""Ratings, corrections, commands, runs and the App Home, as people meet them in the workspace."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.app import Bot
from bot.roles import Roles, trustworthy
from bot.slack import make_client, who_am_i
from storage.ledger import Ledger
from storage.records import Adapter, Decision, Run
from storage.settings import Settings
from tests.bot.conftest import ASK, OPS, SUPPORT, Live
from tests.bot.model_server import ModelServer
from tests.bot.test_answering import final

Start = Callable[..., Bot]


@pytest.fixture
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """That of the running bot; of its own for a test that steps a still one."""
    if "still" not in request.fixturenames:
        yield request.getfixturevalue("live").ledger
        return
    own = Ledger(tmp_path / "own.db")
    yield own
    own.close()


def asked(slack: Any) -> tuple[str, str]:
    """(question's ts, answer's ts)."""
    ts = slack.say("U0MIA", SUPPORT, ASK)
    return ts, final(slack, SUPPORT, ts)[0]["ts"]


def standing(ledger: Ledger, ts: str) -> list[tuple[str, str, int]]:
    """Who thinks what of the answer in this message."""
    found = ledger.exchanges.find("T0DEMO", SUPPORT, ts)
    return sorted((r.user, r.role, r.sign) for r in ledger.ratings.of(found.exchange_id)) if found else []


def told(slack: Any, user: str, words: str) -> None:
    slack.wait_for(lambda: any(words in m["text"] for m in slack.ephemerals(user)), timeout=5)


def test_ratings_are_added_changed_and_withdrawn_with_the_role_of_the_rater(
    slack: Any, ledger: Ledger, start: Start
) -> None:
    _, ts = asked(slack)

    slack.react("U0ASHA", SUPPORT, ts, "+1")
    slack.react("U0MIA", SUPPORT, ts, "thumbsdown")
    slack.react("U0INES", SUPPORT, ts, "heart")
    expected = [("U0ASHA", "agent", 1), ("U0INES", "admin", 1), ("U0MIA", "customer", -1)]
    slack.wait_for(lambda: standing(ledger, ts) == expected, timeout=5)

    slack.unreact("U0ASHA", SUPPORT, ts, "+1")
    slack.react("U0ASHA", SUPPORT, ts, "-1")
    slack.wait_for(lambda: standing(ledger, ts)[0] == ("U0ASHA", "agent", -1), timeout=5)
    slack.unreact("U0INES", SUPPORT, ts, "heart")
    slack.wait_for(lambda: len(standing(ledger, ts)) == 2, timeout=5)


def test_a_button_rates_too(slack: Any, ledger: Ledger, start: Start) -> None:
    _, ts = asked(slack)

    slack.click("U0MIA", SUPPORT, ts, "evenkeel_feedback", "up")
    slack.wait_for(lambda: standing(ledger, ts) == [("U0MIA", "customer", 1)], timeout=5)
    slack.click("U0MIA", SUPPORT, ts, "evenkeel_feedback", "down")
    slack.wait_for(lambda: standing(ledger, ts) == [("U0MIA", "customer", -1)], timeout=5)


def test_reactions_on_other_peoples_messages_are_not_kept(slack: Any, ledger: Ledger, start: Start) -> None:
    question, ts = asked(slack)
    slack.react("U0ASHA", SUPPORT, question, "+1")
    slack.react("U0ASHA", SUPPORT, ts, "+1")
    slack.wait_for(lambda: len(standing(ledger, ts)) == 1, timeout=5)

    (stored,) = ledger.connections.db.execute("SELECT count(*) FROM rating_events WHERE ts=?", (question,)).fetchone()
    assert stored == 0


def test_a_role_that_cannot_be_looked_up_is_asked_again(slack: Any, ledger: Ledger, live: Live) -> None:
    _, ts = asked(slack)
    live.bot.reactions.roles._known.clear()
    slack.fault("usergroups.users.list", "http_500", times=1)
    slack.react("U0ASHA", SUPPORT, ts, "+1")

    slack.wait_for(lambda: standing(ledger, ts) == [("U0ASHA", "agent", 1)], timeout=8)


def test_a_look_up_that_fails_means_no(slack: Any, settings: Settings) -> None:
    client = make_client(slack.bot_token, slack.api_url)
    now = [0.0]
    roles = Roles(client, who_am_i(client), admins=("U0INES",), agents=("S0AGENTS",), monotonic=lambda: now[0])
    slack.fault("users.info", "error", code="internal_error")

    assert roles.role_of("U0INES") == "unknown"
    assert (
        roles.role_of("U0INES") == "admin"
        and roles.role_of("U0TOM") == "agent"
        and roles.role_of("U0MIA") == "customer"
    )
    before = len(slack.journal)
    assert roles.role_of("U0INES") == "admin" and len(slack.journal) == before
    now[0] = 61.0
    assert roles.role_of("U0INES") == "admin" and len(slack.journal) > before


@pytest.mark.parametrize(
    "flaw",
    [
        {"deleted": True},
        {"is_bot": True},
        {"is_restricted": True},
        {"is_ultra_restricted": True},
        {"is_stranger": True},
        {"team_id": "T0OTHER"},
        {"team_id": None},
        {"id": "USLACKBOT"},
    ],
)
def test_bots_guests_strangers_and_deactivated_people_never_pass(flaw: dict[str, Any]) -> None:
    assert trustworthy({"id": "U1", "team_id": "T"}, "T")
    assert not trustworthy({"id": "U1", "team_id": "T", **flaw}, "T") and not trustworthy(None, "T")


def test_a_customers_retrain_is_refused_politely_and_audited(slack: Any, ledger: Ledger, start: Start) -> None:

    slack.command("U0MIA", "/retrain", "", SUPPORT)

    told(slack, "U0MIA", "Only admins")
    assert ledger.runs.active() is None
    assert (ledger.audits()[0]["actor"], ledger.audits()[0]["action"]) == ("U0MIA", "retrain_refused")


def test_retrain_is_acked_at_once_while_every_worker_is_busy(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start
) -> None:
    engine.mode = "hang"
    start(answer_deadline_s=0.5)
    for user in ("U0MIA", "U0JONAS", "U0TOM", "U0MIA"):
        slack.say(user, SUPPORT, ASK)
    began = time.monotonic()
    slack.command("U0INES", "/retrain", "help", OPS)
    took = time.monotonic() - began

    told(slack, "U0INES", "safe")
    assert took < 1.0


def finished(ledger: Ledger, folder: Path, verdict: Any, run: Run, digest: str = "a" * 64) -> None:
    """What a worker leaves behind when a run is decided."""
    ledger.lessons.add_adapter(
        Adapter(
            digest=digest,
            base_digest="b" * 64,
            dataset_digest="d" * 64,
            path="x",
            recipe={},
            run_id=None,
            stats={},
            created_at=ledger.clock(),
        )
    )
    decision = Decision(
        verdict=verdict,
        reasons=("because",),
        comparisons=(),
        base_digest="b" * 64,
        champion_digest=None,
        candidate_digest=digest,
        policy={},
    )
    decision_id = ledger.promotions.decide(decision, run_id=run.run_id, actor="worker")
    picture = folder / "gain_loss.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 64)
    view = {"meaning": "better at support", "rows": [], "candidate": "aaa", "champion": "none"}
    ledger.add_report(run.run_id, view, html_path="x", png_path=str(picture))
    ledger.runs.advance(run, state="decided", lease_s=60, decision_id=decision_id, adapter_digest=digest)


def shown(slack: Any, ledger: Ledger) -> str:
    run = ledger.runs.recent(1)[0]
    return str([m.get("blocks") for m in slack.messages(run.channel) if m["ts"] == run.message_ts])


def test_a_run_has_one_live_message_that_becomes_its_card_and_is_approved(
    slack: Any, ledger: Ledger, start: Start, tmp_path: Path
) -> None:
    slack.command("U0INES", "/retrain", "epochs=1", OPS)
    slack.wait_for(lambda: (run := ledger.runs.active()) and run.message_ts, timeout=5)
    run = ledger.runs.claim(owner="worker", lease_s=60)
    assert run is not None
    stage = {"stage": "training", "stage_no": 2, "stages": 4, "done": 3, "total": 10}
    ledger.runs.report_progress(run, stage, lease_s=60)
    slack.wait_for(lambda: "Stage 2 of 4" in shown(slack, ledger), timeout=5)
    finished(ledger, tmp_path, "PROMOTE", run)
    slack.wait_for(lambda: "Run 1: PROMOTE" in shown(slack, ledger), timeout=5)
    slack.wait_for(lambda: len(slack.files) == 1, timeout=5)

    ts = ledger.runs.recent(1)[0].message_ts
    slack.click("U0JONAS", OPS, ts, "evenkeel_approve")
    told(slack, "U0JONAS", "Only admins")
    assert ledger.promotions.champion() is None
    slack.click("U0INES", OPS, ts, "evenkeel_approve")
    slack.wait_for(lambda: "v1 is live" in shown(slack, ledger), timeout=5)

    champion = ledger.promotions.champion()
    assert champion is not None and (champion.version, champion.actor) == (1, "U0INES")
    posted = [e for e in slack.journal if e["method"] == "chat.postMessage" and e["args"]["channel"] == OPS]
    assert len(posted) == 1


@pytest.mark.parametrize("when", ["running", "decided"])
def test_a_restarted_bot_goes_on_with_the_same_message(
    slack: Any, ledger: Ledger, still: Bot, tmp_path: Path, when: str
) -> None:
    """The first bot died right after posting, before it could note where."""
    ledger.runs.request(reason="command", requested_by="U0INES", overrides={}, channel=OPS)
    run = ledger.runs.claim(owner="worker", lease_s=60)
    assert run is not None
    first = still.watch._announce(run).message_ts
    ledger.connections.db.execute("UPDATE runs SET message_ts=NULL")
    if when == "decided":
        finished(ledger, tmp_path, "REFUSE", run)

    for _ in range(3):
        still.watch.step()

    messages = [
        m for m in slack.messages(OPS) if m["ts"] >= first and m.get("user") == "U0EVENKEEL" and m.get("blocks")
    ]
    assert len(messages) == 1
    assert ("REFUSE" in str(messages[0]["blocks"])) is (when == "decided")


def test_a_failed_run_says_why(slack: Any, ledger: Ledger, still: Bot) -> None:
    ledger.runs.request(reason="cron", requested_by="clock", overrides={}, channel=OPS)
    run = ledger.runs.claim(owner="worker", lease_s=60)
    assert run is not None
    ledger.runs.advance(run, state="failed", lease_s=60, error="Too little data: 3 of 40 lessons")

    still.watch.step()

    assert "Too little data: 3 of 40 lessons" in shown(slack, ledger)


def test_a_run_that_no_channel_takes_is_let_go(slack: Any, ledger: Ledger, still: Bot) -> None:
    ledger.runs.request(reason="command", requested_by="U0INES", overrides={}, channel="C0NOWHERE")

    still.watch.step()
    before = len(slack.journal)
    still.watch.step()

    assert len(slack.journal) == before and ledger.runs.history(1)[-1]["text"] == "no channel takes the message"


@pytest.mark.parametrize(
    ("user", "sees", "not_seen"),
    [("U0MIA", "Mention me", "Ratings"), ("U0ASHA", "Ratings", "Champion"), ("U0INES", "Champion", "nothing-hidden")],
)
def test_the_home_shows_what_the_role_needs(slack: Any, start: Start, user: str, sees: str, not_seen: str) -> None:

    slack.open_home(user)
    slack.wait_for(lambda: slack.home(user), timeout=5)

    assert sees in str(slack.home(user)) and not_seen not in str(slack.home(user))
