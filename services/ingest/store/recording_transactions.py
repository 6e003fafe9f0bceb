"""Transactions of the recorder, and room in the log for what they add."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from libs.database import Database, raw
from services.ingest.store.arrivals import WatchedTenants
from services.ingest.store.meter_cache import MeterCache
from services.ingest.store.recording import PostgresRecordingStore

_ENSURE = "SELECT ensure_event_partition(month) FROM unnest($1::timestamptz[]) AS month ORDER BY month"


class PostgresRecordingTransactions:
    """RecordingTransactions over the worker's database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._meters = MeterCache()
        self._watched = WatchedTenants()
        self._ensured: set[datetime] = set()

    @asynccontextmanager
    async def __call__(self, tenant_ids: Sequence[str]) -> AsyncIterator[PostgresRecordingStore]:
        opened = self._database.transaction(*tenant_ids) if tenant_ids else self._database.queue_transaction()
        async with opened as connection:
            yield await PostgresRecordingStore.on(connection, self._meters, self._watched)

    async def ensure_partitions(self, received_at: Iterable[datetime]) -> None:
        months = {at.replace(day=1, hour=0, minute=0, second=0, microsecond=0) for at in received_at} - self._ensured
        if not months:
            return
        async with self._database.queue_transaction() as connection:
            await (await raw(connection)).execute(_ENSURE, sorted(months))
        self._ensured |= months
