"""Payments: which state follows which, and nothing else.

A payment follows its newest attempt. Nothing here calls a gateway or knows what a clock says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from libs.errors import FailedPrecondition, NotFound
from libs.money import Money
from services.payments.domain.attempt import Attempt, AttemptState
from services.payments.domain.gateway import Captured, Declined
from services.payments.domain.retries import MAX_SOFT_DECLINES, RETRY_AFTER


class PaymentState(StrEnum):
    """See PaymentState in the protos."""

    REQUIRES_METHOD = "requires_method"
    SCHEDULED = "scheduled"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"


class PaymentNotFound(NotFound):
    reason = "PAYMENT_NOT_FOUND"


class PaymentNotCancelable(FailedPrecondition):
    """Money moved, or may have."""

    reason = "PAYMENT_NOT_CANCELABLE"


class AmountMismatch(Exception):
    """The gateway says that it captured something else than it was asked for: somebody has to look."""


@dataclass(frozen=True, slots=True)
class Payment:
    """The intent to collect one invoice. `created_at` and `next_attempt_at` are on the tenant's clock."""

    tenant_id: str
    payment_id: str
    invoice_id: str
    invoice_number: str
    customer_id: str
    amount: Money
    state: PaymentState
    created_at: datetime
    next_attempt_at: datetime | None = None
    attempt_count: int = 0
    soft_declines: int = 0
    """Since the payment method was given."""
    trace_parent: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Tenant id and payment id."""
        return self.tenant_id, self.payment_id

    @classmethod
    def for_invoice(
        cls,
        *,
        tenant_id: str,
        payment_id: str,
        invoice_id: str,
        invoice_number: str,
        customer_id: str,
        amount: Money,
        issued_at: datetime,
        trace_parent: str = "",
    ) -> Payment:
        """Make the payment of an invoice, due at once.

        :raises ValueError: if there is nothing to collect
        """
        if amount.minor_units <= 0:
            raise ValueError(f"invoice {invoice_id} has nothing to collect: {amount}")
        return cls(
            tenant_id=tenant_id,
            payment_id=payment_id,
            invoice_id=invoice_id,
            invoice_number=invoice_number,
            customer_id=customer_id,
            amount=amount,
            state=PaymentState.SCHEDULED,
            created_at=issued_at,
            next_attempt_at=issued_at,
            trace_parent=trace_parent,
        )

    def begin(self, *, token: str, now: datetime, tenant_now: datetime) -> tuple[Payment, Attempt]:
        """Start the next attempt; `now` is real time. Its key is derived, so that it can never have two.

        :raises ValueError: if no attempt is due in this state
        """
        if self.state is not PaymentState.SCHEDULED:
            raise ValueError(f"payment {self.payment_id} is {self.state}: no attempt may start")
        number = self.attempt_count + 1
        attempt = Attempt(
            payment_id=self.payment_id,
            number=number,
            idempotency_key=f"pay:{self.tenant_id}:{self.payment_id}:{number}",
            customer_id=self.customer_id,
            gateway_token=token,
            state=AttemptState.CREATED,
            created_at=now,
            tried_at=tenant_now,
        )
        processing = replace(self, state=PaymentState.PROCESSING, next_attempt_at=None, attempt_count=number)
        return processing, attempt

    def without_method(self) -> Payment:
        """Wait for a payment method."""
        return replace(self, state=PaymentState.REQUIRES_METHOD, next_attempt_at=None)

    def with_new_method(self, now: datetime) -> Payment:
        """Try again with a new payment method; `now` is the tenant's. Other states than REQUIRES_METHOD stay."""
        if self.state is not PaymentState.REQUIRES_METHOD:
            return self
        return replace(self, state=PaymentState.SCHEDULED, next_attempt_at=now, soft_declines=0)

    def settle(
        self, attempt: Attempt, outcome: Captured | Declined, now: datetime, *, current_token: str
    ) -> tuple[Payment, Attempt]:
        """Apply the known outcome of the newest attempt; `now` is the tenant's.

        `current_token` is that of the customer's method as it is now (empty: none): one that was given while the
        attempt was under way is tried at once where the payment would have to wait for it.

        :raises AmountMismatch: if another amount was captured
        :raises ValueError: if the attempt is not the one under way
        """
        if self.state is not PaymentState.PROCESSING or attempt.number != self.attempt_count or attempt.state.final:
            raise ValueError(f"attempt {attempt.number} of {self.payment_id} is not under way")
        if isinstance(outcome, Captured):
            if outcome.amount != self.amount:
                raise AmountMismatch(f"{outcome.charge_id} captured {outcome.amount}, asked for {self.amount}")
            return replace(self, state=PaymentState.SUCCEEDED), attempt.settled(outcome)
        has_another_method = current_token not in ("", attempt.gateway_token)
        return self._after_decline(outcome.hard, now, has_another_method=has_another_method), attempt.settled(outcome)

    def _after_decline(self, hard: bool, now: datetime, *, has_another_method: bool) -> Payment:
        counted = self if hard else replace(self, soft_declines=self.soft_declines + 1)
        if not hard and counted.soft_declines < MAX_SOFT_DECLINES:
            return replace(counted, state=PaymentState.SCHEDULED, next_attempt_at=now + RETRY_AFTER)
        waiting = counted.without_method()
        return waiting.with_new_method(now) if has_another_method else waiting

    def rests_on_a_person(self, last: Attempt | None) -> bool:
        """Whether the next try is due only because a person has declared the last one failed."""
        nobody_gave_a_method_since = self.soft_declines > 0
        return last is not None and bool(last.settled_by) and nobody_gave_a_method_since

    def disputed(self) -> Payment:
        """The gateway says that it has the money after all: no try follows by itself any more."""
        return self.without_method() if self.state is PaymentState.SCHEDULED else self

    def cancel(self) -> Payment:
        """Give up collecting.

        :raises PaymentNotCancelable: if money moved or may have; metadata "state"
        """
        if self.state in (PaymentState.PROCESSING, PaymentState.SUCCEEDED):
            raise PaymentNotCancelable(
                f"payment {self.payment_id} is {self.state}", paymentId=self.payment_id, state=self.state.value
            )
        return replace(self, state=PaymentState.CANCELED, next_attempt_at=None)
