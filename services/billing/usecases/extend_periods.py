"""Make billing periods ahead of time, so that late or early usage always finds its period."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice

from libs.clock import Clock
from services.billing.usecases.ports import Queues, UnitOfWork, Work
from services.billing.usecases.store_ports import NewPeriod

SUBSCRIPTIONS_PER_TRANSACTION = 200
PERIODS_AT_ONCE = 24
"""Of a subscription, so that a test clock that moved by decades does not make a transaction of a million periods."""


class ExtendPeriods:
    """Gives every subscription all periods up to the one after its current one; returns how many it looked at."""

    def __init__(self, *, unit_of_work: UnitOfWork, queues: Queues, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._queues = queues
        self._clock = clock

    async def __call__(self) -> int:
        due = await self._queues.due_extensions(self._clock(), SUBSCRIPTIONS_PER_TRANSACTION)
        for tenant_id, subscription_ids in due.items():
            async with self._unit_of_work(tenant_id) as work:
                now = (await work.tenants.clock()).now(self._clock())
                # What is still missing then is due again at once.
                await extend(work, subscription_ids, now, at_most=PERIODS_AT_ONCE)
        return sum(len(subscription_ids) for subscription_ids in due.values())


async def extend(work: Work, subscription_ids: Sequence[str], now: datetime, *, at_most: int | None = None) -> None:
    """Make the missing periods of subscriptions of the transaction's tenant, whose time is `now`.

    `at_most` bounds how many of each subscription, for callers that come again.
    """
    grace = timedelta(seconds=(await work.tenants.get()).invoice_grace_s)
    locked = await work.subscriptions.lock(subscription_ids)
    last = await work.periods.last([item.subscription_id for item in locked])
    new: list[NewPeriod] = []
    next_indices: dict[str, int] = {}
    due_at: dict[str, datetime] = {}
    for subscription, next_index in locked.items():
        key = subscription.subscription_id
        periods = list(islice(subscription.periods_up_to(now, next_index, last.get(key)), at_most))
        new += [NewPeriod(subscription, index, period, subscription.whole_period(index)) for index, period in periods]
        next_indices[key] = next_index + len(periods)
        newest = periods[-1][1] if periods else last[key]
        # The one after the newest has to be there when that begins.
        if subscription.ended_at is None or newest.end < subscription.ended_at:
            due_at[key] = newest.start
    await work.periods.add(new, grace)
    await work.subscriptions.extended(next_indices, due_at)
