"""Invoices with their lines in PostgreSQL. Rows stay here."""

# ruff: noqa: S608 - what is put into SQL are names of tables and columns, never values.
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from libs.money import Money
from libs.periods import Period
from services.billing.domain.charge import PeriodKey
from services.billing.domain.invoice import Invoice, InvoiceLine, InvoiceNotFound, InvoiceState
from services.billing.domain.trace import trace_parents
from services.billing.store.charges import parts_from_json, parts_to_json
from services.billing.store.rows import Row, insert_rows, recordset, to_json
from services.billing.store.tables import invoice_lines, invoice_numbers, invoices

_ISSUED_COLUMNS = (
    "invoice_id",
    "state",
    "invoice_number",
    "number_value",
    "total_minor",
    "issued_at",
    "paid_at",
    "trace_parent",
)
_ISSUE = f"""
UPDATE invoices i SET {", ".join(f"{name} = r.{name}" for name in _ISSUED_COLUMNS[1:])}
FROM {recordset(invoices, _ISSUED_COLUMNS, "$2")}
WHERE i.tenant_id = $1 AND i.invoice_id = r.invoice_id AND i.state = 'draft'
"""
_STATE_COLUMNS = ("invoice_id", "state", "paid_at", "payment_id", "voided_at", "void_reason")
_SAVE_STATES = f"""
UPDATE invoices i SET {", ".join(f"{name} = r.{name}" for name in _STATE_COLUMNS[1:])}
FROM {recordset(invoices, _STATE_COLUMNS, "$2")}
WHERE i.tenant_id = $1 AND i.invoice_id = r.invoice_id
"""
# Copied inside the database: the reconciliation compares lines with what was there, not with what Python made of it.
_FREEZE_CHARGES = """
INSERT INTO frozen_charges (tenant_id, invoice_id, price_id, quantity, amount, rounding_mode, version)
SELECT c.tenant_id, r.invoice_id, c.price_id, c.quantity, c.amount, c.rounding_mode, c.version
FROM jsonb_to_recordset($2::jsonb)
    AS r(invoice_id text, subscription_id text, period_start timestamptz, price_id text)
JOIN charges c USING (subscription_id, period_start, price_id)
WHERE c.tenant_id = $1
"""


