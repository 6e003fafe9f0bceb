"""The file's tables, and opening it. The format is described in docs/spool.md."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from steelyard.spool.errors import SpoolCorrupt, SpoolError, SpoolFormatNewer, SpoolOfOther, SpoolUnavailable

APPLICATION_ID = 0x53544C59  # "STLY"
FORMAT = 1
BUSY_S = 10.0


class State(IntEnum):
    """Where a batch stands."""

    PENDING = 0
    SENT = 1
    PARKED = 2
    DEAD = 3


# Payloads have a table of their own: SQLite writes a row anew when any column of it changes. Ids are never used again,
# so that a process that wakes up late does not mark another's batch. Totals are kept by triggers and so agree with the
# rows whoever changes them.
_TABLES = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    state INTEGER NOT NULL DEFAULT {State.PENDING:d},
    created_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    events INTEGER NOT NULL,
    size INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    trace_parent TEXT NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0,
    resends INTEGER NOT NULL DEFAULT 0,
    sent_ms INTEGER NOT NULL DEFAULT 0,
    acceptor_epoch TEXT NOT NULL DEFAULT '',
    batch_number INTEGER NOT NULL DEFAULT 0,
    refusal TEXT NOT NULL DEFAULT ''
);
CREATE INDEX batches_due ON batches (state, due_ms);
CREATE INDEX batches_order ON batches (state);
CREATE TABLE payloads (id INTEGER PRIMARY KEY, payload BLOB NOT NULL);
CREATE TABLE totals (
    state INTEGER PRIMARY KEY, batches INTEGER NOT NULL, events INTEGER NOT NULL, bytes INTEGER NOT NULL
);
INSERT INTO totals VALUES {", ".join(f"({state:d}, 0, 0, 0)" for state in State)};
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TRIGGER batches_added AFTER INSERT ON batches BEGIN
    UPDATE totals SET batches = batches + 1, events = events + new.events, bytes = bytes + new.size
    WHERE state = new.state;
END;
CREATE TRIGGER batches_moved AFTER UPDATE OF state ON batches WHEN old.state <> new.state BEGIN
    UPDATE totals SET batches = batches - 1, events = events - old.events, bytes = bytes - old.size
    WHERE state = old.state;
    UPDATE totals SET batches = batches + 1, events = events + new.events, bytes = bytes + new.size
    WHERE state = new.state;
END;
CREATE TRIGGER batches_removed AFTER DELETE ON batches BEGIN
    UPDATE totals SET batches = batches - 1, events = events - old.events, bytes = bytes - old.size
    WHERE state = old.state;
    DELETE FROM payloads WHERE id = old.id;
END;
"""  # noqa: S608 - put together from constants
# In one statement, because another process may be making the file at this moment.
_IDENTITY = """
SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)
FROM pragma_application_id, pragma_user_version
"""
_REASONS = {
    sqlite3.SQLITE_FULL: "DISK_FULL",
    sqlite3.SQLITE_BUSY: "LOCKED",
    sqlite3.SQLITE_LOCKED: "LOCKED",
    sqlite3.SQLITE_READONLY: "NOT_WRITABLE",
    sqlite3.SQLITE_CANTOPEN: "NOT_WRITABLE",
    sqlite3.SQLITE_PERM: "NOT_WRITABLE",
}


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into the spool's.

    :raises SpoolUnavailable, SpoolCorrupt: instead of them
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _translation(path, error) from error
    except OSError as error:
        raise SpoolUnavailable(f"{path}: {error}", reason="NOT_WRITABLE") from error


def _translation(path: str, error: sqlite3.DatabaseError) -> SpoolError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if isinstance(error, sqlite3.OperationalError) and code not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT):
        return SpoolUnavailable(f"{path}: {error}", reason=_REASONS.get(code, "DISK_ERROR"))
    # A table or column that is not there is damage, too: nobody but us makes tables in it.
    return SpoolCorrupt(f"{path}: {error}", reason="CORRUPT")


def open_file(path: str, tenant_id: str) -> sqlite3.Connection:
    """Open the spool, making it if there is none. Every commit is fsynced.

    :raises SpoolUnavailable, SpoolCorrupt, SpoolFormatNewer, SpoolOfOther: as they say
    """
    with translated(path):
        _make_private(path)
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path, tenant_id)
        except BaseException:
            connection.close()
            raise
        return connection


def _make_private(path: str) -> None:
    """Make the file, readable by its owner alone: usage is nobody else's business."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(directory)  # Otherwise a power cut could take the file with all that was committed to it.
    finally:
        os.close(directory)


def _prepare(connection: sqlite3.Connection, path: str, tenant_id: str) -> None:
    if not _is_known(connection, path):
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    if not _is_known(connection, path):
        _create(connection, path, tenant_id)
    (stored,) = connection.execute("SELECT value FROM meta WHERE name = 'tenant_id'").fetchone() or ("",)
    if stored != tenant_id:
        raise SpoolOfOther(f"{path} holds events of tenant {stored!r}, not of {tenant_id!r}", reason="OTHER_TENANT")


def _is_known(connection: sqlite3.Connection, path: str) -> bool:
    """Whether it is a spool of ours; False if it is still empty."""
    application, version, tables = connection.execute(_IDENTITY).fetchone()
    if (application, version, tables) == (0, 0, 0):
        return False
    if application != APPLICATION_ID:
        raise SpoolCorrupt(f"{path} is a database, but not a spool", reason="NOT_A_SPOOL")
    if version > FORMAT:
        raise SpoolFormatNewer(f"{path} has format {version}; this version knows {FORMAT}", reason="FORMAT_NEWER")
    return True


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. SQLite does not wait for others who do the same at this moment, so we do."""
    ends_at = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > ends_at:
                raise
        time.sleep(0.01)


def _create(connection: sqlite3.Connection, path: str, tenant_id: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _is_known(connection, path):  # Another process may have been quicker.
            for statement in _statements():
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES ('tenant_id', ?)", (tenant_id,))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements() -> Iterator[str]:
    """The statements one by one: executescript would commit in between."""
    statement = ""
    for line in _TABLES.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
