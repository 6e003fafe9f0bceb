"""Published answers of other billing systems by the real way: events sent and quantities asked for by gRPC.

The pure functions are compared in tests/vectors; which vectors contradict this system is said there.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from libs.money import parse_decimal, plain
from services.ingest.domain.measuring import measure
from services.ingest.domain.meter import Meter
from services.ingest.domain.usage_batch import NANOSECONDS, UsageColumns
from services.ingest.wire.meters import meter_to_pb
from steelyard.ingest.v1 import ingest_service_pb2 as ingest_pb
from steelyard.ingest.v1 import usage_event_pb2, usage_service_pb2
from tests.component.ingest.running import Tenant, running_ingest
from tests.vectors.aggregations.periods import Case, case_of
from tests.vectors.contradictions import Unsupported
from tests.vectors.running import read_vectors

ROOT = Path(__file__).resolve().parents[3]
VECTORS = Path(os.environ.get("STEELYARD_VECTORS") or ROOT.parent / "shared" / "vectors") / "aggregations.jsonl"
KINDS = {"aggregate", "weighted_sum", "prorated_unique_count", "prorated_sum"}
# Events may be ten years old at most: by year, a tenant whose clock stands there.
CLOCKS = (2020, 2027)
TEN_YEARS_S = 3_650 * 86_400
# A query asks for a time, not for a billing period of which it is a part, and knows no level from before all events.
ONLY_IN_FUNCTIONS = ("period_days", "initial_value")

Vector = Mapping[str, Any]


@pytest.fixture(scope="module")
async def tenants(server_root: Path) -> AsyncIterator[dict[int, Tenant]]:
    async with running_ingest(server_root / "vectors-ingest") as ingest:
        for year in CLOCKS:
            await ingest.clock(f"vectors-{year}", datetime(year, 1, 1, tzinfo=UTC))
        yield {year: await ingest.tenant(f"vectors-{year}", past_limit_s=TEN_YEARS_S) for year in CLOCKS}


def cases() -> list[tuple[str, Vector, Case]]:
    """Vectors that events and a query can express: (name of the meter, vector, case)."""
    found = []
    for number, vector in enumerate(read_vectors(VECTORS)):
        if vector["kind"] not in KINDS or any(vector["input"].get(name) for name in ONLY_IN_FUNCTIONS):
            continue
        try:
            case = case_of(vector)
        except Unsupported:
            continue
        if not measure(case.usage, [case.meter]).problems:  # More decimals than the door lets in.
            found.append((f"v{number}", vector, case))
    return found


async def test_the_real_way_gives_the_published_answers(tenants: dict[int, Tenant]) -> None:
    if not VECTORS.is_file():
        warnings.warn(f"{VECTORS} is absent: NOTHING was compared by the real way", stacklevel=1)
        return
    chosen = cases()
    assert len(chosen) > 60
    gate = asyncio.Semaphore(8)

    async def one(name: str, vector: Vector, case: Case) -> str:
        newest_s = max(case.usage.times_ns, default=0) // NANOSECONDS
        tenant = next(tenants[year] for year in CLOCKS if newest_s < datetime(year, 1, 1, tzinfo=UTC).timestamp())
        async with gate:
            await tenant.create_meter(meter_to_pb(replace(case.meter, meter_id=name, event_type=name)))
            await send(tenant, name, case.usage)
            return await problem(tenant, name, vector, case)

    wrong = await asyncio.gather(*(one(*item) for item in chosen))
    assert [text for text in wrong if text] == []


async def send(tenant: Tenant, name: str, usage: UsageColumns) -> None:
    """Each event twice: the second time changes nothing."""
    events = [event_of(name, usage, row) for row in range(len(usage))]
    for again in (False, True):
        for first in range(0, len(events), 500):
            answer = await tenant.send(*events[first : first + 500])
            verdict = ingest_pb.EVENT_VERDICT_DUPLICATE if again else ingest_pb.EVENT_VERDICT_RECORDED
            assert set(answer.verdicts) == {verdict}, (name, answer)


def event_of(name: str, usage: UsageColumns, row: int) -> usage_event_pb2.UsageEvent:
    at_ns = usage.times_ns[row]
    event = usage_event_pb2.UsageEvent(
        event_id=f"{name}-{row}",
        source="vectors",
        event_type=name,
        customer_id=name,
        properties=usage.properties[row],
    )
    event.event_time.seconds, event.event_time.nanos = divmod(at_ns, NANOSECONDS)
    return event


async def problem(tenant: Tenant, name: str, vector: Vector, case: Case) -> str:
    """What is wrong with the answer to a vector; nothing if it is right."""
    given, expected, meter = vector["input"], vector["expected"], case.meter
    request = usage_service_pb2.QueryUsageRequest(
        meter_id=name,
        customer_id=name,
        group_by=meter.group_by,
        time_zone=given["period"].get("timezone") or "UTC",
    )
    for message, at_ns in ((request.start_time, case.period.start_ns), (request.end_time, case.period.end_ns)):
        message.seconds, message.nanos = divmod(at_ns, NANOSECONDS)
    rows = (await tenant.usage.QueryUsage(request, metadata=tenant.key, timeout=20)).rows
    found: dict[tuple[str | None, ...], str | None] = {
        tuple(row.dimensions.get(dimension) for dimension in meter.group_by): row.value for row in rows
    }
    wanted = answers(expected, meter)
    if not rows and not meter.group_by:  # Without an event there is no row, whatever nothing comes to.
        found = {(): "0" if wanted[()] is not None else None}
    return "" if same(found, wanted) else f"{vector['id']}: {found} instead of {wanted}"


def answers(expected: Mapping[str, Any], meter: Meter) -> dict[tuple[str | None, ...], str | None]:
    if not meter.group_by:
        return {(): expected["value"]}
    return {
        tuple(item["group"].get(dimension) for dimension in meter.group_by): item["value"]
        for item in expected["groups"]
    }


def same(found: Mapping[Any, str | None], wanted: Mapping[Any, str | None]) -> bool:
    def canonical(values: Mapping[Any, str | None]) -> dict[Any, str | None]:
        return {
            group: value if value is None else plain(parse_decimal(value, max_scale=40))
            for group, value in values.items()
            if value is not None
        }

    return canonical(found) == canonical(wanted)


def test_the_comparison_sees_a_difference() -> None:
    assert same({(): "1.50"}, {(): "1.5"})
    assert not same({(): "1.50"}, {(): "1.51"})
    assert not same({("a",): "1"}, {("b",): "1"})
    assert not same({(): "1"}, {})
