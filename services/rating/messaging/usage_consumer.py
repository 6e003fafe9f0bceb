"""Usage windows and watermarks of ingest: one durable for both, so that their order is the stream's."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from libs.ids import check_tenant_id
from libs.messaging import UNKNOWN_TENANT, Delivery, UnreadableMessage, tenant_of_message
from services.rating.domain.usage import ReceivedWatermark, WindowBatch
from services.rating.usecases.apply_usage import ApplyUsage
from services.rating.wire.usage import watermark_from_pb, window_from_pb
from steelyard.common.v1 import watermark_pb2
from steelyard.ingest.v1 import usage_window_pb2

DURABLE = "rating-usage-apply"
WINDOW_SUBJECT = "ingest.usage_window.changed.v1"
WATERMARK_SUBJECT = "ingest.watermark.advanced.v1"

BATCH = 50
"""Messages per transaction; each has up to 500 windows."""


class UsageConsumer:
    """Applies all messages of a fetched batch in one transaction."""

    def __init__(self, apply_usage: ApplyUsage) -> None:
        self._apply_usage = apply_usage

    async def __call__(self, deliveries: Sequence[Delivery]) -> None:
        """Handle windows and watermarks.

        :raises UnreadableMessage: if one of them is not what its subject says
        """
        batch = WindowBatch()
        watermarks = []
        for delivery in deliveries:
            try:
                if delivery.subject == WATERMARK_SUBJECT:
                    watermarks.append(_received(delivery))
                else:
                    _add_windows(batch, delivery.data)
            except (DecodeError, ValueError, OverflowError) as error:
                raise UnreadableMessage(f"{delivery.msg_id} on {delivery.subject}: {error}") from error
        await self._apply_usage(batch, watermarks)


def tenant_of(delivery: Delivery) -> str:
    """The tenant of a message that is parked; a watermark has none."""
    return UNKNOWN_TENANT if delivery.subject == WATERMARK_SUBJECT else tenant_of_message(delivery)


def _add_windows(batch: WindowBatch, data: bytes) -> None:
    changed = usage_window_pb2.UsageWindowsChanged.FromString(data)
    tenant_id = changed.tenant_id
    if violation := check_tenant_id(tenant_id):
        raise ValueError(violation.description)
    for window in changed.windows:
        batch.keep(window_from_pb(tenant_id, window))


def _received(delivery: Delivery) -> ReceivedWatermark:
    watermark = watermark_from_pb(watermark_pb2.WatermarkAdvanced.FromString(delivery.data))
    return ReceivedWatermark(watermark, delivery.stream_epoch, delivery.stream_seq)
