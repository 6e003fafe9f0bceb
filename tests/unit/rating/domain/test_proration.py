"""Shares of what is agreed on for a whole period."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from libs.money import Exact, RoundingFunction, round_exact
from services.rating.domain.proration import prorated, prorated_shortfall

D = Decimal


def whole(value: Exact) -> Decimal:
    return round_exact(value, RoundingFunction.ROUND, 0)


def test_a_share_has_at_most_12_digits_after_the_point() -> None:
    assert prorated(D(100), Fraction(17, 31)) == D("54.838709677419")
    assert prorated(D(100), Fraction(1, 4)) == D(25)
    assert prorated(D(2), Fraction(1, 3)) == D("0.666666666667")


@given(st.decimals(0, 10**15, places=12))
def test_all_of_it_is_the_value_itself(value: Decimal) -> None:
    assert prorated(value, Fraction(1)) is value


@given(st.decimals(0, 10**9, places=4), st.fractions(0, 1))
def test_shares_add_up_but_for_the_last_digit(value: Decimal, share: Fraction) -> None:
    assert abs(prorated(value, share) + prorated(value, 1 - share) - value) <= D("1e-12")


def test_a_shortfall_is_of_shares_that_are_rounded() -> None:
    assert prorated_shortfall(D(1000000), D(100000), Fraction(25, 28), whole) == 803571
    assert prorated_shortfall(D(10), D(20), Fraction(1, 2), whole) == 0
