"""Recording with many event keys in the log already, against the rate with none."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import asyncpg

from benchmarks.machine import CpuMeter
from benchmarks.report import Figure, Report
from benchmarks.sender import in_flight
from benchmarks.system import (
    RECORDER,
    TENANT,
    Tenant,
    new_tenant,
    paused,
    postgres_url,
    running_stack,
    say,
    until_recorded,
)
from benchmarks.workload import SOURCE, Workload
from libs.clock import monotonic_s
from libs.embedded.stack import Stack

_WORKLOAD = Workload(events=200_000, spread=timedelta(minutes=1))
_KEYS = 10_000_000
_LOADED_AT_ONCE = 1_000_000
_IN_FLIGHT = 8
_EMPTY_IS = "the same before any key was there"
# Sorted, so that each index page is written once: how the keys came there is not what is measured.
_LOAD = """
INSERT INTO event_keys (tenant_id, source, event_id, payload_hash, received_at, batch_id, ordinal)
SELECT $1, $2, event_id, '\\x00000000000000000000000000000000', now(), 0, 0
FROM (SELECT {}::text AS event_id FROM generate_series($3::bigint, $4::bigint) AS number) AS made ORDER BY event_id
"""
_SETTINGS = "SELECT name, setting || coalesce(unit, '') AS value FROM pg_settings WHERE name = ANY ($1)"
_PRINTED = ["shared_buffers", "max_wal_size", "checkpoint_timeout", "checkpoint_completion_target", "full_page_writes"]


def run_uuid7(scale: float) -> Report:
    """Keys that sort by time, as the SDK makes them: new ones go to the end of the index."""
    # The newest of them is as old as the first new event.
    ids = "uuidv7(make_interval(secs => (number - $4) / 10000.0))"
    return _run("keys-uuid7", _WORKLOAD.scaled(scale), ids, round(_KEYS * scale))


def run_random(scale: float) -> Report:
    """Random keys: new ones go anywhere in the index."""
    workload = replace(_WORKLOAD, random_ids=True).scaled(scale)
    return _run("keys-random", workload, "gen_random_uuid()", round(_KEYS * scale))


def _run(name: str, workload: Workload, ids: str, keys: int) -> Report:
    with running_stack() as stack:
        return asyncio.run(_measure(stack, name, workload, ids, keys))


async def _measure(stack: Stack, name: str, workload: Workload, ids: str, keys: int) -> Report:
    async with new_tenant(stack, workload.customer_ids()) as tenant:
        empty_s = await _record_s(stack, tenant, workload, 0)
        settings = await _load(postgres_url(stack, "ingest"), ids, keys)
        cpu = CpuMeter(stack)
        full_s = await _record_s(stack, tenant, workload, workload.events)
        cpu_s = cpu.used_s()
    rate, empty_rate = workload.events / full_s, workload.events / empty_s
    return Report(
        benchmark=name,
        figures=[Figure(f"recorded with {keys:,} keys there", rate, "events/s", empty_rate, _EMPTY_IS)],
        settings={"keys": keys, **settings},
        workload=workload.facts(),
        elapsed_s=full_s,
        cpu_s=cpu_s,
    )


async def _record_s(stack: Stack, tenant: Tenant, workload: Workload, before: int) -> float:
    batches = workload.requests()
    with paused(stack, RECORDER):
        await in_flight(batches, _IN_FLIGHT, tenant.sender)
        began_s = monotonic_s()
    say(f"recording {workload.events} events")
    return await until_recorded(tenant.client, before + workload.events) - began_s


async def _load(url: str, ids: str, keys: int) -> dict[str, str]:
    """Put so many keys into the table; return the settings of the server that matter here."""
    say(f"loading {keys:,} keys")
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET work_mem = '512MB'")
        for first in range(1, keys + 1, _LOADED_AT_ONCE):
            last = min(first + _LOADED_AT_ONCE - 1, keys)
            await connection.execute(_LOAD.format(ids), TENANT, SOURCE, first, last)
        await connection.execute("VACUUM (ANALYZE) event_keys")
        await connection.execute("CHECKPOINT")
        return {row["name"]: row["value"] for row in await connection.fetch(_SETTINGS, _PRINTED)}
    finally:
        await connection.close()
