"""The three processes of ingest over servers of their own, and a tenant's way to them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from libs.embedded.databases import ServiceDatabases
from libs.embedded.machine import free_port
from libs.embedded.nats_server import EmbeddedNats
from libs.embedded.postgres import EmbeddedPostgres
from libs.messaging import (
    DIRECTORY,
    INGEST,
    USAGE_RAW,
    DirectoryPublisher,
    JetStreamPublisher,
    connect,
    directory_subject,
    ensure_streams,
)
from libs.rpc import new_api_key
from steelyard.billing.v1 import directory_pb2
from steelyard.common.v1 import watermark_pb2
from steelyard.ingest.v1 import (
    ingest_service_pb2 as ingest_pb,
)
from steelyard.ingest.v1 import (
    ingest_service_pb2_grpc,
    meter_pb2,
    meter_service_pb2,
    meter_service_pb2_grpc,
    reconciliation_service_pb2,
    reconciliation_service_pb2_grpc,
    usage_event_pb2,
    usage_service_pb2,
    usage_service_pb2_grpc,
    usage_window_service_pb2_grpc,
)
from tests.component.ingest.builders import migrate_ingest

INTERNAL_KEY = "internal-key-of-the-tests"
OPERATOR_KEY = "operator-key-of-the-tests"
ROLES = ("accept", "record", "query")
Metadata = tuple[tuple[str, str], ...]


@dataclass
class RunningIngest:
    """Processes by role, their servers, and channels to them."""

    postgres: EmbeddedPostgres
    nats: EmbeddedNats
    environment: dict[str, str]
    connection: Client
    ports: dict[str, int] = field(default_factory=lambda: {role: free_port() for role in ROLES})
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    @property
    def js(self) -> JetStreamContext:
        return self.connection.jetstream()

    async def start(self, *roles: str) -> None:
        """Start processes and wait until they serve."""
        for role in roles:
            self._launch(role)
        for role in roles:
            self.channels.setdefault(role, grpc.aio.insecure_channel(f"127.0.0.1:{self.ports[role]}"))
            await until(partial(self._serves, role))

    def _launch(self, role: str) -> None:
        own = {"GRPC_LISTEN": f"127.0.0.1:{self.ports[role]}", "DRAIN": "0"}
        command = [sys.executable, "-m", "services.ingest", "--role", role]
        self.processes[role] = subprocess.Popen(command, env=self.environment | own)

    async def _serves(self, role: str) -> bool:
        stub: Any = health_pb2_grpc.HealthStub(self.channels[role])  # Its stubs have no methods.
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=30)
        except grpc.aio.AioRpcError as error:  # The connection to a killed predecessor breaks off now.
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def kill(self, role: str) -> None:
        process = self.processes.pop(role)
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    async def stop(self) -> None:
        for channel in self.channels.values():
            await channel.close()
        for process in self.processes.values():
            process.terminate()
        codes = {}
        for role, process in self.processes.items():
            try:
                codes[role] = process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[role] = process.wait(5)
        assert set(codes.values()) <= {0}, codes

    async def tenant(self, tenant_id: str, *, strict: bool = False, past_limit_s: int = 34 * 86_400) -> Tenant:
        """Make a tenant known through the directory, as billing does, and wait until acceptors know its key."""
        directory = DirectoryPublisher(JetStreamPublisher(self.js))
        entry = directory_pb2.TenantEntry(
            tenant_id=tenant_id,
            reject_unknown_customers=strict,
            event_past_limit_s=past_limit_s,
            event_future_limit_s=3_600,
            version=1,
        )
        await directory.put(directory_subject("tenant", tenant_id), entry.SerializeToString(), f"{tenant_id}:tenant")
        key = new_api_key(secrets.token_bytes)
        known = directory_pb2.ApiKeyEntry(
            key_id=key.key_id, tenant_id=tenant_id, secret_hash=key.secret_hash, version=1
        )
        await directory.put(directory_subject("key", key.key_id), known.SerializeToString(), f"{tenant_id}:key")
        tenant = Tenant(self, tenant_id, (("authorization", f"Bearer {key.text}"),))
        await until(tenant.is_known)
        return tenant

    async def clock(self, tenant_id: str, at: datetime) -> None:
        """Put the tenant on a test clock."""
        entry = directory_pb2.ClockEntry(tenant_id=tenant_id, version=1)
        entry.test_time.FromDatetime(at)
        publisher = DirectoryPublisher(JetStreamPublisher(self.js))
        await publisher.put(directory_subject("clock", tenant_id), entry.SerializeToString(), f"{tenant_id}:clock")

    async def customer(self, tenant_id: str, customer_id: str) -> None:
        entry = directory_pb2.CustomerEntry(tenant_id=tenant_id, customer_id=customer_id, version=1)
        subject = directory_subject("customer", tenant_id, customer_id)
        message_id = f"{tenant_id}:customer:{customer_id}"
        await DirectoryPublisher(JetStreamPublisher(self.js)).put(subject, entry.SerializeToString(), message_id)

    async def watermark(self) -> watermark_pb2.WatermarkAdvanced:
        """The last one published; waits for the first one."""
        found: list[RawStreamMsg] = []

        async def published() -> bool:
            with contextlib.suppress(NotFoundError):
                found.append(await self.js.get_last_msg(INGEST.name, "ingest.watermark.advanced.v1"))
            return bool(found)

        await until(published)
        return watermark_pb2.WatermarkAdvanced.FromString(found[0].data or b"")


@dataclass(frozen=True)
class Tenant:
    """Calls with the tenant's key."""

    ingest: RunningIngest
    tenant_id: str
    key: Metadata

    async def is_known(self) -> bool:
        """Whether both doors let the key in; with a call that goes no further."""
        return await _lets_in(self.send()) and await _lets_in(
            self.usage.GetEventStatus(usage_service_pb2.GetEventStatusRequest(), metadata=self.key, timeout=20)
        )

    async def send(
        self,
        *events: usage_event_pb2.UsageEvent,
        level: ingest_pb.AckLevel.ValueType = ingest_pb.ACK_LEVEL_RECORDED,
        timeout_s: float = 20,
    ) -> ingest_pb.IngestEventsResponse:
        stub = ingest_service_pb2_grpc.IngestServiceStub(self.ingest.channels["accept"])
        request = ingest_pb.IngestEventsRequest(events=events, ack_level=level)
        return await stub.IngestEvents(request, metadata=self.key, timeout=timeout_s)

    async def create_meter(self, meter: meter_pb2.Meter, request_id: str = "") -> meter_pb2.Meter:
        request = meter_service_pb2.CreateMeterRequest(request_id=request_id or str(uuid.uuid4()), meter=meter)
        stub = meter_service_pb2_grpc.MeterServiceStub(self.ingest.channels["query"])
        return (await stub.CreateMeter(request, metadata=self.key, timeout=20)).meter

    async def counts(self) -> usage_service_pb2.GetEventCountsResponse:
        return await self.usage.GetEventCounts(usage_service_pb2.GetEventCountsRequest(), metadata=self.key, timeout=20)

    async def failed_checks(self, settle_s: float = 10) -> list[str]:
        """The equations that do not hold, and do not come to: those of the door are off while batches are recorded side
        by side, a later one before an earlier one."""
        stub = reconciliation_service_pb2_grpc.ReconciliationServiceStub(self.ingest.channels["query"])
        ends_at = time.monotonic() + settle_s
        while True:
            answer = await stub.Reconcile(reconciliation_service_pb2.ReconcileRequest(), metadata=self.key, timeout=20)
            failed = [check.name for check in answer.checks if not check.ok]
            if not failed or time.monotonic() > ends_at:
                return failed
            await asyncio.sleep(0.05)

    @property
    def usage(self) -> usage_service_pb2_grpc.UsageServiceAsyncStub:
        return usage_service_pb2_grpc.UsageServiceStub(self.ingest.channels["query"])

    @property
    def windows(self) -> usage_window_service_pb2_grpc.UsageWindowServiceAsyncStub:
        return usage_window_service_pb2_grpc.UsageWindowServiceStub(self.ingest.channels["query"])


