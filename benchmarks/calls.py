"""Calls with one event each, from many producers at once: how many per second, and how long each waits."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from benchmarks.machine import CpuMeter
from benchmarks.report import Figure, Report, percentile
from benchmarks.sender import in_flight
from benchmarks.system import new_tenant, running_stack, say
from benchmarks.workload import Workload
from libs.clock import monotonic_s
from libs.embedded.stack import Stack

_AT_ONCE = 32
_WARM_UP = Workload(events=2_000)
_WORKLOAD = Workload(events=40_000, spread=timedelta(minutes=1))


def run(scale: float) -> Report:
    """Measure with the recorder and everything behind it at work."""
    workload = _WORKLOAD.scaled(scale)
    with running_stack() as stack:
        return asyncio.run(_measure(stack, workload))


async def _measure(stack: Stack, workload: Workload) -> Report:
    warm_up, calls = _WARM_UP.requests(batch_events=1), workload.requests(batch_events=1)
    waits_s: list[float] = []
    async with new_tenant(stack, workload.customer_ids()) as tenant:

        async def call(request: bytes) -> None:
            began_s = monotonic_s()
            await tenant.sender(request)
            waits_s.append(monotonic_s() - began_s)

        await in_flight(warm_up, _AT_ONCE, tenant.sender)
        say(f"{len(calls)} calls, {_AT_ONCE} at a time")
        cpu, began_s = CpuMeter(stack), monotonic_s()
        await in_flight(calls, _AT_ONCE, call)
        elapsed_s, cpu_s = monotonic_s() - began_s, cpu.used_s()
    return Report(
        benchmark="calls",
        figures=[
            Figure("one event a call", len(calls) / elapsed_s, "calls/s"),
            Figure("one event a call, p50", percentile(waits_s, 50) * 1000, "ms"),
            Figure("one event a call, p99", percentile(waits_s, 99) * 1000, "ms"),
        ],
        settings={"at_once": _AT_ONCE, "ack": "queued"},
        workload=workload.facts(),
        elapsed_s=elapsed_s,
        cpu_s=cpu_s,
    )
