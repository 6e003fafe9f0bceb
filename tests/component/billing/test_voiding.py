"""Invoices are voided only when no money can come for them, and paid only once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.errors import RequestIdReused, Unavailable
from libs.messaging import Delivery, InboxConflict, UnreadableMessage
from services.billing.domain.invoice import (
    Invoice,
    InvoiceNotFound,
    InvoiceNotIssued,
    InvoiceState,
    PaymentNotCancelable,
)
from services.billing.messaging.payment_stream import SUCCEEDED_SUBJECT, PaymentStreamConsumer
from services.billing.wire.common import money_to_pb, time_to_pb
from steelyard.payments.v1 import events_pb2
from tests.component.billing.world import EPOCH, World, a_request
from tests.unit.billing.fakes import utc

FEBRUARY = utc(2026, 2, 1)


async def an_issued_invoice(world: World) -> Invoice:
    await world.add_tenant("acme", utc(2026, 1, 1))
    await world.add_customer("acme")
    await world.subscribe("acme")
    await world.advance("acme", FEBRUARY)
    await world.bill()
    [invoice] = await world.invoices("acme")
    return invoice


def a_payment(invoice: Invoice, *, payment_id: str = "pay_1", more_minor: int = 0) -> Delivery:
    amount = money_to_pb(invoice.total)
    amount.minor_units += more_minor
    fact = events_pb2.PaymentSucceeded(
        tenant_id="acme",
        payment_id=payment_id,
        invoice_id=invoice.invoice_id,
        amount=amount,
        capture_time=time_to_pb(utc(2026, 2, 2)),
    )
    msg_id = f"acme:payment-succeeded:{payment_id}"
    return Delivery(SUCCEEDED_SUBJECT, fact.SerializeToString(), {}, msg_id, "PAYMENTS", 1, 1, EPOCH)


class TestVoiding:
    async def test_asks_payments_first_and_keeps_the_number(self, world: World) -> None:
        invoice = await an_issued_invoice(world)

        voided = await world.void(
            request=a_request("VoidInvoice"),
            tenant_id="acme",
            invoice_id=invoice.invoice_id,
            reason="wrong address",
            reissue=False,
        )

        assert world.payments.canceled == [invoice.invoice_id]
        assert (voided.state, voided.invoice_number, voided.voided_at, voided.void_reason) == (
            InvoiceState.VOID,
            "INV-000001",
            FEBRUARY,
            "wrong address",
        )
        await world.bill()
        assert [item.state for item in await world.invoices("acme")] == [InvoiceState.VOID]

    @pytest.mark.parametrize("state", ["SUCCEEDED", "PROCESSING", "UNKNOWN"])
    async def test_is_refused_while_money_may_have_moved(self, world: World, state: str) -> None:
        invoice = await an_issued_invoice(world)
        world.payments.captured_state = state

        with pytest.raises(PaymentNotCancelable) as caught:
            await self._void(world, invoice)

        assert caught.value.metadata == {"state": state}
        assert [item.state for item in await world.invoices("acme")] == [InvoiceState.ISSUED]

    async def test_is_refused_while_payments_is_away(self, world: World) -> None:
        invoice = await an_issued_invoice(world)
        world.payments.is_away = True

        with pytest.raises(Unavailable):
            await self._void(world, invoice)

        assert [item.state for item in await world.invoices("acme")] == [InvoiceState.ISSUED]

    async def test_reissues_under_a_new_number_and_ordinal(self, world: World) -> None:
        invoice = await an_issued_invoice(world)

        await self._void(world, invoice, reissue=True)
        assert (await world.progress("acme")).progress.due_periods == 1
        await world.bill()

        found = await world.invoices("acme")
        assert [(item.state, item.invoice_number, item.ordinal) for item in found] == [
            (InvoiceState.VOID, "INV-000001", 1),
            (InvoiceState.ISSUED, "INV-000002", 2),
        ]
        assert found[0].lines == found[1].lines

    async def test_waits_for_a_watermark_after_the_void_before_it_reissues(self, world: World) -> None:
        invoice = await an_issued_invoice(world)
        await world.pass_watermark()

        await self._void(world, invoice, reissue=True)
        await world.work()

        assert [item.state for item in await world.invoices("acme")] == [InvoiceState.VOID, InvoiceState.DRAFT]

    async def test_a_repeated_request_voids_once(self, world: World) -> None:
        invoice = await an_issued_invoice(world)
        request = a_request("VoidInvoice", "wrong")
        arguments = {"tenant_id": "acme", "invoice_id": invoice.invoice_id, "reason": "wrong"}

        first = await world.void(request=request, **arguments, reissue=True)
        again = await world.void(request=request, **arguments, reissue=True)

        assert first == again
        await world.bill()
        assert [item.ordinal for item in await world.invoices("acme")] == [1, 2]
        other = a_request("VoidInvoice", "other", request_id=request.request_id)
        with pytest.raises(RequestIdReused):
            await world.void(request=other, **arguments, reissue=True)
        with pytest.raises(InvoiceNotIssued):
            await self._void(world, invoice)

    async def test_a_draft_cannot_be_voided_nor_what_does_not_exist(self, world: World) -> None:
        await an_issued_invoice(world)
        await world.advance("acme", utc(2026, 3, 1))
        await world.work()
        draft = (await world.invoices("acme"))[-1]

        with pytest.raises(InvoiceNotIssued):
            await self._void(world, draft)
        with pytest.raises(InvoiceNotFound):
            await world.void(
                request=a_request("VoidInvoice"), tenant_id="acme", invoice_id="inv_x", reason="x", reissue=False
            )
        assert world.payments.canceled == []

    async def _void(self, world: World, invoice: Invoice, *, reissue: bool = False) -> Invoice:
        return await world.void(
            request=a_request("VoidInvoice"),
            tenant_id="acme",
            invoice_id=invoice.invoice_id,
            reason="wrong",
            reissue=reissue,
        )


class TestRecordingPayments:
    async def test_marks_the_invoice_as_paid_once(self, world: World) -> None:
        invoice = await an_issued_invoice(world)
        consume = PaymentStreamConsumer(unit_of_work=world.worker)

        await consume([a_payment(invoice), a_payment(invoice)])
        await consume([a_payment(invoice)])

        [paid] = await world.invoices("acme")
        assert (paid.state, paid.paid_at, paid.payment_id) == (InvoiceState.PAID, utc(2026, 2, 2), "pay_1")
        assert (await world.progress("acme")).progress.unpaid_invoices == 0

    async def test_refuses_another_amount(self, world: World) -> None:
        invoice = await an_issued_invoice(world)

        with pytest.raises(UnreadableMessage, match=r"captured 12\.35 EUR"):
            await PaymentStreamConsumer(unit_of_work=world.worker)([a_payment(invoice, more_minor=1)])

        assert [item.state for item in await world.invoices("acme")] == [InvoiceState.ISSUED]

    async def test_refuses_a_second_payment_and_one_for_a_void_invoice(self, world: World) -> None:
        invoice = await an_issued_invoice(world)
        consume = PaymentStreamConsumer(unit_of_work=world.worker)
        await consume([a_payment(invoice)])

        with pytest.raises(UnreadableMessage, match="which is paid"):
            await consume([a_payment(invoice, payment_id="pay_2")])

    async def test_refuses_another_body_under_a_known_id(self, world: World) -> None:
        invoice = await an_issued_invoice(world)
        consume = PaymentStreamConsumer(unit_of_work=world.worker)
        await consume([a_payment(invoice)])

        with pytest.raises(InboxConflict):
            await consume([a_payment(invoice, more_minor=5)])

    async def test_marks_many_at_once_and_parks_a_contradiction_in_one_batch(self, world: World) -> None:
        invoice = await an_issued_invoice(world)
        await world.advance("acme", utc(2026, 6, 1))
        await world.bill()
        invoices = await world.invoices("acme")
        assert len(invoices) == 5
        payments = [a_payment(item, payment_id=f"pay_{number}") for number, item in enumerate(invoices)]
        consume = PaymentStreamConsumer(unit_of_work=world.worker)

        with pytest.raises(InboxConflict):
            await consume([*payments, a_payment(invoice, payment_id="pay_0", more_minor=5)])
        assert {item.state for item in await world.invoices("acme")} == {InvoiceState.ISSUED}
        await consume([*payments, *payments[::-1]])

        paid = await world.invoices("acme")
        assert [(item.state, item.payment_id) for item in paid] == [
            (InvoiceState.PAID, f"pay_{number}") for number in range(5)
        ]
        assert [item.lines for item in paid] == [item.lines for item in invoices]

    @pytest.mark.parametrize("field", ["payment_id", "invoice_id", "capture_time", "amount", "tenant_id"])
    async def test_a_fact_without_a_field_is_unreadable(self, world: World, field: str) -> None:
        invoice = await an_issued_invoice(world)
        complete = a_payment(invoice)
        fact = events_pb2.PaymentSucceeded.FromString(complete.data)
        fact.ClearField(field)  # type: ignore[arg-type]
        with pytest.raises(UnreadableMessage):
            await PaymentStreamConsumer(unit_of_work=world.worker)([replace(complete, data=fact.SerializeToString())])

    async def test_a_fact_of_another_tenant_than_its_id_says_is_unreadable(self, world: World) -> None:
        complete = a_payment(await an_issued_invoice(world))
        with pytest.raises(UnreadableMessage, match="does not begin with the tenant"):
            await PaymentStreamConsumer(unit_of_work=world.worker)([replace(complete, msg_id="globex:payment:1")])

    async def test_survives_an_inbox_that_has_forgotten(self, world: World) -> None:
        invoice = await an_issued_invoice(world)
        consume = PaymentStreamConsumer(unit_of_work=world.worker)
        await consume([a_payment(invoice)])
        replayed = a_payment(invoice)

        await consume([Delivery(replayed.subject, replayed.data, {}, "acme:again", "PAYMENTS", 2, 1, EPOCH)])

        assert [item.state for item in await world.invoices("acme")] == [InvoiceState.PAID]
