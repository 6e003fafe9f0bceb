"""Payments over gRPC."""

from __future__ import annotations

import grpc

from libs.errors import FailedPrecondition
from libs.rpc import as_tenant, typed_errors
from services.billing.domain.invoice import PaymentNotCancelable
from steelyard.payments.v1 import payment_service_pb2, payment_service_pb2_grpc


class GrpcPayments:
    """See services.billing.usecases.ports.Payments."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._payments = payment_service_pb2_grpc.PaymentServiceStub(channel)

    async def cancel_payment(self, tenant_id: str, request_id: str, invoice_id: str) -> None:
        request = payment_service_pb2.CancelPaymentRequest(request_id=request_id, invoice_id=invoice_id)
        try:
            with typed_errors():
                await self._payments.CancelPayment(request, metadata=as_tenant(tenant_id))
        except FailedPrecondition as error:
            raise PaymentNotCancelable(str(error), **error.metadata) from error
