"""Batches, meters and events for tests of ingest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from libs.database import Database, migrate, raw
from libs.errors import Violation
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Aggregation, Meter, PropertyFilter
from services.ingest.domain.usage_batch import RejectedEvent, UsageBatch, UsageColumns
from services.ingest.store.meters import PostgresMeterStore
from services.ingest.store.migrations import PACKAGE
from services.ingest.usecases.create_meter import CreateMeterRequest
from services.ingest.usecases.ports import QueuedBatch, StreamPosition

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
STREAM = datetime(2026, 3, 1, tzinfo=UTC)


async def migrate_ingest(owner_url: str) -> None:
    await migrate(owner_url, PACKAGE)


class Event(NamedTuple):
    """One event of a batch; `at` is its event time."""

    event_id: str
    properties: Mapping[str, str] = {}
    customer_id: str = "cust-01"
    at: datetime = NOON
    event_type: str = "llm.request"
    source: str = "gateway"


def columns(*events: Event) -> UsageColumns:
    return UsageColumns(
        event_ids=[event.event_id for event in events],
        sources=[event.source for event in events],
        event_types=[event.event_type for event in events],
        customer_ids=[event.customer_id for event in events],
        times_ns=[to_ns(event.at) for event in events],
        properties=[dict(event.properties) for event in events],
    )


def a_batch(
    number: int,
    *events: Event,
    tenant: str = "acme",
    epoch: str = "epoch-1",
    received_at: datetime = NOON,
    rejected: Sequence[RejectedEvent] = (),
    accepted_total: int | None = None,
    abandoned: Sequence[int] = (),
    trace_parent: str = "",
    seq: int | None = None,
) -> QueuedBatch:
    batch = UsageBatch(
        tenant_id=tenant,
        acceptor_epoch=epoch,
        batch_number=number,
        received_at=received_at,
        accepted_at=received_at,
        events=columns(*events),
        rejected=rejected,
        accepted_total=len(events) if accepted_total is None else accepted_total,
        rejected_total=len(rejected),
        abandoned_numbers=abandoned,
        trace_parent=trace_parent,
    )
    return QueuedBatch(batch, StreamPosition(STREAM, number if seq is None else seq))


def a_refusal(event_id: str) -> RejectedEvent:
    return RejectedEvent(
        event_id, "gateway", "llm.request", "cust-01", 0, Violation("event_time", "REQUIRED", "must be set")
    )


def a_meter(
    meter_id: str = "tokens",
    *,
    expression: str = "tokens",
    group_by: Sequence[str] = (),
    filters: Sequence[tuple[str, str]] = (),
    event_type: str = "llm.request",
) -> Meter:
    """A sum over `expression`, or a count if it is empty."""
    return Meter(
        meter_id=meter_id,
        display_name="",
        event_type=event_type,
        aggregation=Aggregation.SUM if expression else Aggregation.COUNT,
        expression=expression,
        filters=tuple(PropertyFilter(name, value) for name, value in filters),
        group_by=tuple(group_by),
        created_at=NOON,
    )


async def add_meters(api: Database, *meters: Meter, tenant: str = "acme") -> None:
    store = PostgresMeterStore(api)
    for meter in meters:
        await store.create(CreateMeterRequest(tenant, f"request-{meter.meter_id}", b"", meter))


async def fetch(database: Database, tenant: str, query: str, *arguments: object) -> list[tuple[object, ...]]:
    """Rows as a tenant's transaction sees them."""
    async with database.transaction(tenant) as connection:
        return [tuple(row) for row in await (await raw(connection)).fetch(query, *arguments)]
