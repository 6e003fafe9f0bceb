"""Answers of the gateway for attempts whose outcome is already stored.

What is stored stands, and nothing is posted again. A contradiction is a matter for people: it is logged as critical and
counted, and `Reconcile` names it for as long as the gateway's record and ours differ.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from services.payments.domain.attempt import Attempt, AttemptState
from services.payments.domain.gateway import Captured, Declined
from services.payments.usecases.ports import OpenPayment, Work
from services.payments.usecases.settlement import Settlement

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LateAnswer:
    """What the gateway says of an attempt of a payment, which is locked."""

    item: OpenPayment
    number: int
    answer: Captured | Declined


async def take_note(work: Work, late: Sequence[LateAnswer], settlement: Settlement) -> None:
    """Compare each answer with what is stored."""
    if not late:
        return
    keys = [(answer.item.payment.tenant_id, answer.item.payment.payment_id, answer.number) for answer in late]
    attempts = await work.attempts.get(keys)
    for key, answer in zip(keys, late, strict=True):
        _compare(answer, attempts[key], settlement)


def _compare(late: LateAnswer, attempt: Attempt, settlement: Settlement) -> None:
    payment, answer = late.item.payment, late.answer
    if not attempt.agrees_with(answer, payment.amount):
        said = "" if not attempt.settled_by else f" by {attempt.settled_by}"
        _logger.critical("%s is %s%s, but now: %s", attempt.idempotency_key, attempt.state, said, answer)
        # The money may be there: whether to take it again is for a person to decide.
        is_newest = attempt.number == payment.attempt_count
        settlement.dispute(payment, stop=is_newest and isinstance(answer, Captured))
    elif isinstance(answer, Declined) and answer.hard and attempt.state is AttemptState.DECLINED_SOFT:
        # A person cannot know how hard a decline was; the card must not be tried again.
        settlement.correct(payment.tenant_id, attempt.settled(answer))
