"""A percentage event by event: what is free is used up in the order of events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from libs.money import exact
from services.rating.domain.prices import ZERO
from services.rating.domain.pricing.percentage import of_percent


class FreeUsage(StrEnum):
    """How the free limits are used up; both end when one does."""

    AGGREGATE = "aggregate"
    """The default: an event is free while it is among the first `free_events` and the sum with it is within
    `free_amount`; the rest of the amount is free in the event that exceeds it."""
    PER_EVENT = "per_event"
    """Every event takes one off `free_events` and its value off `free_amount`. The only one with bounds per event."""


@dataclass(frozen=True, slots=True)
class EventPercentage:
    """`rate_percent` of what is not free of an event's value and `fixed_per_event`; with `min_per_event` and
    `max_per_event`, between these. Free limits are None without one.

    :raises ValueError: if a number is negative, or the bounds contradict each other or `free_usage`
    """

    rate_percent: Decimal
    fixed_per_event: Decimal = ZERO
    free_events: int | None = None
    free_amount: Decimal | None = None
    min_per_event: Decimal | None = None
    max_per_event: Decimal | None = None
    free_usage: FreeUsage = FreeUsage.AGGREGATE

    def __post_init__(self) -> None:
        low, high = self.min_per_event, self.max_per_event
        numbers = (self.rate_percent, self.fixed_per_event, self.free_events, self.free_amount, low, high)
        if any(number is not None and number < 0 for number in numbers):
            raise ValueError("numbers of a percentage must not be negative")
        if low is not None and high is not None and high < low:
            raise ValueError(f"the most per event must not be below the least: {high} < {low}")
        if (low is not None or high is not None) and self.free_usage is FreeUsage.AGGREGATE:
            raise ValueError("bounds per event need free usage per event")


class EventCharge(NamedTuple):
    """One event: what of its value is free and what is paid for, and what it costs."""

    free_units: Decimal
    paid_units: Decimal
    is_paid: bool
    amount: Decimal


class EventsCharge(NamedTuple):
    """All events; the events' amounts add up to `amount`, which without bounds is the sum of the other two."""

    amount: Decimal
    percentage_amount: Decimal
    fixed_amount: Decimal
    events: Sequence[EventCharge]


def rate_events(price: EventPercentage, values: Sequence[Decimal]) -> EventsCharge:
    """Price the values of events in their order.

    :raises decimal.Inexact: if an amount does not fit the context of quantities
    """
    with exact():
        events = list(_charges(price, values))
        paid = sum(event.is_paid for event in events)
        return EventsCharge(
            sum((event.amount for event in events), ZERO),
            sum((event.paid_units for event in events), ZERO) * of_percent(price.rate_percent),
            paid * price.fixed_per_event,
            events,
        )


def _charges(price: EventPercentage, values: Sequence[Decimal]) -> Iterator[EventCharge]:
    events_left, amount_left = price.free_events, price.free_amount
    is_free = events_left is not None or amount_left is not None
    for value in values:
        # By each event, a limit that is at zero has ended; in the aggregate an event of nothing is still within it.
        if price.free_usage is FreeUsage.PER_EVENT and amount_left is not None and amount_left <= 0:
            is_free = False
        if events_left is not None and events_left <= 0:
            is_free = False
        free = ZERO
        if is_free:
            if amount_left is None or value <= amount_left:
                amount_left = None if amount_left is None else amount_left - value
                events_left = None if events_left is None else events_left - 1
                yield EventCharge(value, ZERO, False, ZERO)
                continue
            free, is_free = amount_left, False
        paid = value - free
        yield EventCharge(free, paid, True, _bounded(price, paid))


def _bounded(price: EventPercentage, paid: Decimal) -> Decimal:
    amount = paid * of_percent(price.rate_percent) + price.fixed_per_event
    if price.min_per_event is not None:
        amount = max(amount, price.min_per_event)
    return amount if price.max_per_event is None else min(amount, price.max_per_event)
