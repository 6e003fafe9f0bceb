"""The outbox of facts: things that happened once, one row each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from libs.outbox.publisher import trace_headers


@dataclass(frozen=True, slots=True)
class Fact:
    """One message about something that happened.

    `event_id` is deterministic and begins with the tenant (`acme:invoice-issued:inv_1`): it becomes the `Nats-Msg-Id`
    and the key of the consumer's inbox. `payload` is the encoded protobuf message. `trace_headers` say which trace it
    continues; None is the current one.
    """

    event_id: str
    tenant_id: str
    subject: str
    payload: bytes
    trace_headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class FactTables:
    """The facts (row-level security) and the queue of them that workers read across tenants (none)."""

    facts: sa.Table
    queue: sa.Table


def fact_tables(metadata: sa.MetaData) -> FactTables:
    """Define `outbox_facts` and `outbox_fact_queue`."""
    facts = sa.Table(
        "outbox_facts",
        metadata,
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("trace_headers", JSONB, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    published_at = sa.Column("published_at", sa.DateTime(timezone=True), comment="The broker has it since.")
    due_at = sa.Column("due_at", sa.DateTime(timezone=True), nullable=False, comment="Not to be published before.")
    queue = sa.Table(
        "outbox_fact_queue",
        metadata,
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        due_at,
        published_at,
        sa.Index("outbox_fact_queue_due", due_at, postgresql_where=published_at.is_(None)),
        sa.Index("outbox_fact_queue_published", published_at, postgresql_where=published_at.is_not(None)),
    )
    return FactTables(facts, queue)


_ADD = """
WITH added AS (
    INSERT INTO {facts} (tenant_id, event_id, subject, payload, trace_headers, created_at)
    SELECT tenant_id, event_id, subject, payload, trace_headers::jsonb, $6
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[])
        AS fact (tenant_id, event_id, subject, payload, trace_headers)
    ORDER BY tenant_id, event_id
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, event_id
)
INSERT INTO {queue} (tenant_id, event_id, due_at) SELECT tenant_id, event_id, $6 FROM added
"""


class FactOutbox:
    """Adds facts inside the transaction of the change that they tell of."""

    def __init__(self, connection: AsyncConnection, tables: FactTables) -> None:
        self._connection = connection
        self._add = _ADD.format(facts=tables.facts.name, queue=tables.queue.name)

    async def add(self, facts: Sequence[Fact], now: datetime) -> None:
        """Add facts, each in its trace; one whose `event_id` is known already changes nothing.

        `now` is real time, never a tenant's test time: the relay goes by it.
        """
        if not facts:
            return
        current = trace_headers()
        await (await raw(self._connection)).execute(
            self._add,
            [fact.tenant_id for fact in facts],
            [fact.event_id for fact in facts],
            [fact.subject for fact in facts],
            [fact.payload for fact in facts],
            [json.dumps(current if fact.trace_headers is None else dict(fact.trace_headers)) for fact in facts],
            now,
        )
