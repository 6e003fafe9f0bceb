"""Which meters are to be put into the directory, and when; one note per meter, for good."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from libs.database import Database, raw
from services.ingest.domain.meter import Meter
from services.ingest.store.meters import read_noted

_LEASE = timedelta(seconds=10)
_CLAIM = """
UPDATE meter_publications AS noted SET due_at = $2 FROM (
    SELECT tenant_id, meter_id FROM meter_publications WHERE due_at <= $1
    ORDER BY due_at LIMIT 100 FOR UPDATE SKIP LOCKED
) AS due WHERE (noted.tenant_id, noted.meter_id) = (due.tenant_id, due.meter_id)
RETURNING noted.tenant_id, noted.meter_id
"""
_DONE = """
UPDATE meter_publications SET due_at = 'infinity'
WHERE (tenant_id, meter_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""
_ALL_DUE = "UPDATE meter_publications SET due_at = $1 WHERE due_at > $1"


class PostgresMeterPublications:
    """The notes, claimed by a lease: who dies with one leaves it to others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, now: datetime) -> list[tuple[str, Meter]]:
        """Return noted meters with their tenants; nobody else gets them for ten seconds."""
        async with self._database.queue_transaction() as connection:
            rows = await (await raw(connection)).fetch(_CLAIM, now, now + _LEASE)
        if not rows:
            return []
        async with self._database.transaction(*{row["tenant_id"] for row in rows}) as connection:
            return await read_noted(await raw(connection), [(row["tenant_id"], row["meter_id"]) for row in rows])

    async def done(self, published: Sequence[tuple[str, Meter]]) -> None:
        """Note that the directory has them."""
        tenants, meters = [tenant_id for tenant_id, _ in published], [meter.meter_id for _, meter in published]
        async with self._database.queue_transaction() as connection:
            await (await raw(connection)).execute(_DONE, tenants, meters)

    async def all_due(self, now: datetime) -> None:
        """Have every meter published again."""
        async with self._database.queue_transaction() as connection:
            await (await raw(connection)).execute(_ALL_DUE, now)
