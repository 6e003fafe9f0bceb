"""Rounding of quantities."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.money import (
    MAX_ROUNDING_DIGITS,
    MIN_ROUNDING_DIGITS,
    RoundingFunction,
    plain,
    round_decimal,
    round_exact,
    to_quotient_scale,
)

ROUND, CEIL, FLOOR = RoundingFunction.ROUND, RoundingFunction.CEIL, RoundingFunction.FLOOR


class TestRoundDecimal:
    @pytest.mark.parametrize(
        ("value", "function", "digits", "result"),
        [
            ("2.5", ROUND, 0, "3"),
            ("-2.5", ROUND, 0, "-3"),
            ("2.45", ROUND, 1, "2.5"),
            ("250", ROUND, -2, "300"),
            ("249.999", ROUND, -2, "200"),
            ("-0.4", ROUND, 0, "0"),
            ("-0.4", CEIL, 0, "0"),
            ("-0.4", FLOOR, 0, "-1"),
            ("1.001", CEIL, 2, "1.01"),
            ("-1.001", CEIL, 2, "-1"),
            ("1.009", FLOOR, 2, "1"),
            ("1", CEIL, -3, "1000"),
            ("1.5", ROUND, MAX_ROUNDING_DIGITS, "1.5"),
            ("5" + "0" * 19, ROUND, MIN_ROUNDING_DIGITS, "1" + "0" * 20),
        ],
    )
    def test_goes_to_the_neighbour_that_the_function_names(
        self, value: str, function: RoundingFunction, digits: int, result: str
    ) -> None:
        rounded = round_decimal(Decimal(value), function, digits)

        assert plain(rounded) == result
        assert not (rounded.is_zero() and rounded.is_signed())


class TestRoundExact:
    @given(
        st.integers(-(10**9), 10**9),
        st.integers(1, 10**6),
        st.sampled_from(RoundingFunction),
        st.integers(-4, 6),
    )
    def test_agrees_with_fractions(
        self, numerator: int, denominator: int, function: RoundingFunction, digits: int
    ) -> None:
        exact = Fraction(numerator, denominator)
        scaled = exact * Fraction(10) ** digits
        meaning = {
            CEIL: math.ceil(scaled),
            FLOOR: math.floor(scaled),
            ROUND: math.floor(abs(scaled) + Fraction(1, 2)) * (-1 if scaled < 0 else 1),
        }

        assert Fraction(round_exact(exact, function, digits)) == Fraction(meaning[function]) / Fraction(10) ** digits

    @given(st.decimals(-1000, 1000, places=5), st.sampled_from(RoundingFunction), st.integers(-2, 5))
    def test_a_decimal_and_the_same_fraction_round_alike(
        self, value: Decimal, function: RoundingFunction, digits: int
    ) -> None:
        assert round_exact(value, function, digits) == round_exact(Fraction(value), function, digits)

    def test_a_quotient_is_rounded_once(self) -> None:
        almost = Fraction(5, 10) - Fraction(1, 10**20)  # 0.5 when it is first rounded to 12 decimals.

        assert round_exact(almost, ROUND, 0) == 0
        assert round_exact(to_quotient_scale(almost), ROUND, 0) == 1


class TestQuotientScale:
    @pytest.mark.parametrize(
        ("exact", "result"),
        [
            (Fraction(1, 3), "0.333333333333"),
            (Fraction(-2, 3), "-0.666666666667"),
            (Fraction(1, 2 * 10**12), "0"),
            (Fraction(3, 2 * 10**12), "0.000000000002"),
            (Decimal("0.1234567890123456789"), "0.1234567890123456789"),
        ],
    )
    def test_only_a_quotient_is_rounded(self, exact: Decimal | Fraction, result: str) -> None:
        assert plain(to_quotient_scale(exact)) == result
