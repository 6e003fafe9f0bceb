"""The keeper's accounts: what of the queue is recorded, and so how far the watermark may go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, raw
from libs.outbox import WatermarkOutbox
from services.ingest.store import keeper_sql as sql
from services.ingest.store import tables
from services.ingest.store.missing_usage_holds import missing_usage_holds
from services.ingest.usecases.ports import Hold, KeeperReport, QueueFloor, StreamPosition

_logger = logging.getLogger(__name__)

WATERMARK_NAME = "ingest"
_RESOLVED_KEPT = timedelta(days=30)

EncodeWatermark = Callable[[datetime, Sequence[Hold]], bytes]


@dataclass(frozen=True, slots=True)
class _Floor:
    seq: int
    marked_at: datetime | None


class PostgresKeeper:
    """Advances the watermark over markers before which every message is accounted for."""

    def __init__(self, database: Database, encode: EncodeWatermark, *, purge_margin: timedelta) -> None:
        self._database = database
        self._encode = encode
        self._purge_margin = purge_margin

    async def look(self, queue: QueueFloor, published: Sequence[StreamPosition], now: datetime) -> KeeperReport | None:
        """Advance as far as possible, in one transaction; None if another keeper is doing so at this moment.

        `published` are markers of ours whose place the server has told: should it lose them, they are no riddle.
        """
        async with self._database.queue_transaction() as connection:
            driver = await raw(connection)
            if not await driver.fetchval(sql.LOCK):
                return None
            for position in published:
                await driver.execute(sql.ADD_POSITION, position.stream_epoch, position.stream_seq, "", "", 0)
            floor = await self._floor(driver, queue, now)
            # Until somebody has said that producers have sent it again, no promise is made to anybody.
            is_lost = await driver.fetchval(sql.IS_LOST)
            if not await self._check_numbers(driver, queue, floor, now):
                return await _still_naming(driver, queue, floor, is_lost=is_lost)
            reached, unaccounted = await self._advance(driver, queue, floor)
            holds = await _holds(driver) + await missing_usage_holds(driver, reached.marked_at)
            if reached.seq > floor.seq and reached.marked_at is not None and not is_lost:
                await self._offer(connection, driver, queue, reached.marked_at, holds)
            if reached.marked_at is not None:
                await driver.execute(sql.CLOSE_NUMBERS, queue.stream_epoch, reached.seq)
                await driver.execute(sql.SET_FLOOR, queue.stream_epoch, reached.seq, reached.marked_at)
            await driver.execute(sql.FORGET_RESOLVED, now - _RESOLVED_KEPT)
            purge_below = await self._forget(driver, queue, reached)
            newest = await driver.fetchval(sql.LATEST_MARKED_AT, queue.stream_epoch)
        return KeeperReport(None if is_lost else reached.marked_at, newest, holds, unaccounted, purge_below, is_lost)

    async def _floor(self, driver: asyncpg.Connection, queue: QueueFloor, now: datetime) -> _Floor:
        row = await driver.fetchrow(sql.FLOOR)
        if row is None:
            return _Floor(max(queue.first_seq - 1, 0), None)
        if row["stream_epoch"] != queue.stream_epoch:
            _logger.error("USAGE_RAW was created anew at %s; until that is resolved: no watermark", queue.stream_epoch)
            await driver.execute(sql.NOTE_LOSS, queue.stream_epoch, 0, now)
            return _Floor(max(queue.first_seq - 1, 0), row["marked_at"])
        if row["stream_seq"] > queue.last_seq:
            # The server lost messages and gives their sequences to others, so what we know of those tells nothing any
            # more. What the stream holds now is vouched for by the acknowledgements alone.
            _logger.error("USAGE_RAW ends at %d, before the watermark's %d", queue.last_seq, row["stream_seq"])
            await driver.execute(sql.NOTE_LOSS, queue.stream_epoch, queue.last_seq, now)
            for table in ("stream_positions", "markers"):
                await driver.execute(sql.FORGET_BEYOND.format(table), queue.stream_epoch, queue.last_seq)
            return _Floor(queue.last_seq, row["marked_at"])
        return _Floor(row["stream_seq"], row["marked_at"])

    async def _check_numbers(self, driver: asyncpg.Connection, queue: QueueFloor, floor: _Floor, now: datetime) -> bool:
        """Name missing numbers, so many at a time; return whether those are all."""
        scope = (queue.stream_epoch, floor.seq, queue.acked_through)
        noticed = await driver.execute(sql.NOTICE_GAPS, *scope, now)
        await driver.execute(sql.RESOLVE_GAPS, *scope, now)
        if noticed == f"INSERT 0 {sql.NUMBERS_AT_ONCE}":
            return False
        await driver.execute(sql.RAISE_BATCH_FLOORS, *scope)
        return True

    async def _advance(self, driver: asyncpg.Connection, queue: QueueFloor, floor: _Floor) -> tuple[_Floor, int]:
        """Return the marker reached, and how many messages up to the newest one nobody can account for."""
        newest = await _marker(driver, queue, floor, queue.acked_through)
        if newest is None:
            return floor, 0
        accounted = await driver.fetchval(sql.ACCOUNTED, queue.stream_epoch, floor.seq, newest.seq)
        lost = newest.seq - floor.seq - accounted
        if lost == 0:
            return newest, 0
        if await driver.fetch(sql.EXPLAIN, lost):
            _logger.error("%d messages up to %d are lost; the missing batches are named", lost, newest.seq)
            return newest, 0
        _logger.error("%d messages up to %d are passed but not recorded: no watermark", lost, newest.seq)
        complete_through = await driver.fetchval(sql.COMPLETE_THROUGH, queue.stream_epoch, floor.seq)
        return await _marker(driver, queue, floor, complete_through) or floor, lost

    async def _offer(
        self,
        connection: AsyncConnection,
        driver: asyncpg.Connection,
        queue: QueueFloor,
        marked_at: datetime,
        holds: Sequence[Hold],
    ) -> None:
        # Every change that the watermark covers has committed, so no version of theirs is beyond the last one given.
        after_version = await driver.fetchval(sql.LAST_VERSION)
        outbox = WatermarkOutbox(connection, tables.watermarks, WATERMARK_NAME)
        await outbox.offer(marked_at, after_version, self._encode(marked_at, holds))

    async def _forget(self, driver: asyncpg.Connection, queue: QueueFloor, reached: _Floor) -> int:
        """Delete accounts that are closed; return the first sequence that the stream has to keep (0: all)."""
        if reached.marked_at is None:
            return 0
        await driver.execute(sql.FORGET_POSITIONS, queue.stream_epoch, reached.seq)
        safe_before = reached.marked_at - self._purge_margin
        purge_below = await driver.fetchval(sql.PURGE_BELOW, queue.stream_epoch, reached.seq, safe_before) or 0
        await driver.execute(sql.FORGET_MARKERS, queue.stream_epoch, purge_below)
        return int(purge_below)


async def _still_naming(driver: asyncpg.Connection, queue: QueueFloor, floor: _Floor, *, is_lost: bool) -> KeeperReport:
    """What a look comes to that has not named all missing numbers: no watermark may pass without their holds."""
    _logger.error("more than %d batches are missing; the watermark waits until all are named", sql.NUMBERS_AT_ONCE)
    if floor.marked_at is not None:
        await driver.execute(sql.SET_FLOOR, queue.stream_epoch, floor.seq, floor.marked_at)
    newest = await driver.fetchval(sql.LATEST_MARKED_AT, queue.stream_epoch)
    return KeeperReport(None if is_lost else floor.marked_at, newest, await _holds(driver), 0, 0, is_lost)


async def _marker(driver: asyncpg.Connection, queue: QueueFloor, floor: _Floor, through: int) -> _Floor | None:
    row = await driver.fetchrow(sql.NEWEST_MARKER, queue.stream_epoch, floor.seq, through)
    return None if row is None else _Floor(row["stream_seq"], row["marked_at"])


async def _holds(driver: asyncpg.Connection) -> list[Hold]:
    missing = [
        Hold(row["tenant_id"], f"batch {row['batch_number']} of acceptor {row['acceptor_epoch']} is missing")
        for row in await driver.fetch(sql.MISSING)
    ]
    parked = [
        Hold(row["tenant_id"], f"{row['messages']} messages are parked") for row in await driver.fetch(sql.PARKED)
    ]
    return missing + parked
