"""Quantities of periods, exactly, from events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.money import RoundingFunction, plain, to_quotient_scale
from libs.periods import BucketSize, Period, buckets, local_midnight
from services.ingest.domain.aggregations import AggregationPeriod, EventColumns, evaluate
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Aggregation, Meter
from services.ingest.domain.meter_options import WINDOWED, EmptyResult, LevelUnit, Rounding
from tests.unit.ingest.domain.aggregations.oracle import (
    Event,
    columns,
    events_between,
    expected,
    expected_days,
    expected_percentile,
    expected_weighted,
)

HOUR_NS = 3_600 * 10**9
START_NS = to_ns(datetime(2026, 3, 1, tzinfo=UTC))
END_NS = to_ns(datetime(2026, 4, 1, tzinfo=UTC))
DAYS_NS = (to_ns(datetime(2026, 3, 28, 7, 20, tzinfo=UTC)), to_ns(datetime(2026, 3, 31, 2, 0, tzinfo=UTC)))
MARCH = AggregationPeriod(START_NS, END_NS)

in_march = events_between(START_NS, END_NS)
before_march = events_between(START_NS - 40 * 24 * HOUR_NS, START_NS, max_size=6)
ZONES = sorted(available_timezones() - {"localtime", "Factory"})


def meter(aggregation: Aggregation) -> Meter:
    return Meter("m", "", "t", aggregation, "" if aggregation is Aggregation.COUNT else "v")


def after(events: list[Event], carried: list[Event]) -> list[Event]:
    """Events recorded after those that are carried over."""
    return [replace(event, position=event.position + len(carried)) for event in events]


def quotient(exact: Fraction | None) -> Decimal:
    return Decimal(0) if exact is None else to_quotient_scale(exact)


class TestAgainstFractions:
    @pytest.mark.parametrize("aggregation", [*sorted(WINDOWED), Aggregation.UNIQUE_COUNT])
    @given(events=in_march, data=st.data())
    def test_plain_aggregations(self, aggregation: Aggregation, events: list[Event], data: st.DataObject) -> None:
        shuffled = data.draw(st.permutations(events))

        assert evaluate(meter(aggregation), columns(shuffled), MARCH) == quotient(expected(aggregation, events))

    @pytest.mark.parametrize("aggregation", [*sorted(WINDOWED), Aggregation.UNIQUE_COUNT])
    @given(events=in_march, carried=before_march)
    def test_carried_over_events_act_as_if_they_were_inside(
        self, aggregation: Aggregation, events: list[Event], carried: list[Event]
    ) -> None:
        events = after(events, carried)
        carrying = replace(meter(aggregation), carry_over=True)

        whole = evaluate(carrying, columns(events), MARCH, carried=columns(carried))
        assert whole == quotient(expected(aggregation, [*carried, *events]))
        without = evaluate(meter(aggregation), columns(events), MARCH, carried=columns(carried))
        assert without == quotient(expected(aggregation, events))

    @given(in_march, before_march, st.integers(-500, 500), st.data())
    def test_weighted_sum(self, events: list[Event], carried: list[Event], initial: int, data: st.DataObject) -> None:
        level = replace(meter(Aggregation.WEIGHTED_SUM), carry_over=True)
        average = expected_weighted([*carried, *events], START_NS, END_NS, Decimal(initial))
        given_events = columns(data.draw(st.permutations(events)))

        def found(unit: LevelUnit) -> Decimal | None:
            asked = replace(level, level_unit=unit)
            return evaluate(asked, given_events, MARCH, carried=columns(carried), initial_value=Decimal(initial))

        assert found(LevelUnit.PERIOD) == to_quotient_scale(average)
        assert found(LevelUnit.HOUR) == to_quotient_scale(average * (END_NS - START_NS) / HOUR_NS)
        assert found(LevelUnit.SECOND) == to_quotient_scale(average * (END_NS - START_NS) / 10**9)
        assert found(LevelUnit.DAY) == to_quotient_scale(average * (END_NS - START_NS) / HOUR_NS / 24)

    @given(in_march, st.sampled_from(["0.1", "5", "50", "95", "99.9", "100"]).map(Decimal))
    def test_percentile_of_values(self, events: list[Event], percent: Decimal) -> None:
        asked = replace(meter(Aggregation.PERCENTILE), percentile=percent)

        found = evaluate(asked, columns(events), MARCH)

        assert found == quotient(expected_percentile([Fraction(event.value) for event in events], percent))

    # Berlin's clocks are changed on the second of these days.
    @pytest.mark.parametrize(
        "zone_name", ["UTC", "Asia/Kolkata", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"]
    )
    @given(events=events_between(DAYS_NS[0], DAYS_NS[1]), carried=events_between(START_NS, DAYS_NS[0], max_size=6))
    def test_prorated(self, zone_name: str, events: list[Event], carried: list[Event]) -> None:
        zone = ZoneInfo(zone_name)
        period = AggregationPeriod(*DAYS_NS, zone, 30)
        events = after(events, carried)

        count = replace(meter(Aggregation.UNIQUE_COUNT), prorated=True, carry_over=True)
        days = expected_days([*carried, *events], *DAYS_NS, zone)
        assert evaluate(count, columns(events), period, carried=columns(carried)) == quotient(Fraction(days, 30))

        total = replace(meter(Aggregation.SUM), prorated=True, carry_over=True)
        prorated = sum(Fraction(event.value) for event in carried) + sum(
            Fraction(event.value) * expected_days([Event(event.time_ns, 0)], *DAYS_NS, zone) / 30 for event in events
        )
        assert evaluate(total, columns(events), period, carried=columns(carried)) == quotient(Fraction(prorated))


@st.composite
def weeks_with_a_change_of_clocks(draw: st.DrawFn) -> tuple[ZoneInfo, date]:
    """A zone, and a Monday of a week in which its clocks change, if they do in these years."""
    zone = ZoneInfo(draw(st.sampled_from(ZONES)))
    year = draw(st.integers(1990, 2030))
    noons = [datetime(year, 1, 1, 12, tzinfo=UTC) + timedelta(days=day) for day in range(365)]
    offsets = [noon.astimezone(zone).utcoffset() for noon in noons]
    changes = [day for day in range(1, 365) if offsets[day] != offsets[day - 1]]
    day = date(year, 1, 1) + timedelta(days=draw(st.sampled_from(changes)) if changes else 180)
    return zone, day - timedelta(days=day.weekday())


class TestSumOfParts:
    @given(place=weeks_with_a_change_of_clocks(), data=st.data())
    def test_days_hours_and_quarters_add_up_to_the_week_where_clocks_change(
        self, place: tuple[ZoneInfo, date], data: st.DataObject
    ) -> None:
        zone, monday = place
        week = Period(local_midnight(monday, zone), local_midnight(monday + timedelta(days=7), zone))
        events = data.draw(events_between(to_ns(week.start), to_ns(week.end)))
        size = data.draw(st.sampled_from([BucketSize.QUARTER_HOUR, BucketSize.HOUR, BucketSize.DAY]))
        whole = AggregationPeriod(to_ns(week.start), to_ns(week.end), zone)
        used = [
            part
            for part in buckets(week, size, zone)
            if any(to_ns(part.start) <= event.time_ns < to_ns(part.end) for event in events)
        ]

        for aggregation in (Aggregation.SUM, Aggregation.COUNT):
            parts = [self._of_part(aggregation, events, part, zone) for part in used]
            assert sum(parts, Decimal(0)) == evaluate(meter(aggregation), columns(events), whole)
        if events:
            parts = [self._of_part(Aggregation.MAX, events, part, zone) for part in used]
            assert max(parts) == evaluate(meter(Aggregation.MAX), columns(events), whole)

    def _of_part(self, aggregation: Aggregation, events: Sequence[Event], part: Period, zone: ZoneInfo) -> Decimal:
        start_ns, end_ns = to_ns(part.start), to_ns(part.end)
        _, inside = columns(events).split(start_ns, end_ns)
        found = evaluate(meter(aggregation), inside, AggregationPeriod(start_ns, end_ns, zone))
        assert found is not None
        return found

    @given(in_march, before_march, st.integers(START_NS + 1, END_NS - 1))
    def test_level_hours_of_two_parts_add_up(self, events: list[Event], carried: list[Event], cut_ns: int) -> None:
        asked = replace(meter(Aggregation.WEIGHTED_SUM), carry_over=True, level_unit=LevelUnit.SECOND)
        asked = replace(asked, rounding=Rounding(RoundingFunction.ROUND, 12))
        everything = columns([*carried, *after(events, carried)])

        def found(start_ns: int, end_ns: int) -> Decimal:
            before, inside = everything.split(start_ns, end_ns)
            value = evaluate(asked, inside, AggregationPeriod(start_ns, end_ns), carried=before)
            assert value is not None
            return value

        assert found(START_NS, cut_ns) + found(cut_ns, END_NS) == found(START_NS, END_NS)


class TestOptions:
    def test_rounding_comes_before_the_multiplier(self) -> None:
        events = columns([Event(START_NS, 0, Decimal("2.04"))])
        asked = replace(meter(Aggregation.SUM), rounding=Rounding(RoundingFunction.CEIL, 1), multiplier=Decimal(3))

        assert evaluate(asked, events, MARCH) == Decimal("6.3")

    def test_a_quotient_is_rounded_once(self) -> None:
        # A sixth of 2.999999999999 is a little less than a half, which 12 decimals do not show.
        values = [Decimal("2.999999999999"), *[Decimal(0)] * 5]
        events = columns([Event(START_NS, position, value) for position, value in enumerate(values)])
        asked = meter(Aggregation.AVG)

        assert evaluate(asked, events, MARCH) == Decimal("0.5")
        assert evaluate(replace(asked, rounding=Rounding(RoundingFunction.ROUND, 0)), events, MARCH) == 0

    @pytest.mark.parametrize(("negative_as_zero", "value"), [(False, "-5"), (True, "0")])
    def test_a_negative_latest_value(self, negative_as_zero: bool, value: str) -> None:
        asked = replace(meter(Aggregation.LATEST), negative_as_zero=negative_as_zero)

        found = evaluate(asked, columns([Event(START_NS, 0, Decimal(-5))]), MARCH)

        assert found is not None
        assert plain(found) == value

    @pytest.mark.parametrize(
        "aggregation",
        [Aggregation.SUM, Aggregation.MIN, Aggregation.MAX, Aggregation.AVG, Aggregation.LATEST],
    )
    def test_nothing_is_zero_or_null(self, aggregation: Aggregation) -> None:
        nothing = columns([])

        assert evaluate(meter(aggregation), nothing, MARCH) == 0
        assert evaluate(replace(meter(aggregation), empty=EmptyResult.NULL), nothing, MARCH) is None

    def test_a_level_without_events_is_the_initial_one(self) -> None:
        found = evaluate(meter(Aggregation.WEIGHTED_SUM), columns([]), MARCH, initial_value=Decimal("7.5"))

        assert found == Decimal("7.5")


class TestRefusals:
    @pytest.mark.parametrize("time_ns", [START_NS - 1, END_NS])
    def test_events_lie_in_the_period(self, time_ns: int) -> None:
        with pytest.raises(ValueError, match="in the period"):
            evaluate(meter(Aggregation.SUM), columns([Event(time_ns, 0)]), MARCH)

    def test_carried_events_lie_before_it(self) -> None:
        with pytest.raises(ValueError, match="before the period"):
            evaluate(meter(Aggregation.SUM), columns([]), MARCH, carried=columns([Event(START_NS, 0)]))

    @pytest.mark.parametrize(
        "aggregation",
        [Aggregation.SUM, Aggregation.WEIGHTED_SUM, Aggregation.PERCENTILE, Aggregation.UNIQUE_COUNT],
    )
    def test_columns_have_what_the_meter_measures(self, aggregation: Aggregation) -> None:
        with pytest.raises(ValueError, match="more than these columns"):
            evaluate(meter(aggregation), EventColumns([START_NS], [0]), MARCH)

    def test_columns_have_one_length(self) -> None:
        with pytest.raises(ValueError, match="different lengths"):
            EventColumns([1, 2], [1])
        with pytest.raises(ValueError, match="different lengths"):
            EventColumns([1, 2], [1, 2], [Decimal(1)])

    @pytest.mark.parametrize(("start_ns", "end_ns", "days"), [(1, 1, None), (2, 1, None), (1, 2, 0)])
    def test_periods_hold_something(self, start_ns: int, end_ns: int, days: int | None) -> None:
        with pytest.raises(ValueError, match="period"):
            AggregationPeriod(start_ns, end_ns, full_days=days)

    def test_a_percentile_says_which(self) -> None:
        with pytest.raises(ValueError, match="cannot be evaluated"):
            evaluate(meter(Aggregation.PERCENTILE), columns([]), MARCH)
