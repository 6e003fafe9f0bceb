"""The file of a spool: one connection per process, one transaction at a time, closed around a fork."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from steelyard.spool.errors import SpoolError, SpoolUnavailable
from steelyard.spool.schema import open_file, translated

_SPARE_PAGES, _SHRINK_PAGES = 4_096, 2_000

_LOGGER = logging.getLogger("steelyard")


class SpoolFile:
    """Transactions on the file; safe to share between threads.

    SQLite keeps its locks per process and file, and a child would inherit the belief to hold its parent's. So there is
    no connection while a process forks: it is closed before, and each side opens its own when it next needs one.
    """

    def __init__(self, path: str | os.PathLike[str], tenant_id: str = "") -> None:
        self.path = os.path.abspath(path)
        self._tenant_id = tenant_id
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._process = os.getpid()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write: commits and fsyncs at the end, or rolls back.

        :raises SpoolError: if that fails; nothing is changed then
        """
        with self._using("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read one consistent state; waits for no writer.

        :raises SpoolError: if that fails
        """
        with self._using("BEGIN") as connection:
            yield connection

    def shrink(self) -> bool:
        """Give some of what an outage made the file grow by back to the file system; whether there was anything.

        :raises SpoolError: if that fails
        """
        with self._using("BEGIN") as connection:
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            if free <= _SPARE_PAGES:
                return False
            connection.execute("COMMIT")
            # One page a step, and execute makes one step only. Meanwhile others wait, so it is not done all at once.
            connection.executescript(f"PRAGMA incremental_vacuum({_SHRINK_PAGES})")
            connection.execute("BEGIN")
            return True

    def close(self) -> None:
        """Close the connection; the next transaction opens another."""
        with self._lock:
            self._close()

    def before_fork(self) -> None:
        """Close the connection, and let nobody open one until after the fork."""
        self._lock.acquire()
        self._close()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()

    @contextmanager
    def _using(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                with translated(self.path):
                    connection = self._opened()
                    connection.execute(begin)
                    yield connection
                    connection.execute("COMMIT")
            except BaseException as error:
                self._roll_back(error)
                raise

    def _opened(self) -> sqlite3.Connection:
        if self._process != os.getpid():
            raise SpoolError(f"{self.path}: this process was forked past Python's hooks; open the spool in it")
        if self._connection is not None and not self._is_same():
            self._close()
            # What was in it is gone with it; what is still in memory goes into a new file at the next try.
            raise SpoolUnavailable(f"{self.path} was deleted or replaced while it was in use", reason="REPLACED")
        if self._connection is None:
            self._connection = open_file(self.path, self._tenant_id)
            self._inode = os.stat(self.path).st_ino
        return self._connection

    def _is_same(self) -> bool:
        try:
            return os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _roll_back(self, error: BaseException) -> None:
        connection = self._connection
        if connection is None:
            return
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if isinstance(error, SpoolError) and error.reason != "LOCKED":
            self._close()  # Whatever it was, a new connection knows nothing of it.

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error:
                _LOGGER.exception("%s was not closed in good order", self.path)
