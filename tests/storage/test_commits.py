"""Threads that write at the same moment share one commit, and nothing else."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.database import Connections
from storage.errors import Busy


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Connections]:
    connections = Connections(tmp_path / "ledger.db")
    with connections.write() as db:
        db.execute("CREATE TABLE word(said TEXT UNIQUE)")
    yield connections
    connections.close()


def said(file: Connections) -> list[str]:
    """What another program reads."""
    other = sqlite3.connect(file.path)
    try:
        return [row[0] for row in other.execute("SELECT said FROM word ORDER BY said")]
    finally:
        other.close()


def together(file: Connections, *blocks: Callable[[], None]) -> list[BaseException | None]:
    """Run blocks in threads that all queue while another one writes "first"; what each raised."""
    raised: list[BaseException | None] = [None] * len(blocks)

    def run(number: int) -> None:
        try:
            blocks[number]()
        except BaseException as error:
            raised[number] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(blocks))]
    with file.write() as db:
        db.execute("INSERT INTO word VALUES ('first')")
        for thread in threads:
            thread.start()
        while file._commits._waiting < len(threads):
            pass
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return raised


def word(file: Connections, text: str, *, patience_s: float = 5.0) -> Callable[[], None]:
    def say() -> None:
        with file.patience(patience_s), file.write() as db:
            db.execute("INSERT INTO word VALUES (?)", (text,))
        assert text in said(file), "it returned before it was stored"

    return say


def test_who_writes_at_the_same_moment_shares_one_commit(file: Connections) -> None:
    statements: list[str] = []
    file._commits._database.conn.set_trace_callback(statements.append)
    assert together(file, *(word(file, str(n)) for n in range(6))) == [None] * 6
    assert said(file) == ["0", "1", "2", "3", "4", "5", "first"]
    assert statements.count("COMMIT") == 1


def test_a_block_that_fails_takes_no_other_with_it(file: Connections) -> None:
    raised = together(file, word(file, "a"), word(file, "first"), word(file, "b"))
    assert [type(error) for error in raised] == [type(None), sqlite3.IntegrityError, type(None)]
    assert said(file) == ["a", "b", "first"]


def test_when_the_first_block_fails_those_behind_it_are_stored(file: Connections) -> None:
    entered, go = threading.Event(), threading.Event()

    def fails() -> None:
        with pytest.raises(ValueError, match="not this one"), file.write() as db:
            db.execute("INSERT INTO word VALUES ('lost')")
            entered.set()
            go.wait(10)
            raise ValueError("not this one")

    threads = [threading.Thread(target=fails), threading.Thread(target=word(file, "kept"))]
    threads[0].start()
    entered.wait(10)
    threads[1].start()
    go.set()
    for thread in threads:
        thread.join(20)
    assert said(file) == ["kept"]


def test_if_the_commit_fails_all_who_are_in_it_are_told_and_nothing_is_stored(
    file: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.commits.PATIENCE_S", 0.1)
    monkeypatch.setattr("storage.database.PATIENCE_S", 0.1)
    raised: list[BaseException | None] = []
    with reading(file):
        with pytest.raises(Busy, match=str(file.path)), file.write() as db:
            db.execute("INSERT INTO word VALUES ('first')")
            thread = threading.Thread(target=lambda: raised.append(_raised(word(file, "second", patience_s=0.1))))
            thread.start()
            while not file._commits._waiting:
                pass
        thread.join(20)
    assert [type(error) for error in raised] == [Busy]
    assert said(file) == []
    word(file, "later")()  # and the next one is


def test_who_has_no_patience_fails_alone(file: Connections) -> None:
    """While somebody reads, the patient wait; who does not wait is told so at once, and takes nobody with it."""
    raised: list[BaseException | None] = []
    ready, go = threading.Event(), threading.Event()

    def hasty() -> None:
        file.db.execute("SELECT 1")  # connected before the file is locked
        ready.set()
        go.wait(10)
        raised.append(_raised(word(file, "hasty", patience_s=0.05)))

    threads = [threading.Thread(target=hasty), threading.Thread(target=word(file, "patient"))]
    threads[0].start()
    ready.wait(10)
    with reading(file):
        threads[1].start()
        while file._commits._group is None:
            pass
        go.set()
        threads[0].join(20)
    threads[1].join(20)
    assert [type(error) for error in raised] == [Busy]
    assert said(file) == ["patient"]


@contextmanager
def reading(file: Connections) -> Iterator[None]:
    """Another program reads: in this journal mode, nobody may commit meanwhile."""
    reader = sqlite3.connect(file.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM word").fetchall()
    yield
    reader.execute("COMMIT")
    reader.close()


def _raised(act: Callable[[], None]) -> BaseException | None:
    try:
        act()
    except BaseException as error:
        return error
    return None


def test_who_relied_on_one_that_gave_up_commits_by_itself(file: Connections) -> None:
    gave_up = threading.Timer(0.05, lambda: setattr(file._commits, "_waiting", 0))
    with file.write() as db:
        db.execute("INSERT INTO word VALUES ('alone')")
        file._commits._waiting = 1
        gave_up.start()
    assert said(file) == ["alone"]


def test_closing_stores_what_is_left_of_a_transaction(file: Connections) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow() -> None:
        with file.write() as db:
            db.execute("INSERT INTO word VALUES ('slow')")
            entered.set()
            go.wait(10)

    thread = threading.Thread(target=slow)
    thread.start()
    entered.wait(10)
    closing = threading.Thread(target=file.close)
    closing.start()
    go.set()
    thread.join(20)
    closing.join(20)
    assert said(file) == ["slow"]
