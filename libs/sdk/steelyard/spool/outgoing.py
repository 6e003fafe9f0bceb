"""Batches on their way out of the file: taken for sending, waiting for confirmation, set aside.

To take a row is to move the time at which it is due behind the end of a lease. Nobody else takes it before, and when
the taker is gone by then, somebody does. Should two send the same batch, its event ids make the second a duplicate.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from steelyard.spool.file import SpoolFile
from steelyard.spool.incoming import count
from steelyard.spool.schema import State
from steelyard.spool.settings import MAX_CALL_BYTES, MAX_CALL_EVENTS

ALONE_AFTER = 3
"""Failures after which a batch is sent by itself: it may be the one that spoils the others."""
_LOOK_AT = MAX_CALL_EVENTS
_RECEIPTS = 1_000

Receipt = tuple[str, int]
"""Acceptor epoch and batch number."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A batch that is ours to send."""

    id: int
    events: int
    failures: int
    resends: int
    trace_parent: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Awaiting:
    """A batch that the server has, and its receipt. `sent_ms` is when it took it."""

    id: int
    events: int
    resends: int
    sent_ms: int
    receipt: Receipt


def take_pending(file: SpoolFile, now_ms: int, lease_ms: int) -> list[Outgoing]:
    """Take what goes into the next call, the longest due first. What is damaged is set aside instead."""
    with file.transaction() as connection:
        rows = connection.execute(
            "SELECT id, events, failures, resends, trace_parent, size, checksum FROM batches"
            " WHERE state = ? AND due_ms <= ? ORDER BY due_ms, id LIMIT ?",
            (State.PENDING, now_ms, _LOOK_AT),
        ).fetchall()
        taken: list[Outgoing] = []
        events = size = 0
        for row_id, row_events, failures, resends, trace_parent, row_size, checksum in rows:
            events, size = events + row_events, size + row_size
            alone = failures >= ALONE_AFTER
            if taken and (alone or events > MAX_CALL_EVENTS or size > MAX_CALL_BYTES):
                break
            payload = _payload(connection, row_id)
            if zlib.crc32(payload) != checksum:
                _set_aside(connection, [row_id], "CHECKSUM: the batch was changed on disk")
                continue
            taken.append(Outgoing(row_id, row_events, failures, resends, trace_parent, payload))
            if alone:
                break
        _due(connection, (item.id for item in taken), now_ms + lease_ms)
        return taken


def note_sent(file: SpoolFile, batches: Sequence[Outgoing], receipt: Receipt, now_ms: int, check_ms: int) -> None:
    """The server has them; look at `check_ms` whether they are recorded."""
    with file.transaction() as connection:
        connection.executemany(
            "UPDATE batches SET state = ?, sent_ms = ?, due_ms = ?, failures = 0, acceptor_epoch = ?, batch_number = ?"
            " WHERE id = ? AND state = ?",
            [(State.SENT, now_ms, check_ms, *receipt, batch.id, State.PENDING) for batch in batches],
        )


def put_back(file: SpoolFile, batches: Mapping[int, int], failures: int = 0) -> None:
    """Let batches (id -> due time in ms) be taken again, counting failures that may be their own."""
    with file.transaction() as connection:
        connection.executemany(
            "UPDATE batches SET due_ms = ?, failures = failures + ? WHERE id = ?",
            [(due_ms, failures, row_id) for row_id, due_ms in batches.items()],
        )


def set_aside(file: SpoolFile, ids: Sequence[int], refusal: str, max_dead_bytes: int) -> bool:
    """Make batches dead letters; False if there is no room for more of those, and nothing is changed."""
    with file.transaction() as connection:
        (dead,) = connection.execute("SELECT bytes FROM totals WHERE state = ?", (State.DEAD,)).fetchone()
        if dead >= max_dead_bytes:
            return False
        _set_aside(connection, ids, refusal)
        return True


