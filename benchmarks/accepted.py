"""Events accepted per second: checked, and on disk in the queue, before the call is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import nats

from benchmarks.bare_acceptor import bare_acceptor
from benchmarks.machine import CpuMeter
from benchmarks.report import Figure, Report
from benchmarks.sender import Sender, in_flight
from benchmarks.system import RECORDER, new_tenant, paused, running_stack, say
from benchmarks.workload import BATCH_EVENTS, Workload
from libs.clock import monotonic_s
from libs.embedded.stack import Stack
from libs.messaging.streams import USAGE_RAW, StreamDefinition

_WORKLOAD = Workload(events=300_000)
_IN_FLIGHT = 8
_WARM_UP_EVENTS = 10_000
_UNCHECKED_IS = "the same calls by a gRPC server that puts them into the same queue unchecked"
_BARE_IS = "JetStream publish of the same bytes, same server, same number in flight"
_FLOOR_SUBJECT = "floor.raw"
_FLOOR = StreamDefinition(
    name="FLOOR",
    subjects=(_FLOOR_SUBJECT,),
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
            say(f"sending {workload.events} events")
            cpu = CpuMeter(stack)
            elapsed_s, cpu_s = await _timed_s(warm_up, batches, tenant.sender), cpu.used_s()
            floor_s, unchecked_s = await _floors_s(stack, warm_up, batches)
    return Report(
        benchmark="accepted",
        figures=[
            Figure("accepted", workload.events / elapsed_s, "events/s", workload.events / unchecked_s, _UNCHECKED_IS),
            Figure("published", workload.events / unchecked_s, "events/s", workload.events / floor_s, _BARE_IS),
        ],
        settings={"batch_events": BATCH_EVENTS, "in_flight": _IN_FLIGHT, "ack": "queued", "recorder": "paused"},
        workload=workload.facts(),
        elapsed_s=elapsed_s,
        cpu_s=cpu_s,
    )


async def _floors_s(stack: Stack, warm_up: Sequence[bytes], batches: Sequence[bytes]) -> tuple[float, float]:
    """How long the same bytes take straight into JetStream, and through a gRPC server that checks nothing."""
    nats_url = stack.endpoints().nats_url
    connection = await nats.connect(nats_url)
    try:
        js = connection.jetstream()
        await js.add_stream(_FLOOR.config(replicas=1))

        async def publish(payload: bytes) -> None:
            await js.publish(_FLOOR_SUBJECT, payload, timeout=30)

        say("publishing the same bytes without us")
        floor_s = await _timed_s(warm_up, batches, publish)
        say("accepting the same calls unchecked")
        async with bare_acceptor(nats_url, _FLOOR_SUBJECT) as target, Sender(target, "") as sender:
            return floor_s, await _timed_s(warm_up, batches, sender)
    finally:
        await connection.close()


async def _timed_s(
    warm_up: Sequence[bytes], batches: Sequence[bytes], send: Callable[[bytes], Awaitable[None]]
) -> float:
    await in_flight(warm_up, _IN_FLIGHT, send)
    began_s = monotonic_s()
    await in_flight(batches, _IN_FLIGHT, send)
    return monotonic_s() - began_s
