"""Collect what is due: attempts with stored keys, calls outside of any transaction, outcomes applied once.

An attempt is committed before the gateway is called. Whatever ends the call without an answer (our own death, too)
leaves an attempt that is asked for. A call that outlives its claim is asked for by another process meanwhile: the key
makes that harmless at the gateway, and of the two outcomes the first one counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from libs.clock import Clock
from libs.database import is_outage
from services.payments.domain.gateway import Outcome
from services.payments.domain.payment import Attempt, Payment, PaymentState
from services.payments.usecases.call_gateway import CallGateway
from services.payments.usecases.ports import (
    DueTasks,
    Gateway,
    OpenPayment,
    PaymentKey,
    Task,
    TaskKind,
    TenantTimes,
    UnitOfWork,
)
from services.payments.usecases.settlement import Settlement

CLAIM = timedelta(seconds=30)
"""How long a process that died keeps what it had taken."""
_CHUNK = 200

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
        self, *, unit_of_work: UnitOfWork, due: DueTasks, gateway: Gateway, clock: Clock, times: TenantTimes
    ) -> None:
        self._unit_of_work, self._due = unit_of_work, due
        self._clock, self._times = clock, times
        self._call = CallGateway(gateway, clock)

    async def __call__(self) -> int:
        """Handle up to a chunk of due payments; returns how many there were."""
        now = self._clock()
        test_times = self._times.test_times()
        claimed = await self._due.claim(now=now, until=now + CLAIM, tenant_times=test_times, limit=_CHUNK)
        if not claimed:
            return 0
        collect = [key for key, kind in claimed.items() if kind is TaskKind.COLLECT]
        ask = [key for key, kind in claimed.items() if kind is TaskKind.ASK]
        started = await _each_that_can(collect, lambda keys: self._start(keys, now))
        asked = await _each_that_can(ask, self._under_way)
        calls = [self._answer(payment, attempt, ask=False) for payment, attempt in started]
        calls += [self._answer(payment, attempt, ask=True) for payment, attempt in asked]
        await _each_that_can(await asyncio.gather(*calls), self._settle)
        return len(claimed)

    async def _start(self, keys: Sequence[PaymentKey], now: datetime) -> list[tuple[Payment, Attempt]]:
        """Commit an attempt for each payment that is due, before anything is called."""
        started: list[tuple[Payment, Attempt]] = []
        waiting: list[Payment] = []
        async with self._unit_of_work(*{tenant_id for tenant_id, _ in keys}) as work:
            for item in await work.payments.lock_open(keys):
                if item.payment.state is not PaymentState.SCHEDULED:
                    continue  # Somebody else was faster; see TaskKind.
                if item.gateway_token:
                    started.append(item.payment.begin(token=item.gateway_token, now=now))
                else:
                    waiting.append(item.payment.without_method())
            await work.payments.save([*waiting, *(payment for payment, _ in started)])
            await work.payments.add_attempts([(payment.tenant_id, attempt) for payment, attempt in started])
            await work.tasks.remove([_key(payment) for payment in waiting])
            # Should we die before the outcome is stored, the gateway is asked when the claim has run out.
            await work.tasks.put({_key(payment): Task(TaskKind.ASK, now + CLAIM) for payment, _ in started})
        return started

    async def _under_way(self, keys: Sequence[PaymentKey]) -> list[tuple[Payment, Attempt]]:
        async with self._unit_of_work(*{tenant_id for tenant_id, _ in keys}) as work:
            found = await work.payments.lock_open(keys)
        return [(item.payment, item.attempt) for item in found if item.attempt is not None and _is_under_way(item)]

    async def _answer(self, payment: Payment, attempt: Attempt, *, ask: bool) -> _Answer:
        return _Answer(_key(payment), attempt.number, await self._call(payment, attempt, ask=ask))

    async def _settle(self, answers: Sequence[_Answer]) -> list[PaymentKey]:
        by_key = {answer.key: answer for answer in answers}
        settlement = Settlement(self._clock())
        async with self._unit_of_work(*{tenant_id for tenant_id, _ in by_key}) as work:
            for item in await work.payments.lock_open(by_key):
                answer, attempt = by_key[_key(item.payment)], item.attempt
                # Otherwise another process has settled it meanwhile.
                if attempt is not None and _is_under_way(item) and attempt.number == answer.number:
                    settlement.add(item, attempt, answer.outcome, self._times.now(item.payment.tenant_id))
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


def _key(payment: Payment) -> PaymentKey:
    return payment.tenant_id, payment.payment_id
