"""What payments knows of billing's invoices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.domain.events import IssuedInvoice, VoidedInvoice
from services.payments.domain.payment import Payment
from services.payments.store.tables import invoices
from services.payments.usecases.ports import InvoiceKey

_KEY = ["tenant_id", "invoice_id"]


class PostgresInvoiceStore:
    """One row an invoice: whoever changes anything about it locks the row."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, items: Sequence[IssuedInvoice]) -> dict[InvoiceKey, datetime | None]:
        if not items:
            return {}
        ordered = sorted(items, key=lambda item: (item.tenant_id, item.invoice_id))
        statement = insert(invoices).values([_values(item) for item in ordered])
        known = ("invoice_number", "customer_id", "currency", "total_minor_units")
        # A row that is here already was forbidden before the fact arrived: it learns the rest and stays forbidden.
        statement = statement.on_conflict_do_update(
            index_elements=_KEY, set_={name: statement.excluded[name] for name in known}
        )
        columns = (invoices.c.tenant_id, invoices.c.invoice_id, invoices.c.collectable, invoices.c.voided_at)
        rows = await self._connection.execute(statement.returning(*columns))
        return {(row.tenant_id, row.invoice_id): row.voided_at for row in rows if not row.collectable}

    async def void(self, voided: Sequence[VoidedInvoice]) -> dict[InvoiceKey, str]:
        if not voided:
            return {}
        ordered = sorted(voided, key=lambda item: (item.tenant_id, item.invoice_id))
        statement = insert(invoices).values(
            [_unknown(item.tenant_id, item.invoice_id, item.voided_at) for item in ordered]
        )
        statement = statement.on_conflict_do_update(
            index_elements=_KEY, set_={name: statement.excluded[name] for name in ("collectable", "voided_at")}
        )
        columns = (invoices.c.tenant_id, invoices.c.invoice_id, invoices.c.customer_id)
        rows = await self._connection.execute(statement.returning(*columns))
        return {(row.tenant_id, row.invoice_id): row.customer_id for row in rows if row.customer_id}

    async def forbid(self, tenant_id: str, invoice_id: str) -> None:
        statement = insert(invoices).values(_unknown(tenant_id, invoice_id, None))
        await self._connection.execute(
            statement.on_conflict_do_update(index_elements=_KEY, set_={"collectable": False})
        )

    async def capture(self, payments: Sequence[Payment]) -> None:
        for_update = sorted(payments, key=lambda payment: (payment.tenant_id, payment.invoice_id))
        if not for_update:
            return
        captured = sa.values(
            sa.column("tenant_id", sa.Text), sa.column("invoice_id", sa.Text), sa.column("minor", sa.BigInteger)
        ).data([(p.tenant_id, p.invoice_id, p.amount.minor_units) for p in for_update])
        amounts = captured.alias("captured")
        await self._connection.execute(
            sa.update(invoices)
            .where(invoices.c.tenant_id == amounts.c.tenant_id, invoices.c.invoice_id == amounts.c.invoice_id)
            .values(captured_minor_units=invoices.c.captured_minor_units + amounts.c.minor)
        )


def _unknown(tenant_id: str, invoice_id: str, voided_at: datetime | None) -> dict[str, object]:
    """The row of an invoice of which nothing is known but that it must not be collected."""
    empty = {"invoice_number": "", "customer_id": "", "currency": ""}
    amounts = {"total_minor_units": 0, "captured_minor_units": 0}
    state = {"collectable": False, "voided_at": voided_at}
    return {"tenant_id": tenant_id, "invoice_id": invoice_id, **empty, **amounts, **state}


def _values(invoice: IssuedInvoice) -> dict[str, object]:
    return {
        "tenant_id": invoice.tenant_id,
        "invoice_id": invoice.invoice_id,
        "invoice_number": invoice.invoice_number,
        "customer_id": invoice.customer_id,
        "currency": invoice.total.currency,
        "total_minor_units": invoice.total.minor_units,
        "captured_minor_units": 0,
        "collectable": True,
        "voided_at": None,
    }
