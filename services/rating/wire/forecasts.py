"""Forecasts on the wire."""

from __future__ import annotations

from libs.money import plain
from services.rating.domain.forecast import INTERVAL_PERCENT
from services.rating.domain.forecasted_charges import ForecastedCharges, ForecastLine
from services.rating.wire.times import instant_to_pb
from steelyard.rating.v1 import charge_service_pb2 as pb


def forecast_to_pb(forecasted: ForecastedCharges) -> pb.ForecastChargesResponse:
    """Return an estimate for the wire."""
    lines = forecasted.lines
    return pb.ForecastChargesResponse(
        as_of=instant_to_pb(forecasted.as_of),
        currency=forecasted.currency,
        lines=map(_line_to_pb, lines),
        so_far_minor=sum(line.so_far for line in lines),
        expected_minor=sum(line.expected for line in lines),
        low_minor=sum(line.low for line in lines),
        high_minor=sum(line.high for line in lines),
        interval_percent=INTERVAL_PERCENT,
    )


def _line_to_pb(line: ForecastLine) -> pb.ForecastLine:
    quantity = line.quantity
    return pb.ForecastLine(
        price_id=line.price.price_id,
        meter_id=line.price.meter_id or "",
        method=quantity.method,
        quantity_so_far=plain(quantity.so_far),
        expected_quantity=plain(quantity.expected),
        low_quantity=plain(quantity.low),
        high_quantity=plain(quantity.high),
        so_far_minor=line.so_far,
        expected_minor=line.expected,
        low_minor=line.low,
        high_minor=line.high,
    )
