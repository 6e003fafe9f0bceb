"""What the outcomes of a chunk of attempts change, collected one by one and stored set-wise."""

from __future__ import annotations

import logging
from datetime import datetime

from services.payments.domain import ledger
from services.payments.domain.attempt import Attempt, AttemptState, ask_again_after, known
from services.payments.domain.events import PaymentFact, PaymentFailed, PaymentSucceeded
from services.payments.domain.gateway import Captured, Declined, Outcome
from services.payments.domain.payment import AmountMismatch, Payment
from services.payments.usecases import metrics
from services.payments.usecases.ports import OpenPayment, PaymentKey, Task, TaskKind, Work

_logger = logging.getLogger(__name__)


class Settlement:
    """Made for one transaction; `now` is real time."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._payments: list[Payment] = []
        self._attempts: list[tuple[str, Attempt]] = []
        self._captured: list[tuple[Payment, datetime]] = []
        self._facts: list[PaymentFact] = []
        self._tasks: dict[PaymentKey, Task] = {}
        self._corrected: list[tuple[str, Attempt]] = []
        self._disputed = 0

    def add(self, item: OpenPayment, attempt: Attempt, outcome: Outcome, tenant_now: datetime) -> None:
        """Take in the outcome of the attempt that is under way."""
        answer = known(outcome)
        if answer is None:
            return self._ask_later(item.payment, attempt)
        try:
            settled, final = item.payment.settle(attempt, answer, tenant_now, current_token=item.gateway_token)
        except AmountMismatch:
            # Nothing may follow on its own: the payment stays "processing", and reconciliation shows both sides.
            _logger.critical("%s: the gateway captured another amount", attempt.idempotency_key, exc_info=True)
            return self._ask_later(item.payment, attempt)
        self._payments.append(settled)
        self._attempts.append((settled.tenant_id, final))
        return self._announce(settled, final, answer, tenant_now)

    def dispute(self, payment: Payment, *, stop: bool) -> None:
        """The gateway contradicts what is stored; `stop`: no further try of this payment may follow by itself."""
        self._disputed += 1
        if stop and (stopped := payment.disputed()) != payment:
            self._payments.append(stopped)

    def correct(self, tenant_id: str, attempt: Attempt) -> None:
        """Store more about an attempt whose outcome stays the same."""
        self._corrected.append((tenant_id, attempt))

    def _announce(self, settled: Payment, final: Attempt, answer: Captured | Declined, tenant_now: datetime) -> None:
        if isinstance(answer, Captured):
            self._captured.append((settled, tenant_now))
            self._facts.append(PaymentSucceeded(settled, tenant_now))
            return
        self._facts.append(PaymentFailed(settled, final, tenant_now))
        if settled.next_attempt_at is not None:
            self._tasks[settled.key] = Task(TaskKind.COLLECT, settled.next_attempt_at)

    def _ask_later(self, payment: Payment, attempt: Attempt) -> None:
        unanswered = attempt.unanswered()
        self._attempts.append((payment.tenant_id, unanswered))
        self._tasks[payment.key] = Task(TaskKind.ASK, self._now + ask_again_after(unanswered.asks))

    async def store(self, work: Work) -> None:
        """Write everything; the payments and their invoices are locked."""
        await work.payments.save(self._payments)
        await work.attempts.save([*self._attempts, *self._corrected])
        await work.invoices.capture([payment for payment, _ in self._captured])
        await work.ledger.post([ledger.payment_captured(payment, at) for payment, at in self._captured])
        await work.tasks.remove({payment.key for payment in self._payments} - set(self._tasks))
        await work.tasks.put(self._tasks)
        await work.announce(self._facts, self._now)

    def count(self) -> None:
        """Tell the metrics, after the commit."""
        states = [attempt.state for _, attempt in self._attempts]
        metrics.CAPTURED.add(states.count(AttemptState.SUCCEEDED))
        metrics.DECLINED.add(states.count(AttemptState.DECLINED_SOFT), "soft")
        metrics.DECLINED.add(states.count(AttemptState.DECLINED_HARD), "hard")
        metrics.UNKNOWN.add(states.count(AttemptState.UNKNOWN))
        metrics.DISPUTED.add(self._disputed)
