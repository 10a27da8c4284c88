"""`evenkeel data` as a person types it: what is printed, what is written, with which exit code it ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from evenkeel import app
from storage.errors import EvenkeelError, TooLittleData, UsageError
from storage.ledger import Ledger
from storage.records import Question
from tests.training.test_inputs_data import row
from tests.training.test_lint import lesson
from tests.training.test_preferences import Team
from training.dataset import load_dataset
from training.with_base import answer_log_probs, tokens_of

Data = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    """Runs `evenkeel data …` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LEARN_FROM_SLACK", "true")
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(app, ["data", *words])


def fill(tmp_path: Path, count: int = 80, **changes: Any) -> None:
    path = tmp_path / "tickets.jsonl"
    path.write_text("\n".join(json.dumps(row(n, customer=f"k{n % 30}", **changes)) for n in range(count)))
    done = CliRunner().invoke(app, ["import", str(path), "--json"])
    assert json.loads(done.stdout)["added"] == count


def correct(tmp_path: Path, text: str) -> None:
    ledger = Ledger(tmp_path / "var" / "evenkeel.db")
    messages = ({"role": "user", "content": "Where is the new page of help, please?"},)
    number = ledger.exchanges.open(
        Question(team="T", channel="C", thread_ts="1.1", ts="1.1", asker="U0MIA", text=messages[0]["content"], messages=messages,
                 asked_at=ledger.clock())
    )  # fmt: skip
    ledger.lessons.correct(number, author="U0EVE", role="agent", text=text)
    ledger.close()


def test_lint_shows_findings_with_examples_and_says_when_too_little_is_left(data: Data, tmp_path: Path) -> None:
    empty = data("lint")
    assert isinstance(empty.exception, TooLittleData) and empty.exception.exit_code == 4

    fill(tmp_path)
    correct(tmp_path, "ok")
    said = data("lint")

    assert said.exit_code == 0 and "boilerplate answer" in said.stdout and "correction-1" in said.stdout
    found = json.loads(data("lint", "--json").stdout)
    assert {"train", "holdout", "findings", "dropped", "refusal"} <= found.keys()
    assert found["findings"][0] | {"note": ""} == {
        "kind": "boilerplate answer",
        "done": "removed",
        "count": 1,
        "examples": ["correction-1"],
        "note": "",
    }


def test_build_writes_the_same_bytes_twice_and_prints_the_digest(data: Data, tmp_path: Path) -> None:
    fill(tmp_path)
    correct(tmp_path, "Look at help.acme.example/new for it.")

    first = json.loads(data("build", "--json").stdout)
    folder = Path(first["folder"])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    again = data("build")

    assert again.stdout.strip() == first["digest"] == folder.name
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert load_dataset(folder).manifest == first["manifest"]


def test_show_names_whose_a_lesson_is_and_what_became_of_it(data: Data, tmp_path: Path) -> None:
    fill(tmp_path, answer="Take \x1b[31mthis [red]one[/red].")
    shown = [json.loads(data("show", f"ticket-t{n}", "--json").stdout) for n in range(3)]

    assert (
        shown[1]["origin"] == "tickets.jsonl line 2"
        and shown[1]["customer"] == "k1"
        and shown[1]["consent"] == "imported by cli"
    )
    assert {x["place"] for x in shown} <= {"training", "holdout", "left out"} and any(x["lint"] for x in shown)
    page = data("show", "ticket-t1")
    assert "imported by cli" in page.stdout and "[red]one[/red]" in page.stdout and "\x1b[31m" not in page.stdout
    assert isinstance(data("show", "ticket-none").exception, UsageError)


def test_export_gives_chat_messages_and_whose_each_line_is(data: Data, tmp_path: Path) -> None:
    nothing = data("export", "lessons.jsonl")
    assert isinstance(nothing.exception, TooLittleData) and not (tmp_path / "lessons.jsonl").exists()

    fill(tmp_path)
    assert data("export", "lessons.jsonl").exit_code == 0

    lines = [json.loads(line) for line in (tmp_path / "lessons.jsonl").read_text().splitlines()]
    lineage = json.loads((tmp_path / "lessons.jsonl.lineage.json").read_text())
    assert all(line.keys() == {"messages"} and line["messages"][-1]["role"] == "assistant" for line in lines)
    assert len(lines) == len(lineage["rows"]) == lineage["manifest"]["train"]["rows"]
    first = next(n for n, x in enumerate(lineage["rows"]) if x["source"] == "ticket")
    assert lineage["rows"][first]["consent"] == "imported by cli" and lines[first]["messages"][0]["role"] == "system"
    again = data("export", "lessons.jsonl")
    assert isinstance(again.exception, UsageError) and "exists already" in str(again.exception)


def test_an_export_whose_lineage_cannot_be_written_leaves_no_rows_behind(data: Data, tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "lessons.jsonl.lineage.json.draft").mkdir()  # in the way

    refused = data("export", "lessons.jsonl")

    assert isinstance(refused.exception, UsageError) and "cannot be written" in str(refused.exception)
    assert not (tmp_path / "lessons.jsonl").exists()


