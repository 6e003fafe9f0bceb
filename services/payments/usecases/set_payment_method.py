"""Set what a customer's invoices are collected with."""

from __future__ import annotations

from dataclasses import dataclass

from libs.clock import Clock
from libs.ids import check_text, new_id
from services.payments.domain.method import PaymentMethod, check_token
from services.payments.usecases.ports import Task, TaskKind, TenantTimes, UnitOfWork
from services.payments.usecases.request import Request, require_valid

MAX_CUSTOMER_ID = 128


@dataclass(frozen=True, slots=True)
class SetPaymentMethod:
    """Replaces the customer's method; payments that wait for one are tried at once."""

    unit_of_work: UnitOfWork
    clock: Clock
    times: TenantTimes

    async def __call__(self, *, tenant_id: str, request_id: str, customer_id: str, gateway_token: str) -> PaymentMethod:
        """Store the method.

        :raises InvalidInput: naming every field at fault
        :raises RequestIdReused: if the request id came with other values before
        """
        require_valid(
            request_id,
            check_text(customer_id, "customer_id", MAX_CUSTOMER_ID),
            *check_token(gateway_token, "gateway_token"),
        )
        now = self.clock()
        method = PaymentMethod(tenant_id, new_id("pm"), customer_id, gateway_token, now)
        request = Request.of("SetPaymentMethod", request_id, customer_id, gateway_token)
        async with self.unit_of_work(tenant_id) as work:
            first = await request.claim(work, tenant_id, method.payment_method_id, now)
            if first is not None:
                return await work.methods.get(tenant_id, first)
            await work.methods.put(method)
            # Whoever finds a payment to have no method holds the lock that `put` takes: none can slip in between.
            tenant_now = self.times.now(tenant_id)
            waiting = await work.payments.lock_waiting(tenant_id, customer_id)
            await work.payments.save([payment.with_new_method(tenant_now) for payment in waiting])
            await work.tasks.put(
                {(tenant_id, payment.payment_id): Task(TaskKind.COLLECT, tenant_now) for payment in waiting}
            )
        return method
