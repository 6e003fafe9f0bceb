"""Half-open periods of time, usage windows, billing periods and report buckets in any IANA time zone."""

from libs.periods.anchors import AnchorSeries
from libs.periods.billing_cycle import BillingCycle
from libs.periods.billing_days import (
    BilledWhen,
    BillingDays,
    DaysOf,
    DaySpan,
    LeadingBase,
    period_in_advance,
    period_in_arrears,
)
from libs.periods.buckets import BucketSize, buckets
from libs.periods.day_counts import DayCount, count_days
from libs.periods.intervals import Interval, add_months
from libs.periods.next_dates import NextDate, billing_periods, next_billing_date
from libs.periods.period import WINDOW, Period, is_window_aligned, window_start
from libs.periods.shares import Share, ShareBasis, Span, share_of
from libs.periods.zones import UnknownZone, find_zone, local_midnight

__all__ = [
    "WINDOW",
    "AnchorSeries",
    "BilledWhen",
    "BillingCycle",
    "BillingDays",
    "BucketSize",
    "DayCount",
    "DaySpan",
    "DaysOf",
    "Interval",
    "LeadingBase",
    "NextDate",
    "Period",
    "Share",
    "ShareBasis",
    "Span",
    "UnknownZone",
    "add_months",
    "billing_periods",
    "buckets",
    "count_days",
    "find_zone",
    "is_window_aligned",
    "local_midnight",
    "next_billing_date",
    "period_in_advance",
    "period_in_arrears",
    "share_of",
    "window_start",
]
