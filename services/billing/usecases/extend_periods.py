"""Make billing periods ahead of time, so that late or early usage always finds its period."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from libs.clock import Clock
from services.billing.domain.subscription import Subscription
from services.billing.usecases.ports import Queues, UnitOfWork, Work

SUBSCRIPTIONS_PER_TRANSACTION = 200


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
                await extend(work, subscription_ids, now)
        return sum(len(subscription_ids) for subscription_ids in due.values())


async def extend(work: Work, subscription_ids: Sequence[str], now: datetime) -> None:
    """Make the missing periods of subscriptions of the transaction's tenant, whose time is `now`."""
    grace = timedelta(seconds=(await work.tenants.get()).invoice_grace_s)
    next_indices: dict[str, int] = {}
    due_at: dict[str, datetime] = {}
    for subscription, next_index in (await work.subscriptions.lock(subscription_ids)).items():
        periods = list(subscription.periods_up_to(now, next_index))
        await work.periods.add(subscription, periods, grace)
        next_indices[subscription.subscription_id] = next_index + len(periods)
        if needed_at := _next_needed_at(subscription, next_index + len(periods)):
            due_at[subscription.subscription_id] = needed_at
    await work.subscriptions.extended(next_indices, due_at)


def _next_needed_at(subscription: Subscription, next_index: int) -> datetime | None:
    """When the period `next_index` has to be there: at the start of the one before it; None after the end."""
    last, following = (subscription.cycle.period_at_index(index) for index in (next_index - 1, next_index))
    if subscription.ended_at is not None and following.start >= subscription.ended_at:
        return None
    return last.start
