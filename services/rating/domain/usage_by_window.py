"""Usage of a billing period by local hours, days or times of the week.

Zones are read here, from one database of zones, and storage is given offsets: two databases that differ could otherwise
disagree on which hours a day has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from libs.money import exact
from libs.periods import WINDOW, Period, find_zone
from services.rating.domain.usage import MeterUsage

HOUR_S, DAY_S, WEEK_MINUTES = 3_600, 86_400, 10_080
MONDAY_S = 3 * DAY_S
"""1970 began on a Thursday; so many seconds before, a week began."""

_ZERO = Decimal(0)
_DAY = timedelta(days=1)


class WindowCut(StrEnum):
    """Where the usage of a billing period is cut, by the customer's clock; `place` names a piece."""

    HOUR = "hour"
    """At full hours, and where clocks change. `place` is the first second of the piece since 1970."""
    DAY = "day"
    """At midnight. `place` is the number of the local day since 1970."""
    WEEK_TIME = "week_time"
    """By quarters of an hour, alike ones of all weeks together. `place` is the minute of the local week from Monday."""


class MeterCut(NamedTuple):
    """Usage that a price needs: of a meter, cut in an IANA zone."""

    meter_id: str
    cut: WindowCut
    time_zone: str


class WindowQuantity(NamedTuple):
    """The quantity of one piece; pieces without usage are left out."""

    place: int
    quantity: Decimal


class ZoneSpan(NamedTuple):
    """A time in which a zone's offset does not change."""

    start: datetime
    end: datetime
    offset_s: int


class WindowScope(NamedTuple):
    """The usage of one customer in a billing period, cut."""

    tenant_id: str
    customer_id: str
    meter_id: str
    cut: WindowCut
    spans: tuple[ZoneSpan, ...]


class WindowedUsage(NamedTuple):
    """The usage of a billing period by windows, of the cuts that its prices need."""

    period: Period
    time_zone: str
    by_cut: Mapping[MeterCut, Sequence[WindowQuantity]]

    def of(self, cut: MeterCut) -> Sequence[WindowQuantity]:
        """Return the quantities of a cut.

        :raises UnknownZone: if its zone is not known here
        :raises ValueError: if they were not read
        """
        if cut not in self.by_cut:
            find_zone(cut.time_zone)
            raise ValueError(f"the usage of {cut.meter_id} by {cut.cut} in {cut.time_zone} is not known")
        return self.by_cut[cut]


# A chunk has many billing periods of few months and zones.
@lru_cache(maxsize=1024)
def zone_spans(period: Period, time_zone: str) -> tuple[ZoneSpan, ...]:
    """The period, cut at the usage windows before which a zone's clocks were changed.

    :raises UnknownZone: if there is no such zone
    """
    zone = find_zone(time_zone)
    cuts = [period.start, *_changes(period, zone), period.end]
    return tuple(ZoneSpan(start, end, _offset_s(start, zone)) for start, end in pairwise(cuts))


@lru_cache(maxsize=64)
def window_starts(period: Period, cut: WindowCut, time_zone: str) -> Mapping[int, datetime]:
    """The first instants of all hours or days of a period, by their places and in their order.

    :raises UnknownZone: if there is no such zone
    """
    starts: dict[int, datetime] = {}
    for span in zone_spans(period, time_zone):
        at = span.start
        while at < span.end:
            starts.setdefault(_place(at, cut, span), at)
            at = _next_start(at, cut, span)
    return starts


def most_windows(period: Period, cut: WindowCut) -> int:
    """About how many pieces a period has, at least if no clocks are changed in it."""
    length_s = int((period.end - period.start).total_seconds())
    if cut is WindowCut.WEEK_TIME:
        return min(length_s * 4 // HOUR_S, WEEK_MINUTES // 15)
    return length_s // (HOUR_S if cut is WindowCut.HOUR else DAY_S) + 1


def place_at(at: datetime, period: Period, cut: WindowCut, time_zone: str) -> int:
    """The place of an instant of the period.

    :raises UnknownZone: if there is no such zone
    """
    return next(_place(at, cut, span) for span in zone_spans(period, time_zone) if span.start <= at < span.end)


def differing_cuts(
    usage: Mapping[str, MeterUsage], by_cut: Mapping[MeterCut, Collection[WindowQuantity]]
) -> list[MeterCut]:
    """Those cuts whose quantities do not add up to the quantity of the billing period."""
    with exact():
        return [
            cut
            for cut, quantities in sorted(by_cut.items(), key=lambda item: item[0])
            if sum((quantity for _, quantity in quantities), _ZERO)
            != (usage[cut.meter_id].digest.value if cut.meter_id in usage else _ZERO)
        ]


def _place(at: datetime, cut: WindowCut, span: ZoneSpan) -> int:
    local_s = int(at.timestamp()) + span.offset_s
    if cut is WindowCut.HOUR:
        return max(int(span.start.timestamp()), local_s // HOUR_S * HOUR_S - span.offset_s)
    if cut is WindowCut.DAY:
        return local_s // DAY_S
    return (local_s + MONDAY_S) // 60 % WEEK_MINUTES


def _next_start(at: datetime, cut: WindowCut, span: ZoneSpan) -> datetime:
    size = HOUR_S if cut is WindowCut.HOUR else DAY_S
    local_s = int(at.timestamp()) + span.offset_s
    return at + timedelta(seconds=size - local_s % size)


def _changes(period: Period, zone: ZoneInfo) -> Iterator[datetime]:
    """No zone changes its offset twice within a day."""
    before = period.start
    while before < period.end:
        after = min(before + _DAY, period.end)
        if _offset_s(before, zone) != _offset_s(after, zone) and (change := _change(before, after, zone)) < period.end:
            yield change
        before = after


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The first usage window that begins with another offset."""
    low, high, offset_s = 0, -((before - after) // WINDOW), _offset_s(before, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_s(before + middle * WINDOW, zone) == offset_s:
            low = middle
        else:
            high = middle
    return before + high * WINDOW


def _offset_s(at: datetime, zone: ZoneInfo) -> int:
    offset = at.astimezone(UTC).astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())
