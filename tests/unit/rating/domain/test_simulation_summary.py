"""Who would pay more and who less, added up from billing periods in the order of their customers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.periods import Period
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.queue import RatingProblem
from services.rating.domain.simulation import SimulatedLine, SimulatedPeriod
from services.rating.domain.simulation_summary import LARGEST, CustomerChange, SimulationSummary
from tests.component.rating.support import MARCH

amounts = st.integers(-1_000, 1_000)


def simulated(customer: str, current: int, then: int, period: Period = MARCH) -> SimulatedPeriod:
    key = PeriodKey("acme", f"sub-{customer}", period.start)
    lines = [SimulatedLine("line", current, then)]
    return SimulatedPeriod(BillingPeriod(key, period.end, customer, "standard", 1), "USD", 1, lines)


def summary_of(*periods: SimulatedPeriod) -> SimulationSummary:
    summary = SimulationSummary()
    for period in periods:
        summary.add(period)
    summary.finish()
    return summary


class TestSummary:
    def test_billing_periods_of_a_customer_are_added_before_anything_is_said(self) -> None:
        summary = summary_of(simulated("a", 100, 130), simulated("a", 100, 70), simulated("b", 50, 60))

        assert (summary.winners, summary.losers, summary.unchanged) == (0, 1, 1)
        assert (summary.current, summary.simulated, summary.periods) == (250, 260, 3)
        assert summary.largest_increases == [CustomerChange("b", 50, 60)]
        assert summary.largest_decreases == []

    def test_a_problem_is_counted_and_in_no_other_figure(self) -> None:
        problem = simulated("a", 100, 900)._replace(problem=RatingProblem("CURRENCY_DIFFERS", "is in EUR"))

        summary = summary_of(problem, simulated("a", 5, 5))

        assert summary.problem_counts == {"CURRENCY_DIFFERS": 1}
        assert (summary.periods, summary.current, summary.unchanged) == (1, 5, 1)

    @pytest.mark.parametrize(
        ("current", "then", "bucket"),
        [
            (1_000, 1_000, (0, 0)),
            (1_000, 1_001, (0, 5)),
            (1_000, 1_050, (0, 5)),
            (1_000, 1_051, (5, 10)),
            (1_000, 2_000, (50, 100)),
            (1_000, 2_001, (100, None)),
            (1_000, 950, (-5, 0)),
            (1_000, 949, (-10, -5)),
            (1_000, 0, (-100, -50)),
            (1_000, -1, (None, -100)),
            (-1_000, -900, (5, 10)),
            (0, 1, (None, None)),
            (0, 0, (0, 0)),
        ],
    )
    def test_ranges_of_change(self, current: int, then: int, bucket: tuple[int | None, int | None]) -> None:
        assert [edges[:2] for edges in summary_of(simulated("a", current, then)).distribution] == [bucket]

    def test_ranges_rise(self) -> None:
        changes = [(100, 40), (100, 99), (100, 100), (100, 101), (100, 500), (0, 7)]
        summary = summary_of(*(simulated(f"c-{index}", *change) for index, change in enumerate(changes)))

        assert [tuple(bucket) for bucket in summary.distribution] == [
            (-100, -50, 1),
            (-5, 0, 1),
            (0, 0, 1),
            (0, 5, 1),
            (100, None, 1),
            (None, None, 1),
        ]

    def test_only_the_largest_changes_are_kept(self) -> None:
        summary = summary_of(*(simulated(f"c-{number:02d}", 100, 100 + number) for number in range(1, 31)))

        assert [customer.change for customer in summary.largest_increases] == list(range(30, 30 - LARGEST, -1))

    @given(st.lists(st.tuples(st.sampled_from("abcdefgh"), amounts, amounts)))
    def test_every_customer_is_in_one_class_and_one_range(self, made: list[tuple[str, int, int]]) -> None:
        summary = summary_of(*(simulated(*item) for item in sorted(made)))

        customers = len({customer for customer, *_ in made})
        assert summary.winners + summary.losers + summary.unchanged == customers
        assert sum(bucket.customers for bucket in summary.distribution) == customers
        assert summary.current == sum(current for _, current, _ in made)
        assert summary.simulated == sum(then for *_, then in made)


class TestPercent:
    @pytest.mark.parametrize(
        ("current", "then", "percent"), [(3, 4, "33.33"), (3, 2, "-33.33"), (-200, -100, "50.00"), (200, 200, "0.00")]
    )
    def test_of_what_is_paid(self, current: int, then: int, percent: str) -> None:
        assert CustomerChange("a", current, then).percent == Decimal(percent)

    def test_of_nothing_there_is_none(self) -> None:
        assert CustomerChange("a", 0, 5).percent is None

    @pytest.mark.parametrize(
        ("current", "then", "exceeds"),
        [(100, 110, False), (100, 111, True), (100, 89, True), (0, 1, True), (0, 0, False)],
    )
    def test_a_bound_is_exceeded_both_ways(self, current: int, then: int, exceeds: bool) -> None:
        assert CustomerChange("a", current, then).exceeds(Decimal(10)) is exceeds
