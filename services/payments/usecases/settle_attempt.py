"""A person settles an attempt whose outcome stays unknown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from libs.clock import Clock
from libs.errors import Violation
from libs.ids import check_text
from services.payments.domain.attempt import Attempt
from services.payments.domain.manual_settlement import (
    GatewayReferenceInUse,
    ManualOutcome,
    ManualSettlement,
    require_unknown,
)
from services.payments.domain.payment import Payment, PaymentNotFound
from services.payments.usecases.ports import TenantTimes, UnitOfWork, Work
from services.payments.usecases.request import Request, require_valid
from services.payments.usecases.settlement import Settlement

MAX_PAYMENT_ID, MAX_REFERENCE, MAX_REASON, MAX_ACTOR = 64, 255, 1_000, 128


@dataclass(frozen=True, slots=True)
class SettleAttempt:
    """Does what an answer of the gateway would have done, in the same way, and keeps who said so and why.

    The person's word stands: what the gateway says later posts nothing, see late_answers.
    """

    unit_of_work: UnitOfWork
    clock: Clock
    times: TenantTimes

    async def __call__(
        self,
        *,
        tenant_id: str,
        request_id: str,
        payment_id: str,
        attempt_number: int,
        outcome: ManualOutcome,
        gateway_reference: str,
        reason: str,
        actor: str,
    ) -> tuple[Payment, list[Attempt]]:
        """Settle the attempt and return its payment.

        :raises InvalidInput: naming every field at fault
        :raises RequestIdReused: if the request id came with other values before
        :raises PaymentNotFound, AttemptNotFound: if there is no such payment or attempt
        :raises AttemptNotUnknown: if its outcome is not unknown; metadata "state"
        :raises GatewayReferenceInUse: if that charge has paid another invoice
        """
        settled = ManualSettlement(
            tenant_id, payment_id, attempt_number, outcome, gateway_reference, reason, actor, request_id, self.clock()
        )
        require_valid(request_id, *_violations(settled))
        meaning = (payment_id, str(attempt_number), outcome.value, gateway_reference, reason, actor)
        request = Request.of("SettleAttempt", request_id, *meaning)
        settlement = Settlement(settled.settled_at)
        async with self.unit_of_work(tenant_id) as work:
            if await request.claim(work, tenant_id, payment_id, settled.settled_at) is None:
                await self._settle(work, settled, settlement)
            found = await work.payments.get(tenant_id, payment_id)
        settlement.count()
        return found

    async def _settle(self, work: Work, settled: ManualSettlement, settlement: Settlement) -> None:
        tenant_id = settled.tenant_id
        # Whoever stores an answer of the gateway takes the same locks: one of the two finds the other's outcome.
        items = await work.payments.lock_open([(tenant_id, settled.payment_id)])
        if not items:
            raise PaymentNotFound(f"no payment {settled.payment_id}", paymentId=settled.payment_id)
        payment, attempts = await work.payments.get(tenant_id, settled.payment_id)
        attempt = require_unknown(attempts, settled.attempt_number)
        answer = settled.answer(payment.amount)
        if settled.outcome is ManualOutcome.CAPTURED:
            await _require_unused(work, tenant_id, settled.gateway_reference)
        by_person = replace(attempt, settled_by=settled.actor)
        settlement.add(items[0], by_person, answer, self.times.now(tenant_id))
        await settlement.store(work)
        await work.attempts.add_manual_settlement(settled)


async def _require_unused(work: Work, tenant_id: str, charge_id: str) -> None:
    """The database refuses it too, should two come at once."""
    if (invoice_id := await work.attempts.invoice_of_charge(tenant_id, charge_id)) is not None:
        raise GatewayReferenceInUse(f"{charge_id} has paid invoice {invoice_id}", invoiceId=invoice_id)


def _violations(settled: ManualSettlement) -> Iterator[Violation | None]:
    yield check_text(settled.payment_id, "payment_id", MAX_PAYMENT_ID)
    if settled.attempt_number < 1:
        yield Violation("attempt_number", "OUT_OF_RANGE", "must be 1 or more")
    if settled.gateway_reference or settled.outcome is ManualOutcome.CAPTURED:
        yield check_text(settled.gateway_reference, "gateway_reference", MAX_REFERENCE)
    yield check_text(settled.reason, "reason", MAX_REASON)
    yield check_text(settled.actor, "actor", MAX_ACTOR)
