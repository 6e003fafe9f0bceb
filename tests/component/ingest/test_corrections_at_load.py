"""Two recorders and two correctors at once, in hundreds of batches, while meters end: windows are what a recomputation
by hand gives."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import orjson
import pytest

from libs.database import Database
from services.ingest.domain.meter_options import Aggregation
from services.ingest.domain.recording import POSITIONS_PER_BATCH, Fate
from services.ingest.store.meter_changes import PostgresMeterChanges
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.usecases.change_meter import MeterChange
from services.ingest.usecases.ports import QueuedBatch
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, Event, a_batch, add_meters, fetch
from tests.component.ingest.correcting import Corrector, key, outcomes
from tests.component.ingest.metering import METERS, jobs
from tests.component.ingest.running import until

TENANTS = ("acme", "other")
BATCHES = 300
EVENTS_OF_A_BATCH = 6
WINDOW_NS = 900 * 10**9
_LOG = "SELECT event_id, customer_id, event_time_ns, properties, batch_id, ordinal, received_at FROM events"
ENDING = ("sum", "min", "latest", "users")
"""Meters that are archived on the way."""
_WINDOWS = """
SELECT meter_id, customer_id, extract(epoch FROM window_start)::bigint / 900, dimensions, value, event_count
FROM usage_windows
"""
Place = tuple[str, str, int, str]


class Load:
    """What is sent, in the order of each recorder, and what callers were told about corrections."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.events: dict[str, Event] = {
            event.event_id: event for event in jobs(seed, BATCHES * EVENTS_OF_A_BATCH // len(TENANTS))
        }
        self.corrected: dict[str, set[str]] = {tenant: set() for tenant in TENANTS}
        self.replacements: dict[str, set[str]] = {tenant: set() for tenant in TENANTS}
        self.ends: dict[tuple[str, str], datetime] = {}

    def chunks(self) -> list[list[QueuedBatch]]:
        """All events of all tenants, some twice, a few with other content; some batches delivered again. Received in
        this order, but for half a minute."""
        parts: list[tuple[str, list[Event]]] = []
        for tenant in TENANTS:
            names = [*self.events, *self.dice.sample(sorted(self.events), 100)]
            self.dice.shuffle(names)
            for first in range(0, len(names), EVENTS_OF_A_BATCH):
                chosen = [self.events[name] for name in names[first : first + EVENTS_OF_A_BATCH]]
                if self.dice.random() < 0.05:
                    chosen[0] = chosen[0]._replace(customer_id="cust-other")
                parts.append((tenant, chosen))
        self.dice.shuffle(parts)
        batches: list[QueuedBatch] = []
        for number, (tenant, chosen) in enumerate(parts, start=1):
            at = NOON + timedelta(seconds=number + self.dice.randrange(30))
            batches.append(a_batch(number, *chosen, tenant=tenant, epoch=f"epoch-{number}", received_at=at))
        for again in self.dice.sample(batches, 30):
            batches.insert(self.dice.randrange(len(batches)), again)
        chunks = []
        while batches:
            count = self.dice.randrange(1, 5)
            chunks.append(batches[:count])
            batches = batches[count:]
        return chunks

    async def correct(self, corrector: Corrector, seed: int, all_sent: asyncio.Event) -> None:
        """Void and replace, what is there and what is not, each request now and then twice."""
        dice, tenant = random.Random(seed), corrector.tenant_id
        number = 0
        while not all_sent.is_set() or number < 20:
            number += 1
            names = dice.sample(sorted(self.events), 4)
            request_id = str(uuid.UUID(int=dice.getrandbits(128)))
            if dice.random() < 0.5:
                names += dice.sample(sorted(self.replacements[tenant]), min(1, len(self.replacements[tenant])))
                results = outcomes(await corrector.void(*map(key, names), request_id=request_id))
                if dice.random() < 0.3:
                    assert outcomes(await corrector.void(*map(key, names), request_id=request_id)) == results
                self.corrected[tenant] |= {
                    name for name, result in zip(names, results, strict=True) if result in ("applied", "waiting")
                }
            else:
                others = [dice.choice(list(self.events.values())) for _ in names]
                pairs = [
                    (key(name), other._replace(event_id=f"{name}-{tenant}-{number}"))
                    for name, other in zip(names, others, strict=True)
                ]
                results = outcomes(await corrector.replace(*pairs, request_id=request_id))
                for name, (_, event), result in zip(names, pairs, results, strict=True):
                    if result == "applied":
                        self.corrected[tenant].add(name)
                        self.replacements[tenant].add(event.event_id)
            await asyncio.sleep(0)

    async def archive(self, api: Database, tenant: str, left: Sequence[object]) -> None:
        """End a meter whenever a fifth of what is to be sent is gone, and note from when on it does not count."""
        changes, total = PostgresMeterChanges(api), len(left)
        for number, meter_id in enumerate(ENDING, start=1):
            await until(partial(_are_left, left, total - total * number // 5))
            change = MeterChange(tenant, str(uuid.UUID(int=number)), b"", "key-1", meter_id)
            archived = await changes.archive(change, NOON)
            assert archived.archived_at is not None
            self.ends[tenant, meter_id] = archived.archived_at


async def _are_left(things: Sequence[object], count: int) -> bool:
    return len(things) <= count


def by_hand(
    rows: Iterable[Sequence[Any]], corrected: set[str], ends: Mapping[str, datetime]
) -> dict[Place, tuple[Decimal, int]]:
    """The windows of the meters in `METERS`, of the log's events that were not corrected."""
    found: defaultdict[Place, list[tuple[tuple[int, int], Decimal]]] = defaultdict(list)
    for event_id, customer_id, time_ns, properties, batch_id, ordinal, received_at in rows:
        if event_id in corrected:
            continue
        for meter in METERS:
            if meter.meter_id in ends and received_at >= ends[meter.meter_id]:
                continue
            groups = {name: properties[name] for name in sorted(meter.group_by) if name in properties}
            counts = meter.window_aggregation is Aggregation.COUNT
            value = Decimal(1) if counts else Decimal(properties["size"])
            place = meter.meter_id, customer_id, time_ns // WINDOW_NS, orjson.dumps(groups).decode()
            found[place].append(((time_ns, batch_id * POSITIONS_PER_BATCH + ordinal), value))
    merged_as = {meter.meter_id: meter.window_aggregation for meter in METERS}
    return {place: (_merged(merged_as[place[0]], values), len(values)) for place, values in found.items()}


def _merged(aggregation: Aggregation, values: Sequence[tuple[tuple[int, int], Decimal]]) -> Decimal:
    match aggregation:
        case Aggregation.MIN:
            return min(value for _, value in values)
        case Aggregation.MAX:
            return max(value for _, value in values)
        case Aggregation.LATEST:
            return max(values)[1]
        case _:
            return sum((value for _, value in values), Decimal(0))


def _windows(rows: Iterable[Sequence[Any]]) -> Mapping[Place, tuple[Decimal, int]]:
    return {
        (meter_id, customer_id, number, orjson.dumps(dimensions).decode()): (value, count)
        for meter_id, customer_id, number, dimensions, value, count in rows
        if count
    }


@pytest.mark.parametrize("seed", [11, 12])
async def test_windows_are_what_is_left_of_the_log(worker: Database, api: Database, seed: int) -> None:
    load = Load(seed)
    for tenant in TENANTS:
        await add_meters(api, *METERS, tenant=tenant)
    correctors = [Corrector(api, worker, tenant) for tenant in TENANTS]
    for corrector in correctors:
        corrector.rules.tenant_now = NOON + timedelta(days=30)
    left = load.chunks()
    all_sent = asyncio.Event()
    recorded = 0

    async def send(record: RecordUsage) -> None:
        nonlocal recorded
        while left:
            report = await record(left.pop(0))
            recorded += report.fates[Fate.RECORDED]

    async def send_all() -> None:
        await asyncio.gather(
            *(send(RecordUsage(PostgresRecordingTransactions(worker), lambda: NOON)) for _ in range(2))
        )
        all_sent.set()

    async with asyncio.timeout(120):
        await asyncio.gather(
            send_all(),
            *(load.correct(corrector, seed + place, all_sent) for place, corrector in enumerate(correctors)),
            *(load.archive(api, tenant, left) for tenant in TENANTS),
        )

    assert recorded == len(load.events) * len(TENANTS)
    for corrector in correctors:
        tenant = corrector.tenant_id
        log = await fetch(api, tenant, _LOG)
        assert {row[0] for row in log} == load.events.keys() | load.replacements[tenant]
        assert len(log) == len(load.events) + len(load.replacements[tenant])
        assert len(load.corrected[tenant]) > 30 < len(load.replacements[tenant])
        ends = {meter_id: at for (of, meter_id), at in load.ends.items() if of == tenant}
        assert sum(row[6] >= min(ends.values()) for row in log) > 100  # type: ignore[operator]
        expected = by_hand(log, load.corrected[tenant], ends)
        assert _windows(await fetch(api, tenant, _WINDOWS)) == expected
        assert await corrector.failed_checks() == []
        assert await fetch(api, tenant, "SELECT count(*) FROM waiting_corrections") == [(0,)]
