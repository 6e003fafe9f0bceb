"""Parts of periods: exact shares that add up, whatever clocks and calendars do."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.periods import BillingCycle, DayCount, Share, ShareBasis, Span, count_days, local_midnight, share_of
from tests.unit.libs.periods.zones import BERLIN, days, instants, utc, zones

UTC_ZONE = ZoneInfo("UTC")
HOUR = timedelta(hours=1) // timedelta(microseconds=1)


def local(day: str, zone: ZoneInfo) -> datetime:
    return local_midnight(date.fromisoformat(day), zone)


@settings(max_examples=300)
@given(days, st.integers(1, 31), zones, st.lists(st.integers(0, 31), max_size=4), st.sampled_from(ShareBasis))
def test_parts_cut_at_midnights_add_up_to_the_whole(
    starts_on: date, anchor_day: int, zone: ZoneInfo, cuts: list[int], basis: ShareBasis
) -> None:
    first = local_midnight(starts_on, zone)
    if first == local_midnight(starts_on + timedelta(days=1), zone):  # A day that the zone left out.
        return
    whole = BillingCycle(starts_on, anchor_day, zone).period_at_index(1)
    midnights = {local_midnight(whole.start.astimezone(zone).date() + timedelta(days=cut), zone) for cut in cuts}
    edges = sorted({whole.start, whole.end, *(at for at in midnights if whole.start < at < whole.end)})

    shares = [share_of(Span(*part), Span(whole.start, whole.end), basis, zone) for part in pairwise(edges)]

    assert sum(share.fraction for share in shares) == 1
    if basis is not ShareBasis.DAYS_30_360:  # There a 31st is no day.
        assert all(share.part > 0 for share in shares)


@given(instants, st.integers(1, 10**13), st.integers(1, 10**13), zones)
def test_seconds_add_up_wherever_they_are_cut(start: datetime, first: int, second: int, zone: ZoneInfo) -> None:
    cut = start + timedelta(microseconds=first)
    whole = Span(start, cut + timedelta(microseconds=second))

    parts = [share_of(part, whole, ShareBasis.SECONDS, zone) for part in (Span(start, cut), Span(cut, whole.end))]

    assert sum(part.fraction for part in parts) == 1
    assert parts[0].fraction == Fraction(first, first + second)


@pytest.mark.parametrize(
    ("part", "whole", "zone", "basis", "share"),
    [
        pytest.param(
            ("2026-02-15", "2026-03-01"), ("2026-02-01", "2026-03-01"), "UTC", "days", (14, 28), id="february"
        ),
        pytest.param(
            ("2028-02-15", "2028-03-01"), ("2028-02-01", "2028-03-01"), "UTC", "days", (15, 29), id="leap-year"
        ),
        pytest.param(
            ("2026-03-29", "2026-03-30"), ("2026-03-01", "2026-04-01"), "Europe/Berlin", "days", (1, 31), id="23-hours"
        ),
        pytest.param(
            ("2026-03-29", "2026-03-30"),
            ("2026-03-01", "2026-04-01"),
            "Europe/Berlin",
            "seconds",
            (23 * HOUR, (31 * 24 - 1) * HOUR),
            id="23-hours-in-seconds",
        ),
        pytest.param(
            ("2026-10-25", "2026-10-26"),
            ("2026-10-01", "2026-11-01"),
            "Europe/Berlin",
            "seconds",
            (25 * HOUR, (31 * 24 + 1) * HOUR),
            id="25-hours-in-seconds",
        ),
        pytest.param(
            ("2026-05-16", "2026-06-01"), ("2026-05-01", "2026-06-01"), "UTC", "days_30_360", (15, 30), id="30-360"
        ),
        pytest.param(
            ("2011-12-01", "2011-12-30"), ("2011-12-01", "2012-01-01"), "Pacific/Apia", "days", (29, 30), id="no-30th"
        ),
        pytest.param(
            ("2011-12-31", "2012-01-01"), ("2011-12-01", "2012-01-01"), "Pacific/Apia", "days", (1, 30), id="after-it"
        ),
    ],
)
def test_shares(part: tuple[str, str], whole: tuple[str, str], zone: str, basis: str, share: tuple[int, int]) -> None:
    in_zone = ZoneInfo(zone)
    spans = [Span(local(start, in_zone), local(end, in_zone)) for start, end in (part, whole)]

    assert share_of(spans[0], spans[1], ShareBasis(basis), in_zone) == Share(*share)


def test_an_empty_part_is_nothing_of_the_whole_and_nothing_has_no_parts() -> None:
    at, later = utc("2026-03-01T00:00"), utc("2026-04-01T00:00")

    for basis in ShareBasis:
        assert share_of(Span(later, later), Span(at, later), basis, UTC_ZONE).fraction == 0
        assert share_of(Span(later, at), Span(at, later), basis, UTC_ZONE).fraction == 0
        with pytest.raises(ZeroDivisionError):
            share_of(Span(at, later), Span(at, at), basis, UTC_ZONE)


def test_fractions_of_seconds_count() -> None:
    at = utc("2026-03-01T00:00")
    part, whole = Span(at, at + timedelta(microseconds=500_000)), Span(at, at + timedelta(seconds=2))

    assert share_of(part, whole, ShareBasis.SECONDS, UTC_ZONE).fraction == Fraction(1, 4)


class TestDayCounts:
    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [
            pytest.param("2026-03-28T23:00", "2026-03-29T22:00", (1, 1, 2, 1), id="midnight-to-midnight-of-23-hours"),
            pytest.param("2026-03-30T06:00", "2026-03-30T07:00", (1, 0, 1, 0), id="an-hour"),
            pytest.param("2026-03-30T21:59", "2026-03-30T22:01", (2, 1, 1, 0), id="over-midnight-to-the-31st"),
            pytest.param("2026-03-30T10:00", "2026-03-31T10:00", (2, 1, 1, 0), id="a-day-from-noon"),
            pytest.param("2026-02-27T23:00", "2026-02-28T23:00", (1, 1, 2, 3), id="the-last-of-february"),
        ],
    )
    def test_conventions(self, start: str, end: str, expected: tuple[int, int, int, int]) -> None:
        found = tuple(count_days(utc(start), utc(end), BERLIN, convention) for convention in DayCount)

        assert found == expected

    @pytest.mark.parametrize("convention", DayCount)
    def test_a_span_that_is_empty_has_none(self, convention: DayCount) -> None:
        at = utc("2026-03-30T10:00")

        assert count_days(at, at, BERLIN, convention) == 0
        assert count_days(at, at - timedelta(days=3), BERLIN, convention) == 0

    @given(days, st.integers(1, 800), zones)
    def test_calendar_days_are_the_midnights_from_start_to_end(self, first: date, length: int, zone: ZoneInfo) -> None:
        midnights = sorted({local_midnight(first + timedelta(days=index), zone) for index in range(length + 1)})

        assert count_days(midnights[0], midnights[-1], zone) == len(midnights) - 1
