"""Publishes watermarks behind the state that they cover; `watermarks.py` says why this is safe."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from libs.clock import Clock
from libs.database import Database, raw
from libs.outbox.pace import repeat
from libs.outbox.publisher import Publisher, acknowledged, trace_headers

# One statement, hence one snapshot of candidates and marks: a floor read before the candidate would prove nothing.
_READY = """
WITH floor AS (SELECT min(version) AS version FROM {marks}),
candidate AS (
    SELECT latest_at AS at, latest_after_version AS after_version, latest_payload AS payload
    FROM {watermarks} WHERE name = $1 AND latest_at IS NOT NULL
    UNION ALL
    SELECT awaited_at, awaited_after_version, awaited_payload
    FROM {watermarks} WHERE name = $1 AND awaited_at IS NOT NULL
)
SELECT at, payload FROM candidate, floor
WHERE floor.version IS NULL OR floor.version > candidate.after_version
ORDER BY at DESC LIMIT 1
"""
_FORWARDED = """
UPDATE {watermarks} SET
    forwarded_through = $2,
    forwarded_at = $3,
    awaited_at = CASE WHEN latest_at > $2 THEN latest_at END,
    awaited_after_version = CASE WHEN latest_at > $2 THEN latest_after_version END,
    awaited_payload = CASE WHEN latest_at > $2 THEN latest_payload END,
    latest_at = NULL,
    latest_after_version = NULL,
    latest_payload = NULL
WHERE name = $1 AND (forwarded_through IS NULL OR forwarded_through < $2)
"""


@dataclass(frozen=True, slots=True)
class WatermarkFeed:
    """Which watermarks follow which marks: `name` is the service's name and the row, `subject` where they go.

    The subject belongs to the stream of the state, so that the watermark lies behind it there.
    """

    name: str
    table: sa.Table
    marks: sa.Table
    subject: str


class WatermarkForwarder:
    """Publishes the newest offered watermark that no unpublished change stands before."""

    def __init__(self, database: Database, publisher: Publisher, feed: WatermarkFeed, clock: Clock) -> None:
        self._database = database
        self._publisher = publisher
        self._feed = feed
        self._clock = clock
        self.wake = asyncio.Event()
        """Set by whoever offered a watermark in this process, for the forwarder to look at once."""
        self.published_total = 0
        self.failed_total = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Forward until `stopping` is set."""
        await repeat(f"{self._feed.name} watermark", self._step, wake=self.wake, stopping=stopping)

    async def forward_once(self) -> datetime | None:
        """Publish the newest watermark that may be published and return it; None if none was."""
        async with self._database.queue_transaction() as connection:
            ready = await (await raw(connection)).fetchrow(self._sql(_READY), self._feed.name)
        if ready is None:
            return None
        at: datetime = ready["at"]
        message_id = f"watermark:{self._feed.name}:{at.isoformat()}"
        message = (self._feed.subject, ready["payload"], message_id, trace_headers())
        if not await acknowledged(self._publisher, *message):
            self.failed_total += 1
            return None
        self.published_total += 1
        async with self._database.queue_transaction() as connection:
            await (await raw(connection)).execute(self._sql(_FORWARDED), self._feed.name, at, self._clock())
        return at

    async def _step(self) -> bool:
        return await self.forward_once() is not None

    def _sql(self, statement: str) -> str:
        return statement.format(watermarks=self._feed.table.name, marks=self._feed.marks.name)
