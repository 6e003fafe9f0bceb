"""Estimates on the wire."""

from __future__ import annotations

from decimal import Decimal

from libs.money import plain
from services.rating.domain.estimate import EstimatedLine, EstimatedPeriod, NotEstimable
from services.rating.usecases.estimate_event import Estimate
from services.rating.wire.times import instant_to_pb, period_to_pb
from steelyard.rating.v1 import estimate_service_pb2 as pb

_REASONS = {
    NotEstimable.NOT_ADDITIVE: pb.NOT_ESTIMABLE_REASON_NOT_ADDITIVE,
    NotEstimable.OTHER_LINE: pb.NOT_ESTIMABLE_REASON_OTHER_LINE,
}


def estimate_to_pb(estimate: Estimate) -> pb.EstimateEventResponse:
    """Return an estimate for the wire."""
    return pb.EstimateEventResponse(
        quantities=[
            pb.EstimatedQuantity(
                meter_id=measured.meter_id,
                quantity=plain(measured.quantity),
                unit=measured.unit,
                dimensions=measured.dimensions,
            )
            for measured in estimate.quantities
        ],
        periods=map(_period_to_pb, estimate.periods),
        watermark_time=None if estimate.watermark is None else instant_to_pb(estimate.watermark),
    )


def _period_to_pb(estimated: EstimatedPeriod) -> pb.EstimatedPeriod:
    period, card = estimated.period, estimated.card
    return pb.EstimatedPeriod(
        subscription_id=period.key.subscription_id,
        period=period_to_pb(period.period),
        rate_card_id=period.rate_card_id,
        rate_card_version=card.version if card else 0,
        currency=card.currency if card else "",
        lines=map(_line_to_pb, estimated.lines),
        marginal_amount="" if estimated.problem else _text(estimated.marginal),
        problem=estimated.problem.reason if estimated.problem else "",
    )


def _line_to_pb(line: EstimatedLine) -> pb.EstimatedLine:
    before, after = line.before, line.after
    message = pb.EstimatedLine(
        price_id=before.price_id,
        display_name=before.display_name,
        meter_id=before.meter_id,
        quantity_before=plain(before.quantity),
        amount_before=plain(before.amount),
        marginal_amount=_text(line.marginal),
    )
    if isinstance(after, NotEstimable):
        message.not_estimable = _REASONS[after]
    else:
        message.quantity_after, message.amount_after = plain(after.quantity), plain(after.amount)
    return message


def _text(amount: Decimal | None) -> str:
    return "" if amount is None else plain(amount)
