"""One transaction with every store of payments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime

from opentelemetry.context import Context, attach, detach
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, RequestLog
from libs.messaging import Inbox, InboxItem
from libs.outbox import Fact, FactOutbox
from libs.telemetry import context_from
from services.payments.domain.events import PaymentFact
from services.payments.store.invoices import PostgresInvoiceStore
from services.payments.store.ledger import PostgresLedger
from services.payments.store.methods import PostgresMethodStore
from services.payments.store.payments import PostgresPaymentStore
from services.payments.store.tables import facts as fact_tables
from services.payments.store.tables import inbox, requests
from services.payments.store.tasks import PostgresTaskQueue

EncodeFact = Callable[[PaymentFact], Fact]
_CONSUMER = "payments-invoice-collect"


class PostgresWork:
    """The stores of one open transaction."""

    def __init__(self, connection: AsyncConnection, encode: EncodeFact) -> None:
        self._connection = connection
        self._encode = encode
        self.requests = RequestLog(connection, requests)
        self.invoices = PostgresInvoiceStore(connection)
        self.payments = PostgresPaymentStore(connection)
        self.methods = PostgresMethodStore(connection)
        self.ledger = PostgresLedger(connection)
        self.tasks = PostgresTaskQueue(connection)

    async def first_deliveries(self, facts: Sequence[tuple[str, str, bytes]], now: datetime) -> set[str]:
        items = [InboxItem(*fact) for fact in facts]
        return {
            event_id for _, event_id in await Inbox(self._connection, inbox, _CONSUMER).first_deliveries(items, now)
        }

    async def announce(self, facts: Sequence[PaymentFact], now: datetime) -> None:
        outbox = FactOutbox(self._connection, fact_tables)
        by_trace: dict[str, list[Fact]] = defaultdict(list)
        for fact in facts:
            by_trace[fact.payment.trace_parent].append(self._encode(fact))
        for trace_parent, encoded in by_trace.items():
            with _continued(trace_parent):
                await outbox.add(encoded, now)


@contextmanager
def _continued(trace_parent: str) -> Iterator[None]:
    """Go on with the trace of an invoice; the outbox takes the current one."""
    token = attach(context_from({"traceparent": trace_parent}) if trace_parent else Context())
    try:
        yield
    finally:
        detach(token)


class PostgresUnitOfWork:
    """Opens transactions as one of the two logins."""

    def __init__(self, database: Database, encode: EncodeFact) -> None:
        self._database, self._encode = database, encode

    @asynccontextmanager
    async def __call__(self, *tenant_ids: str) -> AsyncIterator[PostgresWork]:
        async with self._database.transaction(*tenant_ids) as connection:
            yield PostgresWork(connection, self._encode)
