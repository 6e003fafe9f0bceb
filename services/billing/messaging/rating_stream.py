"""Consumes rating's stream: charges and the watermark behind them, with ONE durable, so that their order is kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC

import nats.errors
from google.protobuf.message import DecodeError
from nats.js import JetStreamContext

from libs.database import is_outage
from libs.errors import Unavailable
from libs.ids import check_tenant_id
from libs.messaging import RATING, Delivery, FloorBeyondStream, UnreadableMessage, ack_floor
from libs.messaging.failures import pause
from services.billing.domain.charge import Charge
from services.billing.domain.watermark import ReceivedWatermark
from services.billing.messaging.consuming import Subscription
from services.billing.usecases.apply_charges import ApplyCharges
from services.billing.usecases.ports import Watermarks
from services.billing.wire.charges import ChargeUnreadable, charge_from_pb
from steelyard.common.v1 import watermark_pb2
from steelyard.rating.v1 import charge_pb2

CHARGES_SUBJECT = "rating.charge.changed.v1"
WATERMARK_SUBJECT = "rating.watermark.advanced.v1"
SUBSCRIPTION = Subscription(RATING.name, "billing-charge-apply", (CHARGES_SUBJECT, WATERMARK_SUBJECT), batch=100)
_FLOOR_EVERY_S = 0.2

_logger = logging.getLogger(__name__)


class RatingStreamConsumer:
    """Handles a batch of charges and watermarks."""

    def __init__(self, *, apply_charges: ApplyCharges) -> None:
        self._apply_charges = apply_charges

    async def __call__(self, deliveries: Sequence[Delivery]) -> None:
        """:raises UnreadableMessage: if a message is none of ours; the consumer loop isolates and parks it"""
        charges: dict[str, list[Charge]] = {}
        watermarks: list[ReceivedWatermark] = []
        for delivery in deliveries:
            try:
                if delivery.subject == WATERMARK_SUBJECT:
                    watermarks.append(_watermark(delivery))
                else:
                    tenant_id, changed = _charges(delivery)
                    charges.setdefault(tenant_id, []).extend(changed)
            except (DecodeError, ChargeUnreadable) as error:
                raise UnreadableMessage(f"{delivery.subject} {delivery.msg_id}: {error}") from error
            # A batch may hold tens of thousands of charges, and calls are served by the same loop.
            await asyncio.sleep(0)
        await self._apply_charges(charges=charges, watermarks=watermarks)


class WatermarkCounter:
    """Lets a received watermark count when everything before it in the stream is acknowledged by the durable."""

    def __init__(self, js: JetStreamContext, watermarks: Watermarks) -> None:
        self._js = js
        self._watermarks = watermarks

    async def run(self, stopping: asyncio.Event) -> None:
        """Count until stopped."""
        while not stopping.is_set():
            try:
                await self.count_once()
            except Exception as error:
                if not isinstance(error, (nats.errors.Error, Unavailable, FloorBeyondStream)) and not is_outage(error):
                    raise
                _logger.debug("the watermark waits: %r", error)
            await pause(stopping, _FLOOR_EVERY_S)

    async def count_once(self) -> None:
        """Count what the floor has passed."""
        floor = await ack_floor(self._js, SUBSCRIPTION.stream, SUBSCRIPTION.durable)
        await self._watermarks.count_through(floor.stream_epoch, floor.consumer_stream_seq)


def _charges(delivery: Delivery) -> tuple[str, list[Charge]]:
    message = charge_pb2.ChargesChanged.FromString(delivery.data)
    if check_tenant_id(message.tenant_id):
        raise ChargeUnreadable(f"{message.tenant_id!r} is no tenant")
    return message.tenant_id, [charge_from_pb(charge) for charge in message.charges]


def _watermark(delivery: Delivery) -> ReceivedWatermark:
    message = watermark_pb2.WatermarkAdvanced.FromString(delivery.data)
    if not message.HasField("watermark_time"):
        raise ChargeUnreadable("a watermark without time")
    return ReceivedWatermark(
        stream_epoch=delivery.stream_epoch,
        stream_seq=delivery.stream_seq,
        watermark_at=message.watermark_time.ToDatetime(tzinfo=UTC),
        holds=tuple((hold.tenant_id, hold.reason) for hold in message.holds),
    )
