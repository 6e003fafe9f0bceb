"""Messages that a consumer could not handle, kept for people to look at.

Two tables. `parked_messages` holds the content, per tenant under row-level security like everything a tenant owns.
`parked_queue` holds tenant, id and time of what is unresolved and no content, so that a worker may count it across
tenants. A message whose tenant nobody can tell is parked under UNKNOWN_TENANT, which no tenant can be named: it is seen
by a worker that asks for it by this name, never by a tenant.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.clock import Clock
from libs.ids import check_tenant_id, new_id
from libs.messaging.delivery import Delivery

UNKNOWN_TENANT = "-"
TENANT_HEADER = "Steelyard-Tenant"

_MAX_ERROR_LENGTH = 2_000

TenantOf = Callable[[Delivery], str]


class WorkerDatabase(Protocol):
    """What is needed of `libs.database.Database`, logged in as worker."""

    def transaction(self, *tenants: str) -> AbstractAsyncContextManager[AsyncConnection]: ...

    def queue_transaction(self) -> AbstractAsyncContextManager[AsyncConnection]: ...


@dataclass(frozen=True, slots=True)
class ParkedTables:
    """`messages` is to be put under row-level security, `queue` is to be given as a queue table."""

    messages: sa.Table
    queue: sa.Table


def parked_tables(metadata: sa.MetaData) -> ParkedTables:
    """Define `parked_messages` and `parked_queue`."""
    messages = sa.Table(
        "parked_messages",
        metadata,
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("stream_epoch", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stream_seq", sa.BigInteger, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("headers", JSONB, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("parked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True)),
        sa.UniqueConstraint(
            "tenant_id", "consumer", "stream", "stream_epoch", "stream_seq", name="parked_messages_delivery_key"
        ),
    )
    queue = sa.Table(
        "parked_queue",
        metadata,
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("parked_at", sa.DateTime(timezone=True), nullable=False),
    )
    return ParkedTables(messages, queue)


def tenant_of_message(delivery: Delivery) -> str:
    """The tenant as the publisher named it: in the header, else what the message id begins with (`acme:...`)."""
    named = delivery.headers.get(TENANT_HEADER) or delivery.msg_id.partition(":")[0]
    return UNKNOWN_TENANT if check_tenant_id(named) else named


class ParkedMessages:
    """The parked messages of one consumer; `tenant_of` must be given where message ids begin with something else."""

    def __init__(
        self,
        database: WorkerDatabase,
        tables: ParkedTables,
        *,
        consumer: str,
        clock: Clock,
        tenant_of: TenantOf = tenant_of_message,
    ) -> None:
        self._database = database
        self._messages = tables.messages
        self._queue = tables.queue
        self._consumer = consumer
        self._clock = clock
        self._tenant_of = tenant_of

    async def park(self, delivery: Delivery, error: Exception) -> None:
        """Store the message and commit; a second delivery of it changes nothing."""
        tenant_id, parked_id, parked_at = self._tenant_of(delivery), new_id("park"), self._clock()
        message = (
            insert(self._messages)
            .values(
                tenant_id=tenant_id,
                id=parked_id,
                consumer=self._consumer,
                stream=delivery.stream,
                stream_epoch=delivery.stream_epoch,
                stream_seq=delivery.stream_seq,
                subject=_storable(delivery.subject),
                headers={_storable(name): _storable(value) for name, value in delivery.headers.items()},
                payload=delivery.data,
                error=_storable(f"{type(error).__name__}: {error}")[:_MAX_ERROR_LENGTH],
                parked_at=parked_at,
            )
            .on_conflict_do_nothing()
            .returning(self._messages.c.id)
        )
        queued = insert(self._queue).values(tenant_id=tenant_id, id=parked_id, parked_at=parked_at)
        async with self._database.transaction(tenant_id) as connection:
            if (await connection.execute(message)).one_or_none() is not None:
                await connection.execute(queued)

    async def resolve(self, tenant_id: str, parked_id: str) -> bool:
        """Note that somebody has dealt with the message; False if it is unknown or was resolved before."""
        key = {"tenant_id": tenant_id, "id": parked_id}
        unresolved = sa.update(self._messages).filter_by(**key).where(self._messages.c.resolved_at.is_(None))
        resolved = unresolved.values(resolved_at=self._clock()).returning(self._messages.c.id)
        async with self._database.transaction(tenant_id) as connection:
            if (await connection.execute(resolved)).one_or_none() is None:
                return False
            await connection.execute(sa.delete(self._queue).filter_by(**key))
        return True

    async def unresolved_by_tenant(self) -> dict[str, int]:
        """How many messages of all the service's consumers wait for people; tenants without any are left out."""
        query = sa.select(self._queue.c.tenant_id, sa.func.count().label("messages")).group_by(self._queue.c.tenant_id)
        async with self._database.queue_transaction() as connection:
            return {row.tenant_id: row.messages for row in await connection.execute(query)}


def _storable(text: str) -> str:
    """PostgreSQL stores neither NUL nor lone surrogates."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
