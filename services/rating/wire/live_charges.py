"""Watched charges on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from services.rating.domain.live_charge import ChargeKey, LiveCharge
from services.rating.wire.times import instant_from_pb, instant_to_pb
from services.rating.wire.usage import watermark_from_pb
from steelyard.common.v1 import watermark_pb2
from steelyard.rating.v1 import charge_pb2
from steelyard.rating.v1 import charge_stream_service_pb2 as pb


def live_charges_from_pb(charges: Iterable[charge_pb2.Charge]) -> list[LiveCharge]:
    """Return published charges.

    :raises ValueError, OverflowError: if the instants of one are impossible
    """
    return [
        LiveCharge(
            ChargeKey(charge.subscription_id, instant_from_pb(charge.period.start), charge.price_id),
            charge.customer_id,
            instant_from_pb(charge.period.end),
            charge.version,
            charge.SerializeToString(),
        )
        for charge in charges
    ]


def passed_from_bytes(data: bytes) -> tuple[datetime, Mapping[str, str]]:
    """Return a published watermark, and by tenant why it does not hold for them.

    :raises google.protobuf.message.DecodeError, ValueError, OverflowError: if it is none
    """
    watermark = watermark_from_pb(watermark_pb2.WatermarkAdvanced.FromString(data))
    return watermark.at, dict(watermark.holds)


def snapshot_to_pb(charges: Sequence[LiveCharge]) -> pb.StreamChargesResponse:
    """Return a message with present charges."""
    return pb.StreamChargesResponse(snapshot=_streamed(charges))


def changes_to_pb(charges: Sequence[LiveCharge]) -> pb.StreamChargesResponse:
    """Return a message with changed charges."""
    return pb.StreamChargesResponse(changes=_streamed(charges))


def heartbeat_to_pb(watermark: datetime | None) -> pb.StreamChargesResponse:
    """Return a heartbeat."""
    at = None if watermark is None else instant_to_pb(watermark)
    return pb.StreamChargesResponse(heartbeat=pb.ChargeHeartbeat(watermark_time=at))


def _streamed(charges: Sequence[LiveCharge]) -> pb.StreamedCharges:
    return pb.StreamedCharges(charges=[charge_pb2.Charge.FromString(charge.content) for charge in charges])
