"""Payments and their attempts in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.domain.attempt import Attempt, AttemptState
from services.payments.domain.payment import Payment, PaymentNotFound, PaymentState
from services.payments.store.bulk import Rows, execute
from services.payments.store.keys import given, is_given
from services.payments.store.methods import method_lock_key
from services.payments.store.rows import attempt_from_row, payment_from_row, payment_values
from services.payments.store.tables import attempts, invoices, methods, payments
from services.payments.usecases.ports import (
    InvoiceKey,
    OpenPayment,
    PaymentFilter,
    PaymentKey,
    PaymentWithAttempts,
)

_PAYMENT_KEY = ("tenant_id", "payment_id")

_PAYMENTS = Rows(payments)
_PROGRESS = Rows(payments, *_PAYMENT_KEY, "state", "next_attempt_at", "attempt_count", "soft_declines")
# No upsert: a payment that exists is a mistake, and must fail.
_ADD, _SAVE = _PAYMENTS.insert(), _PROGRESS.update()


class PostgresPaymentStore:
    """Set-wise: a chunk of payments is read, locked and written by one statement each, in the order of the key."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, items: Sequence[Payment]) -> None:
        await execute(self._connection, _ADD, _PAYMENTS, [payment_values(item) for item in items])

    async def save(self, items: Sequence[Payment]) -> None:
        await execute(self._connection, _SAVE, _PROGRESS, [payment_values(item) for item in items])

    async def lock_open(self, keys: Iterable[PaymentKey], *, to_begin: bool = False) -> list[OpenPayment]:
        pairs = sorted(keys)
        if not pairs:
            return []
        chosen = given(pairs, "payment_id")
        await self._lock_methods_and_invoices(chosen, exclusive=to_begin)
        is_chosen = is_given(payments, chosen, "payment_id")
        locked = sa.select(payments).join(chosen, is_chosen).order_by(*_columns(payments, _PAYMENT_KEY))
        found = [payment_from_row(row) for row in await self._connection.execute(locked.with_for_update(of=payments))]
        # Statements of their own: their snapshots are newer than the locks, so they see the newest.
        newest = (
            sa.select(attempts)
            .join(chosen, is_given(attempts, chosen, "payment_id"))
            .ext(distinct_on(*_columns(attempts, _PAYMENT_KEY)))
            .order_by(*_columns(attempts, _PAYMENT_KEY), attempts.c.number.desc())
        )
        rows = await self._connection.execute(newest)
        last = {(row.tenant_id, row.payment_id): attempt_from_row(row) for row in rows}
        tokens = await self._tokens(found)
        return [
            OpenPayment(
                payment,
                last.get((payment.tenant_id, payment.payment_id)),
                tokens.get((payment.tenant_id, payment.customer_id), ""),
            )
            for payment in found
        ]

    async def lock_of_invoice(self, tenant_id: str, invoice_id: str) -> Payment | None:
        query = (
            sa.select(payments)
            .where(payments.c.tenant_id == tenant_id, payments.c.invoice_id == invoice_id)
            .order_by(payments.c.state == PaymentState.CANCELED.value, payments.c.payment_id.desc())
            .with_for_update()
        )
        row = (await self._connection.execute(query)).first()
        return None if row is None else payment_from_row(row)

    async def lock_live(self, invoice_ids: Sequence[InvoiceKey]) -> list[Payment]:
        if not invoice_ids:
            return []
        chosen = given(invoice_ids, "invoice_id")
        query = (
            sa.select(payments)
            .join(chosen, is_given(payments, chosen, "invoice_id"))
            .where(payments.c.state != PaymentState.CANCELED.value)
            .order_by(*_columns(payments, _PAYMENT_KEY))
            .with_for_update(of=payments)
        )
        return [payment_from_row(row) for row in await self._connection.execute(query)]

    async def lock_waiting(self, tenant_id: str, customer_id: str) -> list[Payment]:
        query = (
            sa.select(payments)
            .where(
                payments.c.tenant_id == tenant_id,
                payments.c.customer_id == customer_id,
                payments.c.state == PaymentState.REQUIRES_METHOD.value,
            )
            .order_by(payments.c.payment_id)
            .with_for_update()
        )
        return [payment_from_row(row) for row in await self._connection.execute(query)]

    async def get(self, tenant_id: str, payment_id: str) -> tuple[Payment, list[Attempt]]:
        query = _of(tenant_id).where(payments.c.payment_id == payment_id)
        return await self._only(query, f"no payment {payment_id}", paymentId=payment_id)

    async def newest_of_invoice(self, tenant_id: str, invoice_id: str) -> tuple[Payment, list[Attempt]]:
        query = _of(tenant_id).where(payments.c.invoice_id == invoice_id).limit(1)
        return await self._only(query, f"no payment for invoice {invoice_id}", invoiceId=invoice_id)

    async def page(self, tenant_id: str, wanted: PaymentFilter, before: str, limit: int) -> list[PaymentWithAttempts]:
        query = _of(tenant_id).limit(limit)
        if wanted.customer_id:
            query = query.where(payments.c.customer_id == wanted.customer_id)
        if wanted.state is not None:
            query = query.where(payments.c.state == wanted.state.value)
        if wanted.last_attempt is not None:
            query = query.where(*_last_attempt_is(wanted.last_attempt))
        if before:
            query = query.where(payments.c.payment_id < before)
        return await self._with_attempts(query)

    async def all_of_invoices(
        self, tenant_id: str, invoice_ids: Sequence[str] | None
    ) -> list[tuple[Payment, list[Attempt]]]:
        query = _of(tenant_id)
        if invoice_ids is not None:
            query = query.where(payments.c.invoice_id == sa.any_(sa.literal(list(invoice_ids), _TEXTS)))
        return await self._with_attempts(query)

    async def _only(self, query: sa.Select[Any], missing: str, **metadata: str) -> tuple[Payment, list[Attempt]]:
        found = await self._with_attempts(query)
        if not found:
            raise PaymentNotFound(missing, **metadata)
        return found[0]

    async def _with_attempts(self, query: sa.Select[Any]) -> list[tuple[Payment, list[Attempt]]]:
        """In one statement, so that a payment and its attempts are of one moment."""
        chosen = query.subquery()
        of_payment = sa.and_(attempts.c.tenant_id == chosen.c.tenant_id, attempts.c.payment_id == chosen.c.payment_id)
        columns = [column.label(f"{_JOINED}{column.name}") for column in attempts.c]
        joined = sa.select(chosen, *columns).join_from(chosen, attempts, of_payment, isouter=True)
        found: dict[str, tuple[Payment, list[Attempt]]] = {}
        for row in await self._connection.execute(joined.order_by(chosen.c.payment_id.desc(), attempts.c.number)):
            _, tries = found.setdefault(row.payment_id, (payment_from_row(row), []))
            if getattr(row, f"{_JOINED}number") is not None:
                tries.append(attempt_from_row(row, _JOINED))
        return list(found.values())

    async def _lock_methods_and_invoices(self, chosen: sa.TableValuedAlias, *, exclusive: bool) -> None:
        """In one order, before the payments: as those do who set a method or cancel a payment."""
        owners = sa.select(payments.c.tenant_id, payments.c.customer_id, payments.c.invoice_id).join(
            chosen, is_given(payments, chosen, "payment_id")
        )
        rows = (await self._connection.execute(owners)).all()  # These columns never change.
        customers = given(sorted({(row.tenant_id, row.customer_id) for row in rows}), "customer_id")
        key = method_lock_key(customers.c.tenant_id, customers.c.customer_id)
        lock = sa.func.pg_advisory_xact_lock if exclusive else sa.func.pg_advisory_xact_lock_shared
        await self._connection.execute(sa.select(lock(key)).select_from(customers))
        theirs = given(sorted({(row.tenant_id, row.invoice_id) for row in rows}), "invoice_id")
        locked = sa.select(invoices.c.invoice_id).join(theirs, is_given(invoices, theirs, "invoice_id"))
        locked = locked.order_by(*_columns(invoices, ("tenant_id", "invoice_id")))
        await self._connection.execute(locked.with_for_update(of=invoices, key_share=True))

    async def _tokens(self, found: Sequence[Payment]) -> dict[tuple[str, str], str]:
        customers = given(sorted({(payment.tenant_id, payment.customer_id) for payment in found}), "customer_id")
        query = sa.select(methods).join(customers, is_given(methods, customers, "customer_id")).where(methods.c.current)
        rows = await self._connection.execute(query)
        return {(row.tenant_id, row.customer_id): row.gateway_token for row in rows}


_TEXTS = sa.ARRAY(sa.Text)
_JOINED = "attempt_"


def _of(tenant_id: str) -> sa.Select[Any]:
    """A tenant's payments. Their ids are made of UUIDv7: newest first is their reverse order."""
    return sa.select(payments).where(payments.c.tenant_id == tenant_id).order_by(payments.c.payment_id.desc())


def _last_attempt_is(state: AttemptState) -> list[sa.ColumnElement[bool]]:
    tried = (
        sa.select(sa.literal(1))
        .where(
            is_given(attempts, payments, "payment_id"),
            attempts.c.number == payments.c.attempt_count,
            attempts.c.state == state.value,
        )
        .exists()
    )
    # Implied by the state of the attempt; it leads to the few rows by an index.
    return [tried] if state.final else [tried, payments.c.state == PaymentState.PROCESSING.value]


def _columns(table: sa.Table, names: Iterable[str]) -> list[sa.ColumnElement[object]]:
    return [table.c[name] for name in names]