def take_sent(file: SpoolFile, now_ms: int, lease_ms: int, limit: int = _RECEIPTS) -> list[Awaiting]:
    """Take batches whose receipts are to be asked about."""
    with file.transaction() as connection:
        rows = connection.execute(
            "SELECT id, events, resends, sent_ms, acceptor_epoch, batch_number FROM batches"
            " WHERE state IN (?, ?) AND due_ms <= ? ORDER BY due_ms, id LIMIT ?",
            (State.SENT, State.PARKED, now_ms, limit),
        ).fetchall()
        _due(connection, (row[0] for row in rows), now_ms + lease_ms)
    return [Awaiting(row[0], row[1], row[2], row[3], (row[4], row[5])) for row in rows]


def payloads(file: SpoolFile, ids: Sequence[int]) -> list[bytes]:
    """The batches' serialised events; nothing for those that are gone."""
    with file.reading() as connection:
        return [_payload(connection, row_id) for row_id in ids]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What was learnt about batches that were sent. `check_ms` says when to ask again about those by id."""

    recorded: Sequence[Awaiting]
    send_again: Sequence[Awaiting]
    parked: Sequence[Awaiting]
    check_ms: Mapping[int, int]
    problems: Mapping[str, int]
    """How many events are in conflict or were rejected by the recorder: more for the counters."""


def apply_verdicts(file: SpoolFile, verdicts: Verdicts, now_ms: int) -> None:
    """Delete what is recorded; let what is to be sent again be taken."""
    with file.transaction() as connection:
        connection.executemany("DELETE FROM batches WHERE id = ?", [(item.id,) for item in verdicts.recorded])
        connection.executemany(
            "UPDATE batches SET state = ?, due_ms = ?, resends = resends + 1 WHERE id = ?",
            [(State.PENDING, now_ms, item.id) for item in verdicts.send_again],
        )
        connection.executemany(
            "UPDATE batches SET state = ? WHERE id = ?", [(State.PARKED, item.id) for item in verdicts.parked]
        )
        connection.executemany(
            "UPDATE batches SET due_ms = ? WHERE id = ?",
            [(due_ms, row_id) for row_id, due_ms in verdicts.check_ms.items()],
        )
        sums = {"recorded": verdicts.recorded, "resent": verdicts.send_again}
        count(connection, {name: sum(item.events for item in items) for name, items in sums.items()})
        count(connection, dict(verdicts.problems))


def add_counts(file: SpoolFile, added: dict[str, int]) -> None:
    """Raise counters."""
    with file.transaction() as connection:
        count(connection, added)


def revive(file: SpoolFile, now_ms: int) -> int:
    """Make every dead letter pending again; return how many events they have."""
    with file.transaction() as connection:
        (events,) = connection.execute("SELECT events FROM totals WHERE state = ?", (State.DEAD,)).fetchone()
        connection.execute(
            "UPDATE batches SET state = ?, due_ms = ?, refusal = '' WHERE state = ?",
            (State.PENDING, now_ms, State.DEAD),
        )
    return int(events)


def heal_clock(file: SpoolFile, now_ms: int, horizon_ms: int) -> None:
    """Make due what is due beyond every lease and pause: the machine's clock was set back."""
    with file.transaction() as connection:
        connection.execute(
            "UPDATE batches SET due_ms = ? WHERE state <> ? AND due_ms > ?",
            (now_ms, State.DEAD, now_ms + horizon_ms),
        )


def _payload(connection: sqlite3.Connection, row_id: int) -> bytes:
    row = connection.execute("SELECT payload FROM payloads WHERE id = ?", (row_id,)).fetchone()
    return bytes(row[0]) if row else b""


def _due(connection: sqlite3.Connection, ids: Iterable[int], due_ms: int) -> None:
    connection.executemany("UPDATE batches SET due_ms = ? WHERE id = ?", [(due_ms, row_id) for row_id in ids])


def _set_aside(connection: sqlite3.Connection, ids: Sequence[int], refusal: str) -> None:
    connection.executemany(
        "UPDATE batches SET state = ?, refusal = ? WHERE id = ?", [(State.DEAD, refusal, row_id) for row_id in ids]
    )
