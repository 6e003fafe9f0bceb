"""The inbox: which facts a consumer has handled, written in the transaction of their effect."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.messaging.errors import InboxConflict

Key = tuple[str, str]
"""(tenant id, event id)"""


@dataclass(frozen=True, slots=True)
class InboxItem:
    """A fact as it was delivered; `body` is what must not change under its id."""

    tenant_id: str
    event_id: str
    body: bytes


def inbox_table(metadata: sa.MetaData) -> sa.Table:
    """Define `inbox`, to be put under row-level security."""
    return sa.Table(
        "inbox",
        metadata,
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("consumer", sa.Text, primary_key=True),
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("body_hash", sa.LargeBinary, nullable=False, comment="SHA-256"),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
    )


class Inbox:
    """Guards one-time effects of one consumer inside an open transaction."""

    def __init__(self, connection: AsyncConnection, table: sa.Table, consumer: str) -> None:
        self._connection = connection
        self._table = table
        self._consumer = consumer

    async def first_deliveries(self, items: Sequence[InboxItem], now: datetime) -> set[Key]:
        """Record all items and return the keys that were not there: only these may have an effect.

        An id that occurs several times with one body counts once. A concurrent transaction with the same id is waited
        for. The rows go in ordered by key, so that concurrent batches do not deadlock.

        :raises InboxConflict: if an id came with another body, now or before; roll back
        """
        hashes: dict[Key, bytes] = {}
        conflicts: set[Key] = set()
        for item in items:
            key, body_hash = (item.tenant_id, item.event_id), hashlib.sha256(item.body).digest()
            if hashes.setdefault(key, body_hash) != body_hash:
                conflicts.add(key)
        first = await self._insert(hashes, now)
        conflicts |= await self._with_another_body({key: hashes[key] for key in hashes.keys() - first})
        if conflicts:
            raise InboxConflict(self._consumer, conflicts)
        return first

    async def _insert(self, hashes: dict[Key, bytes], now: datetime) -> set[Key]:
        if not hashes:
            return set()
        table, given = self._table, _given(hashes)
        rows = sa.select(
            given.c.tenant_id, sa.literal(self._consumer), given.c.event_id, given.c.body_hash, sa.literal(now)
        ).order_by(given.c.tenant_id, given.c.event_id)
        columns = ["tenant_id", "consumer", "event_id", "body_hash", "received_at"]
        statement = insert(table).from_select(columns, rows).on_conflict_do_nothing()
        inserted = await self._connection.execute(statement.returning(table.c.tenant_id, table.c.event_id))
        return {(row.tenant_id, row.event_id) for row in inserted}

    async def _with_another_body(self, hashes: dict[Key, bytes]) -> set[Key]:
        if not hashes:
            return set()
        table, given = self._table, _given(hashes)
        # A statement of its own: its snapshot sees the rows that the insert was waiting for.
        known = sa.select(table.c.tenant_id, table.c.event_id).where(
            table.c.tenant_id == given.c.tenant_id,
            table.c.consumer == self._consumer,
            table.c.event_id == given.c.event_id,
            table.c.body_hash != given.c.body_hash,
        )
        return {(row.tenant_id, row.event_id) for row in await self._connection.execute(known)}


def _given(hashes: dict[Key, bytes]) -> sa.TableValuedAlias:
    """The keys and hashes as a table."""
    tenant_ids = [tenant_id for tenant_id, _ in hashes]
    event_ids = [event_id for _, event_id in hashes]
    return (
        sa.func.unnest(
            sa.bindparam("tenant_ids", tenant_ids, ARRAY(sa.Text)),
            sa.bindparam("event_ids", event_ids, ARRAY(sa.Text)),
            sa.bindparam("body_hashes", list(hashes.values()), ARRAY(sa.LargeBinary)),
        )
        .table_valued("tenant_id", "event_id", "body_hash", name="given")
        .render_derived()
    )
