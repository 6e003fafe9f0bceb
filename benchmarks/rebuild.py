"""How fast windows are compared with a month of the log, and put right where they differ."""

from __future__ import annotations

import asyncio

import asyncpg

from benchmarks.loaded_log import EVERYTHING, LoadedLog
from benchmarks.queries import METERS, loaded_tenant
from benchmarks.report import Figure, Report
from benchmarks.sender import BenchmarkError
from benchmarks.system import TENANT, Tenant, new_id, running_stack, say, until
from libs.clock import monotonic_s
from libs.embedded.stack import Stack
from steelyard.ingest.v1 import replay_service_pb2 as pb

_MONTH = LoadedLog(events=3_000_000, customers=100)
_UNTHROTTLED = {"INGEST_REPLAY_PERCENT": "100"}
_LOST = "DELETE FROM usage_windows WHERE tenant_id = $1 AND hashtext(window_key::text) % 20 = 0"
_AGGREGATE = """
SELECT count(*) FROM (
    SELECT sum(CASE WHEN measured.key = 'bulk-sum' THEN measured.value::numeric ELSE 1 END), count(*)
    FROM events, jsonb_each_text(measured) AS measured WHERE tenant_id = $1
    GROUP BY measured.key, customer_id, event_time_ns / 900000000000
) AS made
"""
_FLOOR_IS = "the windows of the same events, put together by one statement of bare asyncpg that writes nothing"
_UNDER_WAY = (pb.REPLAY_STATE_BUILDING, pb.REPLAY_STATE_SWAPPING)


def run(scale: float) -> Report:
    """A rebuild of a month, first of windows that are right, then without every twentieth of them."""
    log = _MONTH.scaled(scale)
    with running_stack(_UNTHROTTLED) as stack:
        return asyncio.run(_measure(stack, log))


async def _measure(stack: Stack, log: LoadedLog) -> Report:
    async with loaded_tenant(stack, log) as (tenant, bare):
        began_s = monotonic_s()
        compared, compared_s = await _started(tenant)
        if compared.progress.windows_differing:
            raise BenchmarkError(f"{compared.progress.windows_differing} windows differ, and none should")
        floor_s = await _aggregate_s(bare)
        await bare.execute(_LOST, TENANT)
        found, _ = await _started(tenant)
        say(f"{found.progress.windows_differing} windows are to be swapped")
        swapped, swapped_s = await _confirmed(tenant, found)
        elapsed_s = monotonic_s() - began_s
    return Report(
        benchmark="rebuild",
        figures=[
            Figure("events compared", log.events / compared_s, "events/s", log.events / floor_s, _FLOOR_IS),
            Figure("windows swapped", swapped.progress.windows_swapped / swapped_s, "windows/s"),
        ],
        settings={**_UNTHROTTLED, "loaded": EVERYTHING},
        workload={
            "tenants": 1,
            "customers": log.customers,
            "events": log.events,
            "meters": len(METERS),
            "windows": compared.progress.windows_built,
            "windows lost": swapped.progress.windows_swapped,
        },
        elapsed_s=elapsed_s,
    )


async def _started(tenant: Tenant) -> tuple[pb.Replay, float]:
    """A rebuild until nothing is under way, and how long that took."""
    began_s = monotonic_s()
    request = pb.StartReplayRequest(request_id=new_id(), mode=pb.REPLAY_MODE_REBUILD)
    started = (await tenant.client.services.replays.StartReplay(request)).replay
    return await _followed(tenant, started, began_s)


async def _confirmed(tenant: Tenant, replay: pb.Replay) -> tuple[pb.Replay, float]:
    began_s = monotonic_s()
    request = pb.ConfirmReplayRequest(request_id=new_id(), replay_id=replay.replay_id)
    confirmed = (await tenant.client.services.replays.ConfirmReplay(request)).replay
    done, elapsed_s = await _followed(tenant, confirmed, began_s)
    if done.state != pb.REPLAY_STATE_DONE:
        raise BenchmarkError(f"the replay has not swapped its windows: {done.failure}")
    return done, elapsed_s


async def _followed(tenant: Tenant, replay: pb.Replay, began_s: float) -> tuple[pb.Replay, float]:
    async def has_stopped() -> bool:
        nonlocal replay
        asked = pb.GetReplayRequest(replay_id=replay.replay_id)
        replay = (await tenant.client.services.replays.GetReplay(asked)).replay
        return replay.state not in _UNDER_WAY

    stopped_at_s = await until(has_stopped, "the replay needs nothing but a decision")
    return replay, stopped_at_s - began_s


async def _aggregate_s(bare: asyncpg.Connection) -> float:
    began_s = monotonic_s()
    await bare.fetchval(_AGGREGATE, TENANT)
    return monotonic_s() - began_s
