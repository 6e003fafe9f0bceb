"""What recorders note of sources: which numbers came, and when sources that are watched were heard."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import asyncpg

from services.ingest.domain.arrivals import MAX_RUNS, NumbersArrived, SourceHeard, numbers_arrived, sources_heard
from services.ingest.domain.usage_batch import UsageBatch

_READ_EVERY = timedelta(seconds=1)

_WATCHED = "SELECT tenant_id FROM missing_usage_tenants WHERE tracks_sources"
# The union of multiranges is the same in any order and repetition. Its length is limited, or a producer that does not
# count in ones could let a row grow without end.
_ADD_NUMBERS = f"""
WITH arrived AS (
    INSERT INTO source_sequences AS kept (
        tenant_id, source, sequence_epoch, numbers, is_ragged, last_received_at)
    SELECT tenant_id, source, sequence_epoch, numbers::int8multirange, is_ragged, received_at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::timestamptz[])
        AS came (tenant_id, source, sequence_epoch, numbers, is_ragged, received_at)
    ON CONFLICT (tenant_id, source, sequence_epoch) DO UPDATE SET
        numbers = CASE
            WHEN kept.is_ragged OR excluded.is_ragged
                OR (SELECT count(*) FROM unnest(kept.numbers + excluded.numbers)) > {MAX_RUNS}
            THEN int8multirange(range_merge(kept.numbers + excluded.numbers))
            ELSE kept.numbers + excluded.numbers END,
        is_ragged = kept.is_ragged OR excluded.is_ragged
            OR (SELECT count(*) FROM unnest(kept.numbers + excluded.numbers)) > {MAX_RUNS},
        previous_received_at = kept.last_received_at,
        last_received_at = greatest(kept.last_received_at, excluded.last_received_at)
    RETURNING tenant_id, source, sequence_epoch, missing, is_ragged
)
SELECT tenant_id, source, sequence_epoch FROM arrived WHERE is_ragged OR NOT isempty(missing)
"""  # noqa: S608 - put together from constants
# A statement of its own, under the locks of the rows: it sees the gaps that others have noted before us. New gaps lie
# outside of what came before, so they overlap none that is known.
_NOTE_GAPS = """
INSERT INTO sequence_gaps (tenant_id, source, sequence_epoch, numbers, seen_before_at, noticed_at)
SELECT tenant_id, source, sequence_epoch, gap, previous_received_at, last_received_at
FROM unnest($1::text[], $2::text[], $3::text[]) AS ragged (tenant_id, source, sequence_epoch)
JOIN source_sequences USING (tenant_id, source, sequence_epoch), unnest(missing) AS gap
WHERE NOT EXISTS (
    SELECT FROM sequence_gaps AS known
    WHERE (known.tenant_id, known.source, known.sequence_epoch)
        = (source_sequences.tenant_id, source_sequences.source, source_sequences.sequence_epoch)
        AND known.numbers && gap
)
ON CONFLICT DO NOTHING
"""
_NOTE_TENANTS = """
INSERT INTO missing_usage_tenants (tenant_id) SELECT DISTINCT tenant_id FROM unnest($1::text[]) AS tenant_id ORDER BY 1
ON CONFLICT DO NOTHING
"""
_ADD_HEARD = """
INSERT INTO source_activity AS kept (tenant_id, source, first_at, last_at, last_received_at, pause_counts)
SELECT tenant_id, source, heard_at, heard_at, received_at, array_fill(0::bigint, ARRAY[32])
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[])
    AS heard (tenant_id, source, heard_at, received_at)
ON CONFLICT (tenant_id, source) DO UPDATE SET
    pause_counts = counted_pause(
        kept.pause_counts, floor(extract(epoch FROM excluded.last_at - kept.last_at))::bigint),
    last_at = greatest(kept.last_at, excluded.last_at),
    last_received_at = greatest(kept.last_received_at, excluded.last_received_at)
"""


class WatchedTenants:
    """Whose sources are watched, read again when a second has passed: nobody else's events cost anything."""

    def __init__(self) -> None:
        self._tenants: frozenset[str] = frozenset()
        self._read_at: datetime | None = None

    async def read(self, driver: asyncpg.Connection, now: datetime) -> frozenset[str]:
        if self._read_at is None or not timedelta(0) <= now - self._read_at < _READ_EVERY:
            self._tenants = frozenset(row["tenant_id"] for row in await driver.fetch(_WATCHED))
            self._read_at = now
        return self._tenants


async def add_arrivals(
    driver: asyncpg.Connection, watched: WatchedTenants, batches: Sequence[UsageBatch], now: datetime
) -> None:
    """Note what new batches tell of their sources, in the transaction that records them."""
    numbers = numbers_arrived(batches)
    if numbers:
        await _add_numbers(driver, numbers)
    tenants = await watched.read(driver, now)
    heard = sources_heard([batch for batch in batches if batch.tenant_id in tenants]) if tenants else []
    if heard:
        await _add_heard(driver, heard)


async def _add_numbers(driver: asyncpg.Connection, numbers: Sequence[NumbersArrived]) -> None:
    incomplete = await driver.fetch(
        _ADD_NUMBERS,
        [item.tenant_id for item in numbers],
        [item.source for item in numbers],
        [item.sequence_epoch for item in numbers],
        [item.text() for item in numbers],
        [item.is_ragged for item in numbers],
        [item.received_at for item in numbers],
    )
    if incomplete:
        tenants = [row["tenant_id"] for row in incomplete]
        keys = [row["source"] for row in incomplete], [row["sequence_epoch"] for row in incomplete]
        await driver.execute(_NOTE_GAPS, tenants, *keys)
        await driver.execute(_NOTE_TENANTS, tenants)


async def _add_heard(driver: asyncpg.Connection, heard: Sequence[SourceHeard]) -> None:
    await driver.execute(
        _ADD_HEARD,
        [item.tenant_id for item in heard],
        [item.source for item in heard],
        [item.heard_at for item in heard],
        [item.received_at for item in heard],
    )
