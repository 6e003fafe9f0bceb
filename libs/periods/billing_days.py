"""Billing on a day of the month, in local days: short first periods, and what is billed by a date.

Ends are exclusive. In months too short for the billing day it is the last one, and later periods return to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from itertools import count
from typing import NamedTuple

from libs.periods.intervals import Interval, add_intervals, add_months, anchor_in


class LeadingBase(StrEnum):
    """Against which interval a period that is short at its beginning is measured."""

    ANCHOR_SERIES = "anchor_series"
    """The default: the one between two billing dates in which it lies."""
    FIRST_BILLING_DATE_MINUS_ONE_INTERVAL = "first_billing_date_minus_one_interval"
    """As long as from the same day of the month: before the 28th of February that is the 28th of January, though the
    billing day is the 31st."""


class BilledWhen(StrEnum):
    """When the fee of a period is due."""

    ADVANCE = "advance"
    """When it starts."""
    ARREARS = "arrears"
    """When it has ended."""


class DaySpan(NamedTuple):
    """Local days from `start` up to, not including, `end`."""

    start: date
    end: date

    @property
    def days(self) -> int:
        return (self.end - self.start).days


class DaysOf(NamedTuple):
    """`days` of an interval of `whole` days."""

    days: int
    whole: int


@dataclass(frozen=True, slots=True)
class BillingDays:
    """Periods from `starts_on`, cut on the billing day (1-31); the interval is one of months.

    The first period ends on the billing day of the month in which it starts if that is still to come, else one
    interval later.
    """

    starts_on: date
    interval: Interval
    billing_day: int

    def __post_init__(self) -> None:
        if not self.interval.months:
            raise ValueError(f"a {self.interval} has no day of the month")

    @property
    def first_billing_date(self) -> date:
        """The first billing date on or after the start."""
        this_month = anchor_in(self.starts_on.year, self.starts_on.month, self.billing_day)
        return this_month if this_month >= self.starts_on else self._billing_date(this_month, 1)

    def periods(self) -> Iterator[DaySpan]:
        """Without end; the first one is short if it does not start on the billing day."""
        first = self.first_billing_date
        if self.starts_on < first:
            yield DaySpan(self.starts_on, first)
        for index in count():
            yield DaySpan(self._billing_date(first, index), self._billing_date(first, index + 1))

    def completed(self, by: date) -> int:
        """How many periods have ended by a date."""
        for ended, period in enumerate(self.periods()):
            if period.end > by:
                return ended
        raise AssertionError("periods have no end")

    def parts_billed(
        self,
        target: date,
        ends_on: date | None,
        when: BilledWhen = BilledWhen.ADVANCE,
        leading: LeadingBase = LeadingBase.ANCHOR_SERIES,
    ) -> Iterator[DaysOf]:
        """What is billed by a target date: the days of each period of which interval, cut where the subscription ends.

        In advance that is every period that has started by then, in arrears every one that has ended.
        """
        for index, period in enumerate(self.periods()):
            cut = period if ends_on is None else DaySpan(period.start, min(period.end, ends_on))
            due_on = cut.start if when is BilledWhen.ADVANCE else cut.end
            if cut.days <= 0 or due_on > target:
                return
            short = index == 0 and period.start < self.first_billing_date
            yield DaysOf(cut.days, self._whole(period, leading).days if short else period.days)

    def _whole(self, period: DaySpan, leading: LeadingBase) -> DaySpan:
        day = period.end.day if leading is LeadingBase.FIRST_BILLING_DATE_MINUS_ONE_INTERVAL else self.billing_day
        return DaySpan(add_months(period.end, -self.interval.months, day), period.end)

    def _billing_date(self, from_day: date, intervals: int) -> date:
        return add_intervals(from_day, self.interval, intervals, self.billing_day)


def period_in_advance(invoice_date: date, interval: Interval, billing_day: int, *, first: bool) -> DaySpan:
    """What is billed on a date for the time that follows it; only a first period can be short."""
    if first:
        return next(BillingDays(invoice_date, interval, billing_day).periods())
    return DaySpan(invoice_date, add_intervals(invoice_date, interval, 1, billing_day))


def period_in_arrears(invoice_date: date, interval: Interval, billing_day: int, service_start: date) -> DaySpan | None:
    """What is billed on a date for the time before it, None if the service started no earlier than that."""
    start = max(service_start, add_intervals(invoice_date, interval, -1, billing_day))
    return DaySpan(start, invoice_date) if start < invoice_date else None
