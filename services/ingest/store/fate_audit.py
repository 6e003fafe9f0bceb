"""The check of fates in PostgreSQL, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from libs.database import Database, raw
from libs.periods import Period
from services.ingest.store import fate_audit_sql as sql
from services.ingest.store.reconciliation import window_differences
from services.ingest.usecases.audit_fates import Equation, FateDifference
from services.ingest.usecases.list_fate_differences import AuditProgress

_HOURS_AT_ONCE = 24
_HOUR = timedelta(hours=1)
_NO_HOUR = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Found:
    equation: Equation
    hour: datetime
    subject: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class PostgresFateAudit:
    """FateAudit, logged in as worker."""

    database: Database

    async def watermark(self) -> datetime | None:
        async with self.database.queue_transaction() as connection:
            found: datetime | None = await (await raw(connection)).fetchval(sql.WATERMARK)
        return found

    async def tenants(self, checked_before: datetime) -> Sequence[str]:
        async with self.database.queue_transaction() as connection:
            return [row["tenant_id"] for row in await (await raw(connection)).fetch(sql.TENANTS, checked_before)]

    async def open_differences(self) -> int:
        async with self.database.queue_transaction() as connection:
            return int(await (await raw(connection)).fetchval(sql.OPEN))

    async def check(self, tenant_id: str, before: datetime, now: datetime) -> Sequence[FateDifference]:
        async with self.database.transaction(tenant_id) as connection:
            driver = await raw(connection)
            if not await driver.fetchval(sql.TRY_LOCK, tenant_id):
                return []
            progress = await driver.fetchrow(sql.PROGRESS, tenant_id)
            first = progress["next_hour"] if progress else await driver.fetchval(sql.FIRST_HOUR, tenant_id)
            next_hour, last_sealed = first or before, progress["last_sealed"] if progress else _NO_HOUR
            fresh = await _fresh_hours(driver, tenant_id, next_hour, before)
            known = await driver.fetch(sql.OPEN_HOURS, tenant_id, Equation.WINDOWS, _HOURS_AT_ONCE)
            received = [*fresh, *(row["hour_start"] for row in known if not row["of_windows"])]
            sealed = await driver.fetchval(sql.NEXT_SEALED, tenant_id, last_sealed)
            measured = [row["hour_start"] for row in known if row["of_windows"]] + ([sealed] if sealed else [])
            fates = await _received(driver, tenant_id, received)
            windows = await _measured(driver, tenant_id, measured)
            new = await _keep(driver, tenant_id, [*fates, *windows], now)
            for hours, found, of_windows in ((received, fates, False), (measured, windows, True)):
                # Else some that still differ may not have been named.
                if len(found) < sql.MOST_DIFFERENCES:
                    await driver.execute(sql.RESOLVE, tenant_id, hours, now, now, Equation.WINDOWS, of_windows)
            next_hour = fresh[-1] + _HOUR if fresh else next_hour
            # Behind the last sealed hour it begins anew.
            await driver.execute(sql.SAVE_PROGRESS, tenant_id, next_hour, sealed or _NO_HOUR, now)
        return new


@dataclass(frozen=True, slots=True)
class PostgresFateDifferences:
    """FateDifferenceStore, logged in as api."""

    database: Database

    async def list(
        self, tenant_id: str, include_resolved: bool, after: tuple[datetime, str, str] | None, limit: int
    ) -> list[FateDifference]:
        async with self.database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(
                sql.LIST, tenant_id, include_resolved, *(after or (None, "", "")), limit
            )
        return [_difference(row) for row in rows]

    async def progress(self, tenant_id: str) -> AuditProgress | None:
        async with self.database.transaction(tenant_id) as connection:
            row = await (await raw(connection)).fetchrow(sql.CHECKED, tenant_id)
        return None if row is None else AuditProgress(row["next_hour"], row["checked_at"])


async def _fresh_hours(driver: asyncpg.Connection, tenant_id: str, first: datetime, before: datetime) -> list[datetime]:
    """The next hours that have not too many events together, at least one if any is over."""
    count = max(0, min(_HOURS_AT_ONCE, (before - first) // _HOUR))
    rows = await driver.fetch(sql.EVENTS_OF_HOURS, tenant_id, [first + number * _HOUR for number in range(count)])
    fresh: list[datetime] = []
    events = 0
    for row in rows:
        events += row["events"]
        if fresh and events > sql.MOST_EVENTS:
            break
        fresh.append(row["hour_start"])
    return fresh


async def _received(driver: asyncpg.Connection, tenant_id: str, hours: Sequence[datetime]) -> list[_Found]:
    rows = await driver.fetch(sql.RECEIVED, tenant_id, sorted(set(hours))) if hours else []
    return [_Found(Equation(row["equation"]), *row[1:]) for row in rows]


async def _measured(driver: asyncpg.Connection, tenant_id: str, hours: Sequence[datetime]) -> list[_Found]:
    return [
        _Found(Equation.WINDOWS, hour, item.subject, item.left, item.right)
        for hour in sorted(set(hours))
        for item in await window_differences(driver, tenant_id, Period(hour, hour + _HOUR))
    ]


async def _keep(
    driver: asyncpg.Connection, tenant_id: str, found: Sequence[_Found], now: datetime
) -> list[FateDifference]:
    """Store what differs, and return what did not differ before."""
    if not found:
        return []
    columns = zip(*((item.equation, item.hour, item.subject, item.left, item.right) for item in found), strict=True)
    rows = await driver.fetch(sql.KEEP, tenant_id, *map(list, columns), now)
    return [_difference(row) for row in rows if row["is_new"]]


def _difference(row: asyncpg.Record) -> FateDifference:
    return FateDifference(
        Equation(row["equation"]),
        row["hour_start"],
        row["subject"],
        row["left_side"],
        row["right_side"],
        row["first_seen"],
        row["last_seen"],
        row["resolved_at"],
    )
