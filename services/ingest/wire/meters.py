"""Meters on the wire."""

from __future__ import annotations

from services.ingest.domain.meter import Aggregation, Meter, PropertyFilter
from services.ingest.wire.times import time_from_pb, time_to_pb
from steelyard.ingest.v1 import meter_pb2

_AGGREGATIONS = {
    Aggregation.COUNT: meter_pb2.AGGREGATION_COUNT,
    Aggregation.SUM: meter_pb2.AGGREGATION_SUM,
}
_AGGREGATIONS_FROM_PB = {number: aggregation for aggregation, number in _AGGREGATIONS.items()}


def aggregation_from_pb(number: int) -> Aggregation | None:
    """None if the number means nothing here."""
    return {int(known): aggregation for known, aggregation in _AGGREGATIONS_FROM_PB.items()}.get(number)


def meter_to_pb(meter: Meter) -> meter_pb2.Meter:
    return meter_pb2.Meter(
        meter_id=meter.meter_id,
        display_name=meter.display_name,
        event_type=meter.event_type,
        aggregation=_AGGREGATIONS[meter.aggregation],
        expression=meter.expression,
        filters=[meter_pb2.PropertyFilter(property=item.property, value=item.value) for item in meter.filters],
        group_by=meter.group_by,
        unit=meter.unit,
        create_time=None if meter.created_at is None else time_to_pb(meter.created_at),
    )


def meter_from_pb(message: meter_pb2.Meter) -> Meter:
    """
    :raises ValueError: if it has no known aggregation
    """
    aggregation = aggregation_from_pb(message.aggregation)
    if aggregation is None:
        raise ValueError(f"meter {message.meter_id} has no known aggregation")
    return Meter(
        meter_id=message.meter_id,
        display_name=message.display_name,
        event_type=message.event_type,
        aggregation=aggregation,
        expression=message.expression,
        filters=tuple(PropertyFilter(item.property, item.value) for item in message.filters),
        group_by=tuple(message.group_by),
        unit=message.unit,
        created_at=time_from_pb(message.create_time) if message.HasField("create_time") else None,
    )
