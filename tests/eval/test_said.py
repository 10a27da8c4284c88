"""What was said is kept beside the lessons, found again, and changes no number."""

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bot.engine.model import LoadedModel
from eval.own import instructions
from eval.said import find_said, keep_said
from eval.suite import Plan, score
from storage.digests import digest_of
from storage.forgetting import forget
from storage.ledger import Ledger
from storage.records import Dataset, Lesson, Scorecard
from training.dataset import TRAIN, digest_of_rows, load_dataset, save_dataset

Make = Callable[[str, int], tuple[Lesson, ...]]
ROWS = [
    {"id": f"n{i}", "prompt": f"Say {i}.", "checks": [{"kind": "one_of", "options": [str(i)]}]} for i in range(3)
]  # fmt: skip
PLAN = Plan(
    general=(instructions(ROWS, "Be brief."),),
    missing=(),
    seed=1,
    target_items=4,
    target_generations=4,
    max_new_tokens=4,
)


def measured(
    model: LoadedModel, ledger: Ledger, holdout: tuple[Lesson, ...], dataset: Path | None, run_id: int | None = None
) -> Scorecard:
    return score(
        model, None, plan=PLAN, holdout=holdout, ledger=ledger, progress=lambda *_: None, dataset=dataset, run_id=run_id
    )


def test_what_is_generated_is_kept_by_item_for_us_alone_and_changes_no_score(
    tiny_model: LoadedModel, ledger: Ledger, lessons: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "datasets" / "d1"
    folder.mkdir(parents=True)
    other = Ledger(tmp_path / "other.db")

    kept, plain = (
        measured(tiny_model, ledger, lessons("h", 8), folder),
        measured(tiny_model, other, lessons("h", 8), None),
    )

    other.close()
    assert [replace(s, seconds=0.0) for s in kept.scores] == [replace(s, seconds=0.0) for s in plain.scores]
    files = {path.stem: path for path in (folder / "said").iterdir()}
    rouge, passed = kept.get("support", "rouge_l"), kept.get("instructions", "pass")
    assert rouge and passed and set(files) == {rouge.key, passed.key}
    assert set(json.loads(files[rouge.key].read_text())) == {item.item_id for item in rouge.items}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    found = find_said(folder.parent, kept)
    assert {name for name, _ in found} == {"support", "instructions"} and len(found) == 7


def test_a_base_that_the_ledger_knows_finds_its_texts_in_the_dataset_of_the_run_that_measured_it(
    tiny_model: LoadedModel, ledger: Ledger, lessons: Make, tmp_path: Path
) -> None:
    earlier, later = tmp_path / "d1", tmp_path / "d2"
    earlier.mkdir()
    later.mkdir()

    first = measured(tiny_model, ledger, lessons("h", 8), earlier)
    second = measured(tiny_model, ledger, lessons("h", 8), later)

    assert second == first and not (later / "said").exists()
    assert find_said(tmp_path, second) == find_said(tmp_path, first) != {}
    (earlier / "said").rename(tmp_path / "gone")
    assert find_said(tmp_path, second) == {}


def test_a_folder_that_is_gone_stays_gone_and_costs_a_line_of_the_history(
    tiny_model: LoadedModel, ledger: Ledger, lessons: Make, tmp_path: Path
) -> None:
    forgotten, run_id = tmp_path / "forgotten", ledger.runs.request(reason="cli", requested_by="test", overrides={})

    card = measured(tiny_model, ledger, lessons("h", 8), forgotten, run_id)

    assert not forgotten.exists() and card.get("support", "rouge_l") and card.get("instructions", "pass")
    assert any("what was said is not kept" in note["text"] for note in ledger.runs.history(run_id))


def test_what_was_said_goes_with_the_dataset_of_somebody_who_is_forgotten(
    tiny_model: LoadedModel, ledger: Ledger, lessons: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "datasets" / "d1"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text(json.dumps({"conversation_id": "7", "customer": "U0EVA"}) + "\n")
    card = measured(tiny_model, ledger, lessons("h", 8), folder)

    assert forget(ledger, folder.parent, "U0EVA", actor="U0EVA").datasets == 1

    assert not folder.exists() and find_said(folder.parent, card) == {}
    assert measured(tiny_model, ledger, lessons("h", 8), folder) == card and not folder.exists()


def test_a_dataset_does_not_mind_what_was_said_beside_it(lessons: Make, tmp_path: Path) -> None:
    rows = Dataset(digest="", train=lessons("t", 4), holdout=lessons("h", 4), manifest={})
    dataset = replace(rows, digest=digest_of_rows(rows.train, rows.holdout))
    folder = save_dataset(dataset, tmp_path)
    keep_said(folder, digest_of("k"), {"h-0": "said"})

    assert load_dataset(folder) == dataset
    (folder / TRAIN).write_text("damaged")
    assert load_dataset(save_dataset(dataset, tmp_path)) == dataset
    assert json.loads((folder / "said" / f"{digest_of('k')}.json").read_text()) == {"h-0": "said"}


@pytest.mark.parametrize("text", ["", "\ud800 alone", "a\u2028b\n\x00", "日本語"])
def test_every_text_reads_back_as_it_was_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    keep_said(tmp_path / "d", "k", {"i": text})
    assert json.loads((tmp_path / "d" / "said" / "k.json").read_bytes()) == {"i": text}
