"""The search for missing usage in PostgreSQL, as a worker."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import asyncpg
import orjson

from libs.database import Database, is_outage, raw
from libs.ids import new_id
from libs.money import plain
from libs.outbox import leases
from services.ingest.domain.findings import (
    MAX_DIFFERENCES,
    FindingKind,
    Manifest,
    ManifestLine,
    ManifestState,
    Recorded,
    differences,
)
from services.ingest.store import missing_usage_sql as sql
from services.ingest.store.manifest_rows import COLUMNS, manifest_from_row, read_recorded

_logger = logging.getLogger(__name__)

_LEASE = "missing-usage"
_SOONEST = timedelta(seconds=5)
_LONGEST = timedelta(minutes=2)

# $1 is the real time, $2 and $3 are the tenants on test clocks and their times. What was acknowledged before the
# manifest was submitted is recorded when the watermark has passed that instant.
_DUE = f"""
SELECT item.tenant_id, {COLUMNS}
FROM manifests AS item
LEFT JOIN unnest($2::text[], $3::timestamptz[]) AS clock (tenant_id, now_at) ON clock.tenant_id = item.tenant_id
LEFT JOIN {sql.expectation_of("item")} AS expected ON true
WHERE state IN ('pending', 'disagreed') AND compare_after <= $1
    AND period_end + make_interval(secs => coalesce(allowance_s, $4)) <= coalesce(clock.now_at, $1)
    AND submitted_at < ({sql.WATERMARK})
ORDER BY compare_after LIMIT 1 FOR UPDATE OF item SKIP LOCKED
"""  # noqa: S608 - put together from constants
_LATER = "UPDATE manifests SET compare_after = $3 WHERE tenant_id = $1 AND manifest_id = $2"
_COMPARED = """
UPDATE manifests SET state = $3, compared_at = $4, compare_after = $5 WHERE tenant_id = $1 AND manifest_id = $2
"""
_AGREED = """
UPDATE findings SET updated_at = $3, resolved_at = $3, resolution = 'itself'
WHERE tenant_id = $1 AND kind = 'manifest_disagrees' AND subject = $2 AND resolved_at IS NULL
"""
_IS_OPEN = """
SELECT EXISTS (SELECT FROM findings
    WHERE tenant_id = $1 AND kind = 'manifest_disagrees' AND subject = $2 AND resolved_at IS NULL)
"""
_STILL_DISAGREES = """
UPDATE findings SET updated_at = $4, evidence = $3::text::jsonb
WHERE tenant_id = $1 AND kind = 'manifest_disagrees' AND subject = $2 AND resolved_at IS NULL
    AND evidence <> $3::text::jsonb
"""


class PostgresMissingUsage:
    """MissingUsage over the worker's database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._holder = new_id("missing-usage")

    async def take_turn(self, now: datetime) -> Sequence[str]:
        """The tenants to look at, or nobody if it is another process's turn."""
        async with self._database.queue_transaction() as connection:
            driver = await raw(connection)
            if not await leases.hold(driver, _LEASE, self._holder, now):
                return ()
            return [row["tenant_id"] for row in await driver.fetch(sql.TENANTS)]

    async def search(self, tenant_ids: Sequence[str], now: datetime, test_times: Mapping[str, datetime]) -> int:
        """Open and end findings about gaps and silence in one transaction; return how many were opened."""
        clocks = _clocks(tenant_ids, test_times)
        async with self._database.transaction(*tenant_ids) as connection:
            driver = await raw(connection)
            await driver.execute(sql.CHANGED_GAPS, now)
            await driver.execute(sql.HEARD_AGAIN, now)
            watermark = await driver.fetchval(sql.WATERMARK)
            found = [*await driver.fetch(sql.NEW_GAPS, watermark), *await driver.fetch(sql.UNUSABLE)]
            found += await driver.fetch(sql.SILENT, now, *clocks)
            columns = [(*row[:4], orjson.dumps(row["evidence"]).decode()) for row in found]
            opened = await _add_findings(driver, columns, now)
            await driver.execute(sql.FORGET_CLOSED_GAPS)
        return opened

    async def compare(self, tenant_ids: Sequence[str], now: datetime, test_times: Mapping[str, datetime]) -> bool:
        """Compare a manifest that is due in one transaction; return whether there was one.

        One that fails is tried again later, so that it does not keep all others from being compared.
        """
        clocks, allowance_s = _clocks(tenant_ids, test_times), sql.DEFAULT_ALLOWANCE_S
        async with self._database.transaction(*tenant_ids) as connection:
            driver = await raw(connection)
            row = await driver.fetchrow(_DUE, now, *clocks, allowance_s)
            if row is None:
                return False
            try:
                async with driver.transaction():  # A savepoint.
                    await _compare(driver, row["tenant_id"], manifest_from_row(row), now)
            except Exception as error:
                if is_outage(error):
                    raise
                _logger.exception("manifest %s of %s cannot be compared", row["manifest_id"], row["tenant_id"])
                await driver.execute(_LATER, row["tenant_id"], row["manifest_id"], now + _LONGEST)
        return True


