"""/retrain and /model: who may, what is understood, what is said."""

from dataclasses import replace
from typing import Any, cast

import pytest

from bot.commands import NOT_YOU, UNKNOWN, Commands
from bot.roles import Roles
from storage.ledger import Ledger
from storage.records import Adapter, Decision, RaterRole
from storage.settings import load_settings


class KnownRoles:
    """Roles that need no Slack."""

    def role_of(self, user: str) -> RaterRole:
        known: dict[str, RaterRole] = {"U0INES": "admin", "U0ASHA": "agent", "U0LOST": "unknown"}
        return known.get(user, "customer")


@pytest.fixture
def commands(ledger: Ledger) -> Commands:
    return Commands(settings=load_settings(_env_file=None), ledger=ledger, roles=cast(Roles, KnownRoles()))


def decided(ledger: Ledger, verdict: Any = "PROMOTE", digest: str = "a" * 64, run_id: int | None = None) -> int:
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
    champion = ledger.promotions.champion()
    decision = Decision(
        verdict=verdict,
        reasons=("because <@U1>",),
        comparisons=(),
        base_digest="b" * 64,
        champion_digest=champion.adapter_digest if champion else None,
        candidate_digest=digest,
        policy={},
    )
    return ledger.promotions.decide(decision, run_id=run_id, actor="worker")


def test_an_admin_queues_a_run(commands: Commands, ledger: Ledger) -> None:
    said = commands.retrain("U0INES", "lr=1e-3 epochs=2", "C0OPS")

    run = ledger.runs.active()
    assert said.startswith("Run 1 is queued")
    assert run is not None and run.overrides == {"learning_rate": 1e-3, "epochs": 2.0} and run.channel == "C0OPS"
    assert ledger.audits()[0]["action"] == "retrain"


@pytest.mark.parametrize(
    ("user", "said"), [("U0MIA", NOT_YOU), ("U0ASHA", NOT_YOU), ("U0LOST", UNKNOWN), ("", NOT_YOU)]
)
@pytest.mark.parametrize("text", ["", "cancel", "lr=nonsense", "force"])
def test_nobody_else_starts_or_cancels_one(commands: Commands, ledger: Ledger, user: str, said: str, text: str) -> None:
    assert commands.retrain(user, text, "C0OPS") == said
    assert ledger.runs.active() is None and ledger.audits()[0]["action"] == "retrain_refused"


@pytest.mark.parametrize(
    "text",
    [
        "--force; rm -rf /",
        "$(id)",
        "../../",
        "x" * 8000,
        "🙂",
        "lr=\n1",
        "epochs=-1",
        "rank=1e9",
        "lr=NaN",
        "lr=inf",
        "speed=9",
        "—force",
        "lr=“1e-3”",
        "rank=1.5",
        "=HYPERLINK()",
        "'); DROP TABLE runs;--",
        "\x1b[31m",
        "<!channel>",
        "lr=",
        "batch=999999999999",
        "rank=" + "9" * 400,
        "epochs=1_0",
        "rank=٣",
        "epochs=0x2",
        "lr=1e-3 please",
        "now and then",
        "\u202eecrof",
        "dry=yes",
    ],
)
def test_nonsense_starts_nothing_and_says_what_is_allowed(commands: Commands, ledger: Ledger, text: str) -> None:
    said = commands.retrain("U0INES", text, "C0OPS")

    assert ledger.runs.active() is None and not ledger.audits()
    assert "llowed" in said and "“" in said or "outside the allowed" in said
    assert "Traceback" not in said and "<!channel>" not in said and len(said) < 300


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("—force", "“—force”"),
        ("lr=1e-3 –epochs=2", "“–epochs=2”"),
        ("lr=NaN", "“NaN”"),
        ("rank=1e9", "“1e9”"),
        ("epochs=-1", "epochs=-1"),
        ("$(id)", "“$(id)”"),
        ("speed=9 lr=1e-3", "“speed=9”"),
        ("🙂", "“🙂”"),
        ("x" * 8192, "“" + "x" * 60 + "”"),
        ("lr=" + "1" * 8192, "“" + "1" * 40 + "”"),
        ("epochs=2\nbatch=four", "“four”"),
    ],
)
def test_a_refusal_names_the_word_that_it_stumbled_over(commands: Commands, text: str, named: str) -> None:
    assert named in commands.retrain("U0INES", text, "C0OPS")


@pytest.mark.parametrize("text", ["now", "NOW", "", "now now"])
def test_now_starts_with_the_settings_recipe(commands: Commands, ledger: Ledger, text: str) -> None:
    assert "Run 1 is queued" in commands.retrain("U0INES", text, "C0OPS")

    run = ledger.runs.active()
    assert run is not None and run.overrides == {}


def test_a_dry_run_is_asked_for_with_a_word_and_wants_no_force(commands: Commands, ledger: Ledger) -> None:
    assert "trains nothing" in commands.retrain("U0INES", "lr=1e-2 dry", "C0OPS")

    run = ledger.runs.active()
    assert run is not None and run.overrides == {"learning_rate": 1e-2, "dry_run": True}


