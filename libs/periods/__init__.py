"""Half-open periods of time, usage windows, billing periods and report buckets in any IANA time zone."""

from libs.periods.billing_cycle import BillingCycle
from libs.periods.buckets import BucketSize, buckets
from libs.periods.period import WINDOW, Period, is_window_aligned, window_start
from libs.periods.zones import UnknownZone, find_zone, local_midnight

__all__ = [
    "WINDOW",
    "BillingCycle",
    "BucketSize",
    "Period",
    "UnknownZone",
    "buckets",
    "find_zone",
    "is_window_aligned",
    "local_midnight",
    "window_start",
]
