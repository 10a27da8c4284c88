"""/retrain's form, /model's list and the Cancel button, as admins meet them in the workspace; and who never gets in."""

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

from bot import report_card, retrain_form
from bot.commands import NOT_YOU, UNKNOWN
from bot.model_view import share_text, versions
from bot.outlook import data_warnings, dry_run_lines, estimate_text, lessons_text
from bot.retrain_form import LEVERS, OPTIONS, PROFILE, form, read
from storage.ledger import Ledger
from storage.outlook import Facts, look_ahead
from storage.recipe import Recipe
from storage.records import Answer, Question, RaterRole, RatingEvent, Ticket
from storage.runs import Pace
from storage.settings import load_settings
from tests.bot.conftest import OPS, SUPPORT, Live
from tests.bot.test_commands import decided
from tests.bot.test_report_card import run as some_run

SETTINGS = load_settings(_env_file=None, learn_from_slack=True)
NO_FACTS = Facts(
    total={"tickets": 0, "likes": 0, "corrections": 0, "taught": 0},
    new={"tickets": 0, "likes": 0, "corrections": 0, "taught": 0},
    corrections=0, busiest=("", 0), disputed=0, champion_base="", spoken_base="",
)  # fmt: skip


@pytest.fixture
def bare(live: Live) -> Iterator[Live]:
    """The running bot; what a test left of runs, versions, open modals and remembered roles is cleared."""
    yield live
    with live.ledger.connections.write() as db:
        db.execute("UPDATE runs SET state='cancelled', finished_at=requested_at WHERE finished_at IS NULL")
        for table in ("promotions", "decisions", "adapters", "audit"):
            db.execute(f"DELETE FROM {table}")
    for user in ("U0INES", "U0MIA", "U0JONAS"):
        while view := live.slack.view(user):
            live.slack.close(user, view["id"])
    _forget(live)


def _forget(live: Live) -> None:
    live.bot.reactions.roles._known.clear()


def opened(slack: Any, user: str, command: str, words: str, channel: str = OPS) -> dict[str, Any]:
    """The modal that a command shows, filled."""
    assert slack.command(user, command, "", channel) is not None
    return dict(slack.wait_for(lambda: (v := slack.view(user)) and words in json.dumps(v["blocks"]) and v, timeout=5))


def sent(slack: Any, user: str, view: dict[str, Any], *flags: str, **values: str) -> dict[str, Any]:
    """Fill the form in and send it; what Slack showed then."""
    given: dict[str, Any] = {n: {n: {"type": "plain_text_input", "value": text}} for n, text in values.items()}
    given[OPTIONS] = {OPTIONS: {"type": "checkboxes", "selected_options": [{"value": flag} for flag in flags]}}
    return dict(slack.submit(user, view["id"], given))


def told(slack: Any, user: str, words: str, since: int = 0) -> None:
    slack.wait_for(lambda: any(words in m["text"] for m in slack.ephemerals(user)[since:]), timeout=5)


def test_the_form_starts_a_run_with_what_was_typed(slack: Any, bare: Live) -> None:
    view = opened(slack, "U0INES", "/retrain", "Lessons")

    assert sent(slack, "U0INES", view, learning_rate=" 2e-3 ", epochs="1") == {}

    run = bare.ledger.runs.active()
    assert run is not None and run.overrides == {"learning_rate": 2e-3, "epochs": 1.0} and run.channel == OPS
    assert (run.reason, run.requested_by) == ("command", "U0INES")
    told(slack, "U0INES", f"Run {run.run_id} is queued")
    assert slack.view("U0INES") is None


def test_the_form_says_at_the_field_what_is_wrong_and_starts_nothing(slack: Any, bare: Live) -> None:
    view = opened(slack, "U0INES", "/retrain", "Lessons")

    wrong = sent(slack, "U0INES", view, learning_rate="NaN", epochs="3 times", lora_rank="1e9")["errors"]
    assert wrong.keys() == {"learning_rate", "epochs", "lora_rank"} and "“3 times”" in wrong["epochs"]
    risky = sent(slack, "U0INES", view, learning_rate="1e-2", epochs="1", lora_rank="16")["errors"]
    assert (
        risky.keys() == {"learning_rate"} and "diverges" in risky["learning_rate"] and "Tick" in risky["learning_rate"]
    )
    assert bare.ledger.runs.active() is None

    assert sent(slack, "U0INES", view, "force", learning_rate="1e-2", epochs="1", lora_rank="16") == {}
    run = bare.ledger.runs.active()
    assert run is not None and run.overrides["force"] is True


