"""A meter: which events count, what each of them measures, and what splits the quantity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from libs.errors import Violation
from libs.ids import check_resource_id, check_text
from services.ingest.domain.expressions import Expression, ExpressionRejected, ValueType, compile_expression
from services.ingest.domain.filters import (
    MAX_FILTERS,
    MAX_PROPERTY,
    Exclusion,
    FilterOperator,
    PropertyFilter,
    exclusion_violations,
    filter_violations,
)
from services.ingest.domain.meter_options import (
    WINDOWED,
    Aggregation,
    Buckets,
    EmptyResult,
    LevelUnit,
    Rounding,
)
from services.ingest.domain.meter_rules import option_violations

__all__ = [
    "MAX_FILTERS",
    "MAX_GROUP_BY",
    "Aggregation",
    "FilterOperator",
    "Meter",
    "PropertyFilter",
    "meter_violations",
]

MAX_GROUP_BY = 8
MAX_NAME = 200
MAX_DESCRIPTION = 1_000
MAX_EVENT_TYPE = 128
MAX_UNIT = 64


_compiled_once = lru_cache(maxsize=10_000)(compile_expression)


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter as its tenant defined it. What it measures never changes; its versions differ in texts for people and in
    whether it is archived.

    `created_at` and `archived_at` are real time, `created_at` is None until the meter is stored. Check what comes from
    outside with `meter_violations` before anything else is asked of it.
    """

    meter_id: str
    display_name: str
    event_type: str
    aggregation: Aggregation
    expression: str = ""
    """What an event measures; empty exactly for events that are only counted."""
    filters: tuple[PropertyFilter, ...] = ()
    """Events count for which all of them hold,"""
    group_by: tuple[str, ...] = ()
    unit: str = ""
    created_at: datetime | None = None
    exclude: tuple[Exclusion, ...] = ()
    """and none of these does."""
    unit_property: str = ""
    """The property in which events say the unit of their value; without it a value is in the meter's unit."""
    operation_property: str = ""
    """Of a unique count: the property that says `add` (or nothing) or `remove`."""
    buckets: Buckets | None = None
    percentile: Decimal | None = None
    """Above 0, at most 100."""
    level_unit: LevelUnit = LevelUnit.PERIOD
    carry_over: bool = False
    """Events before the period act in it, too."""
    prorated: bool = False
    """Of a sum or unique count: counted by the share of the period's days on which it was there."""
    negative_as_zero: bool = False
    """Of the latest value."""
    rounding: Rounding | None = None
    multiplier: Decimal = Decimal(1)
    """Of the rounded quantity."""
    empty: EmptyResult = EmptyResult.ZERO
    description: str = ""
    version: int = 1
    archived_at: datetime | None = None
    """Batches that were received at this instant or later do not count."""

    @property
    def event_aggregation(self) -> Aggregation:
        """How events, as opposed to buckets, are put together."""
        return self.aggregation if self.buckets is None else self.buckets.aggregation

    @property
    def mergeable(self) -> bool:
        """Whether the states of usage windows give the quantity of any time; otherwise only the log does."""
        return self.aggregation in WINDOWED and self.buckets is None and not self.carry_over and not self.prorated

    @property
    def additive(self) -> bool:
        """Whether the quantity of any time is the sum of the values of its usage windows."""
        sums = self.mergeable and self.aggregation in {Aggregation.COUNT, Aggregation.SUM}
        return sums and self.rounding is None and self.multiplier == 1

    @property
    def window_aggregation(self) -> Aggregation:
        """What the states of this meter's usage windows are of: as much as merges of what it needs.

        For a weighted sum that is the sum, which gives the level at the start of a period; for what only the log knows,
        the number of events.
        """
        if self.event_aggregation in WINDOWED:
            return self.event_aggregation
        return Aggregation.SUM if self.event_aggregation is Aggregation.WEIGHTED_SUM else Aggregation.COUNT

    @property
    def compiled(self) -> Expression | None:
        """The compiled expression: of a text for unique counts, of a number for all else; None for counts.

        :raises ExpressionRejected: if it cannot be compiled
        """
        return None if self.event_aggregation is Aggregation.COUNT else _compiled_once(self.expression, _type(self))


def _type(meter: Meter) -> ValueType:
    return ValueType.TEXT if meter.event_aggregation is Aggregation.UNIQUE_COUNT else ValueType.NUMBER


def meter_violations(meter: Meter, field_name: str = "meter") -> list[Violation]:
    """Return everything that is wrong with a meter that a client defined."""
    checks = [
        check_resource_id(meter.meter_id, f"{field_name}.meter_id"),
        check_text(meter.event_type, f"{field_name}.event_type", MAX_EVENT_TYPE),
        check_text(meter.display_name, f"{field_name}.display_name", MAX_NAME) if meter.display_name else None,
        check_text(meter.description, f"{field_name}.description", MAX_DESCRIPTION) if meter.description else None,
        check_text(meter.unit, f"{field_name}.unit", MAX_UNIT) if meter.unit else None,
    ]
    found = [violation for violation in checks if violation is not None]
    return [
        *found,
        *_expression_violations(meter, f"{field_name}.expression"),
        *filter_violations(meter.filters, f"{field_name}.filters"),
        *exclusion_violations(meter.exclude, f"{field_name}.exclude"),
        *_group_by_violations(meter.group_by, f"{field_name}.group_by"),
        *option_violations(meter, field_name),
    ]


def _expression_violations(meter: Meter, name: str) -> Iterator[Violation]:
    if meter.event_aggregation is Aggregation.COUNT:
        if meter.expression:
            yield Violation(name, "NOT_ALLOWED", "a count has no expression")
        return
    if not meter.expression.strip():
        yield Violation(name, "REQUIRED", f"{meter.event_aggregation} needs an expression")
        return
    try:
        compile_expression(meter.expression, _type(meter))
    except ExpressionRejected as error:
        yield Violation(name, error.reason, str(error))


def _group_by_violations(group_by: tuple[str, ...], name: str) -> Iterator[Violation]:
    if len(group_by) > MAX_GROUP_BY:
        yield Violation(name, "TOO_MANY", f"must be at most {MAX_GROUP_BY}, has {len(group_by)}")
        return
    for index, key in enumerate(group_by):
        violation = check_text(key, f"{name}[{index}]", MAX_PROPERTY)
        if violation is not None:
            yield violation
        if key in group_by[:index]:
            yield Violation(f"{name}[{index}]", "DUPLICATE", f"{key!r} is named twice")
