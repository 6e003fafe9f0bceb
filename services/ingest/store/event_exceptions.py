"""Rows of `event_exceptions`."""

from __future__ import annotations

import asyncpg

from services.ingest.domain.recording import Fate
from services.ingest.domain.stored_event import StoredException
from services.ingest.store.recording_sql import problem_of


def exception_from_row(row: asyncpg.Record) -> StoredException:
    """A row with all columns but the tenant and the event type."""
    return StoredException(
        key=(row["source"], row["event_id"]),
        fate=Fate(row["verdict"]),
        problem=problem_of(row),
        received_at=row["received_at"],
        customer_id=row["customer_id"],
        batch_id=row["batch_id"],
        ordinal=row["ordinal"],
    )
