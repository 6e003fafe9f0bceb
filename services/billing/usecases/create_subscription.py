"""Start to bill a customer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime

from libs.clock import Clock
from libs.errors import Violation
from libs.ids import check_resource_id, check_text, new_id
from libs.money import MINOR_DIGITS
from libs.periods import find_zone
from services.billing.domain.customer import CUSTOMER_ID_LENGTH_MAX, Customer
from services.billing.domain.rate_card_facts import check_currency, check_open
from services.billing.domain.subscription import BillingAnchor, Subscription, check_start
from services.billing.usecases.extend_periods import extend
from services.billing.usecases.get_subscriptions import SubscriptionView, view_of
from services.billing.usecases.ports import Rating, UnitOfWork, Work
from services.billing.usecases.request import Request, require_valid


@dataclass(frozen=True, slots=True)
class SubscriptionOrder:
    """What a tenant asks for; without an id one is made, without a date the customer's today is taken,
    without a currency the card's."""

    subscription_id: str
    customer_id: str
    rate_card_id: str
    starts_on: date | None
    anchor: BillingAnchor
    # Not part of what a request without it has always meant: it may be repeated after an upgrade.
    currency: str = field(default="", repr=False)

    def violations(self) -> list[Violation]:
        found = [
            check_text(self.customer_id, "subscription.customer_id", CUSTOMER_ID_LENGTH_MAX),
            check_resource_id(self.rate_card_id, "subscription.rate_card_id"),
        ]
        if self.subscription_id:
            found.append(check_resource_id(self.subscription_id, "subscription.subscription_id"))
        if self.currency and self.currency not in MINOR_DIGITS:
            found.append(Violation("subscription.currency", "UNKNOWN_CURRENCY", "must be an active ISO 4217 code"))
        return [violation for violation in found if violation]


class CreateSubscription:
    """Stores the subscription with its billing periods up to the one after the current one.

    :raises InvalidInput, CustomerNotFound, RateCardNotFound, RateCardArchived, CurrencyDiffers,
        SubscriptionExists, RequestIdReused, Unavailable: and nothing is stored
    """

    def __init__(self, *, unit_of_work: UnitOfWork, rating: Rating, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._rating = rating
        self._clock = clock

    async def __call__(self, *, request: Request, tenant_id: str, order: SubscriptionOrder) -> SubscriptionView:
        require_valid(request.request_id, order.violations())
        # Before the transaction: none is ever held open across a call.
        card = await self._rating.rate_card(tenant_id, order.rate_card_id)
        real_now = self._clock()
        subscription_id = order.subscription_id or new_id("sub")
        async with self._unit_of_work(tenant_id) as work:
            now = (await work.tenants.clock()).now(real_now)
            first = await request.claim(work, subscription_id, real_now)
            if first is None:
                check_open(order.rate_card_id, card)
                currency = order.currency or card.currency
                check_currency(currency, order.rate_card_id, card)
                customer = await work.customers.get(order.customer_id)
                await _start(work, _subscription(order, subscription_id, customer, currency, now), now)
            return await view_of(work, await work.subscriptions.get(first or subscription_id), now)


async def _start(work: Work, subscription: Subscription, now: datetime) -> None:
    await work.subscriptions.add(subscription)
    await extend(work, [subscription.subscription_id], now)


def _subscription(
    order: SubscriptionOrder, subscription_id: str, customer: Customer, currency: str, now: datetime
) -> Subscription:
    today = now.astimezone(find_zone(customer.time_zone)).date()
    starts_on = order.starts_on or today
    check_start(starts_on, today, find_zone(customer.time_zone))
    return Subscription(
        subscription_id=subscription_id,
        customer_id=customer.customer_id,
        rate_card_id=order.rate_card_id,
        currency=currency,
        starts_on=starts_on,
        anchor=order.anchor,
        time_zone=customer.time_zone,
        created_at=now,
    )
