"""Which meters are to be put into the directory; one note per meter, for good."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from libs.database import Database, raw
from services.ingest.domain.meter import Meter
from services.ingest.store.meters import read_noted

_DUE = "SELECT tenant_id, meter_id FROM meter_publications WHERE due_at <= $1 ORDER BY due_at LIMIT 100"
_LOCK = """
SELECT tenant_id, meter_id FROM meter_publications
WHERE due_at <= $1 AND (tenant_id, meter_id) IN (SELECT * FROM unnest($2::text[], $3::text[]))
ORDER BY tenant_id, meter_id FOR UPDATE SKIP LOCKED
"""
_DONE = """
UPDATE meter_publications SET due_at = 'infinity'
WHERE (tenant_id, meter_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""
_ALL_DUE = "UPDATE meter_publications SET due_at = $1 WHERE due_at > $1"


class PostgresMeterPublications:
    """The notes, as a worker. Their locks are held while meters are put into the directory, as ADR 0019 has it: what is
    there last is the newest version, and whoever dies with a note leaves it to others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def locked(self, now: datetime) -> AsyncIterator[list[tuple[str, Meter]]]:
        """Hold notes that are due and nobody else holds; yield their meters with their tenants. At exit they are done,
        unless there was an exception: then they stay due."""
        async with self._database.queue_transaction() as connection:
            due = await (await raw(connection)).fetch(_DUE, now)
        if not due:
            yield []
            return
        tenants, meters = [row["tenant_id"] for row in due], [row["meter_id"] for row in due]
        async with self._database.transaction(*set(tenants)) as connection:
            driver = await raw(connection)
            held = [(row["tenant_id"], row["meter_id"]) for row in await driver.fetch(_LOCK, now, tenants, meters)]
            yield await read_noted(driver, held)
            await driver.execute(_DONE, [tenant_id for tenant_id, _ in held], [meter_id for _, meter_id in held])

    async def all_due(self, now: datetime) -> None:
        """Have every meter published again."""
        async with self._database.queue_transaction() as connection:
            await (await raw(connection)).execute(_ALL_DUE, now)
