"""A person says what became of an attempt, because the gateway never will."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from libs.errors import AlreadyExists, FailedPrecondition, NotFound
from libs.money import Money
from services.payments.domain.attempt import Attempt, AttemptState
from services.payments.domain.gateway import Captured, Declined

FAILED_CODE = "failed_by_operator"
"""The decline code of an attempt that a person has declared failed."""


class ManualOutcome(StrEnum):
    """See ManualOutcome in the protos."""

    CAPTURED = "captured"
    FAILED = "failed"


class AttemptNotFound(NotFound):
    reason = "ATTEMPT_NOT_FOUND"


class AttemptNotUnknown(FailedPrecondition):
    """Its outcome is known, or may be known any second."""

    reason = "ATTEMPT_NOT_UNKNOWN"


class GatewayReferenceInUse(AlreadyExists):
    """One charge of the gateway pays one invoice."""

    reason = "GATEWAY_REFERENCE_IN_USE"


@dataclass(frozen=True, slots=True)
class ManualSettlement:
    """Who settled which attempt as what and why; kept for ever. `settled_at` is real time."""

    tenant_id: str
    payment_id: str
    attempt_number: int
    outcome: ManualOutcome
    gateway_reference: str
    reason: str
    actor: str
    request_id: str
    settled_at: datetime

    def answer(self, asked_for: Money) -> Captured | Declined:
        """What the gateway would have said. A failure is worth another try, as a soft decline is."""
        if self.outcome is ManualOutcome.CAPTURED:
            return Captured(self.gateway_reference, asked_for)
        return Declined(FAILED_CODE, hard=False, charge_id=self.gateway_reference)


def require_unknown(attempts: list[Attempt], number: int) -> Attempt:
    """Return the attempt of this number.

    :raises AttemptNotFound: if there is none
    :raises AttemptNotUnknown: if its outcome is not unknown; metadata "state"
    """
    for attempt in attempts:
        if attempt.number == number:
            if attempt.state is AttemptState.UNKNOWN:
                return attempt
            raise AttemptNotUnknown(
                f"attempt {number} of {attempt.payment_id} is {attempt.state}", state=attempt.state.value
            )
    raise AttemptNotFound(f"there is no attempt {number}", attemptNumber=str(number))
