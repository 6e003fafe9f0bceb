"""Bill a subscription by another rate card, from a date on."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from libs.clock import Clock
from libs.errors import InvalidInput
from libs.ids import check_resource_id
from libs.periods import Period
from services.billing.domain.charge import PeriodKey
from services.billing.domain.rate_card_facts import RateCardFacts, check_currency, check_open
from services.billing.domain.subscription import (
    BillingPeriodClosing,
    Subscription,
)
from services.billing.usecases.current_subscription import lock_current
from services.billing.usecases.get_subscriptions import SubscriptionView, view_of
from services.billing.usecases.ports import Rating, UnitOfWork, Work
from services.billing.usecases.request import Request, require_valid


class ChangeRateCard:
    """From a first local date of the current billing period on, or from the next one (None).

    In the middle of a period it is split there: both parts are parts of the whole one, each priced and invoiced by its
    own card.

    :raises InvalidInput, SubscriptionNotFound, RateCardNotFound, RateCardArchived, CurrencyDiffers, SubscriptionEnded,
        BillingPeriodClosing, RequestIdReused, Unavailable: and nothing changes
    """

    def __init__(self, *, unit_of_work: UnitOfWork, rating: Rating, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._rating = rating
        self._clock = clock

    async def __call__(
        self, *, request: Request, tenant_id: str, subscription_id: str, rate_card_id: str, first_date: date | None
    ) -> SubscriptionView:
        ids = {"subscription_id": subscription_id, "rate_card_id": rate_card_id}
        found = [check_resource_id(value, field) for field, value in ids.items()]
        require_valid(request.request_id, [violation for violation in found if violation])
        # Before the transaction: none is ever held open across a call.
        card = await self._rating.rate_card(tenant_id, rate_card_id)
        real_now = self._clock()
        async with self._unit_of_work(tenant_id) as work:
            # A period that is current for the check must not become due before the change is stored.
            now = (await work.tenants.lock_clock()).now(real_now)
            if await request.claim(work, subscription_id, real_now) is None:
                subscription = await lock_current(work, subscription_id, now)
                check_currency(subscription.currency, rate_card_id, card)
                await _change(work, subscription, (rate_card_id, card), first_date, now)
            return await view_of(work, await work.subscriptions.get(subscription_id), now)


async def _change(
    work: Work, subscription: Subscription, to: tuple[str, RateCardFacts], first_date: date | None, now: datetime
) -> None:
    key, (rate_card_id, card) = subscription.subscription_id, to
    # Before its start a subscription changes in its first period.
    at = max(now, subscription.cycle.period_at_index(0).start)
    stored = (await work.periods.containing([key], at)).get(key)
    current = stored.period if stored else None
    changes_at = subscription.change_at(first_date, current)
    if stored is not None and stored.rate_card_id == rate_card_id:
        # Perhaps another card was to follow: then this one goes on, and nothing is split for it.
        changes_at = subscription.change_at(None, current)
        if subscription.rate_card_id == rate_card_id:
            raise InvalidInput.of("rate_card_id", "UNCHANGED", "is the card that the subscription has")
    else:
        check_open(rate_card_id, card)
    if current is not None and current.start < changes_at < current.end:
        grace = timedelta(seconds=(await work.tenants.get()).invoice_grace_s)
        changed = await work.periods.split(PeriodKey(key, current.start), Period(changes_at, current.end), grace)
    else:
        changed = True
    if not changed or not await work.periods.change_card(key, changes_at, rate_card_id):
        raise BillingPeriodClosing(f"a billing period of {key} is being invoiced", subscriptionId=key)
    await work.subscriptions.change_card(key, rate_card_id)