def test_a_second_form_is_told_which_run_is_active(slack: Any, bare: Live) -> None:
    view = opened(slack, "U0INES", "/retrain", "Lessons")
    active = bare.ledger.runs.request(reason="cron", requested_by="clock", overrides={})

    errors = sent(slack, "U0INES", view)["errors"]

    assert f"run {active} (requested, asked by clock) is active" in errors[OPTIONS]
    assert "a second one can start when it is over" in str(opened(slack, "U0INES", "/retrain", "Lessons")["blocks"])


def test_a_dry_run_is_ticked_and_its_message_says_what_it_found(slack: Any, bare: Live) -> None:
    view = opened(slack, "U0INES", "/retrain", "Lessons")
    assert sent(slack, "U0INES", view, "dry_run", learning_rate="1e-2") == {}
    ledger = bare.ledger
    run = ledger.runs.claim(owner="w", lease_s=60)
    assert run is not None and run.overrides == {"dry_run": True, "learning_rate": 1e-2}
    told(slack, "U0INES", f"Dry run {run.run_id} is queued")

    found = {"train": 80, "holdout": 20, "sources": {"ticket": 64, "replay": 16}, "dropped": {}, "redacted": {},
             "warnings": [], "refusal": "", "seconds": 600}  # fmt: skip
    ledger.runs.report_progress(run, {"dry_run": found}, lease_s=60)
    ledger.runs.advance(run, state="decided", lease_s=60)

    def card() -> bool:
        said = [str(m["blocks"]) for m in slack.messages(OPS) if f"Run {run.run_id}*" in str(m.get("blocks"))]
        return any("80 rows to train on (64 tickets, 16 general), 20 held out" in text for text in said)

    slack.wait_for(card, timeout=8)


def test_whoever_lost_the_role_meanwhile_starts_nothing(slack: Any, bare: Live) -> None:
    view = opened(slack, "U0INES", "/retrain", "Lessons")
    _forget(bare)
    slack.set_user("U0INES", deleted=True)
    try:
        errors = sent(slack, "U0INES", view)["errors"]
    finally:
        slack.set_user("U0INES", deleted=False)

    assert errors == {OPTIONS: NOT_YOU} and bare.ledger.runs.active() is None
    assert bare.ledger.audits()[0]["action"] == "retrain_refused"


def test_where_the_bot_is_no_member_the_form_still_answers(slack: Any, bare: Live) -> None:
    slack.set_members("C0GENERAL", "U0INES")
    view = opened(slack, "U0INES", "/retrain", "Lessons", "C0GENERAL")

    assert sent(slack, "U0INES", view) == {}

    told(slack, "U0INES", f"Run {(bare.ledger.runs.active() or pytest.fail()).run_id} is queued")


