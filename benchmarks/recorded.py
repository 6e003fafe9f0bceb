"""Events recorded per second: keys, log, windows and dirty marks committed, with everything behind it running."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from functools import partial

from benchmarks.bare_tables import Source, copy_s, insert_s
from benchmarks.machine import CpuMeter
from benchmarks.report import Figure, Report
from benchmarks.sender import in_flight
from benchmarks.system import (
    RECORDER,
    new_tenant,
    new_tenants,
    paused,
    postgres_url,
    running_stack,
    say,
    until_recorded,
)
from benchmarks.workload import BATCH_EVENTS, Workload
from libs.clock import monotonic_s
from libs.embedded.stack import Stack

_WORKLOAD = Workload(events=300_000)
_LAST_MINUTE = timedelta(minutes=1)
_IN_FLIGHT = 8
_MANY = 100
_FLOOR_EVENTS_PER_TRANSACTION = 10_000
_INSERT_IS = (
    "set-wise INSERT of the same rows into the same keys, log and window tables by bare asyncpg, services stopped"
)
_COPY_IS = "binary COPY of these rows, encoded beforehand"
_TABLES = (Source("event_keys", "t.batch_id"), Source("events", "t.batch_id"), Source("usage_windows", "t.version"))

_Measured = tuple[float, dict[str, float]]
"""Seconds, and CPU seconds by process."""


def run_backlog(scale: float) -> Report:
    """Let a backlog of events with times all over the period build up, then measure how fast it is recorded."""
    return _run("recorded", _WORKLOAD.scaled(scale), _backlog)


def run_live_backlog(scale: float) -> Report:
    """The same with times of the last minute, as producers that send at once have them."""
    return _run("recorded-live", replace(_WORKLOAD, spread=_LAST_MINUTE).scaled(scale), _backlog)


def run_sustained(scale: float) -> Report:
    """Send and record at the same time, from the first call to the last recorded event."""
    return _run("sustained", _WORKLOAD.scaled(scale), _sustained)


def run_live_sustained(scale: float) -> Report:
    """The same with times of the last minute."""
    return _run("sustained-live", replace(_WORKLOAD, spread=_LAST_MINUTE).scaled(scale), _sustained)


def run_live_sustained_many(scale: float) -> Report:
    """The same by a hundred tenants, who share the customers between them."""
    return _run("sustained-live-100-tenants", replace(_WORKLOAD, spread=_LAST_MINUTE).scaled(scale), _sustained_many)


def _run(
    name: str, workload: Workload, measure: Callable[[Stack, Workload], Coroutine[None, None, _Measured]]
) -> Report:
    with running_stack() as stack:
        elapsed_s, cpu_s = asyncio.run(measure(stack, workload))
        stack.services.stop()
        say("writing the same rows without us")
        transactions = max(1, workload.events // _FLOOR_EVENTS_PER_TRANSACTION)
        url = postgres_url(stack, "ingest")
        floors = {
            _INSERT_IS: asyncio.run(insert_s(url, _TABLES, transactions)),
            _COPY_IS: asyncio.run(copy_s(url, _TABLES, transactions)),
        }
    settings = {"batch_events": BATCH_EVENTS, "in_flight": _IN_FLIGHT, "floor_transactions": transactions}
    figures = [
        Figure("recorded", workload.events / elapsed_s, "events/s", workload.events / floor_s, floor_is)
        for floor_is, floor_s in floors.items()
    ]
    return Report(name, figures, settings, workload.facts(), elapsed_s, cpu_s)


async def _backlog(stack: Stack, workload: Workload) -> _Measured:
    batches = workload.requests()
    async with new_tenant(stack, workload.customer_ids()) as tenant:
        with paused(stack, RECORDER):
            say(f"sending {workload.events} events")
            await in_flight(batches, _IN_FLIGHT, tenant.sender)
            cpu, began_s = CpuMeter(stack), monotonic_s()
        say("recording them")
        ended_s = await until_recorded(tenant.client, workload.events)
        return ended_s - began_s, cpu.used_s()


async def _sustained_many(stack: Stack, workload: Workload) -> _Measured:
    share = replace(workload, events=workload.events // _MANY, customers=max(1, workload.customers // _MANY))
    async with new_tenants(stack, share.customer_ids(), _MANY) as tenants:
        of_tenants = [share.requests(batch_events=min(BATCH_EVENTS, share.events)) for _ in tenants]
        say(f"sending and recording {share.events} events of each of {_MANY} tenants")
        cpu, began_s = CpuMeter(stack), monotonic_s()
        calls = [
            partial(tenant.sender, batch)
            for turn in zip(*of_tenants, strict=True)
            for tenant, batch in zip(tenants, turn, strict=True)
        ]
        await in_flight(calls, _IN_FLIGHT, lambda call: call())
        ended_s = [await until_recorded(tenant.client, share.events) for tenant in tenants][-1]
        return ended_s - began_s, cpu.used_s()


async def _sustained(stack: Stack, workload: Workload) -> _Measured:
    batches = workload.requests()
    async with new_tenant(stack, workload.customer_ids()) as tenant:
        say(f"sending and recording {workload.events} events")
        cpu, began_s = CpuMeter(stack), monotonic_s()
        await in_flight(batches, _IN_FLIGHT, tenant.sender)
        ended_s = await until_recorded(tenant.client, workload.events)
        return ended_s - began_s, cpu.used_s()
