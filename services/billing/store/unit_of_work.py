"""One transaction of one tenant, with everything that can be done in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from libs.clock import Clock
from libs.database import Database, RequestLog, raw, sqlstate
from libs.messaging import Inbox, InboxItem
from services.billing.domain.events import InvoiceFact
from services.billing.domain.watermark import Watermark
from services.billing.store.billing_periods import PostgresBillingPeriods
from services.billing.store.charges import PostgresCharges
from services.billing.store.customers import PostgresCustomers
from services.billing.store.facts import EncodeFact, PostgresFacts
from services.billing.store.invoices import PostgresInvoices
from services.billing.store.reconciliation import PostgresReconciliation
from services.billing.store.subscriptions import PostgresSubscriptions
from services.billing.store.tables import inbox, requests
from services.billing.store.tenants import PostgresApiKeys, PostgresTenants
from services.billing.store.watermarks import watermark_of
from services.billing.usecases.ports import EntryKind, Progress, RowsRefused, Work

_BAD_ROWS = ("22", "23")  # SQLSTATE classes: data exception, integrity constraint violation.
_PROBLEMS_SHOWN = 20
# An entry that is being published is locked: its next value waits until that one is in the stream.
_MARK_ENTRY = """
INSERT INTO directory_marks AS kept (tenant_id, item_key, marked_at) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, item_key) DO UPDATE SET marked_at = least(kept.marked_at, excluded.marked_at)
"""
_PROGRESS = """
SELECT
    (SELECT count(*) FROM due_periods WHERE tenant_id = $1 AND closing_at IS NOT NULL)
        + (SELECT count(*) FROM due_periods WHERE tenant_id = $1 AND closing_at IS NULL AND due_at <= $2)
        AS due_periods,
    (SELECT count(*) FROM invoices WHERE tenant_id = $1 AND state = 'issued') AS unpaid_invoices,
    ARRAY(SELECT DISTINCT problem FROM billing_periods WHERE tenant_id = $1 AND problem <> '' LIMIT $3) AS problems
"""


class PostgresRequests:
    """Request ids of a transaction's tenant."""

    def __init__(self, connection: AsyncConnection, tenant_id: str) -> None:
        self._log = RequestLog(connection, requests)
        self._tenant_id = tenant_id

    async def claim(
        self, method: str, request_id: str, fingerprint: bytes, result_id: str, now: datetime
    ) -> str | None:
        return await self._log.claim(self._tenant_id, method, request_id, fingerprint, result_id, now)


class PostgresWork:
    """See services.billing.usecases.ports.Work."""

    def __init__(self, connection: AsyncConnection, tenant_id: str, encode: EncodeFact, real_now: datetime) -> None:
        self._connection = connection
        self._facts = PostgresFacts(connection, tenant_id, encode, real_now)
        self._real_now = real_now
        self.tenant_id = tenant_id
        self.requests = PostgresRequests(connection, tenant_id)
        self.tenants = PostgresTenants(connection, tenant_id)
        self.api_keys = PostgresApiKeys(connection, tenant_id)
        self.customers = PostgresCustomers(connection, tenant_id)
        self.subscriptions = PostgresSubscriptions(connection, tenant_id)
        self.periods = PostgresBillingPeriods(connection, tenant_id, real_now)
        self.charges = PostgresCharges(connection, tenant_id)
        self.invoices = PostgresInvoices(connection, tenant_id)
        self.reconciliation = PostgresReconciliation(connection, tenant_id, self.charges)

    async def first_deliveries(self, consumer: str, facts: Sequence[tuple[str, bytes]]) -> set[str]:
        items = [InboxItem(self.tenant_id, event_id, body) for event_id, body in facts]
        first = await Inbox(self._connection, inbox, consumer).first_deliveries(items, self._real_now)
        return {event_id for _, event_id in first}

    async def announce(self, facts: Sequence[InvoiceFact]) -> None:
        await self._facts.add(facts)

    async def publish_entry(self, kind: EntryKind, entry_id: str) -> None:
        item_key = f"{kind}:{entry_id}"
        await (await raw(self._connection)).execute(_MARK_ENTRY, self.tenant_id, item_key, self._real_now)

    async def watermark(self) -> Watermark:
        return await watermark_of(self._connection, self.tenant_id)

    async def progress(self, now: datetime) -> Progress:
        row = await (await raw(self._connection)).fetchrow(_PROGRESS, self.tenant_id, now, _PROBLEMS_SHOWN)
        return Progress(row["due_periods"], row["unpaid_invoices"], tuple(row["problems"]))


class PostgresUnitOfWork:
    """Opens transactions of one database login; `clock` is real time."""

    def __init__(self, database: Database, encode: EncodeFact, clock: Clock) -> None:
        self._database = database
        self._encode = encode
        self._clock = clock

    @asynccontextmanager
    async def __call__(self, tenant_id: str) -> AsyncIterator[Work]:
        async with self.several([tenant_id]) as works:
            yield works[tenant_id]

    @asynccontextmanager
    async def several(self, tenant_ids: Sequence[str]) -> AsyncIterator[dict[str, Work]]:
        """One transaction of several tenants, for workers.

        :raises RowsRefused: if the database refuses rows for what is in them
        """
        try:
            async with self._database.transaction(*tenant_ids) as connection:
                now = self._clock()
                yield {item: PostgresWork(connection, item, self._encode, now) for item in tenant_ids}
        except Exception as error:
            if (sqlstate(error) or "").startswith(_BAD_ROWS):
                raise RowsRefused(str(error)) from error
            raise
