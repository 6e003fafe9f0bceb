"""Facts of payments as protobuf."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from libs.money import Money
from libs.outbox import Fact
from services.payments.domain.events import PaymentFact, PaymentSucceeded
from steelyard.common.v1 import money_pb2
from steelyard.payments.v1 import events_pb2


def encode_fact(fact: PaymentFact) -> Fact:
    """Encode a fact under its deterministic id."""
    payment = fact.payment
    if isinstance(fact, PaymentSucceeded):
        succeeded = events_pb2.PaymentSucceeded(
            tenant_id=payment.tenant_id,
            payment_id=payment.payment_id,
            invoice_id=payment.invoice_id,
            amount=_money(payment.amount),
            capture_time=_timestamp(fact.captured_at),
        )
        event_id = f"{payment.tenant_id}:payment-succeeded:{payment.payment_id}"
        return Fact(event_id, payment.tenant_id, "payments.payment.succeeded.v1", succeeded.SerializeToString())
    failed = events_pb2.PaymentFailed(
        tenant_id=payment.tenant_id,
        payment_id=payment.payment_id,
        invoice_id=payment.invoice_id,
        attempt_number=fact.attempt.number,
        decline_code=fact.attempt.decline_code,
        will_retry=payment.next_attempt_at is not None,
        fail_time=_timestamp(fact.failed_at),
    )
    event_id = f"{payment.tenant_id}:payment-failed:{payment.payment_id}:{fact.attempt.number}"
    return Fact(event_id, payment.tenant_id, "payments.payment.failed.v1", failed.SerializeToString())


def _money(value: Money) -> money_pb2.Money:
    return money_pb2.Money(minor_units=value.minor_units, currency=value.currency)


def _timestamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
