"""Looks into the file of a spool, past everything but its tables."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from steelyard.ingest.v1 import ingest_service_pb2


def events_in(path: Path, *states: int) -> list[str]:
    """The ids of the events in it, oldest batch first; of all states unless some are named."""
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT state, payload FROM batches JOIN payloads USING (id) ORDER BY id").fetchall()
    finally:
        connection.close()
    wanted = [payload for state, payload in rows if not states or state in states]
    return [
        event.event_id for item in wanted for event in ingest_service_pb2.IngestEventsRequest.FromString(item).events
    ]


def totals_agree(path: Path) -> bool:
    """Whether the totals kept by triggers are those of the rows, and no payload is without its row."""
    connection = sqlite3.connect(path)
    try:
        kept = connection.execute("SELECT state, batches, events, bytes FROM totals ORDER BY state").fetchall()
        counted = {
            state: (state, batches, events, size)
            for state, batches, events, size in connection.execute(
                "SELECT state, count(*), sum(events), sum(size) FROM batches GROUP BY state"
            )
        }
        rows = connection.execute("SELECT count(*) FROM batches JOIN payloads USING (id)").fetchone()
        payloads = connection.execute("SELECT count(*) FROM payloads").fetchone()
        batches = connection.execute("SELECT count(*) FROM batches").fetchone()
    finally:
        connection.close()
    return kept == [counted.get(row[0], (row[0], 0, 0, 0)) for row in kept] and rows == payloads == batches
