"""One write transaction for all of our threads that want to write at that moment.

Promises: a thread's block is stored whole or not at all, and it returns only when it is stored; a block that fails takes
none of the others with it; if the commit fails, every thread in it is told. Threads take turns, for SQLite's own waiting is neither
fair nor quick; who leaves while another waits does not commit but lets that one join, since a commit is what costs. Who
cannot wait long for other processes' locks has a transaction of its own, so that nobody else's fails for that.
Source: group commit, Gray and Reuter 1993, Transaction Processing. Knows SQLite's locks. Knows no table.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from storage.errors import Busy

PATIENCE_S = 5.0
TURN_S = 0.05  # how long one of our threads waits for another process before it lets the others try
TOGETHER = 32  # blocks of one transaction at most
LOOK_S = 0.01  # after which who waits for the commit looks whether somebody still means to make it


def joins(patience_s: float) -> bool:
    """Whether a thread with so much patience shares transactions."""
    return patience_s >= PATIENCE_S


class Group:
    """The blocks of one transaction; only one, if its thread has less patience than others have."""

    def __init__(self, patience_s: float) -> None:
        self.blocks, self.patience_s = 0, patience_s
        self.most = TOGETHER if joins(patience_s) else 1
        self.ended = threading.Event()
        self.error: BaseException | None = None


class Commits:
    """The writers' queue and their one connection, which `open_` makes at the first write."""

    def __init__(self, path: Path, open_: Callable[[], Database]) -> None:
        self._path, self._open = path, open_
        self._writer: Database | None = None
        self._turn, self._count = threading.Lock(), threading.Lock()
        self._waiting = 0  # who would join
        self._group: Group | None = None  # whose transaction is open; guarded by the turn, like all below

    @contextmanager
    def block(self, patience_s: float) -> Iterator[Database]:
        """A part of a transaction. Raises Busy when the lock is not had in time, or what the commit raised."""
        group = self._enter(patience_s)
        db = self._database
        try:
            if group.blocks:
                with db.atomic():
                    yield db
            else:
                yield db
        except BaseException as error:
            self._failed(group, error)
            raise
        group.blocks += 1
        self._leave(group)
        if not group.ended.is_set():
            self._wait(group)
        if group.error is not None:
            raise type(group.error)(*group.error.args)  # each thread its own

    @property
    def _database(self) -> Database:
        if self._writer is None:
            self._writer = self._open()
        return self._writer

    def _enter(self, patience_s: float) -> Group:
        """The turn, in the transaction that is open or in a new one; nobody keeps the turn while another process has the lock."""
        until = time.monotonic() + patience_s
        while self._take_turn(max(0.0, until - time.monotonic()), counts=joins(patience_s)):
            try:
                if self._group is not None and not joins(patience_s):
                    self._commit(self._group, patience_s)
                if self._group is None:
                    self._begin(min(TURN_S, patience_s))
                    self._group = Group(patience_s)
                return self._group
            except sqlite3.OperationalError as error:
                self._turn.release()
                if not is_locked(error):
                    raise
                if time.monotonic() >= until:
                    break
                time.sleep(0.005)
            except BaseException:
                self._turn.release()
                raise
        raise self._busy()

    def _busy(self) -> Busy:
        return Busy(f"the ledger {self._path} is locked by another process. Next: try again.")

    def _take_turn(self, seconds: float, *, counts: bool) -> bool:
        with self._count:
            self._waiting += counts
        try:
            return self._turn.acquire(timeout=seconds)
        finally:
            with self._count:
                self._waiting -= counts

    def _begin(self, seconds: float) -> None:
        db = self._database
        wait_for_locks(db.conn, seconds)
        db.conn.execute("BEGIN IMMEDIATE")

    def _failed(self, group: Group, error: BaseException) -> None:
        """This block is undone; the others stay, unless SQLite has given up the whole transaction."""
        if not self._database.conn.in_transaction:
            self._end(group, error)
        elif group.blocks:
            self._leave(group)
            return
        else:
            self._database.conn.execute("ROLLBACK")
            self._end(group, None)
        self._turn.release()

    def _leave(self, group: Group) -> None:
        """Give the turn to who waits, or commit."""
        if not self._waiting or group.blocks >= group.most:
            self._finish(group)
        self._turn.release()

    def _wait(self, group: Group) -> None:
        """Until it is stored; by ourselves, when those who were to come have given up."""
        while not group.ended.wait(LOOK_S):
            if not self._waiting and self._turn.acquire(blocking=False):
                if not group.ended.is_set():
                    self._finish(group)
                self._turn.release()

    def _finish(self, group: Group) -> None:
        """Commit, or undo all of it and tell all who are in it."""
        connection = self._database.conn
        try:
            self._commit(group, group.patience_s)
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._end(group, self._busy() if is_locked(error) else error)

    def _commit(self, group: Group, patience_s: float) -> None:
        """Raises what SQLite raises; while readers of another process are in the way, the transaction stays open."""
        wait_for_locks(self._database.conn, patience_s)
        self._database.conn.execute("COMMIT")
        self._end(group, None)

    def _end(self, group: Group, error: BaseException | None) -> None:
        self._group = None
        group.error = error
        group.ended.set()

    def close(self) -> None:
        """Once the transaction that is under way has ended: SQLite's library dies of a connection that is closed in use."""
        with self._turn:
            if self._group is not None:
                self._finish(self._group)
            if self._writer is not None:
                self._writer.conn.close()
                self._writer = None


def wait_for_locks(connection: sqlite3.Connection, seconds: float) -> None:
    connection.execute(f"PRAGMA busy_timeout={round(seconds * 1000)}")


def is_locked(error: Exception) -> bool:
    """Whether this is somebody else's lock, which passes, and not a fault."""
    said = isinstance(error, sqlite3.OperationalError) and ("locked" in str(error) or "busy" in str(error))
    return said or isinstance(error, Busy)
