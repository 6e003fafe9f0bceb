"""Quantities at the end of a billing period."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.periods import Period
from services.rating.domain.forecast import Forecast, ForecastMethod, forecast, scaled
from services.rating.domain.usage import ExplainedUsage

DAY = timedelta(days=1)
MARCH = Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))


def used(*quantities: int | str, period: Period = MARCH) -> list[ExplainedUsage]:
    """The usage of the first days; a day without is left out."""
    days = []
    for number, quantity in enumerate(quantities):
        day = Period(MARCH.start + number * DAY, MARCH.start + (number + 1) * DAY).intersection(period)
        if day and Decimal(quantity):
            days.append(ExplainedUsage(day, Decimal(quantity), 1, 1))
    return days


class TestDailyMean:
    def test_the_rest_of_the_period_is_the_mean_of_the_days_that_are_over(self) -> None:
        found = forecast(MARCH, used(10, 20, 30), MARCH.start + 3 * DAY)

        assert found.method is ForecastMethod.DAILY_MEAN
        assert (found.so_far, found.expected) == (Decimal(60), Decimal(60 + 28 * 20))

    def test_the_day_that_is_not_over_counts_with_what_it_has(self) -> None:
        found = forecast(MARCH, used(10, 20, 30, 7), MARCH.start + 3.5 * DAY)

        assert found.expected == 67 + Decimal("27.5") * 20

    def test_days_without_usage_are_days(self) -> None:
        assert forecast(MARCH, used(10, 0, 0, 30), MARCH.start + 4 * DAY).expected == 40 + 27 * 10

    def test_the_interval_is_that_of_the_days_to_come_and_of_their_mean(self) -> None:
        found = forecast(MARCH, used(10, 20, 30, 20), MARCH.start + 4 * DAY)

        # Sample variance 200 / 3; 27 days to come; 1.2816 standard deviations of sqrt(200/3 x 27 x (1 + 27/4)).
        margin = Decimal("151.369927")
        assert found.expected == 620
        assert abs(found.high - 620 - margin) <= Decimal("0.000001")
        assert found.low + found.high == 1240

    def test_days_that_are_alike_leave_no_doubt(self) -> None:
        found = forecast(MARCH, used(5, 5, 5), MARCH.start + 3 * DAY)
        assert {found.low, found.expected, found.high} == {Decimal(155)}

    def test_what_never_fell_is_not_expected_to(self) -> None:
        found = forecast(MARCH, used(0, 0, 0, 1000), MARCH.end - DAY / 2)
        assert found.low == found.so_far == 1000

    def test_what_fell_may_fall_again(self) -> None:
        found = forecast(MARCH, used(50, -40, 10), MARCH.start + 3 * DAY)
        assert found.low < found.so_far

    def test_a_day_that_the_period_cuts_is_no_whole_one(self) -> None:
        period = Period(MARCH.start + DAY / 2, MARCH.end)
        found = forecast(period, used(100, 10, 10, period=period), MARCH.start + 3 * DAY)
        assert found.expected == 120 + 28 * 10


class TestWithoutEnoughDays:
    def test_the_rest_goes_on_as_it_began(self) -> None:
        found = forecast(MARCH, used(6), MARCH.start + DAY / 4)
        assert found == Forecast(ForecastMethod.RATE_SO_FAR, Decimal(6), Decimal(744), Decimal(744), Decimal(744))

    @pytest.mark.parametrize("as_of", [MARCH.start - DAY, MARCH.start, MARCH.end, MARCH.end + DAY])
    def test_outside_of_the_period_nothing_is_estimated(self, as_of: datetime) -> None:
        found = forecast(MARCH, used(6, 7), as_of)
        assert (found.method, found.expected) == (ForecastMethod.AS_NOW, Decimal(13))


@given(
    st.lists(st.integers(0, 10**12), min_size=0, max_size=31),
    st.integers(0, 31 * 86_400),
)
def test_it_never_fails_and_its_bounds_are_ordered(quantities: list[int], second: int) -> None:
    found = forecast(MARCH, used(*quantities), MARCH.start + timedelta(seconds=second))

    assert found.so_far <= found.low <= found.expected <= found.high
    assert found.so_far == sum(quantities)


class TestScaled:
    def test_a_part_grows_with_the_whole(self) -> None:
        assert scaled(Decimal(2), Decimal(30), Decimal(6)) == 10
        assert scaled(Decimal(1), Decimal(1), Decimal(3)) == Decimal("0.333333")

    @pytest.mark.parametrize(("quantity", "so_far"), [(5, 5), (7, 0)])
    def test_what_does_not_grow_stays(self, quantity: int, so_far: int) -> None:
        assert scaled(Decimal(3), Decimal(quantity), Decimal(so_far)) == 3
