"""What is forgotten is in no row, no report and no file of the ledger."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import storage.database
from storage.forgetting import forget
from storage.ledger import Ledger
from storage.records import Question

SECRET = "xyzzy-4711"


@pytest.fixture(params=["rollback journal", "write-ahead log"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setattr(storage.database, "wal_is_safe", lambda _: request.param == "write-ahead log")
    ledger = Ledger(tmp_path / "evenkeel.db")
    (mode,) = ledger.connections.db.execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal" if request.param == "write-ahead log" else "delete")
    yield ledger
    ledger.close()


def asked(ledger: Ledger, ts: str, asker: str, text: str, *before: str) -> int:
    turns = [{"role": role, "content": said} for role, said in zip(("user", "assistant"), before, strict=False)]
    messages = ({"role": "system", "content": "s"}, *turns, {"role": "user", "content": text})
    return ledger.exchanges.open(
        Question(team="T", channel="C", thread_ts="1.1", ts=ts, source="slack", asker=asker, text=text, messages=messages,
                 asked_at=ledger.clock()))  # fmt: skip


def bytes_of(ledger: Ledger) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(ledger.path.parent.glob("evenkeel.db*")))


def test_an_erased_question_is_gone_from_what_was_asked_later_in_its_thread(ledger: Ledger) -> None:
    first = asked(ledger, "1.1", "U1", SECRET)
    later = asked(ledger, "1.2", "U2", "and then?", SECRET, "an answer")
    assert SECRET.encode() in bytes_of(ledger)

    ledger.exchanges.erase(first)

    left = ledger.exchanges.get(later)
    assert left is not None and [m["content"] for m in left.question.messages] == ["s", "and then?"]
    assert SECRET.encode() not in bytes_of(ledger)


def test_a_forgotten_person_is_gone_from_the_files_and_from_reports_that_quote_them(
    ledger: Ledger, tmp_path: Path
) -> None:
    asked(ledger, "1.1", "U1", SECRET)
    folder, page = tmp_path / "datasets" / "d1", tmp_path / "reports" / "run-1" / "report.html"
    for path, text in ((folder / "holdout.jsonl", json.dumps({"conversation_id": "T:C:1.1"})), (page, SECRET)):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    run_id = ledger.runs.request(reason="cli", requested_by="cli", overrides={})
    run = ledger.runs.claim(owner="w", lease_s=60.0)
    assert run is not None
    ledger.lessons.add_dataset("d1", str(folder), {})
    ledger.runs.advance(run, state="building", lease_s=60.0, dataset_digest="d1")
    view = {
        "verdict": "HOLD",
        "regressions": [{"text": SECRET}],
        "items": {"lost": [{"question": SECRET}], "gained": []},
    }
    ledger.add_report(run_id, view, html_path=str(page), png_path=str(page.with_name("gain_loss.png")))

    with ledger.connections.write():  # as the bot calls it
        receipt = forget(ledger, tmp_path / "datasets", "U1", actor="U1")

    report = ledger.report(run_id)
    assert (receipt.questions, receipt.datasets) == (1, 1) and not page.exists() and not folder.exists()
    assert report is not None and report["view"] == {"verdict": "HOLD"}
    assert SECRET.encode() not in bytes_of(ledger) and b"U1" not in bytes_of(ledger)
    assert ledger.audits()[0]["actor"] == "themselves"
