"""The worst items of a run: which, in which order, with what text."""

import json
from dataclasses import replace
from pathlib import Path

from eval.regressions import losses, said, worst
from eval.report import view
from storage.ledger import Ledger
from storage.records import Score, Scorecard
from tests.eval.cards import BASE, CANDIDATE, card, score
from tests.eval.test_report import decided_run


def keep(ledger: Ledger, run_id: int, subject: str, made: Scorecard) -> None:
    for one in made.scores:
        ledger.scores.add(one, base_digest=BASE, adapter_digest=made.adapter_digest)
    ledger.scores.add_card(made, run_id=run_id, subject=subject)


def changed(one: Score, **items: float) -> Score:
    """The score with other values for some items."""
    kept = tuple(replace(i, value=items.get(i.item_id, i.value)) for i in one.items)
    return replace(one, items=kept, key=one.key + "changed")


def test_a_report_names_the_items_that_lost_most_with_the_question_where_it_is_at_hand(
    ledger: Ledger, tmp_path: Path
) -> None:
    run_id = decided_run(ledger, support=1.0)
    base, candidate = card(None), card(CANDIDATE, support=1.0)
    support, text, choice = candidate.scores
    worse = (changed(support, i3=4.0, i4=2.0, i5=3.0), changed(text, i7=9.0), choice)
    keep(ledger, run_id, "base", base)
    keep(ledger, run_id, "candidate", replace(candidate, scores=worse))
    rows = [{"lesson_id": "i3", "messages": [{"role": "user", "content": "Where is\u2028my <parcel>?"}]}]
    (tmp_path / "holdout.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    ledger.lessons.add_dataset("d1", str(tmp_path), {})
    ledger.connections.db.execute("UPDATE runs SET dataset_digest='d1'")

    found = view(ledger, run_id)["regressions"]

    assert [(f["benchmark"], f["item_id"]) for f in found] == [
        ("open text · bits per byte", "i7"),
        ("support · bits per byte", "i3"),
        ("support · bits per byte", "i5"),
    ]
    assert found[1]["text"] == "Where is\u2028my <parcel>?" and found[0]["text"] == ""
    assert found[0]["after"] == "9.00 bits/byte"


def test_without_scorecards_or_losses_there_is_nothing_to_tell(ledger: Ledger) -> None:
    run_id = decided_run(ledger, support=1.0)
    assert view(ledger, run_id)["regressions"] == []
    keep(ledger, run_id, "base", card(None))
    keep(ledger, run_id, "candidate", replace(card(None), adapter_digest=CANDIDATE))

    assert view(ledger, run_id)["regressions"] == []


def test_at_most_two_of_a_benchmark_and_an_item_once() -> None:
    before = score("arc_easy", "p_correct", [0.9, 0.8, 0.7, 0.2], chance=0.25)
    after = changed(before, i0=0.1, i1=0.1, i2=0.1)
    found = list(losses(before, after))
    assert [x.item_id for x in worst(found + found)] == ["i0", "i1"]
    assert not list(losses(before, changed(before, i0=1.0))), "a gain is no loss"


def test_a_number_is_said_in_its_own_unit() -> None:
    guessed, shared = score("arc", "acc", [1.0], chance=0.25), score("support", "rouge_l", [0.5])
    assert (said(1.0, guessed), said(0.0, guessed), said(0.41, guessed)) == ("right", "wrong", "0.41")
    assert said(1.0, shared) == "1.00" and said(2.0, score("x", "bits_per_byte", [1.0])) == "2.00 bits/byte"
