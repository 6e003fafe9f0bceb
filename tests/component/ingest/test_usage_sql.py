"""What the database puts together by itself, against the pure functions over the same random events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from libs.database import Database
from libs.periods import BucketSize, Period
from services.ingest.domain.meter import Meter
from services.ingest.store.usage_quantities import PostgresQuantityStore
from services.ingest.store.usage_queries import PostgresUsageStore
from services.ingest.usecases.query_usage import QueryUsage
from services.ingest.usecases.usage_quantities import GetUsageQuantities, QuantityScope
from tests.component.ingest.builders import Event
from tests.component.ingest.random_usage import (
    ASKED,
    BY_ID,
    CUSTOMERS,
    METERS,
    WHOLE,
    Recorded,
    expected,
    question,
    random_usage,
)
from tests.support.servers import DatabaseFactory

ids = pytest.mark.parametrize("meter", METERS, ids=[meter.meter_id for meter in METERS])


@pytest.fixture(scope="module")
async def usage(make_database: DatabaseFactory) -> AsyncIterator[tuple[Database, Recorded]]:
    async with random_usage(make_database, METERS) as found:
        yield found


@pytest.fixture
def api(usage: tuple[Database, Recorded]) -> Database:
    return usage[0]


@pytest.fixture
def recorded(usage: tuple[Database, Recorded]) -> Recorded:
    return usage[1]


Row = tuple[int, str, str | None, Decimal, int]


def expected_rows(meter: Meter, recorded: Recorded, times: Iterable[Period], regions: bool) -> list[Row]:
    def group(event: Event) -> tuple[str, str | None]:
        return event.customer_id, event.properties.get("region") if regions else None

    found: list[Row] = []
    for key in {group(event) for _, event in recorded}:
        mine = [item for item in recorded if group(item[1]) == key]
        for index, time in enumerate(times):
            count = sum(time.contains(event.at) for _, event in mine)
            value = expected(meter, mine, time)
            if value is not None and (count or (meter.carry_over and any(event.at < time.start for _, event in mine))):
                found.append((index, *key, value, count))
    return found


@ids
class TestRows:
    @pytest.mark.parametrize("size", [None, BucketSize.MINUTE, BucketSize.HOUR, BucketSize.DAY])
    async def test_are_those_of_the_pure_functions(
        self, meter: Meter, size: BucketSize | None, recorded: Recorded, api: Database
    ) -> None:
        asked = question(meter, size=size, group_by=meter.group_by, time_zone="Australia/Lord_Howe")
        if size is BucketSize.MINUTE:
            asked = replace(asked, end=asked.start + timedelta(minutes=20, seconds=9))
        times, rows = await QueryUsage(usage=PostgresUsageStore(api))(asked, None, 100_000)

        found = [(row.index, row.customer_id, row.dimensions.get("region"), row.value, row.event_count) for row in rows]
        assert set(found) == set(expected_rows(meter, recorded, times, bool(meter.group_by)))
        assert len(found) == len(set(found)) > 0

    @pytest.mark.parametrize("period", [ASKED, WHOLE], ids=["edges inside windows", "whole windows"])
    async def test_quantities_are_those_of_the_pure_functions(
        self, meter: Meter, period: Period, recorded: Recorded, api: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.ingest.usecases.usage_quantities.MAX_AT_ONCE", 50)
        customers = [f"cust-{number:02}" for number in range(CUSTOMERS)]
        scopes = [QuantityScope(customer, meter.meter_id, period) for customer in customers]
        found = await GetUsageQuantities(PostgresQuantityStore(api))("acme", scopes)

        for customer, quantity in zip(customers, found, strict=True):
            mine = [item for item in recorded if item[1].customer_id == customer]
            assert quantity.value == expected(meter, mine, period), customer
            assert quantity.event_count == sum(period.contains(event.at) for _, event in mine)


class TestNothing:
    @pytest.mark.parametrize("meter_id", ["p0", "users", "seats", "all-time", "hours", "present"])
    async def test_has_no_rows(self, meter_id: str, api: Database) -> None:
        asked = replace(question(BY_ID[meter_id]), customer_id="nobody")
        _, rows = await QueryUsage(usage=PostgresUsageStore(api))(asked, None, 10)
        assert rows == []
