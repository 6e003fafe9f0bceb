"""Subscriptions and their monthly billing periods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import count
from zoneinfo import ZoneInfo

from libs.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound
from libs.periods import BillingCycle, Period, find_zone, local_midnight

# Each period since the start is invoiced, so a start by mistake in the year 1 would make 24,000 invoices.
START_OFFSET_MAX = timedelta(days=10 * 366)


class SubscriptionNotFound(NotFound):
    reason = "SUBSCRIPTION_NOT_FOUND"


class SubscriptionExists(AlreadyExists):
    reason = "SUBSCRIPTION_EXISTS"


class BillingPeriodNotFound(NotFound):
    reason = "BILLING_PERIOD_NOT_FOUND"


class SubscriptionEnded(FailedPrecondition):
    """The subscription ends, or has ended, before it is to end."""

    reason = "SUBSCRIPTION_ENDED"


class BillingPeriodClosing(FailedPrecondition):
    """The billing period is being invoiced: neither its end nor its card can change now."""

    reason = "BILLING_PERIOD_CLOSING"


class BillingAnchor(StrEnum):
    """Where months begin: on the start's day of the month, or on the first."""

    ANNIVERSARY = "anniversary"
    CALENDAR = "calendar"


@dataclass(frozen=True, slots=True)
class Subscription:
    """Binds a customer to a rate card, monthly, in arrears, from local midnight of `starts_on`.

    `time_zone` is the customer's at the time of creation: stored periods never move. `rate_card_id` is the card of
    billing periods that are made from now on; `currency`, that of all cards it ever has.
    """

    subscription_id: str
    customer_id: str
    rate_card_id: str
    currency: str
    starts_on: date
    anchor: BillingAnchor
    time_zone: str
    created_at: datetime
    ended_at: datetime | None = None

    @property
    def cycle(self) -> BillingCycle:
        zone = find_zone(self.time_zone)
        if self.anchor is BillingAnchor.CALENDAR:
            return BillingCycle.calendar(self.starts_on, zone)
        return BillingCycle.anniversary(self.starts_on, zone)

    def whole_period(self, index: int) -> Period | None:
        """What the period number `index` is a part of, None if the subscription's start does not shorten it."""
        if index > 0:
            return None
        whole = self.cycle.whole_period_at_index(index)
        return whole if whole.start < self.cycle.period_at_index(index).start else None

    def current_index(self, now: datetime) -> int:
        """The index of the period that contains `now`; the first before the start, the last after the end."""
        cycle = self.cycle
        at = max(now, cycle.period_at_index(0).start)
        if self.ended_at is not None and at >= self.ended_at:
            at = self.ended_at - timedelta(microseconds=1)
        return cycle.index_at(at)

    def current_period(self, now: datetime) -> Period:
        return self._until_end(self.cycle.period_at_index(self.current_index(now)))

    def period_at(self, at: datetime) -> Period:
        """The billing period that contains an instant.

        :raises BillingPeriodNotFound: if the subscription is not active then
        """
        cycle = self.cycle
        if at < cycle.period_at_index(0).start or (self.ended_at is not None and at >= self.ended_at):
            message = f"subscription {self.subscription_id} has no billing period at {at.isoformat()}"
            raise BillingPeriodNotFound(message, subscriptionId=self.subscription_id)
        return self._until_end(cycle.period_containing(at))

    def periods_up_to(self, now: datetime, from_index: int, last: Period | None) -> Iterator[tuple[int, Period]]:
        """The periods from an index, up to the one after the period that contains `now`, with their indices.

        One ahead, so that early usage finds its period. An ended subscription gets no period after its end. Each
        begins where the one before it ends, `last` being the stored one before the index: where the rules of a time
        zone change, computing both ends anew would leave a gap, or bill the overlap twice.
        """
        cycle = self.cycle
        at = max(now, cycle.period_at_index(0).start)
        for index in count(from_index):
            if last is not None and last.start > at:
                return
            computed = cycle.period_at_index(index)
            last = Period(computed.start if last is None else last.end, computed.end)
            if self.ended_at is not None and last.start >= self.ended_at:
                return
            yield index, last

    def canceled(self, current: Period) -> Subscription:
        """The subscription, ending with its current period; an end that is set stays."""
        return self if self.ended_at is not None else replace(self, ended_at=current.end)

    def end_after(self, last_date: date, current: Period | None) -> datetime:
        """The end of a local date of the current stored period, so that the subscription can end with it.

        :raises SubscriptionEnded: if it ends before that already
        :raises InvalidInput: OUT_OF_RANGE if the date is not in the current period
        """
        zone = find_zone(self.time_zone)
        if self.ended_at is not None and (current is None or last_date > _last_date(self.ended_at, zone)):
            message = f"subscription {self.subscription_id} ends at {self.ended_at.isoformat()}"
            raise SubscriptionEnded(message, subscriptionId=self.subscription_id)
        if current is None or not current.start.astimezone(zone).date() <= last_date <= _last_date(current.end, zone):
            raise InvalidInput.of("last_date", "OUT_OF_RANGE", "must be a date in the current billing period")
        return min(local_midnight(last_date + timedelta(days=1), zone), current.end)

    def change_at(self, first_date: date | None, current: Period | None) -> datetime:
        """From when on another card can count: the beginning of a local date of the current stored period, or its end.

        :raises SubscriptionEnded: if the subscription has ended by then
        :raises InvalidInput: OUT_OF_RANGE if the date is neither in the current period nor the first after it
        """
        zone = find_zone(self.time_zone)
        at = None
        if current is not None:
            first, after = current.start.astimezone(zone).date(), _last_date(current.end, zone) + timedelta(days=1)
            if first_date is None or first_date == after:
                at = current.end
            elif first <= first_date < after:
                at = min(max(local_midnight(first_date, zone), current.start), current.end)
            else:
                raise InvalidInput.of("first_date", "OUT_OF_RANGE", f"must be {first} to {after}")
        if at is None or (self.ended_at is not None and at >= self.ended_at):
            message = f"subscription {self.subscription_id} has ended by then"
            raise SubscriptionEnded(message, subscriptionId=self.subscription_id)
        return at

    def _until_end(self, period: Period) -> Period:
        if self.ended_at is None or period.end <= self.ended_at:
            return period
        return Period(period.start, self.ended_at)


def _last_date(end: datetime, zone: ZoneInfo) -> date:
    return (end - timedelta(microseconds=1)).astimezone(zone).date()


def check_start(starts_on: date, today: date, zone: ZoneInfo) -> None:
    """:raises InvalidInput: if a subscription would start absurdly far from today, or on a day its zone left out"""
    if abs(starts_on - today) > START_OFFSET_MAX:
        raise InvalidInput.of(
            "subscription.start_date", "OUT_OF_RANGE", "must be within 10 years of the tenant's today"
        )
    if local_midnight(starts_on, zone) == local_midnight(starts_on + timedelta(days=1), zone):
        raise InvalidInput.of("subscription.start_date", "NO_SUCH_LOCAL_DAY", f"{zone} had no day {starts_on}")
