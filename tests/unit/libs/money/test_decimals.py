"""Decimals at the door: what is accepted, what is refused and why, canonical text."""

from __future__ import annotations

import decimal
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.money import DecimalRejected, exact, parse_decimal, plain

LARGEST = "99999999999999999999.999999999999"

accepted_decimals = st.decimals(
    min_value=Decimal(f"-{LARGEST}"), max_value=Decimal(LARGEST), places=12, allow_nan=False, allow_infinity=False
)


class TestParseDecimal:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("0", "0"),
            ("-0", "0"),
            ("-0.00", "0"),
            ("0e400", "0"),
            ("1.50", "1.5"),
            ("-12.5", "-12.5"),
            ("007", "7"),
            ("1e3", "1000"),
            ("1.5E+2", "150"),
            ("25e-1", "2.5"),
            ("1e-12", "0.000000000001"),
            ("1e19", "10000000000000000000"),
            (LARGEST, LARGEST),
            (f"-{LARGEST}", f"-{LARGEST}"),
            ("0.1000000000000000", "0.1"),
            ("00000000000000000000000000000001", "1"),
        ],
    )
    def test_accepts(self, text: str, value: str) -> None:
        assert plain(parse_decimal(text)) == value

    @pytest.mark.parametrize(
        "text",
        [
            "NaN",
            "nan",
            "sNaN",
            "inf",
            "Infinity",
            "-inf",
            "0x10",
            "+1",
            "1_000",
            "1.",
            ".5",
            "-",
            "--",
            "1e",
            "1e+",
            "e5",
            "1e1234",
            "1,5",
            "\u0663",
            "\uff11",
            "1e\u0663",
            "1..2",
            "1.2.3",
            "1-1",
            " ",
            " 1",
            "1 ",
            "1\n",
            "\t1",
            "1 000",
        ],
    )
    def test_refuses_what_is_not_a_number(self, text: str) -> None:
        with pytest.raises(DecimalRejected) as raised:
            parse_decimal(text)

        assert raised.value.reason == "NOT_A_NUMBER"

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "EMPTY"),
            ("1" + "0" * 20, "TOO_MANY_DIGITS"),
            ("1e20", "TOO_MANY_DIGITS"),
            ("1" * 40, "TOO_MANY_DIGITS"),
            ("1e400", "TOO_MANY_DIGITS"),
            ("0" * 101, "TOO_MANY_DIGITS"),
            ("0.0000000000001", "TOO_PRECISE"),
            ("1e-13", "TOO_PRECISE"),
            ("1e-400", "TOO_PRECISE"),
            (f"{LARGEST}9", "TOO_PRECISE"),
        ],
    )
    def test_refuses_beyond_the_limits(self, text: str, reason: str) -> None:
        with pytest.raises(DecimalRejected) as raised:
            parse_decimal(text)

        assert raised.value.reason == reason

    def test_limits_are_given_by_the_caller(self) -> None:
        assert parse_decimal("99.9", max_integer_digits=2, max_scale=1) == Decimal("99.9")
        with pytest.raises(DecimalRejected, match="more than 2 digits before"):
            parse_decimal("100", max_integer_digits=2, max_scale=1)
        with pytest.raises(DecimalRejected, match="more than 1 digits after"):
            parse_decimal("9.99", max_integer_digits=2, max_scale=1)

    @given(st.text(alphabet="0123456789.-+eE_ nNaAxX", max_size=40))
    def test_a_parsed_text_means_what_python_reads_and_stays_within_limits(self, text: str) -> None:
        try:
            value = parse_decimal(text)
        except DecimalRejected:
            return  # Any other exception fails the test.

        assert value == Decimal(text)
        integer, _, fraction = plain(value).lstrip("-").partition(".")
        assert len(integer) <= 20
        assert len(fraction) <= 12


class TestPlain:
    @pytest.mark.parametrize(
        ("value", "text"),
        [("0E+5", "0"), ("-0.0", "0"), ("1E+5", "100000"), ("1.500", "1.5"), ("100", "100"), ("-1E-7", "-0.0000001")],
    )
    def test_is_canonical(self, value: str, text: str) -> None:
        assert plain(Decimal(value)) == text

    def test_keeps_every_digit_whatever_the_context(self) -> None:
        digits = "1234567890" * 9

        assert plain(Decimal(f"{digits}.{digits}1")) == f"{digits}.{digits}1"

    @pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
    def test_refuses_what_is_not_finite(self, value: str) -> None:
        with pytest.raises(ValueError, match="not a finite decimal"):
            plain(Decimal(value))

    @given(accepted_decimals)
    def test_round_trips(self, value: Decimal) -> None:
        assert parse_decimal(plain(value)) == value

    @given(accepted_decimals, st.integers(0, 9))
    def test_equal_numbers_have_equal_text(self, value: Decimal, zeros: int) -> None:
        with exact():
            assert plain(value * Decimal("1." + "0" * zeros)) == plain(value)


class TestExact:
    def test_multiplies_values_at_the_limits_without_rounding(self) -> None:
        largest = Decimal(LARGEST)

        with exact():
            product = largest * largest * largest

        assert int(product.scaleb(36, decimal.Context(prec=200))) == (10**32 - 1) ** 3

    def test_refuses_a_result_that_would_be_rounded(self) -> None:
        with exact(), pytest.raises(decimal.Inexact):
            Decimal(1) / Decimal(3)

    @pytest.mark.parametrize("divisor", [Decimal(0), Decimal("NaN").copy_abs()])
    def test_refuses_undefined_results(self, divisor: Decimal) -> None:
        with exact(), pytest.raises(decimal.DecimalException):
            _ = Decimal(1) / divisor < 1

    def test_refuses_floats(self) -> None:
        with exact(), pytest.raises(decimal.FloatOperation):
            Decimal(0.5)  # noqa: RUF032

    def test_leaves_the_context_around_it_alone(self) -> None:
        before = decimal.getcontext().prec
        with exact():
            assert decimal.getcontext().prec >= 100

        assert decimal.getcontext().prec == before
