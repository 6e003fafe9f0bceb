"""Collect what is due: attempts with stored keys, calls outside of any transaction, outcomes applied once.

An attempt is committed before the gateway is called. Whatever ends the call without an answer (our own death, too)
leaves an attempt that is asked for, under a claim that runs out. What the gateway never saw is sent again under the
same key, so that even a call that is still on its way cannot charge twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from libs.clock import Clock
from services.payments.domain import ledger
from services.payments.domain.events import PaymentFact, PaymentFailed, PaymentSucceeded
from services.payments.domain.gateway import Captured, ChargeRequest, NeverSeen, Outcome
from services.payments.domain.payment import (
    AmountMismatch,
    Attempt,
    Payment,
    PaymentState,
    ask_again_after,
    known,
)
from services.payments.usecases.ports import (
    DueTasks,
    Gateway,
    OpenPayment,
    PaymentKey,
    Task,
    TaskKind,
    TenantTimes,
    UnitOfWork,
    Work,
)
from services.payments.usecases.tracing import attempt_span

_CHUNK = 200
_CLAIM = timedelta(seconds=60)
_CALLS_AT_A_TIME = 16
_logger = logging.getLogger(__name__)


class CollectPayments:
    """One pass over what is due, of any tenant, up to a chunk."""

    def __init__(
        self, *, unit_of_work: UnitOfWork, due: DueTasks, gateway: Gateway, clock: Clock, times: TenantTimes
    ) -> None:
        self._unit_of_work, self._due, self._gateway = unit_of_work, due, gateway
        self._clock, self._times = clock, times
        self._calls = asyncio.Semaphore(_CALLS_AT_A_TIME)

    async def __call__(self) -> int:
        """Handle up to a chunk of due payments; returns how many there were."""
        now = self._clock()
        claimed = await self._due.claim(
            now=now, until=now + _CLAIM, tenant_times=self._times.test_times(), limit=_CHUNK
        )
        if not claimed:
            return 0
        started = await self._start([key for key, kind in claimed.items() if kind is TaskKind.COLLECT], now)
        asked = await self._under_way([key for key, kind in claimed.items() if kind is TaskKind.ASK])
        calls = [self._call(payment, attempt, ask=False) for payment, attempt in started]
        calls += [self._call(payment, attempt, ask=True) for payment, attempt in asked]
        outcomes = await asyncio.gather(*calls)
        attempts = [*started, *asked]
        await self._settle(dict(zip([_key(payment) for payment, _ in attempts], outcomes, strict=True)))
        return len(claimed)

    async def _start(self, keys: Sequence[PaymentKey], now: datetime) -> list[tuple[Payment, Attempt]]:
        """Commit an attempt for each payment that is due, before anything is called."""
        if not keys:
            return []
        started: list[tuple[Payment, Attempt]] = []
        waiting: list[Payment] = []
        async with self._unit_of_work(*{tenant_id for tenant_id, _ in keys}) as work:
            open_payments = await work.payments.lock_open(keys)
            scheduled = [item for item in open_payments if item.payment.state is PaymentState.SCHEDULED]
            for item in scheduled:
                if item.gateway_token:
                    started.append(item.payment.begin(token=item.gateway_token, now=now))
                else:
                    waiting.append(item.payment.without_method())
            await work.payments.save([*waiting, *(payment for payment, _ in started)])
            await work.payments.add_attempts([(payment.tenant_id, attempt) for payment, attempt in started])
            await work.tasks.remove(set(keys) - {_key(payment) for payment, _ in started})
            # Should we die before the outcome is stored, the gateway is asked when the claim has run out.
            await work.tasks.put({_key(payment): Task(TaskKind.ASK, now + _CLAIM) for payment, _ in started})
        return started

    async def _under_way(self, keys: Sequence[PaymentKey]) -> list[tuple[Payment, Attempt]]:
        if not keys:
            return []
        async with self._unit_of_work(*{tenant_id for tenant_id, _ in keys}) as work:
            found = [_attempt_under_way(item) for item in await work.payments.lock_open(keys)]
            asked = [pair for pair in found if pair is not None]
            await work.tasks.remove(set(keys) - {_key(payment) for payment, _ in asked})
        return asked

    async def _call(self, payment: Payment, attempt: Attempt, *, ask: bool) -> Outcome:
        request = ChargeRequest(attempt.idempotency_key, attempt.gateway_token, payment.amount, payment.invoice_id)
        async with self._calls:
            with attempt_span(payment, attempt) as span:
                outcome: Outcome | NeverSeen = NeverSeen()
                if ask:
                    outcome = await self._gateway.find(payment.tenant_id, attempt.idempotency_key)
                if isinstance(outcome, NeverSeen):
                    outcome = await self._gateway.charge(payment.tenant_id, request)
                span.set_attribute("steelyard.outcome", type(outcome).__name__)
                return outcome

    async def _settle(self, outcomes: Mapping[PaymentKey, Outcome]) -> None:
        if not outcomes:
            return
        now = self._clock()
        async with self._unit_of_work(*{tenant_id for tenant_id, _ in outcomes}) as work:
            settlement = _Settlement(work, now)
            for item in await work.payments.lock_open(outcomes):
                pair = _attempt_under_way(item)
                if pair is not None:  # Otherwise another process has settled it meanwhile.
                    payment, attempt = pair
                    tenant_now = self._times.now(payment.tenant_id)
                    settlement.add(payment, attempt, outcomes[_key(payment)], tenant_now)
            await settlement.store()


class _Settlement:
    """Collects what the outcomes of a chunk change, and stores it set-wise."""

    def __init__(self, work: Work, now: datetime) -> None:
        self._work, self._now = work, now
        self._payments: list[Payment] = []
        self._attempts: list[tuple[str, Attempt]] = []
        self._captured: list[tuple[Payment, datetime]] = []
        self._facts: list[PaymentFact] = []
        self._tasks: dict[PaymentKey, Task] = {}

    def add(self, payment: Payment, attempt: Attempt, outcome: Outcome, tenant_now: datetime) -> None:
        answer = known(outcome)
        if answer is None:
            return self._ask_later(payment, attempt)
        try:
            settled, final = payment.settle(attempt, answer, tenant_now)
        except AmountMismatch:
            # Nothing may follow on its own: the payment stays "processing", and reconciliation shows both sides.
            _logger.critical("the gateway captured another amount", exc_info=True)
            return self._ask_later(payment, attempt)
        self._payments.append(settled)
        self._attempts.append((payment.tenant_id, final))
        if isinstance(answer, Captured):
            self._captured.append((settled, tenant_now))
            self._facts.append(PaymentSucceeded(settled, tenant_now))
        else:
            self._facts.append(PaymentFailed(settled, final, tenant_now))
            if settled.next_attempt_at is not None:
                self._tasks[_key(settled)] = Task(TaskKind.COLLECT, settled.next_attempt_at)
        return None

    def _ask_later(self, payment: Payment, attempt: Attempt) -> None:
        unanswered = attempt.unanswered()
        self._attempts.append((payment.tenant_id, unanswered))
        self._tasks[_key(payment)] = Task(TaskKind.ASK, self._now + ask_again_after(unanswered.asks))

    async def store(self) -> None:
        work = self._work
        await work.payments.save(self._payments)
        await work.payments.save_attempts(self._attempts)
        await work.invoices.capture([payment for payment, _ in self._captured])
        await work.ledger.post([ledger.payment_captured(payment, at) for payment, at in self._captured])
        await work.tasks.remove({_key(payment) for payment in self._payments} - set(self._tasks))
        await work.tasks.put(self._tasks)
        await work.announce(self._facts, self._now)


def _attempt_under_way(item: OpenPayment) -> tuple[Payment, Attempt] | None:
    if item.payment.state is not PaymentState.PROCESSING or item.attempt is None or item.attempt.state.final:
        return None
    return item.payment, item.attempt


def _key(payment: Payment) -> PaymentKey:
    return payment.tenant_id, payment.payment_id
