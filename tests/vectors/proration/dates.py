"""Days in a span, next dates, and periods."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, TypeVar

from libs.money import RoundingFunction, exact, round_exact
from libs.periods import (
    AnchorSeries,
    BilledWhen,
    BillingDays,
    DayCount,
    DaysOf,
    DaySpan,
    Interval,
    LeadingBase,
    NextDate,
    Period,
    Share,
    add_months,
    count_days,
    find_zone,
    period_in_advance,
    period_in_arrears,
)
from libs.periods import billing_periods as billing_periods_of
from libs.periods import next_billing_date as next_date
from tests.vectors.contradictions import unsupported
from tests.vectors.proration.amounts import instant

Given = Mapping[str, Any]
Result = dict[str, Any]
Option = TypeVar("Option", bound=StrEnum)


def day_count(vector: Given) -> Result:
    given = vector["input"]
    zone = find_zone(given["timezone"])
    convention = option(DayCount, vector, "day_count", DayCount.CALENDAR_DAYS)
    return {"days": count_days(instant(given["start"]), instant(given["end"]), zone, convention)}


def next_billing_date(vector: Given) -> Result:
    given = vector["input"]
    ends_at = instant(given["subscription_end"]) if given.get("subscription_end") else None
    found = next_date(instant(given["current_period_start"]), _series(given), _next_date(vector), ends_at)
    return {"next": _text(found)}


def billing_periods(vector: Given) -> Result:
    given = vector["input"]
    span = Period(instant(given["start"]), instant(given["end"]))
    found = list(billing_periods_of(span, _series(given), _next_date(vector)))
    ends = [_text(period.end) for period in found[:2]]
    return {
        "count": len(found),
        "first_end": ends[0] if ends else None,
        "second_end": ends[1] if len(ends) > 1 else None,
    }


def add_month(vector: Given) -> Result:
    given = vector["input"]
    return {"date": str(add_months(date.fromisoformat(given["date"]), given["months"], given["anchor_day"]))}


def month_starts(vector: Given) -> Result:
    given = vector["input"]
    series = AnchorSeries(instant(given["anchor"]), Interval.MONTH, find_zone(given["timezone"]))
    span = Period(instant(given["start"]), instant(given["end"]))
    return {"starts": [_text(start) for start in series.starts(span)]}


def period_at(vector: Given) -> Result:
    given = vector["input"]
    series = _series(given)
    index = series.index_at(instant(given["at"]))
    if given.get("timing") == "arrears":
        index -= 1
    period = series.period_at_index(index)
    return {"start": _text(period.start), "end": _text(period.end)}


def advance_period(vector: Given) -> Result:
    given = vector["input"]
    day = date.fromisoformat(given["invoice_date"])
    found = period_in_advance(day, Interval(given["interval"]), given["billing_day"], first=given["first_period"])
    return _days(found)


def arrears_period(vector: Given) -> Result:
    given = vector["input"]
    day, start = date.fromisoformat(given["invoice_date"]), date.fromisoformat(given["service_start"])
    return _days(period_in_arrears(day, Interval(given["interval"]), given["billing_day"], start))


def elapsed_cycles(vector: Given) -> Result:
    given = vector["input"]
    return {"cycles": _billing_days(given).completed(date.fromisoformat(given["target"]))}


def billing_cycles(vector: Given) -> Result:
    given = vector["input"]
    parts = list(
        _billing_days(given).parts_billed(
            date.fromisoformat(given["target"]),
            date.fromisoformat(given["end"]) if given["end"] else None,
            BilledWhen(given["timing"]),
            option(LeadingBase, vector, "leading_base", LeadingBase.ANCHOR_SERIES),
        )
    )
    digits = int(vector["convention"].get("factor_digits", 9))
    with exact():
        cycles = sum(
            round_exact(Share(*part).fraction, RoundingFunction.ROUND, digits) for part in _full_ones_together(parts)
        )
    return {"fractions": [f"{part.days}/{part.whole}" for part in _full_ones_together(parts)], "cycles": cycles}


def _full_ones_together(parts: list[DaysOf]) -> list[DaysOf]:
    """As the vectors write them: whole intervals in a row are their number."""
    written: list[DaysOf] = []
    for part in parts:
        if part.days != part.whole:
            written.append(part)
        elif written and written[-1].whole == 1:
            written[-1] = DaysOf(written[-1].days + 1, 1)
        else:
            written.append(DaysOf(1, 1))
    return written


def option(choices: type[Option], vector: Given, name: str, default: Option) -> Option:
    named = vector["convention"].get(name, default)
    if named not in {choice.value for choice in choices}:
        unsupported("no_such_option", f"{name} {named}")
    return choices(named)


def _next_date(vector: Given) -> NextDate:
    return option(NextDate, vector, "next_date", NextDate.ANCHOR_SERIES)


def _series(given: Given) -> AnchorSeries:
    zone = find_zone(given["timezone"])
    return AnchorSeries(instant(given["anchor"]), Interval(given["interval"]), zone, given.get("count", 1))


def _billing_days(given: Given) -> BillingDays:
    return BillingDays(date.fromisoformat(given["start"]), Interval(given["interval"]), given["billing_day"])


def _days(span: DaySpan | None) -> Result:
    return {"start": str(span.start) if span else None, "end": str(span.end) if span else None}


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
