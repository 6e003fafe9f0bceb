"""Counts of fates in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from libs.database import Database, raw
from services.ingest.domain.fate_counts import MAX_SOURCES, OTHER_SOURCES, FateCounts, count_fates
from services.ingest.domain.recording import RecordingBatch
from services.ingest.usecases.fate_counts import CountedFates, FateQuestion

_NAMES = ", ".join(FateCounts.__slots__)
_OF_COUNTED = ", ".join(f"counted.{name}" for name in FateCounts.__slots__)
_SUMS = ", ".join(f"coalesce(sum({name}), 0)::bigint AS {name}" for name in FateCounts.__slots__)
# Sources that are new to an hour that has enough of them join the others. Two recorders may do so at once: the bound
# is not exact, and needs no lock.
_ADD = f"""
WITH counted AS (
    SELECT tenant_id, hour_start, source, {_NAMES}
    FROM unnest(
        $1::text[], $2::timestamptz[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]
    ) AS counted (tenant_id, hour_start, source, {_NAMES})
), hours AS (
    SELECT tenant_id, hour_start, (
        SELECT count(*) FROM (
            SELECT FROM fate_counts AS kept
            WHERE (kept.tenant_id, kept.hour_start) = (hour.tenant_id, hour.hour_start) LIMIT {MAX_SOURCES}
        ) AS enough
    ) AS sources
    FROM (SELECT DISTINCT tenant_id, hour_start FROM counted) AS hour
), named AS (
    SELECT tenant_id, hour_start, source, {_OF_COUNTED}, sources + row_number() OVER (
        PARTITION BY tenant_id, hour_start, kept.source IS NULL ORDER BY counted.source
    ) AS number, kept.source IS NOT NULL AS is_known
    FROM counted JOIN hours USING (tenant_id, hour_start)
    LEFT JOIN fate_counts AS kept USING (tenant_id, hour_start, source)
)
INSERT INTO fate_counts AS kept (tenant_id, hour_start, source, {_NAMES})
SELECT tenant_id, hour_start, CASE WHEN is_known OR number <= {MAX_SOURCES} THEN source ELSE '{OTHER_SOURCES}' END,
    {", ".join(f"sum({name})" for name in FateCounts.__slots__)}
FROM named GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (tenant_id, hour_start, source) DO UPDATE SET
    {", ".join(f"{name} = kept.{name} + excluded.{name}" for name in FateCounts.__slots__)}
"""  # noqa: S608 - put together from constants
_SELECTED = "tenant_id = $1 AND hour_start >= $2 AND hour_start < $3 AND ($4::text[] IS NULL OR source = ANY ($4))"
_READ = f"""
SELECT span_start, source, {_SUMS}
FROM (
    SELECT source, {_NAMES},
        CASE $5 WHEN 'all' THEN $2::timestamptz ELSE date_trunc($5, hour_start, 'UTC') END AS span_start
    FROM fate_counts WHERE {_SELECTED}
) AS counted
WHERE $6::timestamptz IS NULL OR (span_start, source) > ($6, $7 COLLATE "C")
GROUP BY span_start, source ORDER BY span_start, source LIMIT $8
"""  # noqa: S608 - put together from constants
_TOTAL = f"SELECT {_SUMS} FROM fate_counts WHERE {_SELECTED}"  # noqa: S608 - put together from constants


async def add_fate_counts(driver: asyncpg.Connection, recording: Sequence[RecordingBatch]) -> None:
    """Count the fates of newly recorded batches, in their transaction."""
    counted = count_fates(recording)
    if counted:
        keys = [list(column) for column in zip(*(key for key, _ in counted), strict=True)]
        numbers = [[getattr(counts, name) for _, counts in counted] for name in FateCounts.__slots__]
        await driver.execute(_ADD, *keys, *numbers)


@dataclass(frozen=True, slots=True)
class PostgresFateCountStore:
    """FateCountStore."""

    database: Database

    async def counts(
        self, tenant_id: str, question: FateQuestion, after: tuple[datetime, str] | None, limit: int
    ) -> list[CountedFates]:
        selected = (tenant_id, question.period.start, question.period.end, list(question.sources) or None)
        async with self.database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(_READ, *selected, question.span, *(after or (None, "")), limit)
        return [CountedFates(row["span_start"], row["source"], _counts(row)) for row in rows]

    async def total(self, tenant_id: str, question: FateQuestion) -> FateCounts:
        selected = (tenant_id, question.period.start, question.period.end, list(question.sources) or None)
        async with self.database.transaction(tenant_id) as connection:
            return _counts(await (await raw(connection)).fetchrow(_TOTAL, *selected))


def _counts(row: asyncpg.Record) -> FateCounts:
    return FateCounts(*(row[name] for name in FateCounts.__slots__))
