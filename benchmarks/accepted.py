"""Events accepted per second: checked, and on disk in the queue, before the call is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import nats

from benchmarks.machine import CpuMeter
from benchmarks.report import Figure, Report
from benchmarks.sender import in_flight
from benchmarks.system import RECORDER, new_tenant, paused, running_stack, say
from benchmarks.workload import BATCH_EVENTS, Workload
from libs.clock import monotonic_s
from libs.embedded.stack import Stack
from libs.messaging.streams import USAGE_RAW, StreamDefinition

_WORKLOAD = Workload(events=300_000)
_IN_FLIGHT = 8
_WARM_UP_EVENTS = 10_000
_FLOOR = StreamDefinition(
    name="FLOOR",
    subjects=("floor.raw",),
    max_bytes=USAGE_RAW.max_bytes,
    max_msg_size=USAGE_RAW.max_msg_size,
    duplicate_window_s=USAGE_RAW.duplicate_window_s,
)


def run(scale: float) -> Report:
    """Measure with the recorder paused, then the bare queue with the same bytes, as many in flight, same server."""
    workload = _WORKLOAD.scaled(scale)
    with running_stack() as stack:
        return asyncio.run(_measure(stack, workload))


async def _measure(stack: Stack, workload: Workload) -> Report:
    warm_up = replace(workload, events=_WARM_UP_EVENTS).requests()
    batches = workload.requests()
    async with new_tenant(stack, workload.customer_ids()) as tenant:
        with paused(stack, RECORDER):
            await in_flight(warm_up, _IN_FLIGHT, tenant.sender)
            say(f"sending {workload.events} events")
            cpu, began_s = CpuMeter(stack), monotonic_s()
            await in_flight(batches, _IN_FLIGHT, tenant.sender)
            elapsed_s, cpu_s = monotonic_s() - began_s, cpu.used_s()
            floor_s = await _bare_publish_s(stack, warm_up, batches)
    floor_is = "JetStream publish of the same bytes, same server, same number in flight"
    return Report(
        benchmark="accepted",
        figures=[Figure("accepted", workload.events / elapsed_s, "events/s", workload.events / floor_s, floor_is)],
        settings={"batch_events": BATCH_EVENTS, "in_flight": _IN_FLIGHT, "ack": "queued", "recorder": "paused"},
        workload=workload.facts(),
        elapsed_s=elapsed_s,
        cpu_s=cpu_s,
    )


async def _bare_publish_s(stack: Stack, warm_up: Sequence[bytes], batches: Sequence[bytes]) -> float:
    say("publishing the same bytes without us")
    connection = await nats.connect(stack.endpoints().nats_url)
    try:
        js = connection.jetstream()
        await js.add_stream(_FLOOR.config(replicas=1))

        async def publish(payload: bytes) -> None:
            await js.publish("floor.raw", payload, timeout=30)

        await in_flight(warm_up, _IN_FLIGHT, publish)
        began_s = monotonic_s()
        await in_flight(batches, _IN_FLIGHT, publish)
        return monotonic_s() - began_s
    finally:
        await connection.close()
