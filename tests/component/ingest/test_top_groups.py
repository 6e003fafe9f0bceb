"""The groups with the greatest quantities, and all others together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal

import pytest

from libs.database import Database
from libs.money import exact
from libs.periods import BucketSize
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import Aggregation
from services.ingest.store.usage_queries import PostgresUsageStore
from services.ingest.usecases.query_usage import QueryUsage
from services.ingest.usecases.usage_rows import UsageRow
from tests.component.ingest.random_usage import METERS, Recorded, expected, meter_of, question, random_usage
from tests.support.servers import DatabaseFactory

TOP = (
    *(meter for meter in METERS if meter.meter_id in {"users", "p0", "seats", "all-time", "still", "hours", "active"}),
    meter_of("sum", Aggregation.SUM, group_by=("region",)),
    meter_of("avg", Aggregation.AVG, group_by=("region",)),
    meter_of("latest", Aggregation.LATEST),
    meter_of("level", Aggregation.WEIGHTED_SUM, carry_over=True, group_by=("region",)),
)
ids = pytest.mark.parametrize("meter", TOP, ids=[meter.meter_id for meter in TOP])
Group = tuple[str, str | None]


@pytest.fixture(scope="module")
async def usage(make_database: DatabaseFactory) -> AsyncIterator[tuple[Database, Recorded]]:
    async with random_usage(make_database, TOP) as found:
        yield found


@pytest.fixture
def api(usage: tuple[Database, Recorded]) -> Database:
    return usage[0]


@pytest.fixture
def recorded(usage: tuple[Database, Recorded]) -> Recorded:
    return usage[1]


@pytest.fixture
def ask(api: Database) -> QueryUsage:
    return QueryUsage(usage=PostgresUsageStore(api))


def groups(meter: Meter, recorded: Recorded) -> dict[Group, Recorded]:
    found: defaultdict[Group, Recorded] = defaultdict(list)
    for item in recorded:
        region = item[1].properties.get("region") if meter.group_by else None
        found[item[1].customer_id, region].append(item)
    return found


def group_of(row: UsageRow) -> Group:
    return row.customer_id, row.dimensions.get("region")


async def pages(ask: QueryUsage, asked: object, size: int) -> list[UsageRow]:
    found: list[UsageRow] = []
    while True:
        _, page = await ask(asked, found[-1].place if found else None, size)  # type: ignore[arg-type]
        if not page:
            return found
        found += page


@ids
class TestTopGroups:
    async def test_have_the_greatest_quantities_over_the_whole_time(
        self, meter: Meter, recorded: Recorded, ask: QueryUsage
    ) -> None:
        asked = question(meter, group_by=meter.group_by)
        _, everything = await ask(asked, None, 10_000)
        _, top = await ask(replace(asked, top_groups=5), None, 10_000)

        assert [row.rank for row in sorted(top, key=lambda row: row.rank)] == [1, 2, 3, 4, 5]
        by_rank = [row.value for row in sorted(top, key=lambda row: row.rank)]
        assert by_rank == sorted((row.value for row in everything), reverse=True)[:5]
        assert [row._replace(rank=0) for row in top] == [
            row for row in everything if group_of(row) in map(group_of, top)
        ]

    @pytest.mark.parametrize("size", [None, BucketSize.HOUR], ids=["one row", "hours"])
    async def test_and_all_others_are_what_their_events_come_to(
        self, meter: Meter, size: BucketSize | None, recorded: Recorded, ask: QueryUsage
    ) -> None:
        asked = question(meter, group_by=meter.group_by, top_groups=4, include_others=True, size=size)
        times, rows = await ask(asked, None, 10_000)
        chosen = {group_of(row) for row in rows if not row.others}
        rest = [item for group, items in groups(meter, recorded).items() if group not in chosen for item in items]

        assert len(chosen) == 4
        others = {row.index: row for row in rows if row.others}
        for index, time in enumerate(times):
            events = sum(time.contains(event.at) for _, event in rest)
            if events or index in others:
                assert others[index].value == expected(meter, rest, time)
                assert (others[index].event_count, others[index].rank, others[index].customer_id) == (events, 0, "")
        assert [row.others for row in rows if row.index == 0][-1]

    async def test_come_in_pages(self, meter: Meter, recorded: Recorded, ask: QueryUsage) -> None:
        asked = question(meter, group_by=meter.group_by, top_groups=3, include_others=True, size=BucketSize.HOUR)
        _, whole = await ask(asked, None, 10_000)

        assert await pages(ask, asked, 1) == await pages(ask, asked, 3) == whole
        assert await pages(ask, replace(asked, size=None, include_others=False), 1) == await pages(
            ask, replace(asked, size=None, include_others=False), 100
        )


class TestOthers:
    @pytest.mark.parametrize("size", BucketSize)
    async def test_and_top_groups_add_up_to_the_whole(
        self, size: BucketSize, recorded: Recorded, ask: QueryUsage
    ) -> None:
        anchor_day = 29 if size is BucketSize.BILLING_PERIOD else 0
        asked = question(TOP[-4], size=size, anchor_day=anchor_day, time_zone="Australia/Lord_Howe")
        _, (whole,) = await ask(replace(asked, size=None, anchor_day=0, by_customer=False), None, 10)
        _, rows = await ask(replace(asked, top_groups=2, include_others=True), None, 10_000)

        assert TOP[-4].meter_id == "sum"
        with exact():
            assert sum((row.value for row in rows), Decimal(0)) == whole.value
        assert sum(row.event_count for row in rows) == whole.event_count

    async def test_of_no_groups_there_are_none(self, recorded: Recorded, ask: QueryUsage) -> None:
        asked = question(TOP[-4], top_groups=1_000, include_others=True)
        _, rows = await ask(asked, None, 10_000)
        _, nothing = await ask(replace(asked, customer_id="nobody"), None, 10)

        assert [row for row in rows if row.others] == []
        assert len(rows) > 20
        assert nothing == []
