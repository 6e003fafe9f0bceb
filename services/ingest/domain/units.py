"""Units of quantities, converted exactly or not at all.

A unit is one of the table, or one of them combined with a unit of time: `GB-hours` (a product) or `Mbit/s` (a
quotient). Decimal prefixes are powers of 1000 (SI), binary ones of 1024 (IEC 80000-13). `KB` is left out because it
means both. Months and years have no fixed length.
"""

from __future__ import annotations

import decimal
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from libs.money import QUANTITY_CONTEXT
from services.ingest.domain.expression_range import check_range

_SECOND = 10**9


def _counted(noun: str) -> dict[str, int]:
    """A noun, its plural, and thousands and millions of it."""
    names = (noun, f"{noun}s")
    scales = {"": 1, "thousand ": 1_000, "million ": 1_000_000, "billion ": 1_000_000_000}
    return {scale + name: factor for scale, factor in scales.items() for name in names}


# By dimension: names of units, and how many of the smallest unit each of them is.
_TABLE: dict[str, dict[str, int]] = {
    "time": {
        **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1),
        **dict.fromkeys(("us", "microsecond", "microseconds"), 10**3),
        **dict.fromkeys(("ms", "millisecond", "milliseconds"), 10**6),
        **dict.fromkeys(("s", "sec", "second", "seconds"), _SECOND),
        **dict.fromkeys(("min", "minute", "minutes"), 60 * _SECOND),
        **dict.fromkeys(("h", "hr", "hour", "hours"), 3_600 * _SECOND),
        **dict.fromkeys(("d", "day", "days"), 86_400 * _SECOND),
        **dict.fromkeys(("week", "weeks"), 604_800 * _SECOND),
    },
    "information": {
        **dict.fromkeys(("bit", "bits"), 1),
        **dict.fromkeys(("B", "byte", "bytes"), 8),
        **{f"{prefix}bit": 1_000**power for power, prefix in enumerate("kMGTP", 1)},
        **{f"{prefix}B": 8 * 1_000**power for power, prefix in enumerate("kMGTP", 1)},
        **{f"{prefix}ibit": 1_024**power for power, prefix in enumerate("KMGTP", 1)},
        **{f"{prefix}iB": 8 * 1_024**power for power, prefix in enumerate("KMGTP", 1)},
    },
    "tokens": {**_counted("token"), "ktoken": 1_000, "ktokens": 1_000, "Mtoken": 10**6, "Mtokens": 10**6},
    **{noun: _counted(noun) for noun in ("unit", "request", "call", "message", "event", "seat", "user", "character")},
}
_UNITS = {name: (dimension, factor) for dimension, units in _TABLE.items() for name, factor in units.items()}


class UnitRejected(ValueError):
    """A value cannot be converted; `reason` is UNKNOWN_UNIT, INCOMPATIBLE_UNIT, INEXACT_CONVERSION or
    RESULT_OUT_OF_RANGE."""

    def __init__(self, reason: str, description: str) -> None:
        super().__init__(description)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is measured, and how much of the smallest unit of it one is."""

    dimension: str
    factor: Fraction


def is_known_unit(name: str) -> bool:
    return _find(name) is not None


def convert(value: Decimal, unit: str, to: str) -> Decimal:
    """The same quantity in another unit, exactly. A unit that is in no table converts to itself.

    :raises UnitRejected: if a unit is unknown, they measure different things, or the result has no end or no place
        among quantities: 10 minutes are no decimal number of hours, so meters count in the smallest unit that is sent
    """
    if unit == to:
        return value
    factor = _factor(unit, to)
    found = QUANTITY_CONTEXT.multiply(value, Decimal(factor.numerator))
    if factor.denominator != 1:
        try:
            found = QUANTITY_CONTEXT.divide(found, Decimal(factor.denominator))
        except decimal.Inexact as error:
            raise UnitRejected("INEXACT_CONVERSION", f"{value} {unit} are no exact decimal number of {to}") from error
    try:
        check_range([found])
    except decimal.DecimalException as error:
        raise UnitRejected("RESULT_OUT_OF_RANGE", f"{value} {unit} have too many digits in {to}") from error
    return found


@lru_cache(maxsize=4_096)
def _factor(unit: str, to: str) -> Fraction:
    """
    :raises UnitRejected: UNKNOWN_UNIT or INCOMPATIBLE_UNIT
    """
    source, target = _find(unit), _find(to)
    for name, found in ((unit, source), (to, target)):
        if found is None:
            raise UnitRejected("UNKNOWN_UNIT", f"{name[:64]!r} is not a unit that can be converted")
    assert source is not None
    assert target is not None
    if source.dimension != target.dimension:
        raise UnitRejected("INCOMPATIBLE_UNIT", f"{unit} measures {source.dimension}, {to} {target.dimension}")
    return source.factor / target.factor


@lru_cache(maxsize=4_096)
def _find(name: str) -> _Unit | None:
    simple = _UNITS.get(name)
    if simple is not None:
        return _Unit(simple[0], Fraction(simple[1]))
    for sign in "-/":
        left, found, right = name.partition(sign)
        time = _UNITS.get(right)
        if found and left in _UNITS and time is not None and time[0] == "time":
            dimension, factor = _UNITS[left]
            combined = Fraction(factor * time[1]) if sign == "-" else Fraction(factor, time[1])
            return _Unit(f"{dimension} {'times' if sign == '-' else 'per'} time", combined)
    return None
