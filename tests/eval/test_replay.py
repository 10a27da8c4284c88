"""A decision comes out the same from the ledger alone, and whoever touched a row is found."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eval.commands import app
from eval.gate import Policy, decide
from eval.replay import first_difference, replay
from storage.clock import utc_now
from storage.errors import EvenkeelError, GateSaidNo, UsageError
from storage.ledger import Ledger
from storage.records import Adapter, Decision, Scorecard
from tests.eval.cards import CANDIDATE, CHAMPION, card


def keep(ledger: Ledger, *cards: Scorecard) -> None:
    for one in cards:
        for score in one.scores:
            ledger.scores.add(score, base_digest=one.base_digest, adapter_digest=one.adapter_digest)


def named(one: Scorecard, name: str) -> Scorecard:
    return replace(one, scores=tuple(replace(s, key=f"{name}/{s.benchmark}") for s in one.scores))


def decided(ledger: Ledger, **candidate: Any) -> int:
    base, champion = named(card(None), "base"), named(card(CHAMPION, support=1.05), "champion")
    tried = named(card(CANDIDATE, **candidate), f"candidate {candidate}")
    keep(ledger, base, champion, tried)
    made = decide(base=base, champion=champion, candidate=tried, policy=Policy(margin_points=9.0))
    return ledger.promotions.decide(made, run_id=None, actor="gate")


def touch(ledger: Ledger, statement: str) -> None:
    with ledger.connections.write() as db:
        db.execute(statement)


@pytest.mark.parametrize(
    ("candidate", "verdict"),
    [
        ({"support": 1.0}, "PROMOTE"),
        ({"support": 1.0, "text": 1.53}, "REFUSE"),
        ({"support": 1.06, "wobble": 5}, "HOLD"),
    ],
)
def test_a_decision_is_made_again_byte_for_byte(ledger: Ledger, candidate: dict[str, Any], verdict: str) -> None:
    number = decided(ledger, **candidate)

    again = replay(ledger, number)

    assert (again.verdict, again.difference, again.scores, again.items) == (verdict, "", 9, 540)
    assert ledger.verify() == ()


def test_a_changed_item_is_named_by_verify_and_by_the_replay(ledger: Ledger) -> None:
    number = decided(ledger, support=1.0)
    touch(
        ledger,
        'UPDATE scores SET items = replace(items, \'["i3", "c1", \', \'["i3", "c1", 1\') WHERE key=\'base/open_text\'',
    )

    assert "score open_text (bits_per_byte, base/open_te) was changed since" in replay(ledger, number).difference
    assert ledger.verify() == ("decision 1: base's score open_text (bits_per_byte, base/open_te) was changed since",)


def test_nothing_is_promoted_on_a_changed_score_and_another_decisions_score_does_not_matter(ledger: Ledger) -> None:
    other, number = decided(ledger, support=1.0, wobble=3), decided(ledger, support=1.0)
    assert other != number
    for key, said in (
        ("candidate {'support': 1.0, 'wobble': 3}/support", "compared with champion"),
        ("base/open_text", "base's score open_text"),
    ):
        touch(ledger, f"""UPDATE scores SET items = replace(items, '"i3"', '"i333"') WHERE key="{key}" """)

        with pytest.raises(GateSaidNo, match=said):
            ledger.promotions.promote(number, actor="gate", reason="r")


def test_a_score_that_is_gone_is_named(ledger: Ledger) -> None:
    number = decided(ledger, support=1.0)
    touch(ledger, "DELETE FROM scores WHERE key='champion/support'")

    assert "score champion/sup is gone" in replay(ledger, number).difference
    assert any("champion's score champion/sup is gone" in fault for fault in ledger.verify())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE decisions SET actor='somebody'",
        "UPDATE decisions SET at='2020-01-01T00:00:00+00:00'",
        "UPDATE decisions SET form=1",
        "UPDATE decisions SET body=replace(body, '\"margin_points\": 9.0', '\"margin_points\": 90.0')",
        "UPDATE decisions SET previous='x'",
    ],
    ids=["who", "when", "form", "policy", "link"],
)
def test_no_column_of_a_decision_can_be_changed_unseen(ledger: Ledger, change: str) -> None:
    number = decided(ledger, support=1.0)
    touch(ledger, change)

    assert "the chain is broken here" in replay(ledger, number).difference
    assert "decision 1: the chain is broken here" in ledger.verify()


def test_a_forged_chain_still_does_not_come_out_the_same(ledger: Ledger) -> None:
    number = decided(ledger, support=1.0, text=1.53)
    stored = ledger.promotions.decision(number)
    assert stored
    forged = replace(stored, verdict="PROMOTE", reasons=("all is well",))

    lie = ledger.promotions.decide(forged, run_id=None, actor="somebody")

    assert ledger.verify() == () and replay(ledger, lie).difference == 'verdict: "PROMOTE" stored, "REFUSE" now'


@pytest.mark.parametrize("change", ["actor='somebody'", "reason='x'", "version=7", "at='2020-01-01T00:00:00+00:00'"])
def test_a_changed_promotion_is_named_and_the_engines_word_is_no_change(ledger: Ledger, change: str) -> None:
    number = decided(ledger, support=1.0)
    ledger.lessons.add_adapter(
        Adapter(digest=CANDIDATE, base_digest="b" * 64, dataset_digest="d", path="p", recipe={}, run_id=None, stats={}, created_at=utc_now())
    )  # fmt: skip
    touch(
        ledger,
        f"INSERT INTO adapters SELECT '{CHAMPION}', base_digest, dataset_digest, path, recipe, run_id, stats, created_at FROM adapters",
    )
    first = ledger.promotions.decide(champion_decision(ledger, number), run_id=None, actor="gate")
    ledger.promotions.promote(first, actor="gate", reason="r")
    promoted = ledger.promotions.promote(number, actor="gate", reason="r")
    ledger.promotions.confirm(promoted.promotion_id, "ok")
    assert ledger.verify() == ()

    touch(ledger, f"UPDATE promotions SET {change} WHERE promotion_id=1")

    assert "promotion 1: the chain is broken here" in ledger.verify()


def champion_decision(ledger: Ledger, number: int) -> Decision:
    stored = ledger.promotions.decision(number)
    assert stored
    return replace(stored, candidate_digest=CHAMPION, champion_digest=None)


def test_a_chain_whose_end_was_cut_off_is_noticed_by_the_run(ledger: Ledger) -> None:
    run_id = ledger.runs.request(reason="cli", requested_by="me", overrides={})
    run = ledger.runs.claim(owner="test", lease_s=60)
    assert run
    ledger.runs.advance(run, state="decided", lease_s=60, decision_id=decided(ledger, support=1.0))
    touch(ledger, "DELETE FROM decisions")

    assert ledger.verify() == (f"run {run_id}: its decision 1 is gone",)


def test_what_cannot_be_replayed_says_why(ledger: Ledger) -> None:
    number = decided(ledger, support=1.0)
    stored = ledger.promotions.decision(number)
    assert stored
    old = ledger.promotions.decide(replace(stored, evidence={}), run_id=None, actor="gate")

    with pytest.raises(UsageError, match="no decision 9"):
        replay(ledger, 9)
    with pytest.raises(UsageError, match="before decisions kept their evidence"):
        replay(ledger, old)


def test_the_first_difference_is_named_by_its_place() -> None:
    assert first_difference({"a": [{"b": 1}]}, {"a": [{"b": 1}]}) == ""
    assert first_difference({"a": [{"b": 1}]}, {"a": [{"b": 2}]}) == "a[0].b: 1 stored, 2 now"
    assert first_difference({"a": []}, {}) == ': {"a":[]} stored, {} now'


def test_the_command_says_it_in_one_line_and_fails_on_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    ledger = Ledger(tmp_path / "evenkeel.db")
    decided(ledger, support=1.0)

    good, as_json = CliRunner().invoke(app, ["replay", "1"]), CliRunner().invoke(app, ["replay", "1", "--json"])
    touch(ledger, "DELETE FROM scores WHERE key='base/arc_easy'")
    bad = CliRunner().invoke(app, ["replay", "1"])
    ledger.close()

    assert good.exit_code == 0 and "came out the same, byte for byte: PROMOTE" in " ".join(good.output.split())
    assert json.loads(as_json.stdout)["difference"] == ""
    assert isinstance(bad.exception, EvenkeelError) and "score base/arc_eas is gone" in str(bad.exception)


def test_a_plan_names_the_items_and_the_looks() -> None:
    said = CliRunner().invoke(app, ["plan", "--margin", "3", "--discordance", "8", "--json"])

    found = json.loads(said.stdout)
    assert found["one_look"] == 762 and found["items"] == found["looks"][-1] > 762 and len(found["boundaries"]) == 6
