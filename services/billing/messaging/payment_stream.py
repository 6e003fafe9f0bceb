"""Consumes payments' facts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from google.protobuf.message import DecodeError

from libs.errors import NotFound
from libs.ids import check_tenant_id
from libs.messaging import PAYMENTS, Delivery, UnreadableMessage
from libs.money import Money
from services.billing.domain.events import CapturedPayment
from services.billing.messaging.consuming import Subscription
from services.billing.usecases.ports import UnitOfWork, Work
from services.billing.usecases.record_payment import PaymentMismatch, record_payments
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
                await _record(works[tenant_id], facts[tenant_id])


async def _record(work: Work, facts: Sequence[tuple[Delivery, CapturedPayment]]) -> None:
    bodies = [(delivery.msg_id, delivery.data) for delivery, _ in facts]
    first = await work.first_deliveries(SUBSCRIPTION.durable, bodies)
    news = {delivery.msg_id: payment for delivery, payment in facts if delivery.msg_id in first}
    try:
        await record_payments(work, list(news.values()))
    except (PaymentMismatch, NotFound) as error:
        raise UnreadableMessage(str(error)) from error


def _payment(delivery: Delivery) -> tuple[str, CapturedPayment]:
    try:
        message = events_pb2.PaymentSucceeded.FromString(delivery.data)
        amount = Money(message.amount.minor_units, message.amount.currency)
        captured_at = message.capture_time.ToDatetime(tzinfo=UTC)
    except (DecodeError, ValueError, OverflowError) as error:
        raise UnreadableMessage(f"{delivery.msg_id!r} is not a PaymentSucceeded") from error
    # The id guards the effect and the body says for whom it is: they must agree.
    if check_tenant_id(message.tenant_id) or not delivery.msg_id.startswith(f"{message.tenant_id}:"):
        raise UnreadableMessage(f"{delivery.msg_id!r} does not begin with the tenant {message.tenant_id!r}")
    if not message.payment_id or not message.invoice_id or not message.HasField("capture_time"):
        raise UnreadableMessage(f"{delivery.msg_id} does not say who paid what, and when")
    return message.tenant_id, CapturedPayment(message.payment_id, message.invoice_id, amount, captured_at)
