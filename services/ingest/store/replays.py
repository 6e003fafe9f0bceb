"""Replays in PostgreSQL, as people see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, RequestLog, raw
from services.ingest.domain.replays import Replay, ReplayDifference
from services.ingest.store import tables
from services.ingest.store.measured_events import MERGED
from services.ingest.store.meters import read_meter, read_meters
from services.ingest.store.replay_rows import COLUMNS, read_replay, replay_from_row
from services.ingest.usecases.errors import ReplayActive, ReplayNotCancellable, ReplayNotReady
from services.ingest.usecases.replays import DifferenceCursor, ReplayMutation, StartReplayRequest

_ADD = """
INSERT INTO replays (tenant_id, replay_id, mode, dry_run, meter_ids, customer_ids, range_start, range_end, state, phase,
    actor, started_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'building', 'counting', $9, $10, $10)
ON CONFLICT (tenant_id) WHERE state IN ('building', 'ready', 'swapping') DO NOTHING RETURNING true
"""
_QUEUE = "INSERT INTO replay_queue (tenant_id, replay_id, due_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
_CONFIRM = """
UPDATE replays SET state = 'swapping', confirmed_by = $3, updated_at = $4
WHERE (tenant_id, replay_id) = ($1, $2) AND state = 'ready' RETURNING true
"""
_CANCEL = """
UPDATE replays SET state = 'cancelled', phase = 'ended', updated_at = $3, ended_at = $3
WHERE (tenant_id, replay_id) = ($1, $2) AND state IN ('building', 'ready') RETURNING true
"""
_LIST = f"""
SELECT {COLUMNS} FROM replays WHERE tenant_id = $1 AND ($2::text IS NULL OR replay_id < $2)
ORDER BY replay_id DESC LIMIT $3
"""  # noqa: S608 - of constants
_HOUR = timedelta(hours=1)
_BEFORE_ALL = ("", "", datetime(1970, 1, 1, tzinfo=UTC) - _HOUR)
_LIVE = "live_value AS value, live_latest_ns AS latest_ns, live_latest_position AS latest_position"
_BUILT = "built_value AS value, built_latest_ns AS latest_ns, built_latest_position AS latest_position"


def _merged(side: str) -> str:
    """The windows of an hour put together as the meter's are; of no events zero."""
    cases = " ".join(f"WHEN '{aggregation}' THEN {merged}" for aggregation, merged in MERGED.items())
    columns = _LIVE if side == "live" else _BUILT
    return f"""(SELECT coalesce(CASE merged {cases} END, 0) FROM (
        SELECT {columns} FROM replay_windows AS part
        WHERE part.tenant_id = $1 AND part.replay_id = $2 AND part.meter_id = hour.meter_id
            AND part.customer_id = hour.customer_id AND part.window_start >= hour_start
            AND part.window_start < hour_start + interval '1 hour' AND {side}_events > 0
    ) AS part)"""  # noqa: S608 - of constants


_DIFFERENCES = f"""
SELECT hour.meter_id, customer_id, hour_start AS hour, windows, live_events, built_events,
    {_merged("live")} AS live_value, {_merged("built")} AS built_value
FROM (
    SELECT meter_id, customer_id, date_trunc('hour', window_start, 'UTC') AS hour_start, count(*) AS windows,
        sum(live_events)::bigint AS live_events, sum(built_events)::bigint AS built_events
    FROM replay_windows
    WHERE tenant_id = $1 AND replay_id = $2 AND (meter_id, customer_id, window_start) >= ($3, $4, $5::timestamptz)
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT $6
) AS hour JOIN unnest($7::text[], $8::text[]) AS rule (meter_id, merged) ON rule.meter_id = hour.meter_id
ORDER BY 1, 2, 3
"""  # noqa: S608 - of constants


