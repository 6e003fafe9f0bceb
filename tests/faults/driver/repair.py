"""What follows a loss of the queue: which acknowledged usage is gone, whether ingest names it, and its repair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import asyncpg

from tests.faults.checkers.sent import each_event
from tests.faults.driver.history import read
from tests.faults.driver.tenant_session import TenantSession
from tests.faults.driver.workload import Batch
from tests.faults.driver.world import World

_NAMED = "SELECT acceptor_epoch, batch_number FROM missing_batches WHERE tenant_id = $1"
_IS_LOST = "SELECT EXISTS (SELECT FROM queue_losses WHERE resolved_at IS NULL)"


async def lost_batches(session: TenantSession, calls: Sequence[Batch], history: Path) -> list[Batch]:
    """The calls with acknowledged events that are not recorded."""
    acknowledged = _receipts(session, history)
    gone = set(await session.unrecorded(sorted(acknowledged)))
    return [call for call in calls if any(event.event_id in gone and not event.refused for event in call.events)]


async def unnamed_losses(world: World, session: TenantSession, lost: Sequence[Batch], history: Path) -> list[str]:
    """Acknowledged events that are gone without any batch that holds them being named by ingest."""
    receipts = _receipts(session, history)
    gone = set(await session.unrecorded(sorted(receipts))) if lost else set()
    connection = await asyncpg.connect(world.superuser_url("ingest"), timeout=5)
    try:
        named = {tuple(row) for row in await connection.fetch(_NAMED, session.tenant_id)}
        if await connection.fetchval(_IS_LOST):
            return []
    finally:
        await connection.close()
    return [
        f"{session.tenant_id}: {event_id} was acknowledged in {sorted(receipts[event_id])} and is gone unnamed"
        for event_id in sorted(gone)
        if not receipts[event_id] & named
    ]


def _receipts(session: TenantSession, history: Path) -> dict[str, set[tuple[str, int]]]:
    """The batches in which each acknowledged event went, by the answers."""
    found: dict[str, set[tuple[str, int]]] = {}
    for operation, event, verdict in each_event(read(history)):
        if verdict in (None, "REJECTED") or operation.invoke.data["tenant"] != session.tenant_id:
            continue
        assert operation.end is not None
        if operation.end.data["receipt"] is None:  # A spool's, which has told that everything is recorded.
            continue
        epoch, number = operation.end.data["receipt"]
        found.setdefault(event["id"], set()).add((epoch, number))
    return found
