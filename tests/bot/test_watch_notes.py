"""What admins see of the watch: in OPS_CHANNEL once, on the App Home, in the digest, on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import evenkeel
from bot.digest import digest
from bot.home import home
from bot.once import Once
from bot.slack import make_client
from bot.watch_notes import WatchNotes
from bot.workspace import limits
from storage.ledger import Ledger
from storage.overview import period
from storage.settings import Settings, load_settings
from tests.bot.conftest import OPS
from tests.bot.facts import NOW, answered, days, vote
from tests.bot.test_commands import decided
from training.after import look_after

A = "a" * 64


@pytest.fixture
def rolled_back(tmp_path: Path) -> Any:
    """A ledger in which the watch has taken v1 back, with a customer's word in the reason's place."""
    ledger = Ledger(tmp_path / "data" / "evenkeel.db", clock=lambda: NOW)
    ledger.promotions.promote(decided(ledger, digest=A), actor="gate", reason="")
    with ledger.connections.write():
        for user in ("U0ASHA", "U0TOM", "U0INES"):
            for _ in range(7):
                vote(ledger, answered(ledger, adapter=A), -1, user=user, role="agent")
    look_after(load_settings(_env_file=None), ledger)
    yield ledger
    ledger.close()


def test_a_rollback_is_told_once_in_the_channel_of_the_admins(
    slack: Any, settings: Settings, rolled_back: Ledger
) -> None:
    own = settings.model_copy(update={"ops_channel": OPS})
    client = make_client(settings.slack_bot_token.get_secret_value(), settings.slack_api_url)
    for _ in range(2):  # a restart between
        once = Once(ledger=rolled_back, client=client)
        WatchNotes(settings=own, ledger=rolled_back, once=once).step()

    told = [m for m in slack.messages(OPS) if "v1 was taken back" in m["text"]]
    assert len(told) == 1 and "21 votes of 3 people, 21 👎" in told[0]["text"]
    assert "only by an admin's word" in str(told[0]["blocks"])


def test_the_app_home_alerts_admins_and_shows_the_votes_of_a_watched_champion(rolled_back: Ledger) -> None:
    settings = load_settings(_env_file=None)
    view = home("admin", rolled_back, settings, user="U0INES")
    limits.view(view, kind="home")
    assert "⚠️ v1 was taken back: more than 50% of the team's votes are 👎" in str(view)

    rolled_back.promotions.promote(decided(rolled_back, digest="c" * 64), actor="U0INES", reason="")
    vote(rolled_back, answered(rolled_back, adapter="c" * 64), 1, user="U0ASHA", role="agent")
    look_after(settings, rolled_back)

    text = str(home("admin", rolled_back, settings, user="U0INES"))
    assert "• v2 is watched: 1 vote of 1 person, 0 👎; evidence that more than 50% are 👎: 0.7 of 20" in text
    assert "is watched" not in str(home("agent", rolled_back, settings, user="U0ASHA"))


def test_the_monday_digest_says_what_the_watch_did(rolled_back: Ledger) -> None:
    week = period(rolled_back.connections, NOW - days(1), NOW + days(1))
    part = digest(week, week, NOW)

    assert part is not None and "*Watch*" in str(part.blocks) and "• v1 was taken back" in str(part.blocks)
    assert "rolled back to the base model, by" in str(part.blocks)


def test_the_command_line_looks_and_prints_the_looks_as_data(
    rolled_back: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(rolled_back.path.parent))
    rolled_back.promotions.promote(decided(rolled_back, digest="c" * 64), actor="U0INES", reason="")

    done = CliRunner().invoke(evenkeel.app, ["watch", "--json"])

    (look,) = json.loads(done.stdout)
    assert done.exit_code == 0 and look["verdict"] == "watching" and look["seen"]["own"] == []
    assert "nobody has voted" in look["said"]