class PostgresInvoices:
    """The invoices of a transaction's tenant."""

    def __init__(self, connection: AsyncConnection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def get(self, invoice: str) -> Invoice:
        return await self._one(sa.or_(invoices.c.invoice_id == invoice, invoices.c.invoice_number == invoice), invoice)

    async def lock(self, invoice_id: str) -> Invoice:
        return await self._one(invoices.c.invoice_id == invoice_id, invoice_id, lock=True)

    async def page(self, customer_id: str, state: InvoiceState | None, before: str, limit: int) -> list[Invoice]:
        query = self._select()
        if customer_id:
            query = query.where(invoices.c.customer_id == customer_id)
        if state is not None:
            query = query.where(invoices.c.state == state)
        if before:
            query = query.where(invoices.c.invoice_id < before)
        # Ids are UUIDv7 in hexadecimal, so their order is that of creation.
        rows = (await self._connection.execute(query.order_by(invoices.c.invoice_id.desc()).limit(limit))).all()
        return await self._with_lines(rows)

    async def freeze(self, drafts: Sequence[Invoice]) -> None:
        lines: list[Row] = [_line_row(self._tenant_id, draft, line) for draft in drafts for line in draft.lines]
        await insert_rows(self._connection, invoice_lines, lines)
        frozen = [
            {
                "invoice_id": draft.invoice_id,
                "subscription_id": draft.subscription_id,
                "period_start": draft.period.start,
                "price_id": line.price_id,
            }
            for draft in drafts
            for line in draft.lines
        ]
        await (await raw(self._connection)).execute(_FREEZE_CHARGES, self._tenant_id, to_json(frozen))

    async def take_numbers(self, count: int) -> int:
        row = insert(invoice_numbers).values(tenant_id=self._tenant_id, last_value=count)
        taken = row.on_conflict_do_update(
            index_elements=["tenant_id"], set_={"last_value": invoice_numbers.c.last_value + count}
        ).returning(invoice_numbers.c.last_value)
        last: int = (await self._connection.execute(taken)).scalar_one()
        return last - count + 1

    async def issue(self, issued: Mapping[int, Invoice]) -> None:
        rows = [_issued_row(value, invoice) for value, invoice in issued.items()]
        status = await (await raw(self._connection)).execute(_ISSUE, self._tenant_id, to_json(rows))
        # The drafts are locked, so anything else would be a fault that must not give numbers away.
        if status != f"UPDATE {len(rows)}":
            raise RuntimeError(f"{len(rows)} drafts were to be issued, but: {status}")

    async def lock_all(self, invoice_ids: Sequence[str]) -> dict[str, Invoice]:
        query = self._select().where(invoices.c.invoice_id.in_(invoice_ids))
        rows = await self._connection.execute(query.order_by(invoices.c.invoice_id).with_for_update())
        return {row.invoice_id: _invoice(row, []) for row in rows}

    async def save_states(self, changed: Sequence[Invoice]) -> None:
        rows = [{name: getattr(invoice, name) for name in _STATE_COLUMNS} for invoice in changed]
        if rows:
            await (await raw(self._connection)).execute(_SAVE_STATES, self._tenant_id, to_json(rows))

    async def _one(self, condition: sa.ColumnElement[bool], name: str, *, lock: bool = False) -> Invoice:
        query = self._select().where(condition)
        row = (await self._connection.execute(query.with_for_update() if lock else query)).one_or_none()
        if row is None:
            raise InvoiceNotFound(f"no invoice {name}", invoice=name)
        [invoice] = await self._with_lines([row])
        return invoice

    async def _with_lines(self, rows: Sequence[sa.Row[Any]]) -> list[Invoice]:
        ids = [row.invoice_id for row in rows]
        query = sa.select(invoice_lines).where(
            invoice_lines.c.tenant_id == self._tenant_id, invoice_lines.c.invoice_id.in_(ids)
        )
        ordered = query.order_by(invoice_lines.c.invoice_id, invoice_lines.c.position, invoice_lines.c.price_id)
        lines: dict[str, list[sa.Row[Any]]] = {}
        for line in await self._connection.execute(ordered):
            lines.setdefault(line.invoice_id, []).append(line)
        return [_invoice(row, lines.get(row.invoice_id, [])) for row in rows]

    def _select(self) -> sa.Select[tuple[object, ...]]:
        return sa.select(invoices).where(invoices.c.tenant_id == self._tenant_id)


def period_key(invoice: Invoice) -> PeriodKey:
    """The billing period that an invoice is for."""
    return PeriodKey(invoice.subscription_id, invoice.period.start)


def _issued_row(value: int, invoice: Invoice) -> Row:
    return {
        "invoice_id": invoice.invoice_id,
        "state": invoice.state,
        "invoice_number": invoice.invoice_number,
        "number_value": value,
        "total_minor": invoice.total_minor,
        "issued_at": invoice.issued_at,
        "paid_at": invoice.paid_at,
        "trace_parent": next(iter(trace_parents(invoice.lines)), ""),
    }


def _line_row(tenant_id: str, invoice: Invoice, line: InvoiceLine) -> Row:
    row = {str(column.name): getattr(line, column.name) for column in invoice_lines.c if hasattr(line, column.name)}
    return {
        **row,
        "tenant_id": tenant_id,
        "invoice_id": invoice.invoice_id,
        "amount_minor": line.amount.minor_units,
        "parts": parts_to_json(line.parts),
    }


def _invoice(row: sa.Row[Any], lines: Iterable[sa.Row[Any]]) -> Invoice:
    return Invoice(
        invoice_id=row.invoice_id,
        customer_id=row.customer_id,
        subscription_id=row.subscription_id,
        period=Period(row.period_start, row.period_end),
        ordinal=row.ordinal,
        currency=row.currency,
        state=InvoiceState(row.state),
        invoice_number=row.invoice_number,
        lines=tuple(_line(line, row.currency) for line in lines),
        total_minor=row.total_minor,
        issued_at=row.issued_at,
        paid_at=row.paid_at,
        payment_id=row.payment_id,
        voided_at=row.voided_at,
        void_reason=row.void_reason,
    )


def _line(row: sa.Row[Any], currency: str) -> InvoiceLine:
    return InvoiceLine(
        position=row.position,
        price_id=row.price_id,
        display_name=row.display_name,
        meter_id=row.meter_id,
        quantity=row.quantity,
        amount=Money(row.amount_minor, currency),
        exact_amount=row.exact_amount,
        parts=parts_from_json(row.parts),
        rate_card_id=row.rate_card_id,
        rate_card_version=row.rate_card_version,
        charge_version=row.charge_version,
        trace_parent=row.trace_parent,
    )
