"""Opening the one SQLite file: who may, in what mode, and how a write is made whole.

Knows files, pragmas and locks. Knows no table.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from storage.errors import Busy, LedgerError

APPLICATION_ID = 0x45564B4C  # "EVKL"
BUSY_TIMEOUT_S = 5.0
CACHE_KIB = 512  # of pages, for each thread's connection; the system keeps the file in memory anyway
TURN_S = 0.05  # how long one of our threads waits for another process before it lets the others try


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """Whether this SQLite has the WAL-reset fix. 3.7.0 to 3.51.2 can lose commits with several connections,
    but for 3.44.6 and 3.50.7 of the maintenance branches. Source: sqlite.org/wal.html#walresetbug.
    """
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


class Connections:
    """One connection a thread to one ledger file; closed together."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # our own threads queue here: SQLite's waiting is neither fair nor quick

    @property
    def db(self) -> Database:
        found: Database | None = getattr(self._local, "db", None)
        if found is None:
            connection = connect(self.path)
            with self._lock:
                self._all.append(connection)
            found = self._local.db = Database(connection)
        return found

    @contextmanager
    def write(self) -> Iterator[Database]:
        """A transaction that takes the write lock first: all of it is stored or nothing.

        Nested calls join the outer one. Raises Busy when the lock is not had within 5 s.
        """
        db = self.db
        if db.conn.in_transaction:
            with db.atomic():
                yield db
            return
        self._begin(db)
        try:
            yield db
            db.conn.execute("COMMIT")
        except BaseException:
            if db.conn.in_transaction:
                db.conn.execute("ROLLBACK")
            raise
        finally:
            self._writing.release()

    def _begin(self, db: Database) -> None:
        """Take our own queue's turn and then the file's lock; nobody keeps the turn while another process has the lock."""
        patience_s: float = getattr(self._local, "patience_s", BUSY_TIMEOUT_S)
        until = time.monotonic() + patience_s
        while self._writing.acquire(timeout=max(0.0, until - time.monotonic())):
            try:
                _wait_for_locks(db.conn, min(TURN_S, patience_s))
                db.conn.execute("BEGIN IMMEDIATE")
                _wait_for_locks(db.conn, patience_s)
                return
            except sqlite3.OperationalError as error:
                _wait_for_locks(db.conn, patience_s)
                self._writing.release()
                if not is_locked(error):
                    raise
                if time.monotonic() >= until:
                    break
                time.sleep(0.005)
            except BaseException:
                self._writing.release()
                raise
        raise Busy(f"the ledger {self.path} is locked by another process. Next: try again.")

    @contextmanager
    def patience(self, seconds: float) -> Iterator[None]:
        """Inside the block, this thread waits only so long for a lock: a write then raises Busy, a read SQLite's error."""
        _wait_for_locks(self.db.conn, seconds)
        self._local.patience_s = seconds
        try:
            yield
        finally:
            self._local.patience_s = BUSY_TIMEOUT_S
            _wait_for_locks(self.db.conn, BUSY_TIMEOUT_S)

    def close(self) -> None:
        """Once the transaction that is under way has ended: SQLite's library dies of a connection that is closed in use."""
        with self._writing, self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._local = threading.local()


def _wait_for_locks(connection: sqlite3.Connection, seconds: float) -> None:
    connection.execute(f"PRAGMA busy_timeout={round(seconds * 1000)}")


def is_locked(error: sqlite3.OperationalError) -> bool:
    """Whether this is another process's lock, which passes, and not a fault."""
    return "locked" in str(error) or "busy" in str(error)


def connect(path: Path) -> sqlite3.Connection:
    """A connection with our pragmas. Creates the file (mode 0600) and its folder (0700) when missing.

    Raises LedgerError when the file is no SQLite file, another program's, truncated or not writable.
    """
    create_private(path)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        journal = "WAL" if wal_is_safe(sqlite3.sqlite_version_info) else "DELETE"
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")
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
