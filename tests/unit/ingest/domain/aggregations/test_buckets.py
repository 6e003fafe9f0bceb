"""Aggregations over buckets of time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.money import to_quotient_scale
from services.ingest.domain.aggregations import AggregationPeriod, BucketGrid, evaluate
from services.ingest.domain.aggregations.buckets import over_buckets
from services.ingest.domain.aggregations.percentiles import percentile
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Aggregation, Meter
from services.ingest.domain.meter_options import WINDOWED, BucketLength, Buckets, EmptyBuckets
from tests.unit.ingest.domain.aggregations.oracle import (
    Event,
    columns,
    events_between,
    expected,
    expected_percentile,
    local_date,
)

MINUTE_NS = 60 * 10**9
# Three local days in Berlin, the middle one with 23 hours; the period begins and ends inside buckets.
BERLIN = ZoneInfo("Europe/Berlin")
START_NS = to_ns(datetime(2026, 3, 28, 11, 7, 30, tzinfo=UTC))
END_NS = to_ns(datetime(2026, 3, 30, 11, 2, 0, tzinfo=UTC)) + 1
PERIOD = AggregationPeriod(START_NS, END_NS, BERLIN)
SOME = (BucketLength.FIVE_MINUTES, BucketLength.HOUR, BucketLength.DAY)


def bucketed(aggregation: Aggregation, buckets: Buckets, percent: Decimal | None = None) -> Meter:
    expression = "" if buckets.aggregation is Aggregation.COUNT else "v"
    return Meter("m", "", "t", aggregation, expression, buckets=buckets, percentile=percent)


def start_of(length: BucketLength, time_ns: int) -> object:
    """What two times have in common exactly if they are in one bucket, by Berlin's clocks."""
    if length is BucketLength.DAY:
        return local_date(time_ns, BERLIN)
    return time_ns // ({BucketLength.FIVE_MINUTES: 5, BucketLength.HOUR: 60}[length] * MINUTE_NS)


class TestOverBuckets:
    @pytest.mark.parametrize("length", SOME)
    @pytest.mark.parametrize("inner", [*sorted(WINDOWED), Aggregation.UNIQUE_COUNT])
    @given(events=events_between(START_NS, END_NS), data=st.data())
    def test_agrees_with_fractions(
        self, inner: Aggregation, length: BucketLength, events: list[Event], data: st.DataObject
    ) -> None:
        skip = data.draw(st.booleans())
        by_bucket: dict[object, list[Event]] = {}
        for event in events:
            by_bucket.setdefault(start_of(length, event.time_ns), []).append(event)
        values = [value for part in by_bucket.values() if (value := expected(inner, part)) is not None]
        count = {BucketLength.FIVE_MINUTES: 576, BucketLength.HOUR: 49, BucketLength.DAY: 3}[length]
        everything = values if skip else values + [Fraction(0)] * (count - len(values))
        options = Buckets(length, inner, "Europe/Berlin", EmptyBuckets.SKIP if skip else EmptyBuckets.ZERO)
        shuffled = columns(data.draw(st.permutations(events)))

        def found(aggregation: Aggregation, percent: Decimal | None = None) -> Decimal | None:
            return evaluate(bucketed(aggregation, options, percent), shuffled, PERIOD)

        if not values:
            assert found(Aggregation.MAX) == 0
            return
        assert found(Aggregation.SUM) == to_quotient_scale(sum(values, Fraction(0)))
        assert found(Aggregation.MAX) == to_quotient_scale(max(everything))
        assert found(Aggregation.MIN) == to_quotient_scale(min(everything))
        assert found(Aggregation.AVG) == to_quotient_scale(sum(values, Fraction(0)) / len(everything))
        for percent in map(Decimal, ("10", "95", "100")):
            wanted = expected_percentile(everything, percent)
            assert wanted is not None
            assert found(Aggregation.PERCENTILE, percent) == to_quotient_scale(wanted)

    def test_ninety_five_five_leaves_out_the_busiest_36_hours_of_a_month(self) -> None:
        start_ns = to_ns(datetime(2026, 6, 1, tzinfo=UTC))
        june = AggregationPeriod(start_ns, to_ns(datetime(2026, 7, 1, tzinfo=UTC)))
        burst = 36 * 12
        events = [Event(start_ns + slot * 5 * MINUTE_NS, slot, Decimal(900)) for slot in range(burst)]
        usual = [Event(start_ns + slot * 5 * MINUTE_NS, slot, Decimal(20)) for slot in range(burst, 8640)]
        meter = bucketed(
            Aggregation.PERCENTILE, Buckets(BucketLength.FIVE_MINUTES, Aggregation.MAX), percent=Decimal(95)
        )

        assert evaluate(meter, columns(events), june) == 0
        assert evaluate(meter, columns(events + usual), june) == 20
        one_more = replace(usual[0], value=Decimal(800))
        assert evaluate(meter, columns([*events, one_more, *usual[1:]]), june) == 800

    def test_an_hour_that_comes_twice_is_two_buckets(self) -> None:
        start_ns = to_ns(datetime(2026, 10, 24, 22, tzinfo=UTC))
        day = AggregationPeriod(start_ns, start_ns + 25 * 60 * MINUTE_NS, BERLIN)
        meter = bucketed(Aggregation.SUM, Buckets(BucketLength.HOUR, Aggregation.MAX, "Europe/Berlin"))
        twice = [Event(start_ns + hour * 60 * MINUTE_NS, hour, Decimal(3)) for hour in (2, 3)]

        assert BucketGrid.of(day, BucketLength.HOUR, BERLIN).count == 25
        assert evaluate(meter, columns(twice), day) == 6

    @pytest.mark.parametrize("aggregation", [Aggregation.COUNT, Aggregation.LATEST, Aggregation.PERCENTILE])
    def test_what_does_not_go_over_buckets_is_refused(self, aggregation: Aggregation) -> None:
        options = Buckets(BucketLength.HOUR, Aggregation.MAX)

        with pytest.raises(ValueError, match="does not go over buckets"):
            over_buckets(aggregation, options, columns([Event(START_NS, 0)]), PERIOD)