def test_a_locked_ledger_starts_nothing_and_says_so_at_the_form(
    slack: Any, bare: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrain_form, "PATIENCE_S", 0.2)
    view = opened(slack, "U0INES", "/retrain", "Lessons")
    other = sqlite3.connect(bare.ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        errors = sent(slack, "U0INES", view)["errors"]
    finally:
        other.execute("ROLLBACK")
        other.close()

    assert "locked" in errors[OPTIONS] and bare.ledger.runs.active() is None


@pytest.mark.parametrize("method", ["views.open", "views.update"])
def test_without_a_form_the_command_says_how_to_go_on(slack: Any, bare: Live, method: str) -> None:
    since = len(slack.ephemerals("U0INES"))
    slack.fault(method, "error", code="expired_trigger_id", times=1)
    slack.command("U0INES", "/retrain", "", OPS)

    told(slack, "U0INES", "`/retrain now` starts a run", since)
    assert bare.ledger.runs.active() is None


@pytest.mark.parametrize(
    "flaw",
    [
        {"deleted": True},
        {"is_restricted": True},
        {"is_ultra_restricted": True},
        {"team_id": "T0OTHER"},
        {"is_stranger": True},
        {"is_bot": True},
    ],
    ids=lambda flaw: next(iter(flaw)),
)
@pytest.mark.parametrize("text", ["", "now"])
def test_a_named_admin_who_is_no_full_living_member_is_refused(
    slack: Any, bare: Live, flaw: dict[str, Any], text: str
) -> None:
    _forget(bare)
    since = len(slack.ephemerals("U0INES"))
    slack.set_user("U0INES", **flaw)
    try:
        assert slack.command("U0INES", "/retrain", text, OPS) is not None
        told(slack, "U0INES", "Only admins", since)
    finally:
        slack.set_user("U0INES", **{k: "T0DEMO" if k == "team_id" else False for k in flaw})

    assert bare.ledger.runs.active() is None and slack.view("U0INES") is None
    assert (bare.ledger.audits()[0]["actor"], bare.ledger.audits()[0]["action"]) == ("U0INES", "retrain_refused")


def test_a_name_like_an_admins_opens_no_door(slack: Any, bare: Live) -> None:
    slack.add_user("U0FORGER", "ines")
    slack.set_members(OPS, "U0INES", "U0ASHA", "U0TOM", "U0EVENKEEL", "U0FORGER")

    slack.command("U0FORGER", "/retrain", "now", OPS)

    told(slack, "U0FORGER", "Only admins")
    assert bare.ledger.runs.active() is None and bare.ledger.audits()[0]["actor"] == "U0FORGER"


def test_a_role_that_slack_does_not_tell_means_no(slack: Any, bare: Live) -> None:
    _forget(bare)
    slack.fault("users.info", "error", code="internal_error")

    slack.command("U0INES", "/retrain", "", OPS)

    told(slack, "U0INES", UNKNOWN)
    assert slack.view("U0INES") is None and bare.ledger.runs.active() is None


def test_of_ten_at_once_one_starts_and_nine_are_told_which(slack: Any, bare: Live) -> None:
    since = len(slack.ephemerals("U0INES"))
    with ThreadPoolExecutor(10) as pool:
        acks = list(pool.map(lambda _: slack.command("U0INES", "/retrain", "now", OPS), range(10)))

    assert len(acks) == 10 and None not in acks
    slack.wait_for(lambda: len(slack.ephemerals("U0INES")) == since + 10, timeout=8)
    said = [m["text"] for m in slack.ephemerals("U0INES")[since:]]
    (run,) = bare.ledger.runs.recent(1)
    assert sum("is queued" in text for text in said) == 1
    assert sum(f"run {run.run_id} (" in text and "one run at a time" in text for text in said) == 9


def test_the_live_message_cancels_its_run(slack: Any, bare: Live) -> None:
    slack.command("U0INES", "/retrain", "now", OPS)
    ledger = bare.ledger
    run = slack.wait_for(lambda: (r := ledger.runs.active()) and r.message_ts and r, timeout=5)
    since = len(slack.ephemerals("U0ASHA"))

    slack.click("U0ASHA", OPS, run.message_ts, "evenkeel_cancel_run")
    told(slack, "U0ASHA", "Only admins", since)
    assert ledger.runs.active() is not None
    slack.click("U0INES", OPS, run.message_ts, "evenkeel_cancel_run")
    told(slack, "U0INES", f"Run {run.run_id} is being cancelled")

    ended = slack.wait_for(lambda: (r := ledger.runs.get(run.run_id)) and r.state == "cancelled" and r, timeout=5)

    def blocks() -> str:
        return str([m.get("blocks") for m in slack.messages(OPS) if m["ts"] == ended.message_ts])

    slack.wait_for(lambda: "Cancelled" in blocks() and "evenkeel_cancel_run" not in blocks(), timeout=5)


def test_a_run_that_is_being_cancelled_shows_no_second_button() -> None:
    assert "evenkeel_cancel_run" in str(report_card.progress(some_run(progress={"stage": "training"})).blocks)
    assert "evenkeel_cancel_run" not in str(report_card.progress(some_run(cancel_requested=True)).blocks)


# /model


def test_everybody_sees_the_versions_and_admins_go_back_with_one_confirmed_click(slack: Any, bare: Live) -> None:
    ledger = bare.ledger
    for digest in ("a" * 64, "c" * 64):
        ledger.promotions.promote(decided(ledger, digest=digest), actor="U0INES", reason="")
    ledger.promotions.confirm(2, "ok")

    seen = opened(slack, "U0MIA", "/model", "v2 answers now", SUPPORT)
    assert "evenkeel_rollback" not in str(seen["blocks"]) and "adapter aaaaaaaaaaaa" in str(seen["blocks"])
    view = opened(slack, "U0INES", "/model", "v2 answers now")
    buttons = [b["accessory"] for b in view["blocks"] if "accessory" in b]
    assert [b["text"]["text"] for b in buttons] == ["Roll back to v1", "Roll back to base"]
    assert all(b["confirm"]["text"]["text"] for b in buttons)

    slack.click_in_view("U0INES", view["id"], "evenkeel_rollback", "1")
    slack.wait_for(lambda: "v1 is the champion again" in str(slack.view("U0INES")), timeout=5)

    champion = ledger.promotions.champion()
    assert champion is not None and (champion.version, champion.actor) == (1, "U0INES")
    assert "Go back to v2" in str(slack.view("U0INES"))


def test_a_stale_list_rolls_nothing_back(slack: Any, bare: Live) -> None:
    ledger = bare.ledger
    ledger.promotions.promote(decided(ledger), actor="U0INES", reason="")
    view = opened(slack, "U0INES", "/model", "v1 answers now")
    ledger.promotions.promote(decided(ledger, digest="c" * 64), actor="gate", reason="")

    slack.click_in_view("U0INES", view["id"], "evenkeel_rollback", "0")
    slack.wait_for(lambda: "Look again" in str(slack.view("U0INES")), timeout=5)

    assert (ledger.promotions.champion() or pytest.fail()).version == 2
    assert "v2 answers now" in str(slack.view("U0INES"))


def test_a_list_that_cannot_be_shown_comes_as_a_private_message(slack: Any, bare: Live) -> None:
    bare.ledger.promotions.promote(decided(bare.ledger), actor="U0INES", reason="")
    slack.fault("views.open", "error", code="expired_trigger_id")

    slack.command("U0JONAS", "/model", "list", SUPPORT)

    told(slack, "U0JONAS", "v1 answers now")


def test_ten_versions_fit_and_the_newest_stands_first(ledger: Ledger) -> None:
    for n in range(14):
        ledger.promotions.promote(decided(ledger, digest=f"{n:064x}"), actor="<!channel>", reason="")
    ledger.promotions.rollback(actor="U0INES", reason="", to_version=3)

    view = versions(ledger.promotions.history(), {None: (3, 1)}, admin=True, channel=OPS, said="")

    texts = [b["text"]["text"] for b in view["blocks"]]
    assert texts[0].startswith("*v3 answers now*") and texts[1].startswith("*v14*") and len(texts) == 12
    assert "75% 👍 of 4 votes" in texts[-1] and "<!channel>" not in str(view)
    assert share_text(None) == "no votes yet"


# What the form says


def rated(ledger: Ledger, ts: str, votes: dict[tuple[str, RaterRole], int], adapter: str | None = None) -> int:
    """An answered question with these votes; the exchange's id."""
    at = ledger.clock()
    question = Question(team="T", channel="C", thread_ts=ts, ts=ts, asker="U", text="q", asked_at=at,
                        messages=({"role": "user", "content": "q"},))  # fmt: skip
    exchange_id = ledger.exchanges.open(question)
    ledger.exchanges.record(
        exchange_id,
        Answer(role="tuned", status="ok", text="a", base_digest="b" * 64, adapter_digest=adapter, answered_at=at),
    )
    with ledger.connections.write() as db:
        db.execute(
            "INSERT INTO messages(exchange_id, part, team, channel, ts, state) VALUES (?,1,'T','C',?,'final')",
            (exchange_id, ts),
        )
    for (user, role), sign in votes.items():
        ledger.ratings.add(RatingEvent(event_id=f"{ts}{user}", team="T", channel="C", ts=ts, user=user, role=role, sign=sign,
                                       reaction=f"r{sign}", action="add", event_ts=f"{at.timestamp():.6f}"))  # fmt: skip
    return exchange_id


def test_lessons_are_counted_by_source_and_by_age(ledger: Ledger) -> None:
    old = [
        Ticket(ticket_id=f"t{n}", conversation_id=f"c{n}", question=f"q{n}", answer="a", approved=n > 0)
        for n in range(4)
    ]
    ledger.lessons.import_tickets(old, file="t", file_digest="f", columns={}, actor="x")
    first = rated(ledger, "1.1", {("U0ASHA", "agent"): 1})
    ledger.lessons.correct(first, author="U0ASHA", role="agent", text="better")
    ledger.runs.cancel(ledger.runs.request(reason="cli", requested_by="x", overrides={}))
    ledger.runs.cancel(ledger.runs.request(reason="cli", requested_by="x", overrides={"dry_run": True}))
    rated(ledger, "1.2", {("U0ASHA", "agent"): 1, ("U0MIA", "customer"): -1})
    rated(ledger, "1.3", {("U0ASHA", "agent"): 1, ("U0TOM", "agent"): -1})
    rated(ledger, "1.4", {("U0MIA", "customer"): 1})

    facts = look_ahead(ledger.connections)

    assert facts.total == {"tickets": 3, "likes": 1, "picks": 0, "corrections": 1, "taught": 0}
    assert facts.new == {"tickets": 0, "likes": 1, "picks": 0, "corrections": 0, "taught": 0}
    assert (facts.busiest, facts.disputed, facts.spoken_base, facts.champion_base) == (("U0ASHA", 1), 1, "b" * 64, "")
    assert (
        facts.total["likes"] == len(ledger.lessons.liked())
        and ledger.lessons.count_since_last_run(with_slack=True) == 1
    )
    assert "likes: *1* new, 1 in all" in lessons_text(facts, SETTINGS) and "36 are missing" in lessons_text(
        facts, SETTINGS
    )


def test_votes_belong_to_the_adapter_that_answered(ledger: Ledger) -> None:
    decided(ledger)
    rated(ledger, "1.1", {("U0ASHA", "agent"): 1, ("U0MIA", "customer"): -1})
    rated(ledger, "1.2", {("U0ASHA", "agent"): 1, ("U0MIA", "customer"): 1}, adapter="a" * 64)

    assert ledger.promotions.votes() == {None: (1, 1), "a" * 64: (2, 0)}


@pytest.mark.parametrize(
    ("changes", "learn", "says"),
    [
        ({"total": {"tickets": 90, "likes": 5, "corrections": 2, "taught": 1}}, False, "8 lessons from Slack wait"),
        ({"total": {"tickets": 90}, "corrections": 9, "busiest": ("U0ASHA", 5)}, True, "<@U0ASHA> wrote 5 of 9"),
        ({"total": {"tickets": 90}, "disputed": 3}, True, "disagree about 3 answers"),
        ({"total": {"tickets": 20}}, True, "Too few lessons"),
        (
            {"total": {"tickets": 90}, "champion_base": "b1", "spoken_base": "b2"},
            True,
            "made for base b1, but b2 speaks",
        ),
        ({"total": {"tickets": 90}, "corrections": 9, "busiest": ("U0ASHA", 4)}, True, ""),
        ({"total": {"tickets": 90}, "corrections": 2, "busiest": ("U0ASHA", 2)}, True, ""),
        ({"total": {"tickets": 90}, "champion_base": "b1", "spoken_base": "b1"}, True, ""),
    ],
)
def test_data_that_speaks_against_a_run_is_named(changes: dict[str, Any], learn: bool, says: str) -> None:
    found = data_warnings(replace(NO_FACTS, **changes), load_settings(_env_file=None, learn_from_slack=learn))

    assert (len(found) == 1 and says in found[0]) if says else found == []


def test_the_time_is_estimated_from_past_runs_or_not_at_all() -> None:
    facts = replace(NO_FACTS, total={"tickets": 1000})
    recipe = Recipe(epochs=2, replay_share=0.2)

    assert "no history: the first run is the estimate" in estimate_text(facts, SETTINGS, recipe, None)
    pace = Pace(seconds_per_row=0.5, other_s=200, runs=3)
    assert "about 19 min for 2 epochs, going by the median of the last 3 runs" in estimate_text(
        facts, SETTINGS, recipe, pace
    )


def test_every_lever_shows_its_ranges_and_its_value() -> None:
    view = form(NO_FACTS, SETTINGS, None, None, "{}")

    inputs = {b["block_id"]: b for b in view["blocks"] if b["type"] == "input"}
    assert inputs.keys() == {PROFILE, *LEVERS, OPTIONS}
    assert inputs[PROFILE]["element"]["initial_option"]["value"] == "standard"
    assert inputs["epochs"]["element"]["placeholder"]["text"] == "2"
    assert inputs["learning_rate"]["element"]["placeholder"]["text"] == "chosen by the base's width"
    assert inputs["lora_rank"]["hint"]["text"] == "safe 4 to 64, allowed 1 to 256"


def test_slacks_own_models_find_no_fault_in_the_views(ledger: Ledger) -> None:
    facts = replace(NO_FACTS, total={"tickets": 9, "likes": 9}, new={"tickets": 1, "likes": 1}, corrections=9,
                    busiest=("U0ASHA", 9), disputed=2, champion_base="b1", spoken_base="b2")  # fmt: skip
    ledger.promotions.promote(decided(ledger), actor="U0INES", reason="")
    views = (
        form(facts, SETTINGS, Pace(seconds_per_row=1, other_s=1, runs=1), some_run(), "{}"),
        versions(ledger.promotions.history(), {}, admin=True, channel=OPS, said="v1 is the champion again."),
    )
    for view in views:
        View(**view).validate_json()
    for block in (*(b for view in views for b in view["blocks"]), *report_card.progress(some_run()).blocks):
        parsed = Block.parse(block)
        assert parsed is not None
        parsed.validate_json()


@pytest.mark.parametrize("value", ["—2", "NaN", "1e9", "-1", "x" * 40, "1\n2", "🙂", "$(id)", "inf", "“2”"])
@pytest.mark.parametrize("name", LEVERS)
def test_nonsense_in_a_field_is_refused_by_name(name: str, value: str) -> None:
    _, errors = read({name: {name: {"value": value}}, OPTIONS: {OPTIONS: {"selected_options": []}}}, SETTINGS)

    assert errors.keys() == {name} and "Nothing was started" in errors[name] and len(errors[name]) < 150


def test_a_profile_is_one_choice_and_only_another_than_the_settings_is_an_override() -> None:
    def chosen(name: str) -> tuple[dict[str, Any], dict[str, str]]:
        return read({PROFILE: {PROFILE: {"type": "static_select", "selected_option": {"value": name}}}}, SETTINGS)

    assert chosen("gentle") == ({"profile": "gentle"}, {}) and chosen("standard") == ({}, {})
    _, errors = chosen("wild")
    assert errors.keys() == {PROFILE} and "Allowed: gentle, standard, strong" in errors[PROFILE]


def test_a_risky_setting_is_named_at_its_field_though_nobody_typed_it() -> None:
    risky = load_settings(_env_file=None, epochs=9, max_tokens=64)

    assert read({}, risky)[1].keys() == {"epochs", OPTIONS}
    assert read({}, load_settings(_env_file=None, epochs=99))[1].keys() == {OPTIONS}


def test_a_dry_runs_card_says_what_would_stop_a_run() -> None:
    found = {"train": 9, "holdout": 2, "sources": {"ticket": 9}, "dropped": {"not approved": 4, "no consent": 0}, "redacted": {"email": 3},
             "findings": [{"kind": "contradiction", "done": "warned", "count": 3, "examples": ["a ≠ <b>", "c ≠ d", "e"], "note": "both stay"}],
             "warnings": ["4 steps are few"], "refusal": "9 lessons <b>", "seconds": None}  # fmt: skip
    lines = dry_run_lines(some_run(state="decided", progress={"dry_run": found}))

    said = "\n".join(lines)
    assert "⚠️ contradiction: 3 (a ≠ &lt;b&gt;, c ≠ d); both stay.\n" in said and "⚠️ 4 steps are few" in said
    assert "Left out: 4 not approved.\n" in said and "3 email" in said and "would stop: 9 lessons &lt;b&gt;" in said
    assert "Nothing was trained" in said and dry_run_lines(some_run()) == []
    assert "Dry run" in str(report_card.ended(some_run(state="decided", progress={"dry_run": found})).blocks)
