"""Opening the one SQLite file: who may, in what mode, and how a write is made whole.

Knows files, pragmas and locks. Knows no table.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from storage.commits import PATIENCE_S, Commits, wait_for_locks
from storage.errors import Busy, LedgerError

APPLICATION_ID = 0x45564B4C  # "EVKL"
CACHE_KIB = 512  # of pages, for each thread's connection; the system keeps the file in memory anyway


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """Whether this SQLite has the WAL-reset fix. 3.7.0 to 3.51.2 can lose commits with several connections,
    but for 3.44.6 and 3.50.7 of the maintenance branches. Source: sqlite.org/wal.html#walresetbug.
    """
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


class Connections:
    """To one ledger file: one connection a thread to read, and one for all who write; closed together."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._commits = Commits(path, lambda: Database(connect(path)))

    @property
    def db(self) -> Database:
        """Where this thread reads: inside of a transaction, what it has written there."""
        if (writing := self._writing) is not None:
            return writing
        found: Database | None = getattr(self._local, "db", None)
        if found is None:
            connection = connect(self.path)
            with self._lock:
                self._all.append(connection)
            found = self._local.db = Database(connection)
        return found

    @property
    def _writing(self) -> Database | None:
        """The transaction that this thread is in."""
        return getattr(self._local, "writing", None)

    @contextmanager
    def write(self) -> Iterator[Database]:
        """A transaction that takes the write lock first: all of it is stored or nothing.

        Nested calls join the outer one. Raises Busy when the lock is not had within 5 s.
        """
        if (outer := self._writing) is not None:
            with outer.atomic():
                yield outer
            return
        with self._commits.block(getattr(self._local, "patience_s", PATIENCE_S)) as db:
            self._local.writing, self._local.deletes = db, False
            try:
                yield db
            finally:
                self._local.writing = None
        if self._local.deletes:
            self._empty_log()

    @contextmanager
    def patience(self, seconds: float) -> Iterator[None]:
        """Inside the block, this thread waits only so long for a lock: a write then raises Busy, a read SQLite's error."""
        wait_for_locks(self.db.conn, seconds)
        self._local.patience_s = seconds
        try:
            yield
        finally:
            self._local.patience_s = PATIENCE_S
            wait_for_locks(self.db.conn, PATIENCE_S)

    def delete_for_good(self) -> None:
        """What this transaction deletes is in no file of the ledger any more once it has ended."""
        self._local.deletes = True

    def _empty_log(self) -> None:
        """A write-ahead log holds what was there before; a rollback journal is gone with its commit, and this does nothing.

        A reader that is in the way for 5 s leaves it to the next time. Source: sqlite.org/pragma.html#pragma_wal_checkpoint.
        """
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Once the transaction that is under way has ended."""
        self._commits.close()
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._local = threading.local()


def connect(path: Path) -> sqlite3.Connection:
    """A connection with our pragmas. Creates the file (mode 0600) and its folder (0700) when missing.

    Raises LedgerError when the file is no SQLite file, another program's, truncated or not writable.
    """
    create_private(path)
    connection = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False)
    try:
        journal = "WAL" if wal_is_safe(sqlite3.sqlite_version_info) else "DELETE"
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=EXTRA")  # FULL does not sync the folder that the journal is removed from
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        claim_file(connection, path)
        connection.execute(f"PRAGMA journal_mode={journal}")
    except sqlite3.DatabaseError as error:
        connection.close()
        if "locked" in str(error):
            raise Busy(f"the ledger {path} is locked by another process. Next: try again.") from None
        raise LedgerError(
            f"{path} cannot be used as the ledger: {error}. Next: move it away, or restore a copy made by evenkeel db backup."
        ) from None
    except LedgerError:
        connection.close()
        raise
    return connection


def create_private(path: Path) -> None:
    """The file and its folder, for us alone, where they are missing.

    An existing file is not touched: closing any handle of it would drop the locks that this process's other connections
    hold. Source: sqlite.org/howtocorrupt.html, section 2.2.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
            raise LedgerError(
                f"the ledger {path} cannot be opened for writing. Next: set DATA_DIR to a folder that you own."
            ) from None
    except OSError as error:
        raise LedgerError(
            f"the ledger {path} cannot be opened for writing: {error.strerror}. Next: set DATA_DIR to a folder that you own."
        ) from None


def claim_file(connection: sqlite3.Connection, path: Path) -> None:
    """Mark an empty file as ours; refuse one that another program wrote."""
    (found,) = connection.execute("PRAGMA application_id").fetchone()
    if found == APPLICATION_ID:
        return
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables:
        raise LedgerError(f"{path} is a database of another program (application id {found:#x}). Next: set DATA_DIR.")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