class TestBucketGrid:
    @pytest.mark.parametrize("zone_name", ["UTC", "Europe/Berlin", "Asia/Kolkata", "Pacific/Chatham"])
    @pytest.mark.parametrize("length", sorted(BucketLength))
    @given(offset=st.integers(0, END_NS - START_NS - 1))
    def test_every_time_lies_in_its_bucket(self, length: BucketLength, zone_name: str, offset: int) -> None:
        grid = BucketGrid.of(PERIOD, length, ZoneInfo(zone_name))

        (index,) = grid.indexes([START_NS + offset])

        start_ns, end_ns = grid.bounds(index)
        assert start_ns <= START_NS + offset < end_ns
        assert 0 <= index < grid.count

    @pytest.mark.parametrize("zone_name", ["UTC", "Europe/Berlin", "Asia/Kolkata", "Pacific/Chatham"])
    @pytest.mark.parametrize("length", sorted(BucketLength))
    def test_the_buckets_are_the_period(self, length: BucketLength, zone_name: str) -> None:
        grid = BucketGrid.of(PERIOD, length, ZoneInfo(zone_name))
        bounds = [grid.bounds(index) for index in range(grid.count)]

        assert (bounds[0][0], bounds[-1][1]) == (START_NS, END_NS)
        assert all(left[1] == right[0] for left, right in pairwise(bounds))
        assert all(start_ns < end_ns for start_ns, end_ns in bounds)


class TestPercentile:
    @pytest.mark.parametrize(
        ("percent", "value"), [("5", 15), ("20", 15), ("20.1", 20), ("40", 20), ("40.1", 35), ("50", 35), ("100", 50)]
    )
    def test_nearest_rank(self, percent: str, value: int) -> None:
        values = [Decimal(number) for number in (50, 20, 40, 15, 35)]

        assert percentile(values, Decimal(percent)) == value

    @given(st.lists(st.integers(-5, 5), max_size=12), st.integers(0, 6), st.sampled_from(["0.5", "50", "95", "100"]))
    def test_counted_zeros_are_zeros(self, numbers: list[int], zeros: int, percent: str) -> None:
        values = [Decimal(number) for number in numbers]

        assert percentile(values, Decimal(percent), zeros) == percentile(
            values + [Decimal(0)] * zeros, Decimal(percent)
        )

    @pytest.mark.parametrize("percent", ["0", "-1", "100.001"])
    def test_out_of_range(self, percent: str) -> None:
        with pytest.raises(ValueError, match="above 0 and at most 100"):
            percentile([Decimal(1)], Decimal(percent))

    def test_of_nothing(self) -> None:
        assert percentile([], Decimal(50)) is None
