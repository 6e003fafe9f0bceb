"""Facts on their way out, each in the trace of its invoice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from libs.outbox import Fact
from services.payments.domain.events import PaymentFact
from services.payments.store.tables import facts as tables

EncodeFact = Callable[[PaymentFact], Fact]

# FactOutbox gives all facts of a statement the current trace. Ours have a trace each: it would take a statement each.
_ADD = f"""
WITH added AS (
    INSERT INTO {tables.facts.name} (tenant_id, event_id, subject, payload, trace_headers, created_at)
    SELECT tenant_id, event_id, subject, payload, trace_headers::jsonb, $6
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[])
        AS fact (tenant_id, event_id, subject, payload, trace_headers)
    ORDER BY tenant_id, event_id
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, event_id
)
INSERT INTO {tables.queue.name} (tenant_id, event_id, due_at) SELECT tenant_id, event_id, $6 FROM added
"""  # noqa: S608


async def add_facts(
    connection: AsyncConnection, facts: Sequence[PaymentFact], encode: EncodeFact, now: datetime
) -> None:
    """Add facts to the outbox; one whose id is there already changes nothing. `now` is real time."""
    if not facts:
        return
    encoded = [encode(fact) for fact in facts]
    await (await raw(connection)).execute(
        _ADD,
        [fact.tenant_id for fact in encoded],
        [fact.event_id for fact in encoded],
        [fact.subject for fact in encoded],
        [fact.payload for fact in encoded],
        [_trace_headers(fact.payment.trace_parent) for fact in facts],
        now,
    )


def _trace_headers(trace_parent: str) -> str:
    return json.dumps({"traceparent": trace_parent} if trace_parent else {})
