"""Money, rounding to minor units and allocation."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.money import MINOR_DIGITS, CurrencyMismatch, Money, RoundingMode, allocate, round_to_minor

HALF_EVEN, HALF_UP, DOWN, UP = (
    RoundingMode.HALF_EVEN,
    RoundingMode.HALF_UP,
    RoundingMode.DOWN,
    RoundingMode.UP,
)
currencies = st.sampled_from(sorted(MINOR_DIGITS))


class TestMinorDigits:
    @pytest.mark.parametrize(
        ("currency", "digits"),
        [("EUR", 2), ("USD", 2), ("JPY", 0), ("KRW", 0), ("ISK", 0), ("KWD", 3), ("TND", 3), ("CLF", 4), ("UYW", 4)],
    )
    def test_known_currencies(self, currency: str, digits: int) -> None:
        assert MINOR_DIGITS[currency] == digits

    @pytest.mark.parametrize("code", ["XAU", "XDR", "XTS", "XXX", "DEM", "HRK", "eur", ""])
    def test_leaves_out_what_cannot_be_invoiced(self, code: str) -> None:
        assert code not in MINOR_DIGITS

    def test_codes_are_three_capital_letters(self) -> None:
        assert all(len(code) == 3 and code.isascii() and code.isupper() for code in MINOR_DIGITS)


class TestMoney:
    def test_adds_and_subtracts_within_a_currency(self) -> None:
        assert Money(150, "EUR") + Money(50, "EUR") - Money(300, "EUR") == -Money(100, "EUR")

    def test_refuses_to_mix_currencies(self) -> None:
        with pytest.raises(CurrencyMismatch, match="EUR and USD"):
            Money(1, "EUR") + Money(1, "USD")
        with pytest.raises(CurrencyMismatch, match="USD and EUR"):
            Money(1, "USD") - Money(1, "EUR")

    @pytest.mark.parametrize("minor_units", [True, 1.0, Decimal(1), "1"])
    def test_refuses_anything_but_int(self, minor_units: object) -> None:
        with pytest.raises(TypeError, match="minor_units must be int"):
            Money(minor_units, "EUR")  # type: ignore[arg-type]

    def test_refuses_an_unknown_currency(self) -> None:
        with pytest.raises(ValueError, match="unknown currency 'eur'"):
            Money(1, "eur")

    @pytest.mark.parametrize(
        ("money", "text"),
        [
            (Money(1999, "EUR"), "19.99 EUR"),
            (Money(-5, "KWD"), "-0.005 KWD"),
            (Money(5, "JPY"), "5 JPY"),
            (Money(0, "EUR"), "0.00 EUR"),
        ],
    )
    def test_reads_in_major_units(self, money: Money, text: str) -> None:
        assert str(money) == text


class TestRoundToMinor:
    @pytest.mark.parametrize(
        ("amount", "mode", "minor_units"),
        [
            ("0.005", HALF_EVEN, 0),
            ("0.015", HALF_EVEN, 2),
            ("-0.015", HALF_EVEN, -2),
            ("0.0050000000000000000000000000000000000001", HALF_EVEN, 1),
            ("0.005", HALF_UP, 1),
            ("-0.005", HALF_UP, -1),
            ("0.0049", HALF_UP, 0),
            ("0.0099", DOWN, 0),
            ("-0.0099", DOWN, 0),
            ("0.0001", UP, 1),
            ("-0.0001", UP, -1),
            ("0.01", UP, 1),
        ],
    )
    def test_modes(self, amount: str, mode: RoundingMode, minor_units: int) -> None:
        assert round_to_minor(Decimal(amount), "EUR", mode) == Money(minor_units, "EUR")

    @pytest.mark.parametrize(("currency", "minor_units"), [("JPY", 1234), ("EUR", 123450), ("KWD", 1234500)])
    def test_uses_the_digits_of_the_currency(self, currency: str, minor_units: int) -> None:
        assert round_to_minor(Decimal("1234.5"), currency) == Money(minor_units, currency)

    def test_keeps_every_digit_of_a_large_amount(self) -> None:
        assert round_to_minor(Decimal("9" * 60 + ".994"), "EUR") == Money(int("9" * 62), "EUR")

    def test_refuses_an_unknown_currency(self) -> None:
        with pytest.raises(ValueError, match="unknown currency"):
            round_to_minor(Decimal(1), "XAU")

    @given(st.integers(-(10**30), 10**30), currencies, st.sampled_from(RoundingMode))
    def test_whole_minor_units_are_left_alone(self, minor_units: int, currency: str, mode: RoundingMode) -> None:
        money = Money(minor_units, currency)

        assert round_to_minor(money.amount, currency, mode) == money

    @given(st.decimals(-(10**12), 10**12, places=9), currencies, st.sampled_from(RoundingMode))
    def test_is_off_by_less_than_a_minor_unit_and_mirrors(
        self, amount: Decimal, currency: str, mode: RoundingMode
    ) -> None:
        rounded = round_to_minor(amount, currency, mode)
        error = abs(Fraction(amount) * 10 ** MINOR_DIGITS[currency] - rounded.minor_units)

        assert error <= Fraction(1, 2) if mode in {HALF_EVEN, HALF_UP} else error < 1
        assert round_to_minor(-amount, currency, mode) == -rounded


class TestAllocate:
    @pytest.mark.parametrize(
        ("total", "weights", "parts"),
        [
            (100, [1, 1, 1], [34, 33, 33]),
            (101, [1, 1, 1], [34, 34, 33]),
            (-100, [1, 1, 1], [-34, -33, -33]),
            (10, [0, 1], [0, 10]),
            (1, [1, 2], [0, 1]),
            (5, [Decimal("0.3"), Decimal("0.7")], [2, 3]),
            (0, [0, 0], [0, 0]),
            (0, [], []),
        ],
    )
    def test_examples(self, total: int, weights: list[Decimal | int], parts: list[int]) -> None:
        assert allocate(total, weights) == parts

    @pytest.mark.parametrize("weights", [[], [0, 0]])
    def test_refuses_to_lose_money(self, weights: list[Decimal | int]) -> None:
        with pytest.raises(ValueError, match="nothing to spread 1 over"):
            allocate(1, weights)

    def test_refuses_negative_weights(self) -> None:
        with pytest.raises(ValueError, match="must not be negative"):
            allocate(1, [2, -1])

    @given(
        st.integers(-(10**15), 10**15),
        st.lists(st.decimals(0, 10**12, places=6), min_size=1, max_size=20).filter(any),
    )
    def test_adds_up_and_each_part_neighbours_its_share(self, total: int, weights: list[Decimal]) -> None:
        parts = allocate(total, weights)

        whole = sum(map(Fraction, weights))
        assert sum(parts) == total
        assert all(abs(part - total * Fraction(w) / whole) < 1 for part, w in zip(parts, weights, strict=True))
        assert all(part == 0 for part, weight in zip(parts, weights, strict=True) if not weight)
