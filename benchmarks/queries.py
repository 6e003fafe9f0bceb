"""How long questions about a month of usage take, with a log that was loaded in bulk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager

import asyncpg

from benchmarks.loaded_log import EVERYTHING, LoadedLog, load
from benchmarks.report import Figure, Report, percentile
from benchmarks.sender import BenchmarkError
from benchmarks.system import TENANT, Tenant, new_id, new_tenant, postgres_url, running_stack, say, stamp
from benchmarks.workload import PERIOD_END, PERIOD_START
from libs.clock import monotonic_s
from libs.embedded.stack import Stack
from steelyard.ingest.v1 import meter_pb2, meter_service_pb2
from steelyard.ingest.v1 import usage_service_pb2 as pb

_MONTH = LoadedLog(events=10_000_000, customers=100)
_MILLION = LoadedLog(events=1_000_000, customers=100)
METERS = (
    meter_pb2.Meter(meter_id="bulk-sum", event_type="bulk", aggregation=meter_pb2.AGGREGATION_SUM, expression="v"),
    meter_pb2.Meter(
        meter_id="bulk-unique", event_type="bulk", aggregation=meter_pb2.AGGREGATION_UNIQUE_COUNT, expression="u"
    ),
    meter_pb2.Meter(
        meter_id="bulk-p95",
        event_type="bulk",
        aggregation=meter_pb2.AGGREGATION_PERCENTILE,
        percentile="95",
        expression="v",
    ),
)
_TIMES = 100
_FEW_TIMES = 10
_WINDOWS_OF_ONE = """
SELECT window_start, value FROM usage_windows
WHERE tenant_id = $1 AND meter_id = 'bulk-sum' AND customer_id = $2 AND window_start >= $3 AND window_start < $4
"""
_WINDOWS_BY_CUSTOMER = """
SELECT customer_id, sum(value) FROM usage_windows
WHERE tenant_id = $1 AND meter_id = 'bulk-sum' AND window_start >= $2 AND window_start < $3 GROUP BY 1
"""
_EVENTS_READ = """
SELECT count(measured ->> $2) FROM events
WHERE tenant_id = $1 AND event_time_ns >= $3 AND event_time_ns < $4
"""
_ROWS_READ = "the same windows, read or added up by customer by one statement of bare asyncpg"
_LOG_READ = "the same events, what was measured in each of them read by one statement of bare asyncpg"

Ask = Callable[[], Coroutine[None, None, object]]


def run_month(scale: float) -> Report:
    """A month of windows of one customer, by quarter of an hour; and the 100 customers with the most of it."""
    log = _MONTH.scaled(scale)
    with running_stack() as stack:
        return asyncio.run(_month(stack, log))


def run_unique(scale: float) -> Report:
    """A unique count over a million events."""
    return _of_log("unique", "bulk-unique", scale)


def run_percentile(scale: float) -> Report:
    """The 95th percentile of a million events."""
    return _of_log("percentile", "bulk-p95", scale)


def _of_log(benchmark: str, meter_id: str, scale: float) -> Report:
    log = _MILLION.scaled(scale)
    with running_stack() as stack:
        return asyncio.run(_exact(stack, log, benchmark, meter_id))


async def _month(stack: Stack, log: LoadedLog) -> Report:
    one, top = _question("bulk-sum"), _question("bulk-sum")
    one.customer_id, one.window_size, one.page_size = log.customer_ids()[0], pb.WINDOW_SIZE_QUARTER_HOUR, 10_000
    top.group_by_customer, top.top_groups = True, 100
    async with loaded_tenant(stack, log) as (tenant, bare):
        began_s = monotonic_s()
        of_one = await _waits_s(_TIMES, lambda: _asked(tenant, one, log.windows_of_one))
        of_top = await _waits_s(_FEW_TIMES, lambda: _asked(tenant, top, min(100, log.customers)))
        elapsed_s = monotonic_s() - began_s
        month = (PERIOD_START, PERIOD_END)
        floor_one = await _waits_s(_TIMES, lambda: bare.fetch(_WINDOWS_OF_ONE, TENANT, one.customer_id, *month))
        floor_top = await _waits_s(_FEW_TIMES, lambda: bare.fetch(_WINDOWS_BY_CUSTOMER, TENANT, *month))
    return _report(
        "query-month",
        log,
        elapsed_s,
        [
            *_figures("a month of one customer by 15 minutes", of_one, floor_one, _ROWS_READ),
            *_figures("top 100 customers of a month", of_top, floor_top, _ROWS_READ),
        ],
    )


async def _exact(stack: Stack, log: LoadedLog, benchmark: str, meter_id: str) -> Report:
    asked = _question(meter_id)
    bounds = [moment.ToNanoseconds() for moment in (asked.start_time, asked.end_time)]
    async with loaded_tenant(stack, log) as (tenant, bare):
        began_s = monotonic_s()
        waits_s = await _waits_s(_FEW_TIMES, lambda: _asked(tenant, asked, 1))
        elapsed_s = monotonic_s() - began_s
        floor_s = await _waits_s(_FEW_TIMES, lambda: bare.fetch(_EVENTS_READ, TENANT, meter_id, *bounds))
    return _report(benchmark, log, elapsed_s, _figures(f"{benchmark} over a month", waits_s, floor_s, _LOG_READ))


@asynccontextmanager
async def loaded_tenant(stack: Stack, log: LoadedLog) -> AsyncIterator[tuple[Tenant, asyncpg.Connection]]:
    """A tenant with the log loaded, and a superuser's connection to its database."""
    async with new_tenant(stack, []) as tenant:
        for meter in METERS:
            await tenant.client.services.meters.CreateMeter(
                meter_service_pb2.CreateMeterRequest(request_id=new_id(), meter=meter)
            )
        bare = await asyncpg.connect(postgres_url(stack, "ingest"))
        try:
            say(f"loading {log.events} events")
            await load(bare, TENANT, log)
            yield tenant, bare
        finally:
            await bare.close()


def _question(meter_id: str) -> pb.QueryUsageRequest:
    return pb.QueryUsageRequest(meter_id=meter_id, start_time=stamp(PERIOD_START), end_time=stamp(PERIOD_END))


async def _asked(tenant: Tenant, question: pb.QueryUsageRequest, rows: int) -> None:
    answer = await tenant.client.services.usage.QueryUsage(question)
    if len(answer.rows) != rows:
        raise BenchmarkError(f"{question.meter_id}: {len(answer.rows)} rows were answered, not {rows}")


async def _waits_s(times: int, ask: Ask) -> list[float]:
    """How long each call took, one after the other; the first few are not counted."""
    waits_s = []
    for _ in range(times + times // 10):
        began_s = monotonic_s()
        await ask()
        waits_s.append(monotonic_s() - began_s)
    return waits_s[times // 10 :]


def _figures(what: str, waits_s: Sequence[float], floor_s: Sequence[float], floor_is: str) -> list[Figure]:
    def ms(values_s: Sequence[float], percent: int) -> float:
        return percentile(values_s, percent) * 1000

    return [
        Figure(f"{what}, p{percent}", ms(waits_s, percent), "ms", ms(floor_s, percent), floor_is)
        for percent in (50, 99)
    ]


def _report(benchmark: str, log: LoadedLog, elapsed_s: float, figures: Sequence[Figure]) -> Report:
    return Report(
        benchmark=benchmark,
        figures=figures,
        settings={"calls": "one after the other", "loaded": EVERYTHING},
        workload={"tenants": 1, "customers": log.customers, "events": log.events, "meters": len(METERS)},
        elapsed_s=elapsed_s,
    )