def test_a_button_cancels_its_own_run_and_no_other(commands: Commands, ledger: Ledger) -> None:
    commands.retrain("U0INES", "now", "C0OPS")
    assert commands.cancel_run("U0MIA", "1") == NOT_YOU and commands.cancel_run("U0LOST", "1") == UNKNOWN
    assert [a["action"] for a in ledger.audits(2)] == ["cancel_refused"] * 2
    assert "no run that is known" in commands.cancel_run("U0INES", "77") + commands.cancel_run("U0INES", "no")
    assert ledger.runs.active() is not None

    assert "Run 1 is being cancelled" in commands.cancel_run("U0INES", "1")
    commands.retrain("U0INES", "now", "C0OPS")
    assert "already over" in commands.cancel_run("U0INES", "1")
    assert (ledger.runs.active() or pytest.fail()).run_id == 2


def test_a_rollback_decides_about_the_list_that_was_seen(commands: Commands, ledger: Ledger) -> None:
    first = ledger.promotions.promote(decided(ledger), actor="worker", reason="")
    seen = str(first.promotion_id)
    assert commands.rollback_seen("U0ASHA", "0", seen) == NOT_YOU
    assert "no version" in commands.rollback_seen("U0INES", "v", seen)
    assert "Look again" in commands.rollback_seen("U0INES", "0", "99")
    assert "cannot roll back" in commands.rollback_seen("U0INES", "7", seen)

    assert "base model is the champion again" in commands.rollback_seen("U0INES", "0", seen)
    assert "Look again" in commands.rollback_seen("U0INES", "1", seen)


def test_a_risky_recipe_needs_the_word_force(commands: Commands, ledger: Ledger) -> None:
    assert "force" in commands.retrain("U0INES", "lr=1e-2", "C0OPS") and ledger.runs.active() is None

    assert "queued" in commands.retrain("U0INES", "lr=1e-2 force", "C0OPS")


def test_a_second_run_is_told_which_one_is_active(commands: Commands) -> None:
    commands.retrain("U0INES", "", "C0OPS")

    assert "run 1" in commands.retrain("U0INES", "", "C0OPS")


def test_cancel_stops_the_active_run(commands: Commands, ledger: Ledger) -> None:
    assert "nothing to cancel" in commands.retrain("U0INES", "cancel", "C0OPS")
    commands.retrain("U0INES", "", "C0OPS")

    assert "Run 1 is being cancelled" in commands.retrain("U0INES", "cancel", "C0OPS")
    assert ledger.runs.active() is None


def test_help_is_for_everybody(commands: Commands) -> None:
    assert "learning_rate" in commands.retrain("U0MIA", "help", "C1") and "rollback" in commands.model("U0MIA", "help")


def test_versions_are_listed_with_date_and_name(commands: Commands, ledger: Ledger) -> None:
    assert "base model answers" in commands.model("U0MIA", "")
    ledger.promotions.promote(decided(ledger), actor="U0INES", reason="")

    said = commands.model("U0MIA", "list")

    assert "v1 answers now" in said and "<@U0INES>" in said and "not confirmed yet" in said


def test_only_admins_roll_back(commands: Commands, ledger: Ledger) -> None:
    ledger.promotions.promote(decided(ledger), actor="worker", reason="")

    assert commands.model("U0ASHA", "rollback") == NOT_YOU
    assert "no version" in commands.model("U0INES", "rollback ٣x")
    assert "cannot roll back" in commands.model("U0INES", "rollback 7")
    assert commands.model("U0INES", "rollback").startswith("The base model is the champion again")


def test_a_candidate_is_promoted_by_its_run(commands: Commands, ledger: Ledger) -> None:
    run_id = ledger.runs.request(reason="cli", requested_by="cli", overrides={})
    run = ledger.runs.claim(owner="w", lease_s=60)
    assert run is not None
    ledger.runs.advance(run, state="decided", lease_s=60, decision_id=decided(ledger, run_id=run_id))

    assert "no decision" in commands.model("U0INES", "promote 99") and "no decision" in commands.model(
        "U0INES", "promote x"
    )
    assert commands.model("U0MIA", "promote 1") == NOT_YOU
    assert commands.model("U0INES", "promote 1").startswith("v1 is the champion now")
    assert "Next: retrain" in commands.model("U0INES", "promote 1")


def test_a_refusal_shows_its_reasons_without_a_live_mention(commands: Commands, ledger: Ledger) -> None:
    run_id = ledger.runs.request(reason="cli", requested_by="cli", overrides={})
    run = ledger.runs.claim(owner="w", lease_s=60)
    assert run is not None
    ledger.runs.advance(run, state="decided", lease_s=60, decision_id=decided(ledger, "REFUSE", run_id=run_id))

    said = commands.model("U0INES", "promote 1")

    assert "REFUSE" in said and "&lt;@U1&gt;" in said


def test_ten_at_once_start_one(commands: Commands, ledger: Ledger) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(10) as pool:
        said = list(pool.map(lambda _: commands.retrain("U0INES", "", "C0OPS"), range(10)))

    assert sum(text.startswith("Run 1 is queued") for text in said) == 1
    assert replace(ledger.runs.active() or pytest.fail(), run_id=1).state == "requested"
