"""The spool: what `record` costs its caller, and how fast a file that an outage left becomes empty."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import CpuMeter
from benchmarks.report import Figure, Report, percentile
from benchmarks.sender import BenchmarkError
from benchmarks.system import new_id, operator, running_stack, say
from libs.cli.demo import catalog
from libs.clock import monotonic_s
from libs.embedded.stack import Stack
from steelyard import Client, Endpoints, UsageEvent
from steelyard.billing.v1 import tenant_pb2, tenant_service_pb2
from steelyard.events import PropertyValue
from steelyard.ingest.v1 import meter_service_pb2
from steelyard.spool import Spool

_EVENTS = 200_000
_DURABLE_EVENTS = 1_000
_WARM_UP_EVENTS = 5_000
_TENANT = "bench-spool"
_PATIENCE_S = 600
_US = 1_000_000
_PROPERTIES: dict[str, PropertyValue] = {"model": "large", "input_tokens": 812}


def run(scale: float) -> Report:
    """Measure the caller alone, the caller while the same process sends to a running system, and a backlog's end."""
    count, durable = max(1_000, int(_EVENTS * scale)), max(50, int(_DURABLE_EVENTS * scale))
    root = Path(tempfile.mkdtemp(prefix="spool-benchmark-"))
    try:
        with running_stack() as stack:
            return _measure(stack, root, count, durable)
    finally:
        shutil.rmtree(root)


def _measure(stack: Stack, root: Path, count: int, durable: int) -> Report:
    key, cpu, began_s = asyncio.run(_create_tenant(stack)), CpuMeter(stack), monotonic_s()
    where = stack.endpoints()
    endpoints = Endpoints(where.ingest, where.ingest_query, where.rating, where.billing, where.payments)
    say(f"recording {count} events")
    floor = _without_spool(count)
    with Spool(root / "alone.spool") as spool:
        alone = _record(spool, count)
        durable_us = _times_us(durable, lambda: spool.record("llm.request", "c", _PROPERTIES, durable=True))
    say(f"recording {count} events while they are sent")
    with Spool(root / "sending.spool", api_key=key, endpoints=endpoints) as spool:
        sending = _record(spool, count)
        _drain(spool)
    say("sending what an outage left")
    with Spool(root / "alone.spool", api_key=key, endpoints=endpoints) as spool:
        backlog, drain_began_s = spool.stats().events, monotonic_s()
        _drain(spool)
        drained_s = monotonic_s() - drain_began_s
    bare = "making and encoding the same event, and a list's append"
    return Report(
        benchmark="spool",
        figures=[
            Figure("record, mean", sum(alone) / count, "us/event", sum(floor) / count, bare),
            Figure("record, p50", percentile(alone, 50), "us/event", percentile(floor, 50), bare),
            Figure("record, p99", percentile(alone, 99), "us/event", percentile(floor, 99), bare),
            Figure("record while sending, mean", sum(sending) / count, "us/event", sum(floor) / count, bare),
            Figure("record while sending, p50", percentile(sending, 50), "us/event", percentile(floor, 50), bare),
            Figure("record while sending, p99", percentile(sending, 99), "us/event", percentile(floor, 99), bare),
            Figure("record durable, p50", percentile(durable_us, 50), "us/event", *_bare_fsync_us(root, durable)),
            Figure("drained until recorded", backlog / drained_s, "events/s"),
        ],
        settings={"options": "defaults", "threads": 1, "tenants": 1},
        workload={"events": count, "durable_events": durable, "properties": len(_PROPERTIES)},
        elapsed_s=monotonic_s() - began_s,
        cpu_s=cpu.used_s(),
    )


def _record(spool: Spool, count: int) -> list[float]:
    """As fast as one thread can. The time of each call holds what the spool's own threads take from it."""
    for _ in range(_WARM_UP_EVENTS):
        spool.record("llm.request", "c", _PROPERTIES)
    spool.flush()
    times = _times_us(count, lambda: spool.record("llm.request", "c", _PROPERTIES))
    spool.flush()
    return times


def _without_spool(count: int) -> list[float]:
    encoded: list[bytes] = []
    return _times_us(
        count, lambda: encoded.append(UsageEvent("llm.request", "c", _PROPERTIES).to_pb("sdk").SerializeToString())
    )


def _times_us(count: int, work: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(count):
        began_s = monotonic_s()
        work()
        times.append((monotonic_s() - began_s) * _US)
    return times


def _bare_fsync_us(root: Path, count: int) -> tuple[float, str]:
    """As many bytes at the end of a file, and fsync."""
    encoded = UsageEvent("llm.request", "c", _PROPERTIES).to_pb("sdk").SerializeToString()
    with (root / "bare").open("wb", buffering=0) as file:

        def write() -> None:
            file.write(encoded)
            os.fsync(file.fileno())

        return percentile(_times_us(count, write), 50), "write and fsync of the same bytes at the end of a file"


def _drain(spool: Spool) -> None:
    if not spool.drain(_PATIENCE_S):
        raise BenchmarkError(f"the spool is not empty after {_PATIENCE_S} s: {spool.last_error}")


async def _create_tenant(stack: Stack) -> str:
    """A tenant in real time with the demo's meters; return its key."""
    async with operator(stack) as client:
        tenant = tenant_pb2.Tenant(tenant_id=_TENANT, display_name="Benchmark")
        request = tenant_service_pb2.CreateTenantRequest(request_id=new_id(), tenant=tenant)
        await client.services.tenants.CreateTenant(request)
        named = tenant_service_pb2.CreateApiKeyRequest(request_id=new_id(), tenant_id=_TENANT, display_name="benchmark")
        key = (await client.services.tenants.CreateApiKey(named)).secret
    where = stack.endpoints()
    async with Client(api_key=key, endpoints=Endpoints(where.ingest, where.ingest_query)) as client:
        for meter in catalog.meters():
            create = meter_service_pb2.CreateMeterRequest(request_id=new_id(), meter=meter)
            await client.services.meters.CreateMeter(create)
    return key