async def _compare(driver: asyncpg.Connection, tenant_id: str, manifest: Manifest, now: datetime) -> None:
    found = differences(manifest.lines, await read_recorded(driver, tenant_id, manifest))
    state = ManifestState.DISAGREED if found else ManifestState.AGREED
    if found:
        evidence = orjson.dumps(_evidence(manifest.manifest_id, found)).decode()
        finding = tenant_id, FindingKind.MANIFEST_DISAGREES, manifest.source, manifest.manifest_id, evidence
        if not await _add_findings(driver, [finding], now):
            await driver.execute(_STILL_DISAGREES, tenant_id, manifest.manifest_id, evidence, now)
    else:
        await driver.execute(_AGREED, tenant_id, manifest.manifest_id, now)
    # Reading a period costs more than reading a row: the longer a manifest disagrees, the more seldom it is compared.
    # If nobody waits for it, because a person has resolved its finding, without an end to that.
    rest = (now - manifest.submitted_at) / 4
    if found and await driver.fetchval(_IS_OPEN, tenant_id, manifest.manifest_id):
        rest = min(rest, _LONGEST)
    await driver.execute(_COMPARED, tenant_id, manifest.manifest_id, state, now, now + max(_SOONEST, rest))


def _evidence(manifest_id: str, found: Sequence[tuple[ManifestLine, Recorded]]) -> dict[str, object]:
    return {
        "manifest_id": manifest_id,
        "difference_count": len(found),
        "differences": [
            {
                "meter_id": line.meter_id,
                "customer_id": line.customer_id,
                "declared_count": line.event_count,
                "recorded_count": recorded.event_count,
                "declared_sum": "" if line.total is None else plain(line.total),
                "recorded_sum": "" if line.total is None else plain(recorded.total),
            }
            for line, recorded in found[:MAX_DIFFERENCES]
        ],
    }


async def _add_findings(
    driver: asyncpg.Connection, found: Sequence[tuple[str, str, str, str, str]], now: datetime
) -> int:
    """Add (tenant, kind, source, subject, evidence), except those that are known; return how many are new."""
    if not found:
        return 0
    tenants, kinds, sources, subjects, evidence = (list(column) for column in zip(*sorted(found), strict=True))
    ids = [new_id("finding") for _ in found]
    return len(await driver.fetch(sql.ADD_FINDINGS, tenants, ids, kinds, sources, subjects, evidence, now))


def _clocks(tenant_ids: Sequence[str], test_times: Mapping[str, datetime]) -> tuple[list[str], list[datetime]]:
    wanted = sorted(test_times.keys() & set(tenant_ids))
    return wanted, [test_times[tenant_id] for tenant_id in wanted]