async def _lets_in(call: Awaitable[object]) -> bool:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.INVALID_ARGUMENT
    return True


def an_event(event_id: str, customer_id: str = "cust-01", **properties: str) -> usage_event_pb2.UsageEvent:
    event = usage_event_pb2.UsageEvent(
        event_id=event_id,
        source="gateway",
        event_type="llm.request",
        customer_id=customer_id,
        properties=properties,
    )
    event.event_time.GetCurrentTime()
    return event


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 40) -> None:
    """Return when the condition holds; tried every 50 ms."""
    ends_at = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < ends_at, "it did not come about in time"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def running_ingest(directory: Path) -> AsyncIterator[RunningIngest]:
    """Start servers and processes; everything is stopped at the end."""
    # Durable: tests kill them, and then what was committed has to be there.
    with EmbeddedPostgres(directory / "postgres") as postgres, EmbeddedNats(directory / "nats") as nats:
        database = await asyncio.to_thread(ServiceDatabases(postgres).ensure, "ingest")
        await migrate_ingest(database.owner_url)
        connection = await connect(nats.url, name="test")
        await ensure_streams(connection.jetstream(), [USAGE_RAW, INGEST, DIRECTORY])
        keys = {"STEELYARD_INTERNAL_KEY": INTERNAL_KEY, "STEELYARD_OPERATOR_KEY": OPERATOR_KEY}
        settings = {"NATS_URL": nats.url, "LOG_LEVEL": "WARNING", **keys}
        running = RunningIngest(postgres, nats, {**os.environ, **database.environment(), **settings}, connection)
        try:
            await running.start(*ROLES)
            yield running
        finally:
            await running.stop()
            await connection.close()
