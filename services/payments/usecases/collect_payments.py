"""Collect what is due: attempts with stored keys, calls outside of any transaction, outcomes applied once.

An attempt is committed before the gateway is called. Whatever ends the call without an answer (our own death, too)
leaves an attempt that is asked for. A call that outlives its claim is asked for by another process meanwhile: the key
makes that harmless at the gateway, and of the two outcomes the first one counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from libs.clock import Clock
from libs.database import is_outage
from services.payments.domain.attempt import Attempt, known
from services.payments.domain.gateway import Declined, NeverSeen, NoAnswer, Outcome
from services.payments.domain.payment import Payment, PaymentState
from services.payments.usecases.begin_attempts import CLAIM, BeginAttempts
from services.payments.usecases.call_gateway import CallGateway
from services.payments.usecases.late_answers import LateAnswer, take_note
from services.payments.usecases.ports import (
    DueTasks,
    Gateway,
    OpenPayment,
    PaymentKey,
    TaskKind,
    TenantTimes,
    UnitOfWork,
)
from services.payments.usecases.settlement import Settlement

CHUNK = 200
"""Payments that a pass takes at most."""
_SETTLE_EVERY_S = 1.0

_logger = logging.getLogger(__name__)
ItemT = TypeVar("ItemT")
DoneT = TypeVar("DoneT")


@dataclass(frozen=True, slots=True)
class _Answer:
    """An outcome with the attempt that it is for: by the time it comes, a later attempt may be under way."""

    key: PaymentKey
    number: int
    outcome: Outcome


class CollectPayments:
    """One pass over what is due, of any tenant, up to a chunk."""

    def __init__(
        self,
        *,
        unit_of_work: UnitOfWork,
        due: DueTasks,
        gateway: Gateway,
        clock: Clock,
        times: TenantTimes,
        max_card_tries: int,
    ) -> None:
        self._unit_of_work, self._due = unit_of_work, due
        self._clock, self._times = clock, times
        self._call = CallGateway(gateway, clock)
        self._begin = BeginAttempts(unit_of_work, times, max_card_tries)

    async def __call__(self) -> int:
        """Handle up to a chunk of due payments; returns how many there were."""
        now = self._clock()
        test_times = self._times.test_times()
        claimed = await self._due.claim(now=now, until=now + CLAIM, tenant_times=test_times, limit=CHUNK)
        if not claimed:
            return 0
        collect = [key for key, kind in claimed.items() if kind is TaskKind.COLLECT]
        ask = [key for key, kind in claimed.items() if kind is TaskKind.ASK]
        begun = await _each_that_can(collect, lambda keys: self._begin(keys, now))
        if doubtful := [(payment, attempt) for payment, attempt in begun if attempt.state.final]:
            begun = [(payment, attempt) for payment, attempt in begun if not attempt.state.final]
            begun += await self._begin_if_confirmed(doubtful, now)
        asked = await _each_that_can(ask, self._under_way)
        calls = [self._answer(payment, attempt, ask=False) for payment, attempt in begun]
        calls += [self._answer(payment, attempt, ask=True) for payment, attempt in asked]
        await self._settle_as_they_come(calls)
        return len(claimed)

    async def _settle_as_they_come(self, calls: Sequence[Coroutine[object, object, _Answer]]) -> None:
        """Store all outcomes together; if calls take long, what there is once a second, and wait for the others."""
        pending = {asyncio.create_task(call) for call in calls}
        try:
            while pending:
                done, pending = await asyncio.wait(pending, timeout=_SETTLE_EVERY_S)
                await _each_that_can([call.result() for call in done], self._settle)
        finally:
            for call in pending:
                call.cancel()

    async def _begin_if_confirmed(
        self, doubtful: Sequence[tuple[Payment, Attempt]], now: datetime
    ) -> list[tuple[Payment, Attempt]]:
        """A person said that these attempts failed. Before their payments are tried again, ask the gateway once more.

        What it says is compared with what is stored. Without an answer nothing is tried: the claim runs out.
        """
        found = await asyncio.gather(*(self._call.look_up(*pair) for pair in doubtful))
        answers = [
            _Answer(payment.key, attempt.number, outcome)
            for (payment, attempt), outcome in zip(doubtful, found, strict=True)
            if not isinstance(outcome, NeverSeen | NoAnswer)
        ]
        await _each_that_can(answers, self._settle)
        confirmed = [
            payment.key
            for (payment, _), outcome in zip(doubtful, found, strict=True)
            if isinstance(outcome, NeverSeen | Declined)
        ]
        return await _each_that_can(confirmed, lambda keys: self._begin(keys, now, is_confirmed=True))

    async def _under_way(self, keys: Sequence[PaymentKey]) -> list[tuple[Payment, Attempt]]:
        async with self._unit_of_work(*{tenant_id for tenant_id, _ in keys}) as work:
            found = await work.payments.lock_open(keys)
        return [(item.payment, item.attempt) for item in found if item.attempt is not None and _is_under_way(item)]

    async def _answer(self, payment: Payment, attempt: Attempt, *, ask: bool) -> _Answer:
        return _Answer(payment.key, attempt.number, await self._call(payment, attempt, ask=ask))

    async def _settle(self, answers: Sequence[_Answer]) -> list[PaymentKey]:
        by_key = {answer.key: answer for answer in answers}
        settlement = Settlement(self._clock())
        late: list[LateAnswer] = []
        async with self._unit_of_work(*{tenant_id for tenant_id, _ in by_key}) as work:
            for item in await work.payments.lock_open(by_key):
                answer, attempt = by_key[item.payment.key], item.attempt
                if attempt is not None and _is_under_way(item) and attempt.number == answer.number:
                    settlement.add(item, attempt, answer.outcome, self._times.now(item.payment.tenant_id))
                elif (outcome := known(answer.outcome)) is not None:
                    # Another process, or a person, has settled it meanwhile.
                    late.append(LateAnswer(item, answer.number, outcome))
            await take_note(work, late, settlement)
            await settlement.store(work)
        settlement.count()
        return list(by_key)


async def _each_that_can(
    items: Sequence[ItemT], work: Callable[[Sequence[ItemT]], Awaitable[list[DoneT]]]
) -> list[DoneT]:
    """Work on all in one transaction, or, should it fail, in halves, so that one bad item does not stop the rest.

    What fails alone is logged and left: its task is due again when the claim has run out. An outage is raised.
    """
    if not items:
        return []
    try:
        return await work(items)
    except Exception as error:
        if is_outage(error):
            raise
        if len(items) == 1:
            _logger.exception("%s cannot be handled", items[0])
            return []
    middle = len(items) // 2
    return [*await _each_that_can(items[:middle], work), *await _each_that_can(items[middle:], work)]


def _is_under_way(item: OpenPayment) -> bool:
    return item.payment.state is PaymentState.PROCESSING and item.attempt is not None and not item.attempt.state.final
