"""A ledger that is closed while somebody writes: what was begun is whole."""

import threading
from pathlib import Path

from storage.ledger import Ledger


def test_closing_waits_for_the_transaction_that_is_under_way(tmp_path: Path) -> None:
    ledger, begun, go_on = Ledger(tmp_path / "ledger.db"), threading.Event(), threading.Event()

    def write() -> None:
        with ledger.connections.write() as db:
            db.execute("CREATE TABLE kept(a)")
            begun.set()
            go_on.wait(10)
            db.execute("INSERT INTO kept VALUES (1)")

    writer, closer = threading.Thread(target=write), threading.Thread(target=ledger.close)
    writer.start()
    assert begun.wait(10)
    closer.start()
    closer.join(0.2)
    assert closer.is_alive()
    go_on.set()
    writer.join(10)
    closer.join(10)

    again = Ledger(tmp_path / "ledger.db")
    assert again.connections.db.execute("SELECT a FROM kept").fetchone() == (1,)
    again.close()
