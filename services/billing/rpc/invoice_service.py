"""InvoiceService."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import grpc
from google.protobuf.message import Message

from libs.errors import InvalidInput
from libs.ids import check_text
from libs.rpc import current_tenant, next_page_token, page_cursor, page_size
from services.billing.domain.charge import PeriodKey
from services.billing.domain.invoice import Invoice, InvoiceState
from services.billing.rpc import fields
from services.billing.usecases.get_invoices import GetBillingProgress, GetInvoice, ListInvoices
from services.billing.usecases.preview_invoice import CurrentSpend, GetCurrentSpend, PreviewInvoice
from services.billing.usecases.request import Request
from services.billing.usecases.void_invoice import VoidInvoice
from services.billing.wire.common import money_to_pb, period_to_pb, time_from_pb, time_to_pb
from services.billing.wire.invoices import STATES, invoice_to_pb, line_to_pb
from steelyard.billing.v1 import invoice_pb2, invoice_service_pb2, invoice_service_pb2_grpc

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]

_PAGE_BYTES_MAX = 3_000_000  # gRPC messages end at 4 MiB.
_STATES_FROM_PB: dict[int, InvoiceState | None] = {invoice_pb2.INVOICE_STATE_UNSPECIFIED: None}
_STATES_FROM_PB |= {value: state for state, value in STATES.items()}


@dataclass(frozen=True, slots=True)
class InvoiceUseCases:
    get_invoice: GetInvoice
    list_invoices: ListInvoices
    preview_invoice: PreviewInvoice
    void_invoice: VoidInvoice
    get_current_spend: GetCurrentSpend
    get_billing_progress: GetBillingProgress


class InvoiceServicer(invoice_service_pb2_grpc.InvoiceServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, use_cases: InvoiceUseCases) -> None:
        self._do = use_cases

    async def GetInvoice(
        self, request: invoice_service_pb2.GetInvoiceRequest, context: Context
    ) -> invoice_service_pb2.GetInvoiceResponse:
        if violation := check_text(request.invoice, "invoice", 64):
            raise InvalidInput([violation])
        invoice = await self._do.get_invoice(tenant_id=current_tenant(), invoice=request.invoice)
        return invoice_service_pb2.GetInvoiceResponse(invoice=invoice_to_pb(invoice))

    async def ListInvoices(
        self, request: invoice_service_pb2.ListInvoicesRequest, context: Context
    ) -> invoice_service_pb2.ListInvoicesResponse:
        size, cursor = page_size(request), page_cursor(request, 1)
        if request.state not in _STATES_FROM_PB:
            raise InvalidInput.of("state", "UNKNOWN_STATE", "is not a state of invoices")
        found = await self._do.list_invoices(
            tenant_id=current_tenant(),
            customer_id=fields.customer_id(request.customer_id, optional=True),
            state=_STATES_FROM_PB[request.state],
            before=cursor[0] if cursor else "",
            limit=size + 1,
        )
        page = _fitting(map(invoice_to_pb, found[:size]))
        token = next_page_token(request, [page[-1].invoice_id]) if len(found) > len(page) else ""
        return invoice_service_pb2.ListInvoicesResponse(invoices=page, next_page_token=token)

    async def PreviewInvoice(
        self, request: invoice_service_pb2.PreviewInvoiceRequest, context: Context
    ) -> invoice_service_pb2.PreviewInvoiceResponse:
        at = time_from_pb(request.at_time, "at_time") if request.HasField("at_time") else None
        preview = await self._do.preview_invoice(
            tenant_id=current_tenant(), subscription_id=fields.subscription_id(request.subscription_id), at=at
        )
        return invoice_service_pb2.PreviewInvoiceResponse(invoice=invoice_to_pb(preview))

    async def VoidInvoice(
        self, request: invoice_service_pb2.VoidInvoiceRequest, context: Context
    ) -> invoice_service_pb2.VoidInvoiceResponse:
        meaning = (request.invoice_id, request.reason, request.reissue)
        invoice = await self._do.void_invoice(
            request=Request.of("VoidInvoice", request.request_id, *meaning),
            tenant_id=current_tenant(),
            invoice_id=request.invoice_id,
            reason=request.reason,
            reissue=request.reissue,
        )
        return invoice_service_pb2.VoidInvoiceResponse(invoice=invoice_to_pb(invoice))

    async def GetCurrentSpend(
        self, request: invoice_service_pb2.GetCurrentSpendRequest, context: Context
    ) -> invoice_service_pb2.GetCurrentSpendResponse:
        customer_id = fields.customer_id(request.customer_id)
        spend = await self._do.get_current_spend(tenant_id=current_tenant(), customer_id=customer_id)
        return invoice_service_pb2.GetCurrentSpendResponse(
            subscriptions=[_spend_to_pb(invoice, spend) for invoice in spend.invoices]
        )

    async def GetBillingProgress(
        self, request: invoice_service_pb2.GetBillingProgressRequest, context: Context
    ) -> invoice_service_pb2.GetBillingProgressResponse:
        found = await self._do.get_billing_progress(tenant_id=current_tenant())
        return invoice_service_pb2.GetBillingProgressResponse(
            due_periods=found.progress.due_periods,
            unpaid_invoices=found.progress.unpaid_invoices,
            watermark_time=time_to_pb(found.watermark.rated_through),
            holds=[*found.watermark.holds, *found.progress.problems],
        )


def _fitting(invoices: Iterable[invoice_pb2.Invoice]) -> list[invoice_pb2.Invoice]:
    """As many as fit into a message, at least one: a page may be shorter than asked for."""
    page: list[invoice_pb2.Invoice] = []
    room = _PAGE_BYTES_MAX
    for invoice in invoices:
        room -= invoice.ByteSize()
        if page and room < 0:
            break
        page.append(invoice)
    return page


def _spend_to_pb(invoice: Invoice, spend: CurrentSpend) -> invoice_service_pb2.SubscriptionSpend:
    return invoice_service_pb2.SubscriptionSpend(
        subscription_id=invoice.subscription_id,
        period=period_to_pb(invoice.period),
        lines=map(line_to_pb, invoice.lines),
        total=money_to_pb(invoice.total),
        watermark_time=time_to_pb(spend.rated_through),
        live=PeriodKey(invoice.subscription_id, invoice.period.start) in spend.live,
    )
