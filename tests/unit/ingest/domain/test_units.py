"""Units: exact conversion or a typed refusal."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.money import plain
from services.ingest.domain.units import UnitRejected, convert, is_known_unit


class TestConvert:
    @pytest.mark.parametrize(
        ("value", "unit", "to", "result"),
        [
            ("90", "minutes", "hours", "1.5"),
            ("1.5", "h", "min", "90"),
            ("2", "days", "s", "172800"),
            ("1", "week", "d", "7"),
            ("250", "ms", "s", "0.25"),
            ("1", "s", "ns", "1000000000"),
            ("1", "KiB", "B", "1024"),
            ("1", "kB", "B", "1000"),
            ("1", "GiB", "MB", "1073.741824"),
            ("512", "MiB", "GiB", "0.5"),
            ("1", "PiB", "bytes", "1125899906842624"),
            ("1", "byte", "bits", "8"),
            ("1", "Gbit", "MB", "125"),
            ("1", "Mibit", "bit", "1048576"),
            ("1500", "tokens", "thousand tokens", "1.5"),
            ("2.5", "ktokens", "token", "2500"),
            ("3", "million tokens", "ktokens", "3000"),
            ("2", "thousand requests", "request", "2000"),
            ("1", "GB-hours", "MB-seconds", "3600000"),
            ("36", "GB-minutes", "GB-hours", "0.6"),
            ("24", "seat-hours", "seat-days", "1"),
            ("8", "Mbit/s", "MB/s", "1"),
            ("60", "requests/min", "requests/s", "1"),
            ("-3", "hours", "minutes", "-180"),
            ("7", "widgets", "widgets", "7"),
        ],
    )
    def test_is_exact(self, value: str, unit: str, to: str, result: str) -> None:
        assert plain(convert(Decimal(value), unit, to)) == result

    @pytest.mark.parametrize(
        ("value", "unit", "to", "reason"),
        [
            ("1", "widgets", "seats", "UNKNOWN_UNIT"),
            ("1", "seats", "widgets", "UNKNOWN_UNIT"),
            ("1", "KB", "B", "UNKNOWN_UNIT"),
            ("1", "month", "days", "UNKNOWN_UNIT"),
            ("1", "Hours", "s", "UNKNOWN_UNIT"),
            ("1", "", "s", "UNKNOWN_UNIT"),
            ("1", "GB-GB", "GB-hours", "UNKNOWN_UNIT"),
            ("1", "hours", "GB", "INCOMPATIBLE_UNIT"),
            ("1", "tokens", "requests", "INCOMPATIBLE_UNIT"),
            ("1", "GB-hours", "GB", "INCOMPATIBLE_UNIT"),
            ("1", "GB-hours", "GB/hour", "INCOMPATIBLE_UNIT"),
            ("10", "minutes", "hours", "INEXACT_CONVERSION"),
            ("1", "B", "PiB", "RESULT_OUT_OF_RANGE"),
            ("9" * 38, "s", "ms", "RESULT_OUT_OF_RANGE"),
        ],
    )
    def test_is_refused_where_it_would_not_be(self, value: str, unit: str, to: str, reason: str) -> None:
        with pytest.raises(UnitRejected) as raised:
            convert(Decimal(value), unit, to)

        assert raised.value.reason == reason

    @given(
        st.sampled_from(["ns", "ms", "s", "min", "h", "d", "week"]),
        st.sampled_from(["ns", "ms", "s", "min", "h", "d", "week"]),
        st.integers(-(10**6), 10**6).map(lambda units: Decimal(f"{units}E-3")),
    )
    def test_there_and_back_is_the_same(self, unit: str, other: str, value: Decimal) -> None:
        whole = {"ns": 1, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
        factors = whole | {"week": 604800 * 10**9}
        meaning = Fraction(value) * factors[unit] / factors[other]
        ends = all(meaning.denominator % prime for prime in (3, 7))
        if ends:
            found = convert(value, unit, other)
            assert Fraction(found) == meaning
            assert convert(found, other, unit) == value
        else:
            with pytest.raises(UnitRejected, match="no exact decimal"):
                convert(value, unit, other)


def test_known_units() -> None:
    assert all(map(is_known_unit, ["s", "GiB", "tokens", "GB-hours", "Mbit/s", "million calls", "seats"]))
    assert not any(map(is_known_unit, ["", "KB", "month", "GB-", "-hours", "GB/GB", "apples"]))
