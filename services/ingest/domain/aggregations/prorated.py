"""Quantities that count by the days on which they were there: of the customer's calendar, both ends included."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from functools import reduce
from operator import itemgetter

from libs.money import QUANTITY_CONTEXT
from services.ingest.domain.aggregations.columns import EventColumns, Operation
from services.ingest.domain.aggregations.period import AggregationPeriod, local_day

_ZERO = Decimal(0)


def prorated_sum(events: EventColumns, carried: EventColumns, period: AggregationPeriod) -> Fraction:
    """Each value times its days from the event's day to the period's last one, over the days of the billing period.
    What is carried over counts in full."""
    add = QUANTITY_CONTEXT.add
    days = period.days
    by_day = dict.fromkeys(days, _ZERO)
    for time_ns, value in zip(events.times_ns, events.values, strict=True):
        day = local_day(time_ns, period.zone)
        by_day[day] = add(by_day[day], value)
    prorated = sum((Fraction(value) * (days.stop - day) for day, value in by_day.items()), Fraction(0))
    return Fraction(reduce(add, carried.values, _ZERO)) + prorated / period.day_count


def prorated_unique_count(events: EventColumns, carried: EventColumns, period: AggregationPeriod) -> Fraction:
    """The days on which each text was there, added up, over the days of the billing period."""
    days = period.days
    changes: dict[str, list[tuple[int, int, bool]]] = {}
    for part in (carried, events):
        adds = [operation is Operation.ADD for operation in part.operations] or [True] * len(part)
        for text, change in zip(part.texts, zip(part.times_ns, part.positions, adds, strict=True), strict=True):
            changes.setdefault(text, []).append(change)
    total = sum(_days_present(found, period, days) for found in changes.values())
    return Fraction(total, period.day_count)


def _days_present(changes: list[tuple[int, int, bool]], period: AggregationPeriod, days: range) -> int:
    """On how many of the days something was there, that (time, position, whether added) changed."""
    total, counted_before = 0, days.start  # All days before this one are counted.
    since: int | None = None
    for time_ns, _, added in sorted(changes, key=itemgetter(0, 1)):
        day = local_day(time_ns, period.zone) if time_ns >= period.start_ns else days.start
        if added and since is None:
            since = day
        elif not added and since is not None:
            # What was removed before the period was not there on its first day.
            until = day + 1 if time_ns >= period.start_ns else days.start
            total += max(0, until - max(since, counted_before))
            counted_before, since = max(until, counted_before), None
    if since is not None:
        total += max(0, days.stop - max(since, counted_before))
    return total
