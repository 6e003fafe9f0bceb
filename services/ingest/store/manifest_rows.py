"""Manifests as rows, and what of them the log has."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import asyncpg
import orjson

from libs.money import plain
from services.ingest.domain.door import to_ns
from services.ingest.domain.findings import Manifest, ManifestLine, ManifestState, Recorded
from services.ingest.store.measured_log import MEASURED_LOG

COLUMNS = """manifest_id, source, period_start, period_end, version, lines, state, submitted_at, compared_at"""

# The result has a row per line at most, whatever the period holds. Unique counts measure texts: they have no sum.
_RECORDED = f"""
SELECT wanted.position, count(*) AS event_count,
    coalesce(sum(CASE WHEN wanted.has_total THEN read.measured::numeric END), 0) AS total
FROM {MEASURED_LOG} AS events
CROSS JOIN LATERAL jsonb_each_text(events.measured) AS read (meter_id, measured)
JOIN unnest($5::text[], $6::text[], $7::boolean[])
    WITH ORDINALITY AS wanted (meter_id, customer_id, has_total, position)
    ON wanted.meter_id = read.meter_id AND wanted.customer_id IN ('', events.customer_id)
WHERE events.tenant_id = $1 AND events.source = $2 AND event_time_ns >= $3 AND event_time_ns < $4
GROUP BY wanted.position
"""  # noqa: S608 - put together from constants


def manifest_from_row(row: asyncpg.Record) -> Manifest:
    return Manifest(
        manifest_id=row["manifest_id"],
        source=row["source"],
        start=row["period_start"],
        end=row["period_end"],
        version=row["version"],
        lines=[
            ManifestLine(meter_id, customer_id, event_count, Decimal(total) if total else None)
            for meter_id, customer_id, event_count, total in row["lines"]
        ],
        state=ManifestState(row["state"]),
        submitted_at=row["submitted_at"],
        compared_at=row["compared_at"],
    )


def lines_to_json(lines: Sequence[ManifestLine]) -> str:
    rows = [
        (line.meter_id, line.customer_id, line.event_count, "" if line.total is None else plain(line.total))
        for line in lines
    ]
    return orjson.dumps(rows).decode()


async def read_recorded(driver: asyncpg.Connection, tenant_id: str, manifest: Manifest) -> list[Recorded]:
    """What the log has for each line: one reading of the tenant's events of the period."""
    rows = await driver.fetch(
        _RECORDED,
        tenant_id,
        manifest.source,
        to_ns(manifest.start),
        to_ns(manifest.end),
        [line.meter_id for line in manifest.lines],
        [line.customer_id for line in manifest.lines],
        [line.total is not None for line in manifest.lines],
    )
    found = {row["position"]: Recorded(row["event_count"], row["total"]) for row in rows}
    return [found.get(place, Recorded(0, Decimal(0))) for place in range(1, len(manifest.lines) + 1)]
