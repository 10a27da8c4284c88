"""The items of a run that moved most: which, in which order, with what texts."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.moved import largest, moves, own_row, regressions, said
from eval.report import view
from eval.said import keep_said
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


def on_disk(ledger: Ledger, folder: Path, *rows: Mapping[str, Any]) -> None:
    """The run's dataset, whose holdout has these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "holdout.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    ledger.lessons.add_dataset("d1", str(folder), {})
    ledger.connections.db.execute("UPDATE runs SET dataset_digest='d1'")


def scored_run(ledger: Ledger, **items: float) -> tuple[int, Score, Score]:
    """A decided run whose candidate differs from its base in these items of support; the two scores of that."""
    run_id = decided_run(ledger, support=1.0)
    base = card(None)
    support, text, choice = base.scores
    before, after = replace(support, key="a" * 64), replace(changed(support, **items), key="b" * 64)
    keep(ledger, run_id, "base", replace(base, scores=(before, text, choice)))
    keep(ledger, run_id, "candidate", replace(base, adapter_digest=CANDIDATE, scores=(after, text, choice)))
    return run_id, before, after


LESSON = {"lesson_id": "i3", "messages": [{"role": "user", "content": "Where is it?"}], "answer": "On its way."}


def test_a_report_names_the_items_that_lost_most_with_the_question_where_it_is_at_hand(
    ledger: Ledger, tmp_path: Path
) -> None:
    run_id = decided_run(ledger, support=1.0)
    base, candidate = card(None), card(CANDIDATE, support=1.0)
    support, text, choice = candidate.scores
    worse = (changed(support, i3=4.0, i4=2.0, i5=3.0), changed(text, i7=9.0), choice)
    keep(ledger, run_id, "base", base)
    keep(ledger, run_id, "candidate", replace(candidate, scores=worse))
    on_disk(
        ledger,
        tmp_path,
        {"lesson_id": "i3", "messages": [{"role": "user", "content": "Where is\u2028my <parcel>?"}], "answer": "Here."},
    )

    shown = view(ledger, run_id)

    found = shown["items"]["lost"]
    assert [(f["benchmark"], f["item_id"]) for f in found] == [
        ("open text · bits per byte", "i7"),
        ("support · bits per byte", "i3"),
        ("support · bits per byte", "i5"),
    ]
    assert (found[1]["question"], found[1]["approved"]) == ("Where is\u2028my <parcel>?", "Here.")
    assert found[0]["question"] == "" and found[0]["after"] == "9.00 bits/byte"
    kept = ("benchmark", "item_id", "before", "after")
    assert shown["regressions"] == [{name: f[name] for name in kept} | {"text": f["question"]} for f in found]
    assert len(shown["items"]["gained"]) == 2, "two of a benchmark, of the 57 that gained"
    assert shown["items"]["said"] == "Of 180 items, 4 lost and 57 gained, however little."


def test_both_answers_are_shown_where_both_were_generated(ledger: Ledger, tmp_path: Path) -> None:
    run_id, before, after = scored_run(ledger, i3=4.0, i5=0.2)
    on_disk(ledger, tmp_path / "datasets" / "d1", LESSON)
    earlier = tmp_path / "datasets" / "d0"
    earlier.mkdir()
    keep_said(earlier, before.key, {"i3": "It is on its way.", "i5": "I don't know."})
    keep_said(tmp_path / "datasets" / "d1", after.key, {"i3": "No."})

    items = view(ledger, run_id)["items"]

    (lost,), (gained,) = items["lost"], items["gained"]
    assert (lost["base"], lost["candidate"]) == ("It is on its way.", "No."), (
        "the base's is of an earlier run's dataset"
    )
    assert (gained["base"], gained["candidate"]) == ("", ""), "one answer alone compares nothing"


def test_a_dataset_that_is_gone_or_damaged_leaves_the_numbers(ledger: Ledger, tmp_path: Path) -> None:
    run_id, before, after = scored_run(ledger, i3=4.0)
    folder = tmp_path / "datasets" / "d1"
    on_disk(ledger, folder, LESSON)
    numbers = {**view(ledger, run_id)["items"]["lost"][0], "question": "", "approved": ""}

    for name, damage in ((before.key, b"{"), (after.key, b"[1]"), (before.key, b'{"i3": 7}')):
        (folder / "said").mkdir(exist_ok=True)
        (folder / "said" / f"{name}.json").write_bytes(damage)
        assert view(ledger, run_id)["items"]["lost"][0]["base"] == ""
    (folder / "holdout.jsonl").write_bytes(b"\xff{")
    assert view(ledger, run_id)["items"]["lost"] == [numbers]
    folder.rename(tmp_path / "gone")
    assert view(ledger, run_id)["items"]["lost"] == [numbers]


def test_without_scorecards_or_changes_there_is_nothing_to_tell(ledger: Ledger) -> None:
    run_id = decided_run(ledger, support=1.0)
    assert view(ledger, run_id)["items"] == {"lost": [], "gained": [], "said": ""}
    keep(ledger, run_id, "base", card(None))
    keep(ledger, run_id, "candidate", replace(card(None), adapter_digest=CANDIDATE))

    assert view(ledger, run_id)["items"] == {"lost": [], "gained": [], "said": ""}
    assert view(ledger, run_id)["regressions"] == []


def test_at_most_two_of_a_benchmark_and_five_in_all_and_an_item_once() -> None:
    before = score("arc_easy", "p_correct", [0.9, 0.8, 0.7, 0.2], chance=0.25)
    after = changed(before, i0=0.1, i1=0.1, i2=0.1)
    found = list(moves(before, after))
    assert [x.item_id for x in largest(iter(found + found))] == ["i0", "i1"]
    assert all(move.size < 0 for move in found)
    assert [move.size > 0 for move in moves(before, changed(before, i0=1.0))] == [True]
    many = [replace(move, score=replace(before, benchmark=name)) for name in "abcd" for move in found]
    assert [move.score.benchmark for move in largest(iter(many))] == ["a", "b", "c", "d", "a"]


def test_a_gain_in_bits_per_byte_is_a_smaller_number() -> None:
    before = score("support", "bits_per_byte", [1.0, 2.0])
    assert [move.size for move in moves(before, changed(before, i1=1.5))] == [1.0]


def test_a_number_is_said_in_its_own_unit() -> None:
    guessed, shared = score("arc", "acc", [1.0], chance=0.25), score("support", "rouge_l", [0.5])
    assert (said(1.0, guessed), said(0.0, guessed), said(0.41, guessed)) == ("right", "wrong", "0.41")
    assert said(1.0, shared) == "1.00" and said(2.0, score("x", "bits_per_byte", [1.0])) == "2.00 bits/byte"


def test_the_projects_own_items_have_their_question_and_their_good_answer_at_hand() -> None:
    assert own_row("instructions", "instruction-001")[0].startswith("Is ice cold?")
    assert own_row("honesty.abstention", "abstention-en-01")[1].startswith("I can't know")
    assert own_row("over_refusal", "refusal-001")[0] and own_row("arithmetic", "arithmetic-001") == ("3 + 4 =", " 7")
    assert own_row("open_text.news", "text-news-en-01")[0].startswith("The town council")
    assert own_row("arc_easy", "q1") == own_row("instructions", "gone") == ("", "")


def test_slack_is_given_a_short_question() -> None:
    item = {"benchmark": "b", "item_id": "i", "before": "1", "after": "2", "question": "x" * 600, "approved": "secret"}
    (loss,) = regressions([item])
    assert set(loss) == {"benchmark", "item_id", "before", "after", "text"} and len(loss["text"]) == 300
