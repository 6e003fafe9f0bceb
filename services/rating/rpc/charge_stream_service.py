"""ChargeStreamService: reads the request, and writes what a subscription has to send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import TypeAlias

import grpc
from google.protobuf.message import Message

from libs.clock import Clock, monotonic_s
from libs.errors import InvalidInput, Unavailable
from libs.rpc import current_tenant, draining
from services.rating.domain.live_charge import ChargeWatch, LiveCharge, in_messages
from services.rating.metrics import ChargeStreamMetrics
from services.rating.rpc import require
from services.rating.usecases.live_charges import ChargeSubscription, LiveCharges
from services.rating.usecases.read_live_charges import ReadLiveCharges
from services.rating.wire.live_charges import changes_to_pb, heartbeat_to_pb, snapshot_to_pb
from steelyard.rating.v1 import charge_stream_service_pb2 as pb
from steelyard.rating.v1 import charge_stream_service_pb2_grpc as pb_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"

MAX_IDS = 100
HEARTBEAT_S = 15.0
_MAX_INTERVAL_S = 10.0
_INTERVAL_S = 0.2
_USAGE_STILL_COMES = timedelta(days=1)
_SOON = timedelta(hours=1)
_RETRY_AFTER_S = Decimal("0.1")


class ChargeStreamServicer(pb_grpc.ChargeStreamServiceServicer):
    """Charges of the calling tenant while they change."""

    def __init__(
        self,
        *,
        live_charges: LiveCharges,
        read_live_charges: ReadLiveCharges,
        metrics: ChargeStreamMetrics,
        clock: Clock,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._live_charges = live_charges
        self._read_live_charges = read_live_charges
        self._metrics = metrics
        self._clock = clock
        self._heartbeat_s = heartbeat_s

    async def StreamCharges(self, request: pb.StreamChargesRequest, context: Context) -> None:  # type: ignore[override]
        watch, interval_s = self._watch(request), _interval_s(request)
        with self._metrics.open():
            # Subscribed before the snapshot is read: a change that the snapshot does not have is offered.
            async with self._live_charges.subscribed(watch) as subscription, _ended_by_drain(subscription):
                async for page in self._read_live_charges(watch):
                    await self._write_charges(context, subscription.unseen(page), snapshot=True)
                await self._send(context, subscription, interval_s)

    def _watch(self, request: pb.StreamChargesRequest) -> ChargeWatch:
        customers = _ids(request.customer_ids, "customer_ids")
        subscriptions = _ids(request.subscription_ids, "subscription_ids")
        if customers and subscriptions:
            raise InvalidInput.of("subscription_ids", "CONFLICTING", "name customers or subscriptions, not both")
        if request.HasField("ending_after"):
            ending_after = require.instant(request.ending_after, "ending_after")
            return ChargeWatch(current_tenant(), customers, subscriptions, ending_after)
        now = self._clock()
        # Longer than a stream lives: it also shows the period that begins meanwhile.
        times = (now - _USAGE_STILL_COMES, now + _SOON)
        return ChargeWatch(current_tenant(), customers, subscriptions, *times)

    async def _send(self, context: Context, subscription: ChargeSubscription, interval_s: float) -> None:
        """Send changes and heartbeats until the subscription ends.

        A heartbeat goes out with nothing left to send: only then its watermark holds. It waits for that.
        """
        free_at_s = beat_at_s = monotonic_s()
        while True:
            subscription.check()
            now_s = monotonic_s()
            wait_s = (free_at_s if subscription.has_changes else beat_at_s) - now_s
            if wait_s > 0:
                await subscription.wait(wait_s)
                continue
            changes, watermark = subscription.take()
            await self._write_charges(context, changes, snapshot=False)
            if changes:
                free_at_s = monotonic_s() + interval_s
            if beat_at_s <= now_s:
                await self._write(context, heartbeat_to_pb(watermark), "heartbeat")
                beat_at_s = monotonic_s() + self._heartbeat_s

    async def _write_charges(self, context: Context, charges: Sequence[LiveCharge], *, snapshot: bool) -> None:
        for part in in_messages(charges):
            if snapshot:
                await self._write(context, snapshot_to_pb(part), "snapshot")
            else:
                await self._write(context, changes_to_pb(part), "changes")

    async def _write(self, context: Context, message: pb.StreamChargesResponse, kind: str) -> None:
        await context.write(message)  # Returns only when the reader has room for it.
        self._metrics.sent(kind)


@asynccontextmanager
async def _ended_by_drain(subscription: ChargeSubscription) -> AsyncIterator[None]:
    """End the subscription when the server asks its streams to end."""
    drain = draining()

    async def end() -> None:
        await drain.wait()
        subscription.end(
            Unavailable("the stream is old or the server stops", reason="STOPPING", retry_after_s=_RETRY_AFTER_S)
        )

    task = asyncio.create_task(end())
    try:
        yield
    finally:
        task.cancel()


def _ids(texts: Sequence[str], field: str) -> frozenset[str]:
    if len(texts) > MAX_IDS:
        raise InvalidInput.of(field, "OUT_OF_RANGE", f"must be at most {MAX_IDS} ids")
    return frozenset(require.resource_id(text, f"{field}[{index}]") for index, text in enumerate(texts))


def _interval_s(request: pb.StreamChargesRequest) -> float:
    if not request.HasField("min_interval"):
        return _INTERVAL_S
    seconds = request.min_interval.seconds + request.min_interval.nanos / 1e9
    if not 0 <= seconds <= _MAX_INTERVAL_S:
        raise InvalidInput.of("min_interval", "OUT_OF_RANGE", f"must be 0 to {_MAX_INTERVAL_S:.0f} s")
    return seconds
