"""Meters in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from services.ingest.domain.meter import Aggregation, Meter, PropertyFilter

_COUNTS = "SELECT tenant_id, count(*) AS meters FROM meters WHERE tenant_id = ANY ($1::text[]) GROUP BY tenant_id"
_READ = """
SELECT tenant_id, meter_id, display_name, event_type, aggregation, expression, filters, group_by, unit, created_at
FROM meters WHERE tenant_id = ANY ($1::text[]) ORDER BY tenant_id, meter_id
"""


def meter_from_row(row: asyncpg.Record) -> Meter:
    """A row with the columns of _READ."""
    return Meter(
        meter_id=row["meter_id"],
        display_name=row["display_name"],
        event_type=row["event_type"],
        aggregation=Aggregation(row["aggregation"]),
        expression=row["expression"],
        filters=tuple(PropertyFilter(name, value) for name, value in row["filters"]),
        group_by=tuple(row["group_by"]),
        unit=row["unit"],
        created_at=row["created_at"],
    )


class MeterCache:
    """The meters of tenants, read again when there are more of them: meters are added, never changed or removed."""

    def __init__(self) -> None:
        self._meters: dict[str, Sequence[Meter]] = {}

    async def read(self, driver: asyncpg.Connection, tenant_ids: Sequence[str]) -> Mapping[str, Sequence[Meter]]:
        """Return the meters of each tenant as this transaction sees them."""
        counts = {row["tenant_id"]: row["meters"] for row in await driver.fetch(_COUNTS, tenant_ids)}
        stale = [tenant for tenant, count in counts.items() if count != len(self._meters.get(tenant, ()))]
        if stale:
            found: dict[str, list[Meter]] = {tenant: [] for tenant in stale}
            for row in await driver.fetch(_READ, stale):
                found[row["tenant_id"]].append(meter_from_row(row))
            self._meters.update(found)
        return {tenant: self._meters.get(tenant, ()) for tenant in tenant_ids}
