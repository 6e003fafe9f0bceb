"""Meters on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import cast

from libs.errors import InvalidInput
from libs.money import DecimalRejected, parse_decimal, plain
from services.ingest.domain.meter import Meter, PropertyFilter
from services.ingest.domain.meter_options import Buckets, EmptyBuckets, EmptyResult, LevelUnit, Rounding
from services.ingest.domain.meter_versions import MeterVersion
from services.ingest.wire.meter_enums import (
    AGGREGATION,
    BUCKET_LENGTH,
    EMPTY_QUANTITY,
    FILTER_OPERATOR,
    LEVEL_UNIT,
    ROUNDING_FUNCTION,
)
from services.ingest.wire.times import time_from_pb, time_to_pb
from steelyard.ingest.v1 import meter_pb2 as pb

_ONE = Decimal(1)


def meter_to_pb(meter: Meter) -> pb.Meter:
    message = pb.Meter(
        meter_id=meter.meter_id,
        display_name=meter.display_name,
        event_type=meter.event_type,
        aggregation=cast(pb.Aggregation.ValueType, AGGREGATION.to_pb(meter.aggregation)),
        expression=meter.expression,
        filters=map(filter_to_pb, meter.filters),
        group_by=meter.group_by,
        unit=meter.unit,
        create_time=None if meter.created_at is None else time_to_pb(meter.created_at),
        additive=meter.additive,
        exclude=[pb.Exclusion(filters=map(filter_to_pb, filters)) for filters in meter.exclude],
        unit_property=meter.unit_property,
        operation_property=meter.operation_property,
        percentile="" if meter.percentile is None else plain(meter.percentile),
        carry_over=meter.carry_over,
        prorated=meter.prorated,
        negative_as_zero=meter.negative_as_zero,
        multiplier="" if meter.multiplier == _ONE else plain(meter.multiplier),
        description=meter.description,
        version=meter.version,
        archive_time=None if meter.archived_at is None else time_to_pb(meter.archived_at),
    )
    if meter.buckets is not None:
        message.buckets.CopyFrom(_buckets_to_pb(meter.buckets))
    if meter.rounding is not None:
        function = cast(pb.RoundingFunction.ValueType, ROUNDING_FUNCTION.to_pb(meter.rounding.function))
        message.rounding.CopyFrom(pb.QuantityRounding(function=function, digits=meter.rounding.digits))
    # What is as it is by default is left out, so that a definition reads as its author wrote it.
    if meter.level_unit is not LevelUnit.PERIOD:
        message.level_unit = cast(pb.LevelUnit.ValueType, LEVEL_UNIT.to_pb(meter.level_unit))
    if meter.empty is EmptyResult.NULL:
        message.empty = pb.EMPTY_QUANTITY_NULL
    return message


def meter_from_pb(message: pb.Meter) -> Meter:
    """
    :raises InvalidInput: if an enum or a number cannot be read, naming the field; see `meter_violations` for the rest
    """
    return Meter(
        meter_id=message.meter_id,
        display_name=message.display_name,
        event_type=message.event_type,
        aggregation=AGGREGATION.from_pb(message.aggregation, "meter.aggregation"),
        expression=message.expression,
        filters=_filters(message.filters, "meter.filters"),
        group_by=tuple(message.group_by),
        unit=message.unit,
        created_at=time_from_pb(message.create_time) if message.HasField("create_time") else None,
        exclude=tuple(
            _filters(item.filters, f"meter.exclude[{index}].filters") for index, item in enumerate(message.exclude)
        ),
        unit_property=message.unit_property,
        operation_property=message.operation_property,
        buckets=_buckets(message.buckets) if message.HasField("buckets") else None,
        percentile=_decimal(message.percentile, "meter.percentile") if message.percentile else None,
        level_unit=LEVEL_UNIT.from_pb(message.level_unit, "meter.level_unit"),
        carry_over=message.carry_over,
        prorated=message.prorated,
        negative_as_zero=message.negative_as_zero,
        rounding=_rounding(message.rounding) if message.HasField("rounding") else None,
        multiplier=_decimal(message.multiplier, "meter.multiplier") if message.multiplier else _ONE,
        empty=EMPTY_QUANTITY.from_pb(message.empty, "meter.empty"),
        description=message.description,
        version=max(message.version, 1),  # Directory entries from before versions have none.
        archived_at=time_from_pb(message.archive_time) if message.HasField("archive_time") else None,
    )


def version_to_pb(version: MeterVersion) -> pb.MeterVersion:
    return pb.MeterVersion(
        version=version.version,
        display_name=version.display_name,
        description=version.description,
        archive_time=None if version.archived_at is None else time_to_pb(version.archived_at),
        create_time=time_to_pb(version.created_at),
        actor=version.actor,
    )


def filter_to_pb(item: PropertyFilter) -> pb.PropertyFilter:
    operator = cast(pb.FilterOperator.ValueType, FILTER_OPERATOR.to_pb(item.operator))
    return pb.PropertyFilter(property=item.property, value=item.value, operator=operator, values=item.values)


def filter_from_pb(message: pb.PropertyFilter, field: str) -> PropertyFilter:
    """
    :raises InvalidInput: if the operator is unknown
    """
    operator = FILTER_OPERATOR.from_pb(message.operator, f"{field}.operator")
    return PropertyFilter(message.property, message.value, operator, tuple(message.values))


def _filters(messages: Iterable[pb.PropertyFilter], field: str) -> tuple[PropertyFilter, ...]:
    return tuple(filter_from_pb(message, f"{field}[{index}]") for index, message in enumerate(messages))


def _buckets_to_pb(buckets: Buckets) -> pb.Buckets:
    return pb.Buckets(
        length=cast(pb.BucketLength.ValueType, BUCKET_LENGTH.to_pb(buckets.length)),
        aggregation=cast(pb.Aggregation.ValueType, AGGREGATION.to_pb(buckets.aggregation)),
        time_zone="" if buckets.time_zone == "UTC" else buckets.time_zone,
        skip_empty=buckets.empty is EmptyBuckets.SKIP,
    )


def _buckets(message: pb.Buckets) -> Buckets:
    return Buckets(
        length=BUCKET_LENGTH.from_pb(message.length, "meter.buckets.length"),
        aggregation=AGGREGATION.from_pb(message.aggregation, "meter.buckets.aggregation"),
        time_zone=message.time_zone or "UTC",
        empty=EmptyBuckets.SKIP if message.skip_empty else EmptyBuckets.ZERO,
    )


def _rounding(message: pb.QuantityRounding) -> Rounding:
    return Rounding(ROUNDING_FUNCTION.from_pb(message.function, "meter.rounding.function"), message.digits)


def _decimal(text: str, field: str) -> Decimal:
    try:
        return parse_decimal(text)
    except DecimalRejected as error:
        raise InvalidInput.of(field, error.reason, str(error)) from error
