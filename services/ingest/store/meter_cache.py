"""What recorders remember of meters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from services.ingest.domain.meter import Meter
from services.ingest.store.meters import read_meters_of

# Meters and versions are only ever added: how many rows there are says whether something has changed.
_CHANGES = """
SELECT tenant_id, (SELECT count(*) FROM meters WHERE meters.tenant_id = asked.tenant_id)
    + (SELECT count(*) FROM meter_versions WHERE meter_versions.tenant_id = asked.tenant_id) AS changes
FROM unnest($1::text[]) AS asked (tenant_id)
"""


class MeterCache:
    """The meters of tenants, read again when one was added, changed or archived."""

    def __init__(self) -> None:
        self._meters: dict[str, Sequence[Meter]] = {}

    async def read(self, driver: asyncpg.Connection, tenant_ids: Sequence[str]) -> Mapping[str, Sequence[Meter]]:
        """Return the meters of each tenant as this transaction sees them."""
        changes = {row["tenant_id"]: row["changes"] for row in await driver.fetch(_CHANGES, tenant_ids)}
        # Of this moment: while we read others, a slower recorder may put back what it has read before us.
        known = {tenant: self._meters.get(tenant, ()) for tenant in tenant_ids}
        stale = [tenant for tenant, count in changes.items() if count != _changes(known[tenant])]
        if stale:
            found: dict[str, list[Meter]] = {tenant: [] for tenant in stale}
            for tenant_id, meter in await read_meters_of(driver, stale):
                found[tenant_id].append(meter)
            self._meters.update(found)
            known |= found
        return known


def _changes(meters: Sequence[Meter]) -> int:
    """How many rows these meters come from: one per version."""
    return sum(meter.version for meter in meters)