def test_forget_deletes_a_customers_tickets_and_the_datasets_with_them(data: Data, tmp_path: Path) -> None:
    fill(tmp_path)
    built = json.loads(data("build", "--json").stdout)

    asked = data("forget", "k7")
    receipt = json.loads(data("forget", "k7", "--yes", "--json").stdout)
    again = json.loads(CliRunner().invoke(app, ["import", str(tmp_path / "tickets.jsonl"), "--json"]).stdout)

    assert asked.exit_code == 1 and receipt["tickets"] == 3 and receipt["datasets"] == 1
    assert not Path(built["folder"]).exists()
    assert (again["added"], again["forgotten"]) == (0, 3)


def test_exclude_takes_a_person_out_of_the_next_dataset_and_back_in(data: Data, tmp_path: Path) -> None:
    fill(tmp_path)
    whole = json.loads(data("build", "--json").stdout)

    assert json.loads(data("exclude", "k7", "--json").stdout)[0]["person"] == "k7"
    assert "k7" in data("exclude").stdout and isinstance(data("exclude", "k7").exception, UsageError)
    without = json.loads(data("build", "--json").stdout)

    assert without["manifest"]["dropped"]["excluded person"] == 3
    assert '"customer":"k7"' not in "".join(path.read_text() for path in Path(without["folder"]).glob("*.jsonl"))
    assert data("exclude", "k7", "--undo").exit_code == 0 and "Nobody" in data("exclude").stdout
    assert json.loads(data("build", "--json").stdout)["digest"] == whole["digest"]
    assert isinstance(data("exclude", "k7", "--undo").exception, UsageError)


def test_review_lists_what_waits_and_takes_an_admins_word(data: Data, tmp_path: Path) -> None:
    fill(tmp_path)
    correct(tmp_path, "It is at https://help.acme.example/new now.")

    assert json.loads(data("review", "--json").stdout)["waiting"] == [
        {"contact": "help.acme.example/new", "lessons": ["correction-1"], "authors": ["U0EVE"]}
    ]
    assert "U0EVE" in data("review").stdout
    assert "Nothing waits" in data("review", "allow", "https://help.acme.example/").stdout
    assert json.loads(data("show", "correction-1", "--json").stdout)["place"] in ("training", "holdout")
    data("review", "deny", "help.acme.example/new")
    shown = json.loads(data("show", "correction-1", "--json").stdout)
    assert shown["place"] == "left out" and shown["lint"] == ["removed: denied link or phone number"]


@pytest.mark.parametrize(
    "words", [("perhaps", "a.example"), ("allow",), ("allow", "no link"), ("deny", "a.example b.example")]
)
def test_a_review_of_nothing_is_refused(data: Data, words: tuple[str, ...]) -> None:
    said = data("review", *words)

    assert isinstance(said.exception, EvenkeelError) and said.exception.exit_code == 2


def test_with_a_base_tokens_are_counted_and_answers_read(tiny_model: Any) -> None:
    rows = [lesson(n) for n in range(3)] + [lesson(9, answer="x" * 9_000)]

    probs = answer_log_probs(tiny_model, rows, lambda done, total: None)

    assert probs.keys() == {"ticket-0000", "ticket-0001", "ticket-0002"}  # the last is longer than the context
    assert all(
        len(values) == len(rows[int(name[-1])].answer.encode()) + 1 and max(values) < 0
        for name, values in probs.items()
    )
    assert tokens_of(tiny_model, rows[0]) > len(rows[0].answer)


def test_lint_with_a_base_counts_its_tokens(
    data: Data, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASE_MODEL", str(tiny_folder))
    monkeypatch.setenv("MAX_TOKENS", "200")
    fill(tmp_path)

    findings = {x["kind"]: x for x in json.loads(data("lint", "--with-base", "--json").stdout)["findings"]}

    assert "counted by the base's tokenizer" in findings["longer than a training row"]["note"]
    assert findings["longer than a training row"]["count"] > 40  # its tokens are bytes


def test_lint_counts_what_people_preferred_and_show_sets_the_worse_answer_beside_the_better_one(
    data: Data, tmp_path: Path
) -> None:
    fill(tmp_path)
    team = Team(Ledger(tmp_path / "var" / "evenkeel.db"))
    team.correct(team.vote(team.ask(tuned="Press the wrong key."), "U0TOM", -1), "U0EVE", text="Press the right key.")
    team.vote(team.ask(tuned="Pull the plug."), "U0TOM", -1)
    team.ledger.close()

    assert "Preferences: 1 pairs of answers, 1 good and 2 bad ones: 49 pairs are missing" in data("lint").stderr
    pair, bare = (json.loads(data("show", name, "--json").stdout) for name in ("correction-1", "disliked-2"))
    assert (pair["place"], pair["answer"], pair["worse"]) == (
        "training",
        "Press the right key.",
        "Press the wrong key.",
    )
    assert (bare["place"], bare["answer"], bare["worse"]) == ("preferences", "", "Pull the plug.")
    assert "Press the wrong key." in data("show", "correction-1").stdout
