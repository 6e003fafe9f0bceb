from __future__ import annotations

import pytest

from libs.messaging import Delivery, UnreadableMessage
from services.payments.domain.events import IssuedInvoice, VoidedInvoice
from services.payments.messaging.invoice_facts import ISSUED, VOIDED, InvoiceFactsConsumer
from services.payments.usecases.record_invoices import InvoiceFact, RecordInvoices
from steelyard.billing.v1 import events_pb2
from steelyard.common.v1.money_pb2 import Money
from tests.unit.payments.fakes import MovingClock
from tests.unit.payments.world import REAL_NOW, FakeWorld, eur

TOTAL = Money(minor_units=5, currency="EUR")


def delivery(subject: str, payload: bytes, msg_id: str, traceparent: str = "") -> Delivery:
    headers = {"traceparent": traceparent} if traceparent else {}
    return Delivery(subject, payload, headers, msg_id, "BILLING", 1, 1, REAL_NOW)


def issued(**changes: object) -> bytes:
    fact = events_pb2.InvoiceIssued(tenant_id="acme", invoice_id="inv_1", customer_id="cust-01", total=TOTAL)
    fact.issue_time.FromDatetime(REAL_NOW)
    for name, value in changes.items():
        setattr(fact, name, value)
    return fact.SerializeToString()


class Recorder(RecordInvoices):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(unit_of_work=FakeWorld.make().worker, clock=MovingClock(REAL_NOW))
        self.facts: list[InvoiceFact] = []

    async def __call__(self, facts: object) -> int:
        assert isinstance(facts, list)
        self.facts += facts
        return len(facts)


class TestInvoiceFactsConsumer:
    async def test_reads_both_facts_with_their_trace(self) -> None:
        voided = events_pb2.InvoiceVoided(tenant_id="acme", invoice_id="inv_1", total=TOTAL)
        voided.void_time.FromDatetime(REAL_NOW)
        recorder = Recorder()
        messages = [
            delivery(ISSUED, issued(), "acme:invoice-issued:inv_1", "00-1-2-01"),
            delivery(VOIDED, voided.SerializeToString(), "acme:invoice-voided:inv_1"),
        ]

        await InvoiceFactsConsumer(record_invoices=recorder)(messages)

        assert [item.fact for item in recorder.facts] == [
            IssuedInvoice("acme", "inv_1", "", "cust-01", eur(5), REAL_NOW, "00-1-2-01"),
            VoidedInvoice("acme", "inv_1", eur(5), REAL_NOW),
        ]
        assert [(item.event_id, item.body) for item in recorder.facts] == [(m.msg_id, m.data) for m in messages]

    @pytest.mark.parametrize(
        ("payload", "msg_id"),
        [
            (b"\xff", "acme:invoice-issued:inv_1"),
            (issued(), ""),
            (issued(), "beta:invoice-issued:inv_1"),
            (issued(tenant_id=""), ":invoice-issued:inv_1"),
            (issued(tenant_id="a,b"), "a,b:invoice-issued:inv_1"),
            (issued(customer_id=""), "acme:invoice-issued:inv_1"),
            (issued(invoice_id=""), "acme:invoice-issued:"),
            (events_pb2.InvoiceIssued(tenant_id="acme", invoice_id="i", customer_id="c").SerializeToString(), "acme:i"),
        ],
    )
    async def test_parks_what_no_retry_can_make_right(self, payload: bytes, msg_id: str) -> None:
        recorder = Recorder()
        with pytest.raises(UnreadableMessage):
            await InvoiceFactsConsumer(record_invoices=recorder)([delivery(ISSUED, payload, msg_id)])
        assert recorder.facts == []
