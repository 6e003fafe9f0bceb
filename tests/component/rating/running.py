"""The whole service in this process: real PostgreSQL, NATS and gRPC, with ingest played by a gRPC server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nats.aio.client import Client
from nats.js import JetStreamContext

from libs.embedded.databases import ServiceDatabase
from libs.embedded.machine import free_port
from libs.ids import new_id
from libs.messaging import BILLING, INGEST, connect, ensure_streams
from libs.periods import Period
from libs.rpc import internal_channel
from services.rating.config import Config, Role
from services.rating.domain.billing_period import BillingPeriod
from services.rating.domain.usage import WindowRow
from services.rating.main import run
from services.rating.wire.times import instant_to_pb, period_to_pb
from steelyard.billing.v1 import billing_period_pb2
from steelyard.common.v1 import watermark_pb2
from steelyard.ingest.v1 import usage_window_pb2
from steelyard.rating.v1 import charge_pb2
from tests.component.rating.fake_billing import FakeBillingServer, state_to_pb
from tests.component.rating.fake_ingest import FakeIngestServer, window_to_pb
from tests.component.rating.support import MARCH, FakeBilling, FakeIngest

INTERNAL_KEY = "internal-key-of-the-tests"
OPERATOR_KEY = "operator-key-of-the-tests"


@dataclass
class Published:
    """A message of rating's stream."""

    subject: str
    sequence: int
    charges: list[charge_pb2.Charge] = field(default_factory=list)
    watermark: watermark_pb2.WatermarkAdvanced | None = None


@dataclass
class Running:
    """A running service and its neighbours."""

    config: Config
    ingest: FakeIngest
    ingest_server: FakeIngestServer
    billing: FakeBilling
    billing_server: FakeBillingServer
    client: Client
    channel: grpc.aio.Channel
    sent: int = 0

    @property
    def js(self) -> JetStreamContext:
        return self.client.jetstream()

    async def send_windows(self, *rows: WindowRow, lost: bool = False) -> None:
        """What ingest does after it has recorded; `lost` leaves the message out."""
        self.ingest.put(*rows)
        for tenant in {row.tenant_id for row in rows} if not lost else ():
            windows = [window_to_pb(row) for row in rows if row.tenant_id == tenant]
            message = usage_window_pb2.UsageWindowsChanged(tenant_id=tenant, windows=windows)
            await self.publish("ingest.usage_window.changed.v1", message.SerializeToString(), tenant)

    async def send_watermark(self, at: datetime) -> None:
        message = watermark_pb2.WatermarkAdvanced(watermark_time=instant_to_pb(at))
        await self.publish("ingest.watermark.advanced.v1", message.SerializeToString(), "watermark")

    async def send_periods(self, *periods: BillingPeriod) -> None:
        states = [state_to_pb(period) for period in periods]
        tenant = periods[0].key.tenant_id
        message = billing_period_pb2.BillingPeriodsChanged(tenant_id=tenant, billing_periods=states)
        await self.publish("billing.billing_period.changed.v1", message.SerializeToString(), tenant)

    async def publish(self, subject: str, payload: bytes, prefix: str) -> None:
        self.sent += 1
        # Unique beyond this service: the streams of a shared server remember the message ids of earlier tests.
        await self.js.publish(subject, payload, headers={"Nats-Msg-Id": f"{prefix}:{new_id('test')}:{self.sent}"})

    async def until_watermark(self, *, timeout_s: float = 30) -> list[Published]:
        """Wait for a watermark in rating's stream; return all messages from the stream's beginning up to it."""
        subscription = await self.js.subscribe("rating.>", ordered_consumer=True)
        messages: list[Published] = []
        try:
            async with asyncio.timeout(timeout_s):
                while not messages or messages[-1].watermark is None:
                    messages.append(_read(await subscription.next_msg(timeout_s)))
            return messages
        finally:
            await subscription.unsubscribe()

    async def charge_when(
        self,
        price: str,
        quantity: str,
        *,
        subscription: str = "sub-1",
        period: Period = MARCH,
        timeout_s: float = 30,
    ) -> charge_pb2.Charge:
        """Wait until a charge with that quantity is published, and return it."""
        wanted = (subscription, period_to_pb(period), price, quantity)
        subscribed = await self.js.subscribe("rating.charge.changed.v1", ordered_consumer=True)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    for charge in _read(await subscribed.next_msg(timeout_s)).charges:
                        if (charge.subscription_id, charge.period, charge.price_id, charge.quantity) == wanted:
                            return charge
        finally:
            await subscribed.unsubscribe()


def _read(message: object) -> Published:
    subject, data, metadata = message.subject, message.data, message.metadata  # type: ignore[attr-defined]
    published = Published(subject, metadata.sequence.stream)
    if subject == "rating.charge.changed.v1":
        published.charges = list(charge_pb2.ChargesChanged.FromString(data).charges)
    else:
        published.watermark = watermark_pb2.WatermarkAdvanced.FromString(data)
    return published


@asynccontextmanager
async def running(
    server: ServiceDatabase, nats_url: str, *, role: Role = "all", ingest: FakeIngest | None = None
) -> AsyncIterator[Running]:
    """Run the service until the block ends; it must end without an error."""
    data = ingest or FakeIngest()
    ingest_server = FakeIngestServer(data)
    billing = FakeBilling()
    billing_server = FakeBillingServer(billing)
    environment = {
        **server.environment(),
        "NATS_URL": nats_url,
        "GRPC_LISTEN": f"127.0.0.1:{free_port()}",
        "STEELYARD_INTERNAL_KEY": INTERNAL_KEY,
        "STEELYARD_OPERATOR_KEY": OPERATOR_KEY,
        "INGEST_QUERY_TARGET": await ingest_server.start(),
        "BILLING_TARGET": await billing_server.start(),
    }
    config = Config.from_env(environment, role)
    client = await connect(nats_url, name="test")
    await ensure_streams(client.jetstream(), [INGEST, BILLING])
    stopping = asyncio.Event()
    async with AsyncExitStack() as resources:
        task = asyncio.create_task(run(config, "test", stopping, resources))
        channel = internal_channel(config.grpc_listen, INTERNAL_KEY)
        try:
            await until_ready(config.grpc_listen, task)
            yield Running(config, data, ingest_server, billing, billing_server, client, channel)
        finally:
            await channel.close()
            stopping.set()
            await task
            await ingest_server.stop()
            await billing_server.stop()
            await client.close()


async def until_ready(target: str, task: asyncio.Task[Any], timeout_s: float = 20) -> None:
    """Return when the service answers that it serves, or when its task has ended (raising its error)."""
    async with asyncio.timeout(timeout_s), grpc.aio.insecure_channel(target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # Without types.
        while not task.done():
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            except grpc.aio.AioRpcError:
                continue
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            await asyncio.sleep(0.02)
    await task
