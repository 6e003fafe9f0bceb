"""Planted bugs in consumers and outboxes, which all services share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import asyncpg
import sqlalchemy as sa

from libs.database import raw
from libs.messaging.batches import BatchProcessor, OpenMessage
from libs.messaging.inbox import Inbox, InboxItem, Key
from libs.outbox.fact_relay import FactRelay
from libs.outbox.marks import Mark
from libs.outbox.state_relay import StateRelay

Active = Callable[[], bool]

_SEE_TENANTS = sa.text("SELECT set_config('app.tenants', :tenants, true)")


def ack_before_commit(active: Active) -> None:
    """Consumers acknowledge what they have not committed: a crash in between loses it (guarantee 1)."""
    handle = BatchProcessor._handle

    async def wrong(self: BatchProcessor, batch: Sequence[OpenMessage]) -> Exception | None:
        if active():
            for item in batch:
                await item.message.ack()
            await batch[0].message._client.flush()
        return await handle(self, batch)

    BatchProcessor._handle = wrong  # type: ignore[method-assign]


def cursor_outbox(active: Active) -> None:
    """The relay of facts goes on behind the last row it has read, not by what is unpublished: a crash between reading
    and publishing skips facts for ever (every issued invoice is collected)."""
    claim = FactRelay._claim
    cursors: dict[int, int] = {}

    async def wrong(self: FactRelay) -> Sequence[asyncpg.Record]:
        queue = self._names["queue"]
        async with self._database.queue_transaction() as connection:
            driver = await raw(connection)
            if id(self) not in cursors:  # The cursor was stored when the rows were read.
                cursors[id(self)] = await driver.fetchval(f"SELECT coalesce(max(id), 0) FROM {queue}")
            if active():
                rows = await driver.fetch(
                    f"SELECT id, tenant_id, event_id FROM {queue} WHERE id > $1 ORDER BY id LIMIT 200",
                    cursors[id(self)],
                )
                cursors[id(self)] = max((row["id"] for row in rows), default=cursors[id(self)])
                return list(rows)
        return await claim(self)

    FactRelay._claim = wrong  # type: ignore[method-assign]


def mark_cleared_too_early(active: Active) -> None:
    """Marks of changed state are deleted before the values are published: a crash in between leaves the consumer with
    an old value until the item changes again (guarantee 3: windows = charges' quantities)."""
    read_marks = StateRelay._read_marks

    async def wrong(self: StateRelay, after: int, last: int) -> list[Mark]:
        marks = await read_marks(self, after, last)
        if active():
            await self._delete([mark[2] for mark in marks])
        return marks

    StateRelay._read_marks = wrong  # type: ignore[method-assign]


def inbox_before_effect(active: Active) -> None:
    """The row that says a fact was handled is committed before its effect is: a crash in between, and the redelivery
    changes nothing (every issued invoice is collected)."""
    first_deliveries = Inbox.first_deliveries

    async def wrong(self: Inbox, items: Sequence[InboxItem], now: datetime) -> set[Key]:
        first = await first_deliveries(self, items, now)
        if active():
            await self._connection.commit()
            tenants = ",".join(sorted({item.tenant_id for item in items}))
            await self._connection.execute(_SEE_TENANTS, {"tenants": tenants})
        return first

    Inbox.first_deliveries = wrong  # type: ignore[method-assign]


EVERYWHERE = ("ingest", "rating", "billing", "payments")
BUGS: dict[str, tuple[tuple[str, ...], Callable[[Active], None]]] = {
    "ack_before_commit": (EVERYWHERE, ack_before_commit),
    "cursor_outbox": (("billing", "payments"), cursor_outbox),
    "mark_cleared_too_early": (EVERYWHERE, mark_cleared_too_early),
    "inbox_before_effect": (("billing", "payments"), inbox_before_effect),
}
