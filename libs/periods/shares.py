"""Which share of a period a part of it is."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple
from zoneinfo import ZoneInfo

from libs.periods.day_counts import DayCount, count_days

_UNIT = timedelta(microseconds=1)


class ShareBasis(StrEnum):
    """In what time is counted."""

    DAYS = "days"
    """Calendar days of a zone, of which any part counts: the days of 23 and 25 hours count as much as others."""
    SECONDS = "seconds"
    """Elapsed time."""
    DAYS_30_360 = "days_30_360"
    """Days of which every month has 30."""


class Share(NamedTuple):
    """`part` of `whole`, in days or in microseconds."""

    part: int
    whole: int

    @property
    def fraction(self) -> Fraction:
        return Fraction(self.part, self.whole)


class Span(NamedTuple):
    """The instants from `start` up to, not including, `end`, in UTC; unlike a `Period` it may hold none."""

    start: datetime
    end: datetime


def share_of(part: Span, whole: Span, basis: ShareBasis, zone: ZoneInfo) -> Share:
    """How much of `whole` lies in `part`; where the one lies in relation to the other does not matter.

    Parts that are cut at local midnights add up to the whole, and so do any counted in seconds.

    :raises ZeroDivisionError: if the whole has no length
    """
    if basis is ShareBasis.SECONDS:
        share = Share(max(0, (part.end - part.start) // _UNIT), (whole.end - whole.start) // _UNIT)
    else:
        convention = DayCount.CALENDAR_DAYS if basis is ShareBasis.DAYS else DayCount.DAYS_30_360
        share = Share(count_days(*part, zone, convention), count_days(*whole, zone, convention))
    if share.whole <= 0:
        raise ZeroDivisionError(f"a share of nothing: {whole.start.isoformat()} - {whole.end.isoformat()}")
    return share