class PostgresReplayStore:
    """ReplayStore; each call is a transaction of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(
        self, mutation: ReplayMutation, request: StartReplayRequest, replay_id: str, now: datetime
    ) -> Replay:
        tenant_id, scope = mutation.tenant_id, request.scope
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            first = await _claim(connection, "StartReplay", mutation, replay_id, now)
            if first is not None:
                return await read_replay(driver, tenant_id, first)
            for meter_id in scope.meter_ids:
                await read_meter(driver, tenant_id, meter_id)
            added = await driver.fetchval(
                _ADD,
                tenant_id,
                replay_id,
                request.mode,
                request.dry_run,
                list(scope.meter_ids),
                list(scope.customer_ids),
                scope.start,
                scope.end,
                mutation.actor,
                now,
            )
            if added is None:
                raise ReplayActive("the tenant has a replay that has not ended")
            await driver.execute(_QUEUE, tenant_id, replay_id, now)
            return await read_replay(driver, tenant_id, replay_id)

    async def confirm(self, mutation: ReplayMutation, replay_id: str, now: datetime) -> Replay:
        tenant_id = mutation.tenant_id
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            first = await _claim(connection, "ConfirmReplay", mutation, replay_id, now)
            if first is None:
                if not await driver.fetchval(_CONFIRM, tenant_id, replay_id, mutation.actor, now):
                    found = await read_replay(driver, tenant_id, replay_id)
                    raise ReplayNotReady(f"{replay_id} is {found.state}", replayId=replay_id, state=found.state)
                await driver.execute(_QUEUE, tenant_id, replay_id, now)
            return await read_replay(driver, tenant_id, replay_id)

    async def cancel(self, mutation: ReplayMutation, replay_id: str, now: datetime) -> Replay:
        tenant_id = mutation.tenant_id
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            first = await _claim(connection, "CancelReplay", mutation, replay_id, now)
            if first is None:
                if not await driver.fetchval(_CANCEL, tenant_id, replay_id, now):
                    found = await read_replay(driver, tenant_id, replay_id)
                    raise ReplayNotCancellable(f"{replay_id} is {found.state}", replayId=replay_id, state=found.state)
                # For what it keeps aside; a step that is being taken has its place in the queue still.
                await driver.execute(_QUEUE, tenant_id, replay_id, now)
            return await read_replay(driver, tenant_id, replay_id)

    async def get(self, tenant_id: str, replay_id: str) -> Replay:
        async with self._database.transaction(tenant_id) as connection:
            return await read_replay(await raw(connection), tenant_id, replay_id)

    async def list(self, tenant_id: str, before: str | None, limit: int) -> Sequence[Replay]:
        async with self._database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(_LIST, tenant_id, before, limit)
        return [replay_from_row(row) for row in rows]

    async def differences(
        self, tenant_id: str, replay_id: str, after: DifferenceCursor | None, limit: int
    ) -> Sequence[ReplayDifference]:
        meter_id, customer_id, hour = after or _BEFORE_ALL
        async with self._database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            await read_replay(driver, tenant_id, replay_id)
            meters = await read_meters(driver, tenant_id)
            rows = await driver.fetch(
                _DIFFERENCES,
                *(tenant_id, replay_id, meter_id, customer_id, hour + _HOUR, limit),
                [meter.meter_id for meter in meters],
                [meter.window_aggregation for meter in meters],
            )
        return [_difference(row) for row in rows]


async def _claim(
    connection: AsyncConnection, method: str, mutation: ReplayMutation, replay_id: str, now: datetime
) -> str | None:
    log = RequestLog(connection, tables.requests)
    return await log.claim(mutation.tenant_id, method, mutation.request_id, mutation.fingerprint, replay_id, now)


def _difference(row: asyncpg.Record) -> ReplayDifference:
    return ReplayDifference(
        meter_id=row["meter_id"],
        customer_id=row["customer_id"],
        hour=row["hour"],
        windows=row["windows"],
        live_value=row["live_value"],
        live_events=row["live_events"],
        built_value=row["built_value"],
        built_events=row["built_events"],
    )
