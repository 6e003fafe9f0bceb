"""Rows to values and back. Rows never leave this room."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from libs.money import Money
from services.payments.domain.attempt import Attempt, AttemptState
from services.payments.domain.method import PaymentMethod
from services.payments.domain.payment import Payment, PaymentState

Row = sa.Row[Any]


def payment_from_row(row: Row) -> Payment:
    """Read a row of `payments`."""
    return Payment(
        tenant_id=row.tenant_id,
        payment_id=row.payment_id,
        invoice_id=row.invoice_id,
        invoice_number=row.invoice_number,
        customer_id=row.customer_id,
        amount=Money(row.amount_minor_units, row.currency),
        state=PaymentState(row.state),
        created_at=row.created_at,
        next_attempt_at=row.next_attempt_at,
        attempt_count=row.attempt_count,
        soft_declines=row.soft_declines,
        trace_parent=row.trace_parent,
    )


def payment_values(payment: Payment) -> dict[str, object]:
    """Write a row of `payments`."""
    return {
        "tenant_id": payment.tenant_id,
        "payment_id": payment.payment_id,
        "invoice_id": payment.invoice_id,
        "invoice_number": payment.invoice_number,
        "customer_id": payment.customer_id,
        "currency": payment.amount.currency,
        "amount_minor_units": payment.amount.minor_units,
        "state": payment.state.value,
        "created_at": payment.created_at,
        "next_attempt_at": payment.next_attempt_at,
        "attempt_count": payment.attempt_count,
        "soft_declines": payment.soft_declines,
        "trace_parent": payment.trace_parent,
    }


def attempt_from_row(row: Row, prefix: str = "") -> Attempt:
    """Read a row of `payment_attempts`, whose columns may have got a prefix in a join."""

    def value(name: str) -> Any:
        return getattr(row, prefix + name)

    return Attempt(
        payment_id=value("payment_id"),
        number=value("number"),
        idempotency_key=value("idempotency_key"),
        customer_id=value("customer_id"),
        gateway_token=value("gateway_token"),
        state=AttemptState(value("state")),
        created_at=value("created_at"),
        tried_at=value("tried_at"),
        gateway_charge_id=value("gateway_charge_id"),
        decline_code=value("decline_code"),
        asks=value("asks"),
        settled_by=value("settled_by"),
    )


def attempt_values(tenant_id: str, attempt: Attempt) -> dict[str, object]:
    """Write a row of `payment_attempts`."""
    return {
        "tenant_id": tenant_id,
        "payment_id": attempt.payment_id,
        "number": attempt.number,
        "idempotency_key": attempt.idempotency_key,
        "customer_id": attempt.customer_id,
        "gateway_token": attempt.gateway_token,
        "state": attempt.state.value,
        "created_at": attempt.created_at,
        "tried_at": attempt.tried_at,
        "gateway_charge_id": attempt.gateway_charge_id,
        "decline_code": attempt.decline_code,
        "asks": attempt.asks,
        "settled_by": attempt.settled_by,
    }


def method_from_row(row: Row) -> PaymentMethod:
    """Read a row of `payment_methods`."""
    return PaymentMethod(row.tenant_id, row.payment_method_id, row.customer_id, row.gateway_token, row.created_at)
