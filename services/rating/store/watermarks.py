"""Watermarks received from ingest, in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime

import asyncpg

from libs.outbox import WatermarkOutbox
from services.rating.domain.usage import ReceivedWatermark, Watermark

_ADD = """
INSERT INTO received_watermarks (stream_epoch, stream_sequence, watermark_at, holds)
VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""

# Counted ones first: while one waits for the rater, a newer one must not take its place for ever.
_PENDING = "SELECT watermark_at, holds, mark FROM received_watermarks WHERE mark IS NOT NULL FOR UPDATE SKIP LOCKED"

_COUNT = """
UPDATE received_watermarks SET mark = nextval('rating_mark')
WHERE (stream_epoch, stream_sequence) = (
    SELECT stream_epoch, stream_sequence FROM received_watermarks WHERE stream_epoch = $1 AND stream_sequence <= $2
    ORDER BY watermark_at DESC LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING watermark_at, holds, mark
"""

_REMOVE = "DELETE FROM received_watermarks WHERE watermark_at <= $1"

EncodeWatermark = Callable[[Watermark], bytes]


class PostgresWatermarkStore:
    """Watermarks between ingest and billing. It holds no tenant's data and works in any worker's transaction."""

    def __init__(self, connection: asyncpg.Connection, outbox: WatermarkOutbox, encode: EncodeWatermark) -> None:
        self._connection = connection
        self._outbox = outbox
        self._encode = encode

    async def add(self, watermarks: Sequence[ReceivedWatermark]) -> None:
        """Store watermarks; known ones stay as they are."""
        rows = [
            (
                received.stream_epoch,
                received.stream_sequence,
                received.watermark.at,
                json.dumps(received.watermark.holds),
            )
            for received in watermarks
        ]
        await self._connection.executemany(_ADD, rows)

    async def counted(self, stream_epoch: datetime, floor: int) -> tuple[Watermark, int] | None:
        """Return the watermark that counts now with its mark, or None.

        That is the one which counted before and waits, else the newest one at or below the acknowledgement floor. Its
        mark is above every mark of a handler whose messages are below the floor.
        """
        row = await self._connection.fetchrow(_PENDING)
        row = row or await self._connection.fetchrow(_COUNT, stream_epoch, floor)
        if row is None:
            return None
        holds = tuple((tenant_id, reason) for tenant_id, reason in row["holds"])
        return Watermark(row["watermark_at"], holds), row["mark"]

    async def pass_on(self, watermark: Watermark) -> None:
        """Offer a watermark to billing, behind all charges committed by now, and forget it and all older ones."""
        after_version = await self._connection.fetchval("SELECT last_value FROM state_version")
        await self._outbox.offer(watermark.at, after_version, self._encode(watermark))
        await self._connection.execute(_REMOVE, watermark.at)
