"""Hours, days and times of the week of a billing period, by the customer's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.periods import WINDOW, BucketSize, Period, UnknownZone, buckets
from services.rating.domain.usage import MeterUsage, UsageDigest
from services.rating.domain.usage_by_window import (
    MeterCut,
    WindowCut,
    WindowedUsage,
    WindowQuantity,
    differing_cuts,
    place_at,
    window_starts,
    zone_spans,
)

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "America/Havana",
    "Africa/Casablanca",
    "America/Santiago",
]
FIRST = datetime(2012, 1, 1, tzinfo=UTC)
MINUTES_OF_DAY = 24 * 60


@st.composite
def periods(draw: st.DrawFn) -> Period:
    """Up to 40 days, aligned to usage windows."""
    start = FIRST + draw(st.integers(0, 14 * 365 * 96)) * WINDOW
    return Period(start, start + draw(st.integers(1, 40 * 96)) * WINDOW)


class TestWindowStarts:
    @given(periods(), st.sampled_from(ZONES), st.sampled_from([WindowCut.HOUR, WindowCut.DAY]))
    def test_are_the_beginnings_of_the_buckets_of_reports(self, period: Period, zone: str, cut: WindowCut) -> None:
        cuts = buckets(period, BucketSize(cut.value), ZoneInfo(zone))
        assert list(window_starts(period, cut, zone).values()) == [bucket.start for bucket in cuts]

    @given(periods(), st.sampled_from(ZONES), st.sampled_from([WindowCut.HOUR, WindowCut.DAY]), st.data())
    def test_an_instant_lies_in_the_last_one_before_it(
        self, period: Period, zone: str, cut: WindowCut, data: st.DataObject
    ) -> None:
        at = period.start + data.draw(st.integers(0, (period.end - period.start) // WINDOW - 1)) * WINDOW
        starts = window_starts(period, cut, zone)
        assert starts[place_at(at, period, cut, zone)] == max(start for start in starts.values() if start <= at)

    @pytest.mark.parametrize(
        ("start", "hours"),
        [
            pytest.param(datetime(2026, 3, 28, 23, tzinfo=UTC), 23, id="forward"),
            pytest.param(datetime(2026, 10, 24, 22, tzinfo=UTC), 25, id="back"),
        ],
    )
    def test_a_day_on_which_clocks_change_is_one_day(self, start: datetime, hours: int) -> None:
        day = Period(start, start + timedelta(hours=hours))
        assert len(window_starts(day, WindowCut.HOUR, "Europe/Berlin")) == hours
        assert len(window_starts(day, WindowCut.DAY, "Europe/Berlin")) == 1

    def test_the_billing_period_cuts_the_first_and_the_last(self) -> None:
        period = Period(datetime(2026, 1, 1, 0, 30, tzinfo=UTC), datetime(2026, 1, 1, 3, 15, tzinfo=UTC))
        found = list(window_starts(period, WindowCut.HOUR, "UTC").values())
        assert [(start.hour, start.minute) for start in found] == [(0, 30), (1, 0), (2, 0), (3, 0)]


class TestZones:
    @given(periods(), st.sampled_from(ZONES))
    def test_spans_have_one_offset_and_add_up(self, period: Period, zone: str) -> None:
        spans = zone_spans(period, zone)
        assert (spans[0].start, spans[-1].end) == (period.start, period.end)
        assert [span.end for span in spans[:-1]] == [span.start for span in spans[1:]]
        for span in spans:
            for at in (span.start, span.start + (span.end - span.start) // WINDOW // 2 * WINDOW, span.end - WINDOW):
                assert at.astimezone(ZoneInfo(zone)).utcoffset() == timedelta(seconds=span.offset_s)

    @given(periods(), st.sampled_from(ZONES))
    def test_a_place_in_the_week_is_what_clocks_show(self, period: Period, zone: str) -> None:
        local = period.start.astimezone(ZoneInfo(zone))
        shown = local.weekday() * MINUTES_OF_DAY + local.hour * 60 + local.minute
        assert place_at(period.start, period, WindowCut.WEEK_TIME, zone) == shown

    def test_unknown_ones_are_an_error(self) -> None:
        period = Period(FIRST, FIRST + WINDOW)
        with pytest.raises(UnknownZone):
            zone_spans(period, "Mars/Olympus")
        with pytest.raises(UnknownZone):
            WindowedUsage(period, "UTC", {}).of(MeterCut("m", WindowCut.HOUR, "Mars/Olympus"))


def test_usage_that_was_not_read_is_no_zero() -> None:
    with pytest.raises(ValueError, match="not known"):
        WindowedUsage(Period(FIRST, FIRST + WINDOW), "UTC", {}).of(MeterCut("m", WindowCut.HOUR, "UTC"))


def test_cuts_that_do_not_add_up_are_found() -> None:
    usage = {name: MeterUsage(UsageDigest(1, Decimal(3), 1, 1), "") for name in ("whole", "more", "less")}
    by_cut = {
        MeterCut("whole", WindowCut.HOUR, "UTC"): [WindowQuantity(1, Decimal(1)), WindowQuantity(2, Decimal(2))],
        MeterCut("more", WindowCut.DAY, "UTC"): [WindowQuantity(1, Decimal(4))],
        MeterCut("less", WindowCut.HOUR, "UTC"): [],
        MeterCut("unused", WindowCut.HOUR, "UTC"): [],
        MeterCut("gone", WindowCut.HOUR, "UTC"): [WindowQuantity(1, Decimal(1))],
    }
    assert [cut.meter_id for cut in differing_cuts(usage, by_cut)] == ["gone", "less", "more"]
