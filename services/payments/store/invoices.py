"""What payments knows of billing's invoices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from services.payments.domain.events import IssuedInvoice, VoidedInvoice
from services.payments.domain.payment import Payment
from services.payments.store.bulk import Rows, execute
from services.payments.store.tables import invoices
from services.payments.usecases.ports import InvoiceKey

_INVOICES = Rows(invoices)
# A row that is here already was forbidden before the fact arrived: it learns the rest and stays forbidden.
_ADD = _INVOICES.insert(
    "ON CONFLICT (tenant_id, invoice_id) DO UPDATE SET invoice_number = excluded.invoice_number,"
    " customer_id = excluded.customer_id, currency = excluded.currency, total_minor_units = excluded.total_minor_units"
    " RETURNING tenant_id, invoice_id, collectable, voided_at"
)
_VOID = _INVOICES.insert(
    "ON CONFLICT (tenant_id, invoice_id) DO UPDATE SET collectable = false, voided_at = excluded.voided_at"
    " RETURNING tenant_id, invoice_id, customer_id"
)
_FORBID = _INVOICES.insert("ON CONFLICT (tenant_id, invoice_id) DO UPDATE SET collectable = false")
_CAPTURED = Rows(invoices, "tenant_id", "invoice_id", "captured_minor_units")
_CAPTURE = f"""
UPDATE invoices SET captured_minor_units = invoices.captured_minor_units + given.captured_minor_units
FROM {_CAPTURED.given()}
WHERE invoices.tenant_id = given.tenant_id AND invoices.invoice_id = given.invoice_id
"""  # noqa: S608


class PostgresInvoiceStore:
    """One row an invoice: whoever changes anything about it locks the row."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, items: Sequence[IssuedInvoice]) -> dict[InvoiceKey, datetime | None]:
        if not items:
            return {}
        arrays = _INVOICES.arrays([_values(item) for item in items])
        rows = await (await raw(self._connection)).fetch(_ADD, *arrays)
        return {(row["tenant_id"], row["invoice_id"]): row["voided_at"] for row in rows if not row["collectable"]}

    async def void(self, voided: Sequence[VoidedInvoice]) -> dict[InvoiceKey, str]:
        if not voided:
            return {}
        arrays = _INVOICES.arrays([_unknown(item.tenant_id, item.invoice_id, item.voided_at) for item in voided])
        rows = await (await raw(self._connection)).fetch(_VOID, *arrays)
        return {(row["tenant_id"], row["invoice_id"]): row["customer_id"] for row in rows if row["customer_id"]}

    async def forbid(self, tenant_id: str, invoice_id: str) -> None:
        await execute(self._connection, _FORBID, _INVOICES, [_unknown(tenant_id, invoice_id, None)])

    async def capture(self, payments: Sequence[Payment]) -> None:
        values = [
            {"tenant_id": p.tenant_id, "invoice_id": p.invoice_id, "captured_minor_units": p.amount.minor_units}
            for p in payments
        ]
        await execute(self._connection, _CAPTURE, _CAPTURED, values)


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
