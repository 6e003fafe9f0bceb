"""How far rating has come, in PostgreSQL: received watermarks, the one that counts, and its holds. Queue tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, raw
from services.billing.domain.watermark import ReceivedWatermark, Watermark
from services.billing.store.rows import Row, insert_rows
from services.billing.store.tables import received_watermarks

_GET = """
SELECT rated_through, ARRAY(SELECT reason FROM holds WHERE tenant_id = $1 ORDER BY reason) AS holds
FROM rating_watermark
"""
# Sequences of an earlier incarnation of the stream mean nothing in this one.
_TAKE = """
WITH passed AS (
    DELETE FROM received_watermarks WHERE stream_epoch < $1 OR (stream_epoch = $1 AND stream_seq <= $2)
    RETURNING stream_epoch, watermark_at, holds
)
SELECT watermark_at, holds FROM passed WHERE stream_epoch = $1 ORDER BY watermark_at DESC LIMIT 1
"""
_COUNT = """
UPDATE rating_watermark SET rated_through = $1 WHERE rated_through IS NULL OR rated_through < $1 RETURNING id
"""
_HOLD = """
INSERT INTO holds (tenant_id, reason) SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING
"""


async def watermark_of(connection: AsyncConnection, tenant_id: str) -> Watermark:
    """What counts for a tenant."""
    row = await (await raw(connection)).fetchrow(_GET, tenant_id)
    return Watermark(row["rated_through"], tuple(row["holds"]))


class PostgresWatermarks:
    """Moves the watermark, as a worker."""

    def __init__(self, worker_database: Database) -> None:
        self._database = worker_database

    async def receive(self, watermarks: Sequence[ReceivedWatermark]) -> None:
        rows: list[Row] = [
            {
                "stream_epoch": item.stream_epoch,
                "stream_seq": item.stream_seq,
                "watermark_at": item.watermark_at,
                "holds": [{"tenant_id": tenant_id, "reason": reason} for tenant_id, reason in item.holds],
            }
            for item in watermarks
        ]
        async with self._database.queue_transaction() as connection:
            await insert_rows(connection, received_watermarks, rows, on_conflict="ON CONFLICT DO NOTHING")

    async def count_through(self, stream_epoch: datetime, stream_seq: int) -> datetime | None:
        async with self._database.queue_transaction() as connection:
            driver = await raw(connection)
            newest = await driver.fetchrow(_TAKE, stream_epoch, stream_seq)
            if newest is None or await driver.fetchval(_COUNT, newest["watermark_at"]) is None:
                return None
            await driver.execute("DELETE FROM holds")
            holds: Sequence[Mapping[str, str]] = newest["holds"]
            await driver.execute(_HOLD, [hold["tenant_id"] for hold in holds], [hold["reason"] for hold in holds])
            watermark_at: datetime = newest["watermark_at"]
            return watermark_at
