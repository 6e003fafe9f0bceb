"""Billing over gRPC."""

from __future__ import annotations

from datetime import UTC

import grpc

from libs.money import Money
from libs.periods import Period
from libs.rpc import as_tenant, typed_errors
from services.payments.usecases.ports import BilledInvoice
from steelyard.billing.v1 import invoice_pb2, invoice_service_pb2, invoice_service_pb2_grpc

_STATES = {
    invoice_pb2.INVOICE_STATE_ISSUED: "issued",
    invoice_pb2.INVOICE_STATE_PAID: "paid",
    invoice_pb2.INVOICE_STATE_VOID: "void",
}
_PAGE = 500


class GrpcBilling:
    """See services.payments.usecases.ports.Billing."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._invoices: invoice_service_pb2_grpc.InvoiceServiceAsyncStub = invoice_service_pb2_grpc.InvoiceServiceStub(
            channel
        )

    async def invoices(self, tenant_id: str, period: Period | None) -> list[BilledInvoice]:
        found: list[BilledInvoice] = []
        token = ""
        while True:
            request = invoice_service_pb2.ListInvoicesRequest(page_size=_PAGE, page_token=token)
            with typed_errors():
                page = await self._invoices.ListInvoices(request, metadata=as_tenant(tenant_id))
            found.extend(_invoice(item) for item in page.invoices if _is_wanted(item, period))
            token = page.next_page_token
            if not token:
                return found


def _is_wanted(invoice: invoice_pb2.Invoice, period: Period | None) -> bool:
    if invoice.state not in _STATES:
        return False
    return period is None or period.contains(invoice.period.start.ToDatetime(UTC))


def _invoice(invoice: invoice_pb2.Invoice) -> BilledInvoice:
    return BilledInvoice(
        invoice_id=invoice.invoice_id,
        invoice_number=invoice.invoice_number,
        total=Money(invoice.total.minor_units, invoice.total.currency),
        state=_STATES[invoice.state],
    )
