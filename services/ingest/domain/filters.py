"""Which events a meter counts, by their properties."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache

from libs.errors import Violation
from libs.ids import check_text
from libs.money import DecimalRejected, parse_decimal

MAX_FILTERS = 16
MAX_FILTER_VALUES = 100
MAX_PROPERTY = 64
MAX_PROPERTY_VALUE = 256

_parse = lru_cache(maxsize=1 << 14)(parse_decimal)


class FilterOperator(StrEnum):
    """How a property is compared; a missing property holds only in NOT_EQUALS, NOT_IN and NOT_EXISTS."""

    EQUALS = "equals"
    NOT_EQUALS = "not_equals"
    IN = "in"
    NOT_IN = "not_in"
    EXISTS = "exists"
    NOT_EXISTS = "not_exists"
    LESS_THAN = "less_than"
    LESS_OR_EQUAL = "less_or_equal"
    GREATER_THAN = "greater_than"
    GREATER_OR_EQUAL = "greater_or_equal"


_LISTS = frozenset({FilterOperator.IN, FilterOperator.NOT_IN})
_PRESENCE = frozenset({FilterOperator.EXISTS, FilterOperator.NOT_EXISTS})
_COMPARE: dict[FilterOperator, Callable[[Decimal, Decimal], bool]] = {
    FilterOperator.LESS_THAN: operator.lt,
    FilterOperator.LESS_OR_EQUAL: operator.le,
    FilterOperator.GREATER_THAN: operator.gt,
    FilterOperator.GREATER_OR_EQUAL: operator.ge,
}


@dataclass(frozen=True, slots=True)
class PropertyFilter:
    """Holds when a property compares as it should: as text, or as a number for less and greater.

    `value` is for the operators that take one, `values` for IN and NOT_IN.
    """

    property: str
    value: str = ""
    operator: FilterOperator = FilterOperator.EQUALS
    values: tuple[str, ...] = ()


Exclusion = tuple[PropertyFilter, ...]
"""Leaves out the events for which all of the filters hold."""


def matching_rows(
    filters: Sequence[PropertyFilter],
    exclude: Sequence[Exclusion],
    properties: Sequence[Mapping[str, str]],
    rows: list[int],
) -> tuple[list[int], dict[int, Violation]]:
    """The rows for which all filters hold and no exclusion does, and the problems of rows that cannot be decided.

    Numbers are compared last, in what everything else lets through: in other events the property may be anything.
    There, a value that is no number is a problem; a property that is missing is none, the row does not match.
    """
    problems: dict[int, Violation] = {}
    for item in filters:
        if item.operator not in _COMPARE:
            rows = _holding(item, properties, rows)
    for exclusion in exclude:
        left_out = rows
        for item in exclusion:
            left_out = _holding(item, properties, left_out)
        if left_out:
            gone = set(left_out)
            rows = [row for row in rows if row not in gone]
    for item in filters:
        if item.operator in _COMPARE:
            rows = _comparing(item, properties, rows, problems)
    return rows, problems


def _holding(item: PropertyFilter, properties: Sequence[Mapping[str, str]], rows: list[int]) -> list[int]:
    name, value, values = item.property, item.value, frozenset(item.values)
    match item.operator:
        case FilterOperator.EQUALS:
            return [row for row in rows if properties[row].get(name) == value]
        case FilterOperator.NOT_EQUALS:
            return [row for row in rows if properties[row].get(name) != value]
        case FilterOperator.IN:
            return [row for row in rows if properties[row].get(name) in values]
        case FilterOperator.NOT_IN:
            return [row for row in rows if properties[row].get(name) not in values]
        case FilterOperator.EXISTS:
            return [row for row in rows if name in properties[row]]
        case FilterOperator.NOT_EXISTS:
            return [row for row in rows if name not in properties[row]]
        case compared:
            raise ValueError(f"{compared} compares numbers")


def _comparing(
    item: PropertyFilter,
    properties: Sequence[Mapping[str, str]],
    rows: list[int],
    problems: dict[int, Violation],
) -> list[int]:
    compare, bound, name = _COMPARE[item.operator], _parse(item.value), item.property
    kept = []
    for row in rows:
        text = properties[row].get(name)
        if text is None:
            continue
        try:
            if compare(_parse(text), bound):
                kept.append(row)
        except DecimalRejected as error:
            problems.setdefault(row, Violation(f"properties.{name}", error.reason, str(error)))
    return kept


def filter_violations(filters: Sequence[PropertyFilter], name: str) -> Iterator[Violation]:
    """Everything that is wrong with filters that a client defined."""
    if len(filters) > MAX_FILTERS:
        yield Violation(name, "TOO_MANY", f"must be at most {MAX_FILTERS}, has {len(filters)}")
        return
    seen: set[tuple[str, FilterOperator]] = set()
    for index, item in enumerate(filters):
        violation = check_text(item.property, f"{name}[{index}].property", MAX_PROPERTY)
        if violation is not None:
            yield violation
        yield from _operand_violations(item, f"{name}[{index}]")
        if (item.property, item.operator) in seen:
            description = f"property {item.property!r} is named twice with {item.operator}; filters all have to hold"
            yield Violation(name, "DUPLICATE", description)
        seen.add((item.property, item.operator))


def exclusion_violations(exclude: Sequence[Exclusion], name: str) -> Iterator[Violation]:
    """Everything that is wrong with exclusions that a client defined."""
    if len(exclude) > MAX_FILTERS:
        yield Violation(name, "TOO_MANY", f"must be at most {MAX_FILTERS}, has {len(exclude)}")
        return
    for index, exclusion in enumerate(exclude):
        if not exclusion:
            yield Violation(f"{name}[{index}]", "REQUIRED", "without a filter it would leave out everything")
        for place, item in enumerate(exclusion):
            if item.operator in _COMPARE:
                description = "an exclusion compares texts; numbers are compared by filters"
                yield Violation(f"{name}[{index}][{place}].operator", "NOT_ALLOWED", description)
        yield from filter_violations(exclusion, f"{name}[{index}]")


def _operand_violations(item: PropertyFilter, name: str) -> Iterator[Violation]:
    if item.operator in _LISTS:
        yield from _list_violations(item, name)
        return
    if item.values:
        yield Violation(f"{name}.values", "NOT_ALLOWED", f"{item.operator} takes no list of values")
    if item.operator in _PRESENCE:
        if item.value:
            yield Violation(f"{name}.value", "NOT_ALLOWED", f"{item.operator} takes no value")
    elif item.operator in _COMPARE:
        try:
            _parse(item.value)
        except DecimalRejected as error:
            yield Violation(f"{name}.value", error.reason, str(error))
    else:
        yield from check_filter_value(item.value, f"{name}.value")


def _list_violations(item: PropertyFilter, name: str) -> Iterator[Violation]:
    if item.value:
        yield Violation(f"{name}.value", "NOT_ALLOWED", f"{item.operator} takes a list of values")
    if not item.values:
        yield Violation(f"{name}.values", "REQUIRED", "needs at least one value")
    if len(item.values) > MAX_FILTER_VALUES:
        description = f"must be at most {MAX_FILTER_VALUES}, has {len(item.values)}"
        yield Violation(f"{name}.values", "TOO_MANY", description)
        return
    for index, value in enumerate(item.values):
        yield from check_filter_value(value, f"{name}.values[{index}]")
        if value in item.values[:index]:
            yield Violation(f"{name}.values[{index}]", "DUPLICATE", f"{value!r} is named twice")


def check_filter_value(value: str, name: str) -> Iterator[Violation]:
    """What is wrong with a text that a property is compared with."""
    if len(value) > MAX_PROPERTY_VALUE:
        yield Violation(name, "TOO_LONG", f"must be at most {MAX_PROPERTY_VALUE} characters, has {len(value)}")
    if "\x00" in value:
        yield Violation(name, "CONTROL_CHARACTER", "must not contain U+0000")
