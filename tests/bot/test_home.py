"""The App Home: what each role reads there, and what it may not."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.home import home
from bot.shares import share, wilson
from bot.workspace import limits
from storage.ledger import Ledger
from storage.records import Answer, Question
from storage.settings import load_settings
from tests.bot.conftest import Live
from tests.bot.facts import NOW, answered, vote
from tests.bot.test_commands import decided

SETTINGS = load_settings(_env_file=None, learn_from_slack=True)
A, C = "a" * 64, "c" * 64


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    own = Ledger(tmp_path / "own.db", clock=lambda: NOW)
    yield own
    own.close()


def shown(ledger: Ledger, role: Any, user: str = "U0INES", **settings: Any) -> str:
    view = home(role, ledger, SETTINGS.model_copy(update=settings), user=user)
    limits.view(view, kind="home")
    return "\n".join(str((b.get("text") or {}).get("text") or b.get("elements") or "") for b in view["blocks"])


def test_a_customer_sees_help_examples_and_two_buttons_and_no_numbers(ledger: Ledger) -> None:
    text = shown(ledger, "customer", "U0MIA")

    assert "Mention me" in text and text.count("• _") == 3
    assert "evenkeel_person_home" in text and "evenkeel_forget_me" in text
    assert not any(word in text for word in ("Ratings", "Champion", "Audit", "lessons", "n ="))
    assert shown(ledger, "unknown") == text


def test_an_agent_sees_what_their_corrections_did(ledger: Ledger) -> None:
    assert "No version serves yet" in shown(ledger, "agent", "U0ASHA")
    ledger.promotions.promote(decided(ledger, digest=A), actor="gate", reason="")
    assert "None of yours was checked in v1" in shown(ledger, "agent", "U0ASHA")
    for n in range(5):
        correction = ledger.lessons.correct(answered(ledger), author="U0ASHA", role="agent", text=f"Better {n}")
        ledger.learned.keep(correction, A, passed=n < 4, similarity=0.5)

    text = shown(ledger, "agent", "U0ASHA")

    assert "4 of your last 5 corrections pass in v1." in text
    assert "None of yours" in shown(ledger, "agent", "U0TOM") and "Champion" not in text and "Audit" not in text


def test_an_agent_sees_what_was_disliked_and_where_opinions_differ(ledger: Ledger) -> None:
    assert "no 👎 stands" in shown(ledger, "agent")
    liked, disputed, hostile = (answered(ledger, text=t) for t in ("Liked?", "Disputed?", "<!channel> *x*\nnow"))
    for exchange, sign, user in ((liked, 1, "U1"), (disputed, 1, "U1"), (disputed, -1, "U2"), (hostile, -1, "U1")):
        vote(ledger, exchange, sign, user=user)

    text = shown(ledger, "agent")

    assert "Disputed? · 1 👎, 1 👍: opinions differ" in text and "Liked?" not in text
    assert "&lt;!channel&gt;" in text and "<!channel>" not in text


def test_an_admin_sees_the_champion_with_the_votes_on_its_own_answers(ledger: Ledger) -> None:
    assert "The base model answers; nothing was promoted yet" in shown(ledger, "admin")
    vote(ledger, answered(ledger), -1)
    ledger.promotions.promote(decided(ledger, digest=A), actor="U0INES", reason="")
    for n in range(4):
        vote(ledger, answered(ledger, adapter=A), 1 if n else -1, user="U0ASHA", role="agent")

    text = shown(ledger, "admin")

    assert "v1 answers since 2026-11-23 09:00 UTC, by <@U0INES> (not confirmed by the engine yet)" in text
    assert "*Ratings of v1*\nAgents: 75 % 👍 (30 to 95 %, n = 4)\nCustomers: no votes yet" in text


def test_the_next_run_is_named_with_the_lessons_that_wait(ledger: Ledger) -> None:
    text = shown(ledger, "admin", retrain_cron="0 3 * * 1")

    assert "Monday, 2026-11-30 03:00 UTC\n0 of 50 new lessons" in text
    assert "RETRAIN_CRON is empty" in shown(ledger, "admin", retrain_cron="", retrain_after_lessons=0)
    assert "is no crontab" in shown(ledger, "admin", retrain_cron="every <monday>")
    assert "never comes round" in shown(ledger, "admin", retrain_cron="0 0 30 2 *")


def test_nothing_wrong_is_said_in_words(ledger: Ledger) -> None:
    assert "✅ Nothing needs you." in shown(ledger, "admin")


def failed_run(ledger: Ledger) -> None:
    ledger.runs.request(reason="cli", requested_by="cli", overrides={})
    run = ledger.runs.claim(owner="w", lease_s=60)
    assert run is not None
    ledger.runs.advance(run, state="failed", lease_s=60, error="Too <little> data")


def refused_engine(ledger: Ledger) -> None:
    made = ledger.promotions.promote(decided(ledger, digest=A), actor="gate", reason="")
    ledger.promotions.confirm(made.promotion_id, "another <canary>")


def rolled_back(ledger: Ledger) -> None:
    ledger.promotions.promote(decided(ledger, digest=A), actor="gate", reason="")
    ledger.promotions.rollback(actor="gate", reason="the engine refused v1: another canary")


def thin_shadow(ledger: Ledger) -> None:
    for n in range(60):
        answered(ledger, shadow="failed" if n % 5 == 0 else "ok")
    answered(ledger, shadow="")  # still to come: no fault


def late_question(ledger: Ledger) -> None:
    ledger.inbox.accept(event_id="e1", kind="question", team="T", channel="C", ts="1.0", payload={"user": "U1"})
    ledger.connections.db.execute("UPDATE inbox SET received_at='2026-11-23T08:58:00.000000+00:00'")


def failed_question(ledger: Ledger) -> None:
    for hours in (1, 30):
        closed_without(ledger, "failed", "down", hours=hours)
    closed_without(ledger, "timeout", "too slow", hours=2)


def closed_without(ledger: Ledger, status: Any, reason: str, *, hours: float) -> None:
    """A question that ended without an answer."""
    question = Question(
        team="T", channel="C", thread_ts="1.0", ts=f"{hours}.{status}", asker="U", text="x", messages=(),
        asked_at=NOW - timedelta(hours=hours))  # fmt: skip
    exchange_id = ledger.exchanges.open(question)
    ledger.exchanges.record(exchange_id, Answer(role="tuned", status=status, reason=reason))
    ledger.exchanges.close(exchange_id, "failed")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (failed_run, "⚠️ Run 1 failed: Too &lt;little&gt; data"),
        (refused_engine, "⚠️ The engine refused v1: another &lt;canary&gt;"),
        (rolled_back, "⚠️ Rolled back to The base model: the engine refused v1"),
        (thin_shadow, "⚠️ Only 40 of the last 50 answers have the base's beside them."),
        (late_question, "⚠️ 1 questions wait for more than 60 s."),
        (failed_question, "⚠️ 2 questions got no answer in the last 24 hours."),
    ],
)
def test_what_needs_an_admin_is_an_alert(ledger: Ledger, wrong: Callable[[Ledger], None], said: str) -> None:
    wrong(ledger)

    text = shown(ledger, "admin")

    assert said in text and text.count("⚠️") == 1 and "⚠️" not in shown(ledger, "agent")


@pytest.mark.parametrize(
    "why", ["Hello! Ask me a question in words", "stopped by U0MIA", "Your message has 9,000 characters"]
)
def test_what_was_not_to_be_answered_is_no_alert(ledger: Ledger, why: str) -> None:
    closed_without(ledger, "skipped", why, hours=1)

    assert "✅ Nothing needs you." in shown(ledger, "admin")


def test_the_audit_shows_the_last_five_without_acting(ledger: Ledger) -> None:
    for n in range(7):
        ledger.audit("U0INES" if n % 2 else "cli <!here>", "keep_current", {"run_id": n, "secret": "text"})

    text = shown(ledger, "admin")

    assert text.count("keep current run") == 5 and "keep current run 6" in text and "keep current run 1" not in text
    assert "<@U0INES>" in text and "<!here>" not in text and "secret" not in text


def test_a_full_home_stays_within_slacks_limits(ledger: Ledger) -> None:
    for _ in range(20):
        vote(ledger, answered(ledger, text="&<>" * 2_000), -1)
        ledger.audit("U" * 500, "x" * 500, {"run_id": "y" * 500})
    failed_run(ledger)
    ledger.connections.db.execute("UPDATE runs SET error=?", ("<" * 5_000,))

    assert shown(ledger, "admin")  # checked by the workspace's own rules


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(0, 0, 0, 1), (0, 10, 0, 0.278), (5, 10, 0.237, 0.763), (10, 10, 0.722, 1)]
)
def test_wilson_gives_the_textbook_interval(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=0.001)


def test_a_share_says_how_many_votes_it_rests_on() -> None:
    assert share(3, 1) == "75 % 👍 (30 to 95 %, n = 4)" and share(0, 0) == "no votes yet"


def test_the_home_is_published_for_the_role_of_who_opens_it(slack: Any, live: Live) -> None:
    for user, sees, not_seen in (
        ("U0MIA", "Talk to a person", "*Ratings"), ("U0TOM", "*Ratings", "*Audit*"), ("U0INES", "*Audit*", "!!"),
    ):  # fmt: skip
        slack.open_home(user)
        text = str(slack.wait_for(lambda user=user: slack.home(user), timeout=5))
        assert sees in text and not_seen not in text
