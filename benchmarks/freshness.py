"""From accepted to visible: how old a customer's current spend is while usage comes in steadily."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from benchmarks.machine import CpuMeter
from benchmarks.report import Figure, Report, percentile
from benchmarks.sender import BenchmarkError
from benchmarks.system import Tenant, new_tenant, running_stack, say
from benchmarks.workload import CLOCK, Workload, event, request
from libs.clock import monotonic_s
from libs.embedded.stack import Stack
from steelyard.billing.v1 import invoice_service_pb2

_BATCH_EVENTS = 500
_WARM_UP_S = 5
_MEASURED_S = 30
_PROBE_S = 0.1
_POLL_S = 0.05
_PATIENCE_S = 300
_PROBE_CUSTOMER = "customer-of-the-probes"
_COUNTING_METER = "llm_requests"
_STEADY, _FAST = 5_000, 20_000


@dataclass
class _Probes:
    """When the n-th event of the probes' customer was accepted, and when it was first seen in its spend."""

    accepted_s: list[float] = field(default_factory=list)
    seen_s: list[float] = field(default_factory=list)

    def ages_s(self, since_s: float) -> list[float]:
        """How long each one accepted since then took to be seen."""
        pairs = zip(self.accepted_s, self.seen_s, strict=True)
        return [max(0.0, seen - accepted) for accepted, seen in pairs if accepted >= since_s]


def run(scale: float) -> Report:
    """Measure with times all over the period, so that almost every event changes windows of its own."""
    return _run("freshness", _STEADY, timedelta(0), scale)


def run_live(scale: float) -> Report:
    """Measure with times of the last minute, as producers that send at once have them."""
    return _run("freshness-live", _STEADY, timedelta(minutes=1), scale)


def run_live_fast(scale: float) -> Report:
    """The same at four times the rate."""
    return _run("freshness-live-20000", _FAST, timedelta(minutes=1), scale)


def _run(name: str, events_per_s: int, spread: timedelta, scale: float) -> Report:
    """The rate stays what it is at any scale; a smaller one makes it shorter."""
    workload = Workload(events=events_per_s * (_WARM_UP_S + _MEASURED_S)).scaled(scale)
    workload = replace(workload, spread=spread) if spread else workload
    with running_stack() as stack:
        return asyncio.run(_measure(stack, name, workload, events_per_s, _WARM_UP_S * scale))


async def _measure(stack: Stack, name: str, workload: Workload, events_per_s: int, warm_up_s: float) -> Report:
    batches = workload.requests(batch_events=_BATCH_EVENTS)
    probes = _Probes()
    async with new_tenant(stack, [*workload.customer_ids(), _PROBE_CUSTOMER]) as tenant:
        say(f"sending {events_per_s} events per second for {workload.events / events_per_s:.0f} s")
        cpu, began_s = CpuMeter(stack), monotonic_s()
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(_send(tenant, batches, _BATCH_EVENTS / events_per_s))
            probing = group.create_task(_probe(tenant, probes, sending))
            group.create_task(_watch(tenant, probes, probing))
        sent_s, cpu_s = sending.result(), cpu.used_s()
    ages = probes.ages_s(began_s + warm_up_s)
    return Report(
        benchmark=name,
        figures=[
            Figure("freshness p50", percentile(ages, 50), "s"),
            Figure("freshness p99", percentile(ages, 99), "s"),
            Figure("freshness max", max(ages), "s"),
            Figure("sent", workload.events / (sent_s - began_s), "events/s"),
        ],
        settings={
            "target_events_per_s": events_per_s,
            "batch_events": _BATCH_EVENTS,
            "warm_up_s": warm_up_s,
            "probes": len(ages),
            "probe_every_s": _PROBE_S,
            "poll_every_s": _POLL_S,
        },
        workload=workload.facts(),
        elapsed_s=monotonic_s() - began_s,
        cpu_s=cpu_s,
    )


async def _send(tenant: Tenant, batches: Sequence[bytes], interval_s: float) -> float:
    """Send each batch at its time, whether or not earlier ones are answered; return when all are."""
    began_s = monotonic_s()
    async with asyncio.TaskGroup() as group:
        for number, batch in enumerate(batches):
            await asyncio.sleep(began_s + number * interval_s - monotonic_s())
            group.create_task(tenant.sender(batch))
    return monotonic_s()


async def _probe(tenant: Tenant, probes: _Probes, sending: asyncio.Task[float]) -> None:
    while not sending.done():
        await tenant.sender(request([event(_PROBE_CUSTOMER, CLOCK, 100, 100)]))
        probes.accepted_s.append(monotonic_s())
        await asyncio.sleep(_PROBE_S)


async def _watch(tenant: Tenant, probes: _Probes, probing: asyncio.Task[None]) -> None:
    asked = invoice_service_pb2.GetCurrentSpendRequest(customer_id=_PROBE_CUSTOMER)
    give_up_at: float | None = None
    while not probing.done() or len(probes.seen_s) < len(probes.accepted_s):
        spend = await tenant.client.services.invoices.GetCurrentSpend(asked)
        now_s = monotonic_s()
        counted = sum(
            int(line.quantity)
            for subscription in spend.subscriptions
            for line in subscription.lines
            if line.meter_id == _COUNTING_METER
        )
        probes.seen_s += [now_s] * (counted - len(probes.seen_s))
        if probing.done():
            give_up_at = give_up_at or now_s + _PATIENCE_S
            if now_s > give_up_at:
                raise BenchmarkError(f"only {counted} of {len(probes.accepted_s)} probes became visible")
        await asyncio.sleep(_POLL_S)
