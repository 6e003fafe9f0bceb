"""How far batches have come, by their receipts."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from libs.errors import InvalidInput
from services.ingest.domain.stored_event import StoredException
from services.ingest.store.event_exceptions import exception_from_row
from services.ingest.usecases.query_events import BatchState, BatchStatus, Receipt

# An answer of so many fits into one message whatever they say, and one batch never has more than 1,000.
_MAX_EXCEPTIONS = 1_500

# A batch that was called lost and came after all is in `batches`, and that decides. A parked message is known by the
# id under which the acceptor published it; while it is unresolved, its number may be called missing as well. As a rule
# there are none, and behind row-level security no index on their ids would be used: so they are read once.
_STATES = """
WITH parked AS MATERIALIZED (
    SELECT headers ->> 'Nats-Msg-Id' AS message_id FROM parked_messages WHERE tenant_id = $1 AND resolved_at IS NULL
)
SELECT batches.batch_id, coalesce(result.conflict + result.rejected, 0) AS exceptions,
    concat_ws(':', $1, wanted.acceptor_epoch, wanted.batch_number) IN (SELECT message_id FROM parked) AS is_parked,
    missing.tenant_id IS NOT NULL OR abandoned.tenant_id IS NOT NULL AS is_lost
FROM unnest($2::text[], $3::bigint[]) WITH ORDINALITY AS wanted (acceptor_epoch, batch_number, position)
LEFT JOIN batches ON (batches.tenant_id, batches.acceptor_epoch, batches.batch_number)
    = ($1, wanted.acceptor_epoch, wanted.batch_number)
LEFT JOIN batch_results AS result ON (result.tenant_id, result.batch_id) = ($1, batches.batch_id)
LEFT JOIN missing_batches AS missing ON (missing.tenant_id, missing.acceptor_epoch, missing.batch_number)
    = ($1, wanted.acceptor_epoch, wanted.batch_number)
LEFT JOIN abandoned_batches AS abandoned ON (abandoned.tenant_id, abandoned.acceptor_epoch, abandoned.batch_number)
    = ($1, wanted.acceptor_epoch, wanted.batch_number)
ORDER BY wanted.position
"""
# Ordinals below zero were refused at the door: the caller heard of them at once.
_EXCEPTIONS = """
SELECT source, event_id, verdict, field, reason, description, received_at, customer_id, batch_id, ordinal
FROM event_exceptions JOIN batches USING (tenant_id, received_at, batch_id)
WHERE tenant_id = $1 AND batch_id = ANY($2::bigint[]) AND ordinal >= 0
ORDER BY batch_id, ordinal
"""


async def read_batch_statuses(
    driver: asyncpg.Connection, tenant_id: str, receipts: Sequence[Receipt]
) -> list[BatchStatus]:
    """See EventStore.batch_statuses. One statement, and a second one if there are exceptions."""
    epochs, numbers = [epoch for epoch, _ in receipts], [number for _, number in receipts]
    rows = await driver.fetch(_STATES, tenant_id, epochs, numbers)
    count = sum(row["exceptions"] for row in rows)
    if count > _MAX_EXCEPTIONS:
        description = f"their batches have {count} exceptions, more than {_MAX_EXCEPTIONS}: ask for fewer at a time"
        raise InvalidInput.of("receipts", "TOO_MANY_EXCEPTIONS", description)
    wanted = sorted({row["batch_id"] for row in rows if row["exceptions"]})
    found: dict[int, list[StoredException]] = {}
    for row in await driver.fetch(_EXCEPTIONS, tenant_id, wanted) if wanted else ():
        found.setdefault(row["batch_id"], []).append(exception_from_row(row))
    return [
        BatchStatus(receipt, _state(row), found.get(row["batch_id"], []))
        for receipt, row in zip(receipts, rows, strict=True)
    ]


def _state(row: asyncpg.Record) -> BatchState:
    if row["batch_id"] is not None:
        return BatchState.RECORDED
    if row["is_parked"]:
        return BatchState.PARKED
    return BatchState.LOST if row["is_lost"] else BatchState.QUEUED
