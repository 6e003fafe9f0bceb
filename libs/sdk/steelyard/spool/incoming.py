"""Events on their way into the file."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from steelyard.spool.file import SpoolFile
from steelyard.spool.schema import State

ROW_BYTES = 160
"""What a row takes in the file beside its payload, roughly."""
_SWEEP = 200


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A row to be: serialised IngestEventsRequest with `events` events, and the trace of one of them or nothing."""

    payload: bytes
    events: int
    trace_parent: str

    @property
    def size(self) -> int:
        """What it counts against max_bytes."""
        return len(self.payload) + ROW_BYTES


@dataclass(frozen=True, slots=True)
class Appended:
    """Bytes in the spool afterwards, and how many events went to make room: unconfirmed ones, and lost ones."""

    used_bytes: int
    released: int
    dropped: int


def frame(event: bytes) -> bytes:
    """Return a serialised UsageEvent as a field of IngestEventsRequest: such fields simply follow each other."""
    length, prefix = len(event), bytearray(b"\x0a")
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + event


def append(file: SpoolFile, batches: Sequence[NewBatch], now_ms: int, make_room_below: int | None) -> Appended:
    """Add batches in one transaction; on disk when it returns.

    :param make_room_below: delete the oldest until everything is within so many bytes; None to delete nothing
    """
    with file.transaction() as connection:
        released, dropped = 0, 0
        if make_room_below is not None:
            allowed = make_room_below - sum(batch.size for batch in batches)
            for state in (State.SENT, State.PARKED):
                released += _delete_oldest(connection, state, allowed)
            dropped = _delete_oldest(connection, State.PENDING, allowed)
            count(connection, {"released": released, "dropped": dropped})
        for batch in batches:
            row = connection.execute(
                "INSERT INTO batches (created_ms, due_ms, events, size, checksum, trace_parent)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (now_ms, now_ms, batch.events, batch.size, zlib.crc32(batch.payload), batch.trace_parent),
            )
            connection.execute("INSERT INTO payloads (id, payload) VALUES (?, ?)", (row.lastrowid, batch.payload))
        return Appended(used_bytes(connection), released, dropped)


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes that count against max_bytes: all but those of dead letters."""
    (used,) = connection.execute("SELECT sum(bytes) FROM totals WHERE state <> ?", (State.DEAD,)).fetchone()
    return int(used)


def count(connection: sqlite3.Connection, added: dict[str, int]) -> None:
    """Raise counters, which all processes share."""
    for name, value in added.items():
        if value:
            connection.execute(
                "INSERT INTO counters (name, value) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                (name, value),
            )


def _delete_oldest(connection: sqlite3.Connection, state: State, allowed: int) -> int:
    """Delete batches of a state until at most `allowed` bytes are used; return how many events they had."""
    events, used = 0, used_bytes(connection)
    while used > allowed:
        rows = connection.execute(
            "SELECT id, events, size FROM batches WHERE state = ? ORDER BY id LIMIT ?", (state, _SWEEP)
        ).fetchall()
        if not rows:
            break
        for row_id, row_events, size in rows:
            if used <= allowed:
                break
            connection.execute("DELETE FROM batches WHERE id = ?", (row_id,))
            events, used = events + row_events, used - size
    return events
