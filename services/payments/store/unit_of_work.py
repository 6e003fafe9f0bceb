"""One transaction with every store of payments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, RequestLog
from libs.messaging import Inbox, InboxItem
from services.payments.domain.events import PaymentFact
from services.payments.store.attempts import PostgresAttemptStore
from services.payments.store.facts import EncodeFact, add_facts
from services.payments.store.invoices import PostgresInvoiceStore
from services.payments.store.ledger import PostgresLedger
from services.payments.store.methods import PostgresMethodStore
from services.payments.store.payments import PostgresPaymentStore
from services.payments.store.tables import inbox, requests
from services.payments.store.tasks import PostgresTaskQueue

_CONSUMER = "payments-invoice-collect"


class PostgresWork:
    """The stores of one open transaction."""

    def __init__(self, connection: AsyncConnection, encode: EncodeFact) -> None:
        self._connection = connection
        self._encode = encode
        self.requests = RequestLog(connection, requests)
        self.invoices = PostgresInvoiceStore(connection)
        self.payments = PostgresPaymentStore(connection)
        self.attempts = PostgresAttemptStore(connection)
        self.methods = PostgresMethodStore(connection)
        self.ledger = PostgresLedger(connection)
        self.tasks = PostgresTaskQueue(connection)

    async def first_deliveries(self, facts: Sequence[tuple[str, str, bytes]], now: datetime) -> set[str]:
        items = [InboxItem(*fact) for fact in facts]
        return {
            event_id for _, event_id in await Inbox(self._connection, inbox, _CONSUMER).first_deliveries(items, now)
        }

    async def announce(self, facts: Sequence[PaymentFact], now: datetime) -> None:
        await add_facts(self._connection, facts, self._encode, now)


class PostgresUnitOfWork:
    """Opens transactions as one of the two logins."""

    def __init__(self, database: Database, encode: EncodeFact) -> None:
        self._database, self._encode = database, encode

    @asynccontextmanager
    async def __call__(self, *tenant_ids: str) -> AsyncIterator[PostgresWork]:
        async with self._database.transaction(*tenant_ids) as connection:
            yield PostgresWork(connection, self._encode)
