"""Entries of the chain, read from the rows that they cover."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from services.ingest.domain.log_chain import BatchEntry, ExceptionRow, HourEntry
from services.ingest.store import sealing_sql as sql

SEAL_COLUMNS = "hour_start, version, position, cause, event_count, window_count, windows_digest, sealed_at"


async def entries_of(driver: asyncpg.Connection, tenant_id: str, rows: Sequence[asyncpg.Record]) -> list[BatchEntry]:
    """The entries of batches, given their rows, in their order."""
    found: dict[int, list[ExceptionRow]] = {}
    if rows:
        received, ids = [row["received_at"] for row in rows], [row["batch_id"] for row in rows]
        for exception in await driver.fetch(sql.EXCEPTIONS, tenant_id, received, ids):
            batch_id, *content = exception
            found.setdefault(batch_id, []).append(tuple(content))
    return [_batch_entry(tenant_id, row, found.get(row["batch_id"], ())) for row in rows]


def hour_entry(tenant_id: str, row: asyncpg.Record) -> HourEntry:
    """The entry of a row of `hour_seals`."""
    return HourEntry(
        tenant_id=tenant_id,
        hour_start=row["hour_start"],
        version=row["version"],
        cause=row["cause"],
        event_count=row["event_count"],
        window_count=row["window_count"],
        windows_digest=row["windows_digest"],
        sealed_at=row["sealed_at"],
    )


def _batch_entry(tenant_id: str, row: asyncpg.Record, exceptions: Sequence[ExceptionRow]) -> BatchEntry:
    return BatchEntry(
        tenant_id=tenant_id,
        batch_id=row["batch_id"],
        acceptor_epoch=row["acceptor_epoch"],
        batch_number=row["batch_number"],
        received_at=row["received_at"],
        accepted_at=row["accepted_at"],
        event_count=row["event_count"],
        rejected_count=row["rejected_count"],
        totals=(row["accepted_total"], row["rejected_total"]),
        fates=(row["recorded"], row["duplicate"], row["conflict"], row["rejected"]),
        duplicate_ordinals=row["duplicate_ordinals"],
        oldest_ns=row["oldest_ns"],
        digest_version=row["digest_version"],
        digest=row["digest"],
        exceptions=exceptions,
    )
