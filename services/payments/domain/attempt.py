"""Attempts: one call of the gateway each, under one idempotency key.

An attempt only ever moves forward: created, perhaps unknown, then one of the final states.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from libs.money import Money
from services.payments.domain.gateway import Captured, Declined, Outcome

KEY_LIFETIME = timedelta(hours=23)
"""How long (real time) a call may be sent again under its key: gateways forget keys after a day."""


class AttemptState(StrEnum):
    """See AttemptState in the protos."""

    CREATED = "created"
    SUCCEEDED = "succeeded"
    DECLINED_SOFT = "declined_soft"
    DECLINED_HARD = "declined_hard"
    UNKNOWN = "unknown"

    @property
    def final(self) -> bool:
        """Whether the outcome is known."""
        return self not in (AttemptState.CREATED, AttemptState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try with one card, which is a customer's gateway token."""

    payment_id: str
    number: int
    idempotency_key: str
    customer_id: str
    gateway_token: str
    state: AttemptState
    created_at: datetime
    """Real time: gateways forget keys by it."""
    tried_at: datetime
    """On the tenant's clock: the tries of a card are counted by it."""
    gateway_charge_id: str = ""
    decline_code: str = ""
    asks: int = 0
    """How often the gateway was asked for its outcome."""
    settled_by: str = ""
    """The person who said what became of it; empty if the gateway did."""

    def may_be_sent(self, now: datetime) -> bool:
        """Whether the gateway surely still knows the key if it has ever seen it; `now` is real time."""
        return now - self.created_at < KEY_LIFETIME

    def unanswered(self) -> Attempt:
        """The call, or the question, ended without an answer."""
        return replace(self, state=AttemptState.UNKNOWN, asks=self.asks + 1)

    def settled(self, outcome: Captured | Declined) -> Attempt:
        """The call ended with this outcome."""
        if isinstance(outcome, Captured):
            return replace(self, state=AttemptState.SUCCEEDED, gateway_charge_id=outcome.charge_id)
        state = AttemptState.DECLINED_HARD if outcome.hard else AttemptState.DECLINED_SOFT
        return replace(self, state=state, gateway_charge_id=outcome.charge_id, decline_code=outcome.code)

    def agrees_with(self, answer: Captured | Declined, asked_for: Money) -> bool:
        """Whether a later answer of the gateway says the same about the money as the outcome that is stored."""
        if isinstance(answer, Declined):
            return self.state is not AttemptState.SUCCEEDED
        is_captured = self.state is AttemptState.SUCCEEDED and self.gateway_charge_id == answer.charge_id
        return is_captured and answer.amount == asked_for


_ASK_AFTER = tuple(timedelta(seconds=seconds) for seconds in (1, 5, 30, 300, 3600))


def ask_again_after(asks: int) -> timedelta:
    """How long (real time) to wait before the gateway is asked again, after so many questions."""
    return _ASK_AFTER[min(max(asks - 1, 0), len(_ASK_AFTER) - 1)]


def known(outcome: Outcome) -> Captured | Declined | None:
    """The outcome if it is one, None if the gateway did not answer."""
    return outcome if isinstance(outcome, Captured | Declined) else None
