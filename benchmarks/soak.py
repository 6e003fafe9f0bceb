"""Hours in short: whether memory and lag stay flat at a steady rate, and how fast an outage is caught up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import psutil

from benchmarks.machine import CpuMeter
from benchmarks.report import Figure, Report
from benchmarks.system import RECORDER, Tenant, new_tenant, running_stack, say, until_recorded
from benchmarks.workload import BATCH_EVENTS, Workload
from libs.clock import monotonic_s
from libs.embedded.stack import Stack
from steelyard.ingest.v1 import usage_service_pb2

_EVENTS_PER_S = 10_000
_INTERVAL_S = BATCH_EVENTS / _EVENTS_PER_S
_SOAK_S, _OUTAGE_S = 60, 30
_MIB = 1 << 20


@dataclass
class _Readings:
    """Memory of each process (MiB) and events accepted but not recorded, once per second."""

    memory: dict[str, list[float]] = field(default_factory=dict)
    lag: list[int] = field(default_factory=list)


def run_soak(scale: float) -> Report:
    """Send at a steady rate: a scale of 17 makes it ten million events."""
    return _run("soak", _workload(_SOAK_S * scale, _SOAK_S * scale), _soak)


def run_catch_up(scale: float) -> Report:
    """Stop the recorder while events go on coming, then measure how fast it catches up while they still do.

    A scale of 20 makes it ten minutes.
    """
    return _run("catch-up", _workload(_OUTAGE_S * scale, 2 * _OUTAGE_S * scale), _catch_up)


def _workload(seconds: float, spread_s: float) -> Workload:
    """Times advance as they do for producers that send at once: an index that is written all over is another test."""
    return Workload(round(_EVENTS_PER_S * seconds), spread=timedelta(seconds=max(spread_s, 60)), advancing=True)


def _run(
    name: str, workload: Workload, measure: Callable[[Stack, Workload, Tenant], Coroutine[None, None, list[Figure]]]
) -> Report:
    async def measured(stack: Stack) -> Report:
        async with new_tenant(stack, workload.customer_ids()) as tenant:
            cpu, began_s = CpuMeter(stack), monotonic_s()
            figures = await measure(stack, workload, tenant)
            settings = {"events_per_s": _EVENTS_PER_S, "batch_events": BATCH_EVENTS}
            return Report(name, figures, settings, workload.facts(), monotonic_s() - began_s, cpu.used_s())

    with running_stack() as stack:
        return asyncio.run(measured(stack))


async def _soak(stack: Stack, workload: Workload, tenant: Tenant) -> list[Figure]:
    readings = _Readings()
    say(f"sending {workload.events:,} events at {_EVENTS_PER_S:,} per second")
    sent = [0]
    watching = asyncio.create_task(_watch(stack, tenant, sent, readings))
    await _send(tenant, workload.stream(), sent)
    watching.cancel()
    lag_s = monotonic_s()
    lag_s = await until_recorded(tenant.client, workload.events) - lag_s
    half = len(readings.lag) // 2
    return [
        *(Figure(f"memory of {name}, most", max(values), "MiB") for name, values in readings.memory.items()),
        *(
            Figure(f"memory of {name}, growth in the second half", values[-1] - values[len(values) // 2], "MiB")
            for name, values in readings.memory.items()
        ),
        Figure("lag, mean of the first half", sum(readings.lag[:half]) / max(half, 1), "events"),
        Figure("lag, mean of the second half", sum(readings.lag[half:]) / max(len(readings.lag) - half, 1), "events"),
        Figure("recorded after the last was sent", lag_s, "s"),
    ]


async def _catch_up(stack: Stack, workload: Workload, tenant: Tenant) -> list[Figure]:
    """A second workload of the same size is what arrives, at the same rate, while the first one is caught up."""
    recorder = stack.services.child(RECORDER)
    recorder.send_signal(signal.SIGSTOP)
    try:
        say(f"sending {workload.events:,} events while the recorder is stopped")
        await _send(tenant, workload.stream(part=(0.0, 0.5)), [0])
    finally:
        recorder.send_signal(signal.SIGCONT)
    say("catching up, with arrivals going on")
    began_s, sent = monotonic_s(), [0]
    arriving = asyncio.create_task(_send(tenant, workload.stream(part=(0.5, 1.0)), sent))
    while True:
        recorded = await _recorded(tenant)
        if recorded >= workload.events + sent[0] - _EVENTS_PER_S or arriving.done():
            break
        await asyncio.sleep(0.2)
    elapsed_s = monotonic_s() - began_s
    await arriving
    await until_recorded(tenant.client, 2 * workload.events)
    rate = recorded / elapsed_s
    return [Figure("recorded while catching up", rate, "events/s", _EVENTS_PER_S, "what arrives meanwhile")]


async def _send(tenant: Tenant, batches: Iterator[bytes], sent: list[int]) -> None:
    """Send each batch at its time, whether or not earlier ones are answered; count in `sent[0]` what is."""

    async def send(batch: bytes) -> None:
        await tenant.sender(batch)
        sent[0] += BATCH_EVENTS

    began_s = monotonic_s()
    async with asyncio.TaskGroup() as group:
        for number, batch in enumerate(batches):
            await asyncio.sleep(max(0.0, began_s + number * _INTERVAL_S - monotonic_s()))
            group.create_task(send(batch))


async def _watch(stack: Stack, tenant: Tenant, sent: list[int], readings: _Readings) -> None:
    while True:
        for name in stack.services.names:
            used = psutil.Process(stack.services.child(name).pid).memory_info().rss / _MIB
            readings.memory.setdefault(name, []).append(used)
        accepted = sent[0]
        readings.lag.append(max(0, accepted - await _recorded(tenant)))
        await asyncio.sleep(1)


async def _recorded(tenant: Tenant) -> int:
    counts = await tenant.client.services.usage.GetEventCounts(usage_service_pb2.GetEventCountsRequest())
    return int(counts.recorded)
