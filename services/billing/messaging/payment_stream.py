"""Consumes payments' facts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from google.protobuf.message import DecodeError

from libs.errors import NotFound
from libs.messaging import PAYMENTS, Delivery, UnreadableMessage
from libs.money import Money
from services.billing.domain.events import CapturedPayment
from services.billing.messaging.consuming import Subscription
from services.billing.usecases.ports import UnitOfWork
from services.billing.usecases.record_payment import PaymentMismatch, record_payment
from steelyard.payments.v1 import events_pb2

SUCCEEDED_SUBJECT = "payments.payment.succeeded.v1"
SUBSCRIPTION = Subscription(PAYMENTS.name, "billing-payment-record", (SUCCEEDED_SUBJECT,), batch=200)


class PaymentStreamConsumer:
    """Marks invoices as paid, each fact once: the inbox row is written in the transaction of the effect."""

    def __init__(self, *, unit_of_work: UnitOfWork) -> None:
        self._unit_of_work = unit_of_work

    async def __call__(self, deliveries: Sequence[Delivery]) -> None:
        """:raises UnreadableMessage: if a fact is none, or the invoice did not ask for it; it is parked for people"""
        facts: dict[str, list[tuple[Delivery, CapturedPayment]]] = {}
        for delivery in deliveries:
            tenant_id, payment = _payment(delivery)
            facts.setdefault(tenant_id, []).append((delivery, payment))
        if not facts:
            return
        async with self._unit_of_work.several(sorted(facts)) as works:
            for tenant_id in sorted(facts):
                # By invoice, so that concurrent batches lock in one order.
                for delivery, payment in sorted(facts[tenant_id], key=lambda fact: fact[1].invoice_id):
                    if not await works[tenant_id].first_delivery(SUBSCRIPTION.durable, delivery.msg_id, delivery.data):
                        continue
                    try:
                        await record_payment(works[tenant_id], payment)
                    except (PaymentMismatch, NotFound) as error:
                        raise UnreadableMessage(str(error)) from error


def _payment(delivery: Delivery) -> tuple[str, CapturedPayment]:
    if not delivery.msg_id:
        raise UnreadableMessage("no Nats-Msg-Id header")
    try:
        message = events_pb2.PaymentSucceeded.FromString(delivery.data)
        amount = Money(message.amount.minor_units, message.amount.currency)
    except (DecodeError, ValueError) as error:
        raise UnreadableMessage(f"{delivery.msg_id} is not a PaymentSucceeded") from error
    captured_at = message.capture_time.ToDatetime(tzinfo=UTC)
    return message.tenant_id, CapturedPayment(message.payment_id, message.invoice_id, amount, captured_at)
