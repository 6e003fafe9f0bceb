"""Voids of events that have not arrived, as recorders see them.

A recorder and whoever voids an id that nobody knows could each miss what the other one adds and has not committed. So
they exclude each other, by a lock of the tenant: recorders share it among themselves, and only such a void, as rare as
it is, has it alone (ADR 0034).
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from services.ingest.domain.recording import RecordingBatch

_LOCK_ID = "hashtextextended('ingest:recording:' || {}, 0)"
SHARE_LOCKS = f"""
(SELECT count(pg_advisory_xact_lock_shared({_LOCK_ID.format("tenant")}))
    FROM (SELECT DISTINCT tenant FROM unnest($1::text[]) AS tenant ORDER BY tenant) AS recorded)
"""  # noqa: S608 - put together from constants
"""An expression that takes the recorders' locks of the tenants in $1, in order. What was voided is seen by the next
statement."""
LOCK_ALONE = f"SELECT pg_advisory_xact_lock({_LOCK_ID.format('$1::text')})"
# Nearly always nothing; the ids of a chunk are sent only if there is something that they could match.
# One row of each tenant is looked for: of a tenant that voids in advance a million may wait.
_TENANTS_WAITING = """
SELECT recorded.tenant_id FROM unnest($1::text[]) AS recorded (tenant_id)
CROSS JOIN LATERAL (
    SELECT FROM waiting_corrections AS waiting WHERE waiting.tenant_id = recorded.tenant_id LIMIT 1
) AS one
"""
_TAKE = """
DELETE FROM waiting_corrections AS waiting
USING unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS event (tenant_id, source, event_id, position)
WHERE (waiting.tenant_id, waiting.source, waiting.event_id) = (event.tenant_id, event.source, event.event_id)
RETURNING event.position
"""


async def take_waiting_voids(driver: asyncpg.Connection, batches: Sequence[RecordingBatch]) -> None:
    """Note which recorded events were voided before they arrived; they wait no longer."""
    if not batches:
        return
    tenants = sorted({item.batch.tenant_id for item in batches})
    waiting = {row["tenant_id"] for row in await driver.fetch(_TENANTS_WAITING, tenants)}
    rows = [(item, row) for item in batches if item.batch.tenant_id in waiting for row in sorted(item.recorded)]
    if not rows:
        return
    found = await driver.fetch(
        _TAKE,
        [item.batch.tenant_id for item, _ in rows],
        [item.batch.events.sources[row] for item, row in rows],
        [item.batch.events.event_ids[row] for item, row in rows],
    )
    for record in found:
        item, row = rows[record["position"] - 1]
        item.voided.add(row)
