"""PaymentService: translates, no rules."""

from __future__ import annotations

import grpc

from libs.errors import InvalidInput
from libs.rpc import current_tenant, next_page_token, page_cursor, page_size
from services.payments.rpc import convert
from services.payments.usecases.cancel_payment import CancelPayment
from services.payments.usecases.get_payments import GetPayments
from services.payments.usecases.ports import PaymentFilter
from services.payments.usecases.set_payment_method import SetPaymentMethod
from services.payments.usecases.settle_attempt import SettleAttempt
from steelyard.payments.v1 import payment_service_pb2 as pb
from steelyard.payments.v1 import payment_service_pb2_grpc


class PaymentServicer(payment_service_pb2_grpc.PaymentServiceServicer):
    def __init__(
        self,
        *,
        set_payment_method: SetPaymentMethod,
        get_payments: GetPayments,
        cancel_payment: CancelPayment,
        settle_attempt: SettleAttempt,
    ) -> None:
        self._set_payment_method = set_payment_method
        self._get_payments = get_payments
        self._cancel_payment = cancel_payment
        self._settle_attempt = settle_attempt

    async def SetPaymentMethod(
        self,
        request: pb.SetPaymentMethodRequest,
        context: grpc.aio.ServicerContext[pb.SetPaymentMethodRequest, pb.SetPaymentMethodResponse],
    ) -> pb.SetPaymentMethodResponse:
        method = await self._set_payment_method(
            tenant_id=current_tenant(),
            request_id=request.request_id,
            customer_id=request.customer_id,
            gateway_token=request.gateway_token,
        )
        return pb.SetPaymentMethodResponse(payment_method=convert.method_to_pb(method))

    async def GetPayment(
        self,
        request: pb.GetPaymentRequest,
        context: grpc.aio.ServicerContext[pb.GetPaymentRequest, pb.GetPaymentResponse],
    ) -> pb.GetPaymentResponse:
        by = request.WhichOneof("by")
        if by is None:
            raise InvalidInput.of("by", "REQUIRED", "payment_id or invoice_id must be set")
        if by == "payment_id":
            payment_id = convert.checked_id(request.payment_id, "payment_id")
            found = await self._get_payments.by_id(current_tenant(), payment_id)
        else:
            invoice_id = convert.checked_id(request.invoice_id, "invoice_id")
            found = await self._get_payments.of_invoice(current_tenant(), invoice_id)
        return pb.GetPaymentResponse(payment=convert.payment_to_pb(*found))

    async def ListPayments(
        self,
        request: pb.ListPaymentsRequest,
        context: grpc.aio.ServicerContext[pb.ListPaymentsRequest, pb.ListPaymentsResponse],
    ) -> pb.ListPaymentsResponse:
        size, cursor = page_size(request), page_cursor(request, 1)
        found = await self._get_payments.page(
            current_tenant(),
            PaymentFilter(
                customer_id=request.customer_id and convert.checked_id(request.customer_id, "customer_id"),
                state=convert.payment_state_from_pb(request.state),
                last_attempt=convert.attempt_state_from_pb(request.last_attempt_state),
            ),
            before=cursor[0] if cursor else "",
            limit=size + 1,
        )
        token = next_page_token(request, [found[size - 1][0].payment_id]) if len(found) > size else ""
        payments = [convert.payment_to_pb(*pair) for pair in found[:size]]
        return pb.ListPaymentsResponse(payments=payments, next_page_token=token)

    async def CancelPayment(
        self,
        request: pb.CancelPaymentRequest,
        context: grpc.aio.ServicerContext[pb.CancelPaymentRequest, pb.CancelPaymentResponse],
    ) -> pb.CancelPaymentResponse:
        found = await self._cancel_payment(
            tenant_id=current_tenant(), request_id=request.request_id, invoice_id=request.invoice_id
        )
        return pb.CancelPaymentResponse(payment=convert.payment_to_pb(*found) if found else None)

    async def SettleAttempt(
        self,
        request: pb.SettleAttemptRequest,
        context: grpc.aio.ServicerContext[pb.SettleAttemptRequest, pb.SettleAttemptResponse],
    ) -> pb.SettleAttemptResponse:
        found = await self._settle_attempt(
            tenant_id=convert.checked_tenant(request.tenant_id),
            request_id=request.request_id,
            payment_id=request.payment_id,
            attempt_number=request.attempt_number,
            outcome=convert.manual_outcome_from_pb(request.outcome),
            gateway_reference=request.gateway_reference,
            reason=request.reason,
            actor=request.actor,
        )
        return pb.SettleAttemptResponse(payment=convert.payment_to_pb(*found))
