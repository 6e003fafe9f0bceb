"""What the quantity of a billing period will be at its end, estimated from its days so far."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from enum import StrEnum
from typing import NamedTuple

from libs.money import exact
from libs.periods import Period
from services.rating.domain.usage import ExplainedUsage

INTERVAL_PERCENT = 80
_QUANTILE = Decimal("1.2816")
"""Of the standard normal distribution: 80 per cent lie between it and its negative."""
_FEWEST_DAYS = 2
_ESTIMATE = Context(prec=100, rounding=ROUND_HALF_EVEN)
"""Estimates are not charged: here digits may be dropped."""
_SCALE = Decimal("0.000001")
_ZERO = Decimal(0)
_DAY, _MICROSECOND = timedelta(days=1), timedelta(microseconds=1)


class ForecastMethod(StrEnum):
    """How a quantity was estimated."""

    DAILY_MEAN = "daily_mean"
    """What was used so far, and for the rest the mean of the whole UTC days that are over. The interval comes from how
    much these days differ, as if further ones were drawn from the same."""
    RATE_SO_FAR = "rate_so_far"
    """Fewer than two whole days are over: the rest goes on as the period did so far. Without an interval."""
    AS_NOW = "as_now"
    """Nothing is estimated: the period is over, or has not begun, or the meter's days do not add up."""


class Forecast(NamedTuple):
    """A quantity at the end of the period; `low` and `high` hold it in 80 of 100 cases if days go on as they did, and
    are `expected` where no interval can be told."""

    method: ForecastMethod
    so_far: Decimal
    expected: Decimal
    low: Decimal
    high: Decimal


def as_now(quantity: Decimal) -> Forecast:
    """What is not estimated stays as it is."""
    return Forecast(ForecastMethod.AS_NOW, quantity, quantity, quantity, quantity)


def forecast(period: Period, days: Sequence[ExplainedUsage], as_of: datetime) -> Forecast:
    """Estimate the quantity at the end of a billing period.

    :param days: the usage by UTC day, cut to the period; days without usage may be left out
    :param as_of: everything that was used before it is in `days`
    """
    with exact():
        so_far = sum((day.quantity or _ZERO for day in days), _ZERO)
    if not period.start < as_of < period.end:
        return as_now(so_far)
    whole = _whole_days(period, days, as_of)
    with localcontext(_ESTIMATE):
        gone, left = _in_days(as_of - period.start), _in_days(period.end - as_of)
        if len(whole) < _FEWEST_DAYS:
            expected = (so_far + so_far / gone * left).quantize(_SCALE)
            return Forecast(ForecastMethod.RATE_SO_FAR, so_far, expected, expected, expected)
        count = Decimal(len(whole))
        mean = sum(whole, _ZERO) / count
        spread = sum(((day - mean) ** 2 for day in whole), _ZERO) / (count - 1)
        # That of the days to come, and that of the mean they are expected to have.
        margin = _QUANTILE * (spread * left * (1 + left / count)).sqrt()
        expected = so_far + mean * left
        low, high = expected - margin, expected + margin
        if min(whole) >= 0:
            low = max(low, so_far)  # What never fell is not expected to.
        return Forecast(ForecastMethod.DAILY_MEAN, so_far, *(item.quantize(_SCALE) for item in (expected, low, high)))


def scaled(part: Decimal, quantity: Decimal, so_far: Decimal) -> Decimal:
    """What a part of the usage so far becomes when the whole does; nothing grows from nothing."""
    if quantity == so_far or not so_far:
        return part
    with localcontext(_ESTIMATE):
        return (part * quantity / so_far).quantize(_SCALE)


def _whole_days(period: Period, days: Sequence[ExplainedUsage], as_of: datetime) -> list[Decimal]:
    """The quantities of the UTC days that lie in the period and are over, those without usage too."""
    used = {day.period.start: day.quantity or _ZERO for day in days}
    midnight = datetime.combine(period.start.astimezone(UTC).date(), time(), UTC)
    if midnight < period.start:
        midnight += _DAY
    found: list[Decimal] = []
    while midnight + _DAY <= as_of:
        found.append(used.get(midnight, _ZERO))
        midnight += _DAY
    return found


def _in_days(span: timedelta) -> Decimal:
    return Decimal(span // _MICROSECOND) / Decimal(_DAY // _MICROSECOND)
