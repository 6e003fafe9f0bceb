"""Open holds across tenants, and the decisions about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from libs.database import Database, RequestLog, raw
from services.ingest.domain.holds import EVERYBODY, HoldKey, HoldKind, HoldResolution, OpenHold
from services.ingest.store import tables
from services.ingest.usecases.holds import HoldNotFound, HoldResolved, ResolveHoldRequest

_EPOCH_US = "(extract(epoch FROM stream_epoch) * 1000000)::bigint"
# Queue tables only: what is open anywhere.
_OPEN = f"""
SELECT kind, tenant_id, name, number, noticed_at FROM (
    SELECT 'loss' COLLATE "C" AS kind, '-' COLLATE "C" AS tenant_id, {_EPOCH_US}::text COLLATE "C" AS name,
        stream_seq AS number, noticed_at
    FROM queue_losses WHERE resolved_at IS NULL
    UNION ALL
    SELECT 'missing', tenant_id COLLATE "C", acceptor_epoch COLLATE "C", batch_number, noticed_at
    FROM missing_batches WHERE resolved_at IS NULL AND ($1::text = '' OR tenant_id = $1)
    UNION ALL
    SELECT 'parked', tenant_id COLLATE "C", id COLLATE "C", 0, parked_at
    FROM parked_queue WHERE $1 = '' OR tenant_id = $1
) AS hold
WHERE (kind, tenant_id, name, number) > ($2::text, $3::text, $4::text, $5::bigint)
ORDER BY kind, tenant_id, name, number LIMIT $6
"""  # noqa: S608 - put together from constants
_ERRORS = (
    "SELECT tenant_id, id, error FROM parked_messages WHERE tenant_id = ANY ($1::text[]) AND id = ANY ($2::text[])"
)
_END_LOSS = f"""
UPDATE queue_losses SET resolved_at = $3
WHERE {_EPOCH_US} = $1::bigint AND stream_seq = $2 AND resolved_at IS NULL RETURNING stream_seq
"""  # noqa: S608 - put together from constants
_END_MISSING = """
UPDATE missing_batches SET resolved_at = $4, written_off = true
WHERE (tenant_id, acceptor_epoch, batch_number) = ($1, $2, $3) AND resolved_at IS NULL RETURNING batch_number
"""
_END_PARKED = """
UPDATE parked_messages SET resolved_at = $3 WHERE (tenant_id, id) = ($1, $2) AND resolved_at IS NULL
RETURNING coalesce(headers ->> 'Nats-Msg-Id', '') AS message_id
"""
_UNQUEUE_PARKED = "DELETE FROM parked_queue WHERE (tenant_id, id) = ($1, $2)"
_ADD = """
INSERT INTO hold_resolutions (tenant_id, hold_id, acceptor_epoch, batch_number, reason, actor, resolved_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_GET = """
SELECT tenant_id, hold_id, reason, actor, resolved_at FROM hold_resolutions WHERE (tenant_id, hold_id) = ($1, $2)
"""
_LIST = """
SELECT tenant_id, hold_id, reason, actor, resolved_at FROM hold_resolutions
WHERE tenant_id = $1 AND hold_id > $2 ORDER BY hold_id LIMIT $3
"""


class PostgresHoldStore:
    """HoldStore; logged in as worker, for an operator looks across tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, tenant_id: str, after: HoldKey | None, limit: int) -> list[OpenHold]:
        behind = ("", "", "", -1) if after is None else (after.kind, after.tenant_id, after.name, after.number)
        async with self._database.queue_transaction() as connection:
            rows = await (await raw(connection)).fetch(_OPEN, tenant_id, *behind, limit)
        errors = await self._errors([row for row in rows if row["kind"] == HoldKind.PARKED_MESSAGE])
        return [_open_hold(row, errors) for row in rows]

    async def _errors(self, parked: Sequence[asyncpg.Record]) -> dict[tuple[str, str], str]:
        """What went wrong with each parked message, by tenant and id: content, so row-level security guards it."""
        if not parked:
            return {}
        tenants, ids = sorted({row["tenant_id"] for row in parked}), [row["name"] for row in parked]
        async with self._database.transaction(*tenants) as connection:
            rows = await (await raw(connection)).fetch(_ERRORS, tenants, ids)
        return {(row["tenant_id"], row["id"]): row["error"] for row in rows}

    async def resolve(self, key: HoldKey, request: ResolveHoldRequest, now: datetime) -> HoldResolution:
        async with self._database.transaction(key.tenant_id) as connection:
            driver = await raw(connection)
            first = await RequestLog(connection, tables.requests).claim(
                key.tenant_id, "ResolveHold", request.request_id, request.fingerprint, request.hold_id, now
            )
            if first is None:
                epoch, number = await _end(driver, key, now)
                decision = (epoch, number, request.reason, request.actor, now)
                await driver.execute(_ADD, key.tenant_id, request.hold_id, *decision)
            return _resolution(await driver.fetchrow(_GET, key.tenant_id, request.hold_id))

    async def resolutions(self, tenant_id: str, after: str, limit: int) -> list[HoldResolution]:
        async with self._database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(_LIST, tenant_id, after, limit)
        return [_resolution(row) for row in rows]


async def _end(driver: asyncpg.Connection, key: HoldKey, now: datetime) -> tuple[str, int]:
    """End the hold; return epoch and number of the batch that it is about, if it is about one."""
    batch = ("", 0)
    match key.kind:
        case HoldKind.QUEUE_LOSS:
            ended = key.tenant_id == EVERYBODY and await driver.fetchval(_END_LOSS, int(key.name), key.number, now)
        case HoldKind.MISSING_BATCH:
            ended = await driver.fetchval(_END_MISSING, key.tenant_id, key.name, key.number, now)
            batch = (key.name, key.number)
        case HoldKind.PARKED_MESSAGE:
            ended = await driver.fetchval(_END_PARKED, key.tenant_id, key.name, now)
            if ended is not None:
                await driver.execute(_UNQUEUE_PARKED, key.tenant_id, key.name)
                batch = _batch_of(ended, key.tenant_id)
    if ended is None or ended is False:
        if await driver.fetchrow(_GET, key.tenant_id, str(key)):
            raise HoldResolved(f"{key} was resolved before", holdId=str(key))
        raise HoldNotFound(f"there is no open hold {key}", holdId=str(key))
    return batch


def _batch_of(message_id: str, tenant_id: str) -> tuple[str, int]:
    """The batch that an acceptor published under this id."""
    named, _, rest = message_id.partition(":")
    epoch, _, number = rest.rpartition(":")
    is_batch = named == tenant_id and epoch and number.isascii() and number.isdecimal() and len(number) < 19
    return (epoch, int(number)) if is_batch else ("", 0)


def _open_hold(row: asyncpg.Record, errors: dict[tuple[str, str], str]) -> OpenHold:
    key = HoldKey(HoldKind(row["kind"]), row["tenant_id"], row["name"], row["number"])
    match key.kind:
        case HoldKind.QUEUE_LOSS:
            text = f"the queue ends at {key.number}" if key.number else "the queue was made anew"
        case HoldKind.MISSING_BATCH:
            text = f"batch {key.number} of acceptor {key.name} is missing"
        case HoldKind.PARKED_MESSAGE:
            text = errors.get((key.tenant_id, key.name), "it was resolved at this moment")
    return OpenHold(key, text, row["noticed_at"])


def _resolution(row: asyncpg.Record) -> HoldResolution:
    return HoldResolution(row["hold_id"], row["tenant_id"], row["reason"], row["actor"], row["resolved_at"])
