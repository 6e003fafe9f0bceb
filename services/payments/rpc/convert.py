"""Payments' values as protobuf, and back."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors import InvalidInput
from libs.ids import check_tenant_id, check_text
from libs.money import Money
from libs.periods import Period
from services.payments.domain.attempt import Attempt, AttemptState
from services.payments.domain.ledger import LedgerTransaction
from services.payments.domain.manual_settlement import ManualOutcome
from services.payments.domain.method import PaymentMethod
from services.payments.domain.payment import Payment, PaymentState
from services.payments.usecases.reconcile import Check
from steelyard.common.v1 import money_pb2, period_pb2, reconciliation_pb2
from steelyard.payments.v1 import ledger_service_pb2, payment_pb2, payment_service_pb2

_STATES = {state: payment_pb2.PaymentState.Value(f"PAYMENT_STATE_{state.name}") for state in PaymentState}
_ATTEMPT_STATES = {state: payment_pb2.AttemptState.Value(f"ATTEMPT_STATE_{state.name}") for state in AttemptState}

_MAX_ID = 128


def payment_to_pb(payment: Payment, attempts: list[Attempt]) -> payment_pb2.Payment:
    """Encode a payment with its attempts."""
    return payment_pb2.Payment(
        payment_id=payment.payment_id,
        invoice_id=payment.invoice_id,
        invoice_number=payment.invoice_number,
        customer_id=payment.customer_id,
        amount=money_to_pb(payment.amount),
        state=_STATES[payment.state],
        attempts=[_attempt_to_pb(attempt) for attempt in attempts],
        create_time=timestamp(payment.created_at),
        next_attempt_time=timestamp(payment.next_attempt_at) if payment.next_attempt_at else None,
    )


def _attempt_to_pb(attempt: Attempt) -> payment_pb2.PaymentAttempt:
    return payment_pb2.PaymentAttempt(
        number=attempt.number,
        idempotency_key=attempt.idempotency_key,
        state=_ATTEMPT_STATES[attempt.state],
        gateway_charge_id=attempt.gateway_charge_id,
        decline_code=attempt.decline_code,
        create_time=timestamp(attempt.created_at),
        settled_by=attempt.settled_by,
    )


def payment_state_from_pb(state: payment_pb2.PaymentState.ValueType) -> PaymentState | None:
    """Decode a filter; unspecified is None.

    :raises InvalidInput: if it is no state that we know
    """
    if state == payment_pb2.PAYMENT_STATE_UNSPECIFIED:
        return None
    for known, value in _STATES.items():
        if value == state:
            return known
    raise InvalidInput.of("state", "UNKNOWN_VALUE", f"{state} is no payment state")


def attempt_state_from_pb(state: payment_pb2.AttemptState.ValueType) -> AttemptState | None:
    """Decode a filter; unspecified is None.

    :raises InvalidInput: if it is no state that we know
    """
    if state == payment_pb2.ATTEMPT_STATE_UNSPECIFIED:
        return None
    for known, value in _ATTEMPT_STATES.items():
        if value == state:
            return known
    raise InvalidInput.of("last_attempt_state", "UNKNOWN_VALUE", f"{state} is no attempt state")


def manual_outcome_from_pb(outcome: payment_pb2.ManualOutcome.ValueType) -> ManualOutcome:
    """Decode what a person says.

    :raises InvalidInput: if it is unspecified or no outcome that we know
    """
    for known in ManualOutcome:
        if payment_pb2.ManualOutcome.Value(f"MANUAL_OUTCOME_{known.name}") == outcome:
            return known
    raise InvalidInput.of("outcome", "UNKNOWN_VALUE", "must be captured or failed")


def checked_tenant(tenant_id: str) -> str:
    """Return the tenant that an operator names.

    :raises InvalidInput: if no tenant id can be like that
    """
    if violation := check_tenant_id(tenant_id):
        raise InvalidInput([violation])
    return tenant_id


def method_to_pb(method: PaymentMethod) -> payment_service_pb2.PaymentMethod:
    """Encode a payment method."""
    return payment_service_pb2.PaymentMethod(
        payment_method_id=method.payment_method_id,
        customer_id=method.customer_id,
        gateway_token=method.gateway_token,
        create_time=timestamp(method.created_at),
    )


def transaction_to_pb(transaction: LedgerTransaction) -> ledger_service_pb2.LedgerTransaction:
    """Encode a ledger transaction."""
    return ledger_service_pb2.LedgerTransaction(
        transaction_id=transaction.transaction_id,
        kind=transaction.kind,
        invoice_id=transaction.invoice_id,
        entries=[
            ledger_service_pb2.LedgerEntry(
                account=entry.account, customer_id=entry.customer_id, amount=money_to_pb(entry.amount)
            )
            for entry in transaction.entries
        ],
        post_time=timestamp(transaction.posted_at),
    )


def check_to_pb(check: Check) -> reconciliation_pb2.ReconciliationCheck:
    """Encode a check."""
    return reconciliation_pb2.ReconciliationCheck(
        name=check.name,
        left=check.left,
        right=check.right,
        ok=check.ok,
        differences=[
            reconciliation_pb2.ReconciliationDifference(subject=item.subject, left=item.left, right=item.right)
            for item in check.differences
        ],
    )


def checked_id(value: str, field: str) -> str:
    """Return an id that a client sent.

    :raises InvalidInput: if no id can be like that
    """
    if violation := check_text(value, field, _MAX_ID):
        raise InvalidInput([violation])
    return value


def period_from_pb(period: period_pb2.Period) -> Period:
    """Decode a period.

    :raises InvalidInput: if a bound is missing or the period is empty
    """
    for field in ("start", "end"):
        if not period.HasField(field):
            raise InvalidInput.of(f"period.{field}", "REQUIRED", "must be set")
    start, end = period.start.ToDatetime(UTC), period.end.ToDatetime(UTC)
    if start >= end:
        raise InvalidInput.of("period", "EMPTY", "must end after it starts")
    return Period(start, end)


def money_to_pb(value: Money) -> money_pb2.Money:
    """Encode an amount."""
    return money_pb2.Money(minor_units=value.minor_units, currency=value.currency)


def timestamp(at: datetime) -> Timestamp:
    """Encode an instant."""
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
