"""A meter: which events count, what each of them measures, and what splits the quantity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

from libs.errors import Violation
from libs.ids import check_resource_id, check_text
from services.ingest.domain.expressions import Expression, ExpressionRejected, compile_expression

MAX_FILTERS = 16
MAX_GROUP_BY = 8
_MAX_NAME = 200
_MAX_EVENT_TYPE = 128
_MAX_UNIT = 64
_MAX_PROPERTY = 64
_MAX_PROPERTY_VALUE = 256


_compiled_once = lru_cache(maxsize=10_000)(compile_expression)


class Aggregation(StrEnum):
    """How values are put together."""

    COUNT = "count"
    SUM = "sum"


@dataclass(frozen=True, slots=True)
class PropertyFilter:
    """Holds when a property has exactly this value, compared as text."""

    property: str
    value: str


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter as its tenant defined it; never changed afterwards.

    `expression` is empty exactly for COUNT. `created_at` is real time, None until the meter is stored. Check what comes
    from outside with `meter_violations` before anything else is asked of it.
    """

    meter_id: str
    display_name: str
    event_type: str
    aggregation: Aggregation
    expression: str = ""
    filters: tuple[PropertyFilter, ...] = ()
    group_by: tuple[str, ...] = ()
    unit: str = ""
    created_at: datetime | None = None

    @property
    def compiled(self) -> Expression | None:
        """The compiled expression; None for COUNT.

        :raises ExpressionRejected: if it cannot be compiled
        """
        return None if self.aggregation is Aggregation.COUNT else _compiled_once(self.expression)


def meter_violations(meter: Meter, field_name: str = "meter") -> list[Violation]:
    """Return everything that is wrong with a meter that a client defined."""
    checks = [
        check_resource_id(meter.meter_id, f"{field_name}.meter_id"),
        check_text(meter.event_type, f"{field_name}.event_type", _MAX_EVENT_TYPE),
        check_text(meter.display_name, f"{field_name}.display_name", _MAX_NAME) if meter.display_name else None,
        check_text(meter.unit, f"{field_name}.unit", _MAX_UNIT) if meter.unit else None,
    ]
    found = [violation for violation in checks if violation is not None]
    return [
        *found,
        *_expression_violations(meter, f"{field_name}.expression"),
        *_filter_violations(meter.filters, f"{field_name}.filters"),
        *_group_by_violations(meter.group_by, f"{field_name}.group_by"),
    ]


def _expression_violations(meter: Meter, name: str) -> Iterator[Violation]:
    if meter.aggregation is Aggregation.COUNT:
        if meter.expression:
            yield Violation(name, "NOT_ALLOWED", "a count has no expression")
        return
    if not meter.expression.strip():
        yield Violation(name, "REQUIRED", "a sum needs an expression")
        return
    try:
        compile_expression(meter.expression)
    except ExpressionRejected as error:
        yield Violation(name, error.reason, str(error))


def _filter_violations(filters: tuple[PropertyFilter, ...], name: str) -> Iterator[Violation]:
    if len(filters) > MAX_FILTERS:
        yield Violation(name, "TOO_MANY", f"must be at most {MAX_FILTERS}, has {len(filters)}")
        return
    for index, item in enumerate(filters):
        violation = check_text(item.property, f"{name}[{index}].property", _MAX_PROPERTY)
        if violation is not None:
            yield violation
        if len(item.value) > _MAX_PROPERTY_VALUE:
            description = f"must be at most {_MAX_PROPERTY_VALUE} characters, has {len(item.value)}"
            yield Violation(f"{name}[{index}].value", "TOO_LONG", description)
        if "\x00" in item.value:
            yield Violation(f"{name}[{index}].value", "CONTROL_CHARACTER", "must not contain U+0000")
    for key, count in Counter(item.property for item in filters).items():
        if count > 1:
            yield Violation(name, "DUPLICATE", f"property {key!r} is named {count} times; filters all have to hold")


def _group_by_violations(group_by: tuple[str, ...], name: str) -> Iterator[Violation]:
    if len(group_by) > MAX_GROUP_BY:
        yield Violation(name, "TOO_MANY", f"must be at most {MAX_GROUP_BY}, has {len(group_by)}")
        return
    for index, key in enumerate(group_by):
        violation = check_text(key, f"{name}[{index}]", _MAX_PROPERTY)
        if violation is not None:
            yield violation
        if key in group_by[:index]:
            yield Violation(f"{name}[{index}]", "DUPLICATE", f"{key!r} is named twice")
