"""Questions about usage and events, against plain computations over the same events."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product

import asyncpg
import pytest

from libs.database import Database
from libs.periods import BucketSize, Period
from services.ingest.domain.meter import PropertyFilter
from services.ingest.domain.recording import Fate
from services.ingest.domain.stored_event import EventCounts
from services.ingest.store.event_queries import PostgresEventStore
from services.ingest.store.known_customers import PostgresKnownCustomers
from services.ingest.store.reconciliation import PostgresReconciliationStore
from services.ingest.store.usage_queries import PostgresUsageStore
from services.ingest.store.usage_windows import PostgresWindowStore
from services.ingest.usecases.errors import EventNotFound, MeterNotFound
from services.ingest.usecases.list_windows import UsageScope
from services.ingest.usecases.query_events import EventSelection
from services.ingest.usecases.query_usage import QueryUsage
from services.ingest.usecases.reconcile import Reconcile
from services.ingest.usecases.record_usage import RecordUsage
from services.ingest.usecases.usage_question import UsageQuestion
from services.ingest.usecases.usage_rows import UsageRow
from tests.component.ingest.builders import NOON, Event, a_batch, a_meter, a_refusal, add_meters

# In this night clocks go forward in Berlin.
SPRING = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)
QUESTION = UsageQuestion("acme", "tokens", "", SPRING, SPRING + timedelta(days=2), None, "", (), False, ())


@pytest.fixture
def ask(api: Database) -> QueryUsage:
    return QueryUsage(usage=PostgresUsageStore(api))


@pytest.fixture
async def usage(record: RecordUsage, api: Database) -> list[Event]:
    """300 events over three days, not aligned to anything."""
    await add_meters(api, a_meter(group_by=["model", "region"]))
    chance = random.Random(11)
    events = [
        Event(
            f"e{number}",
            {"tokens": f"{number}.25", "other": "x"}
            | ({"model": chance.choice("ab")} if chance.random() < 0.8 else {})
            | ({"region": chance.choice(["eu", "us"])} if chance.random() < 0.8 else {}),
            customer_id=f"cust-{number % 3}",
            at=SPRING + timedelta(seconds=chance.randrange(-40_000, 220_000), microseconds=chance.randrange(10**6)),
        )
        for number in range(300)
    ]
    await record([a_batch(1, *events)])
    return events


def summed(rows: list[UsageRow]) -> tuple[Decimal, int]:
    return sum((row.value for row in rows), Decimal(0)), sum(row.event_count for row in rows)


def expected(events: list[Event], start: datetime, end: datetime) -> tuple[Decimal, int]:
    inside = [event for event in events if start <= event.at < end]
    return sum((Decimal(event.properties["tokens"]) for event in inside), Decimal(0)), len(inside)


class TestQueryUsage:
    async def test_edges_inside_windows_are_exact(self, ask: QueryUsage, usage: list[Event]) -> None:
        chance = random.Random(3)
        for _ in range(25):
            start = SPRING + timedelta(seconds=chance.randrange(100_000), microseconds=chance.randrange(10**6))
            end = start + timedelta(seconds=chance.choice([1, 60, 899, 900, 901, 5_000, 90_000]))

            _, rows = await ask(replace(QUESTION, start=start, end=end), None, 10)

            assert summed(rows) == expected(usage, start, end)

    async def test_an_edge_at_an_event_belongs_to_the_later_time(self, ask: QueryUsage, usage: list[Event]) -> None:
        event = max(usage, key=lambda item: item.at)
        _, before = await ask(replace(QUESTION, start=event.at - timedelta(microseconds=1), end=event.at), None, 10)
        _, after = await ask(replace(QUESTION, start=event.at, end=event.at + timedelta(microseconds=1)), None, 10)

        assert (summed(before)[1], summed(after)[1]) == (0, 1)

    async def test_rows_are_those_of_the_zone(self, ask: QueryUsage, usage: list[Event]) -> None:
        start = SPRING + timedelta(minutes=7)
        for zone, size in product(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"], BucketSize):
            anchor_day = 29 if size is BucketSize.BILLING_PERIOD else 0
            end = start + timedelta(days=2)
            question = replace(QUESTION, start=start, end=end, size=size, time_zone=zone, anchor_day=anchor_day)

            times, rows = await ask(question, None, 10_000)

            for index, time in enumerate(times):
                assert summed([row for row in rows if row.index == index]) == expected(usage, time.start, time.end)
            assert summed(rows) == expected(usage, start, start + timedelta(days=2))

    async def test_the_day_of_a_clock_change_has_its_hours(self, ask: QueryUsage, usage: list[Event]) -> None:
        question = replace(QUESTION, size=BucketSize.DAY, time_zone="Europe/Berlin")

        times, rows = await ask(question, None, 10)

        assert (times[1].start, times[1].end) == (SPRING + timedelta(hours=11), SPRING + timedelta(hours=34))
        assert summed([row for row in rows if row.index == 1]) == expected(usage, times[1].start, times[1].end)

    async def test_groups_filters_and_customers(self, ask: QueryUsage, usage: list[Event]) -> None:
        start, end = SPRING + timedelta(minutes=1), SPRING + timedelta(days=1, minutes=2)
        question = replace(
            QUESTION,
            start=start,
            end=end,
            group_by=("model",),
            by_customer=True,
            filters=(PropertyFilter("region", "eu"),),
        )

        _, rows = await ask(question, None, 100)
        _, of_one = await ask(replace(question, customer_id="cust-1", by_customer=False), None, 100)

        wanted: Counter[tuple[str, str | None]] = Counter()
        for event in usage:
            if start <= event.at < end and event.properties.get("region") == "eu":
                wanted[event.customer_id, event.properties.get("model")] += 1
        assert {(row.customer_id, row.dimensions.get("model")): row.event_count for row in rows} == dict(wanted)
        assert {row.dimensions.get("model"): row.event_count for row in of_one} == {
            model: count for (customer, model), count in wanted.items() if customer == "cust-1"
        }
        assert {row.customer_id for row in of_one} == {""}

    async def test_pages_continue_where_the_last_one_ended(self, ask: QueryUsage, usage: list[Event]) -> None:
        question = replace(QUESTION, size=BucketSize.HOUR, group_by=("model", "region"), by_customer=True)
        _, everything = await ask(question, None, 10_000)

        paged: list[UsageRow] = []
        while True:
            last = paged[-1] if paged else None
            after = None if last is None else (last.index, last.customer_id, last.dimensions_text)
            _, page = await ask(question, after, 7)
            if not page:
                break
            paged += page

        assert paged == everything
        assert len(everything) > 50

    async def test_an_unknown_meter(self, ask: QueryUsage) -> None:
        with pytest.raises(MeterNotFound):
            await ask(QUESTION, None, 10)


class TestEvents:
    async def test_are_listed_newest_first_in_pages(self, api: Database, usage: list[Event]) -> None:
        store = PostgresEventStore(api)
        listed: list[str] = []
        before = None
        while page := await store.events("acme", EventSelection(), before, 70):
            listed += [event.event_id for event in page]
            before = (page[-1].time_ns, page[-1].batch_id, page[-1].ordinal)

        assert listed == [event.event_id for event in sorted(usage, key=lambda item: item.at, reverse=True)]

    async def test_are_selected(self, api: Database, worker: Database, record: RecordUsage, usage: list[Event]) -> None:
        await record([a_batch(2, Event("other", event_type="audit", customer_id="cust-1", at=SPRING))])
        await PostgresKnownCustomers(worker).add([("acme", "cust-1", 1), ("acme", "cust-2", 1)])
        store = PostgresEventStore(api)
        end = SPRING + timedelta(hours=30)

        async def ids(selection: EventSelection) -> set[str]:
            return {event.event_id for event in await store.events("acme", selection, None, 1_000)}

        assert await ids(EventSelection(event_type="audit")) == {"other"}
        assert await ids(EventSelection(customer_id="cust-2", start=SPRING, end=end)) == {
            event.event_id for event in usage if event.customer_id == "cust-2" and SPRING <= event.at < end
        }
        assert await ids(EventSelection(unassigned_only=True)) == {
            event.event_id for event in usage if event.customer_id == "cust-0"
        }

    async def test_one_is_as_it_was_sent(self, api: Database, record: RecordUsage) -> None:
        await add_meters(api, a_meter())
        await record([a_batch(1, Event("1", {"tokens": "1.50", "note": "é\n"}))])
        store = PostgresEventStore(api)

        event = await store.event("acme", ("gateway", "1"))

        assert (event.properties, event.measured) == ({"tokens": "1.50", "note": "é\n"}, {"tokens": "1.5"})
        assert (event.time_ns, event.received_at, event.unassigned) == (1773144000 * 10**9, NOON, True)
        with pytest.raises(EventNotFound):
            await store.event("beta", ("gateway", "1"))

    async def test_statuses_tell_every_fate(self, api: Database, record: RecordUsage) -> None:
        await add_meters(api, a_meter())
        good, other = Event("1", {"tokens": "1"}), Event("1", {"tokens": "2"})
        await record([a_batch(1, good, good, other, Event("2"), rejected=[a_refusal("3")])])
        for number in range(2, 14):
            await record([a_batch(number, other)])

        statuses = await PostgresEventStore(api).statuses("acme", [("gateway", each) for each in "1234"])

        assert [status.fate for status in statuses] == [Fate.RECORDED, Fate.REJECTED, Fate.REJECTED, None]
        assert [len(status.exceptions) for status in statuses] == [10, 1, 1, 0]
        assert (statuses[0].duplicates, statuses[0].meter_ids) == (1, ["tokens"])
        assert {item.fate for item in statuses[0].exceptions} == {Fate.CONFLICT}

    async def test_exceptions_are_listed_newest_first(self, api: Database, record: RecordUsage) -> None:
        for number in range(1, 6):
            at = NOON + timedelta(minutes=number)
            await record([a_batch(number, rejected=[a_refusal(f"{number}")], received_at=at)])
        store = PostgresEventStore(api)

        first = await store.exceptions("acme", None, 3)
        rest = await store.exceptions("acme", (first[-1].received_at, first[-1].batch_id, first[-1].ordinal), 3)

        assert [item.key[1] for item in (*first, *rest)] == ["5", "4", "3", "2", "1"]

    async def test_counts(self, api: Database, worker: Database, record: RecordUsage) -> None:
        await add_meters(api, a_meter())
        good = Event("1", {"tokens": "1"})
        await record([a_batch(1, good, good, Event("2"), rejected=[a_refusal("3")])])
        await record([a_batch(1, Event("4", {"tokens": "1"}, "known"), epoch="epoch-2", seq=2)])
        await PostgresKnownCustomers(worker).add([("acme", "known", 1)])

        assert await PostgresEventStore(api).counts("acme") == EventCounts(4, 1, 2, 1, 0, 1, unassigned=1)


class TestWindows:
    async def test_digests_and_pages_of_windows_agree(self, api: Database, usage: list[Event]) -> None:
        store = PostgresWindowStore(api)
        day = Period(SPRING, SPRING + timedelta(days=1))
        scopes = [UsageScope("cust-0", day), UsageScope("nobody", day), UsageScope("cust-1", day)]

        found = []
        after = None
        while page := await store.windows("acme", scopes, after, 20):
            found += page
            after = (page[-1][0], page[-1][1].key)
        digests = {digest.scope_index: digest for digest in await store.digests("acme", scopes)}

        assert set(digests) == {0, 2}
        for index, customer in ((0, "cust-0"), (2, "cust-1")):
            mine = [window for scope, window in found if scope == index]
            wanted = expected([event for event in usage if event.customer_id == customer], day.start, day.end)
            assert (sum(window.value for window in mine), sum(window.event_count for window in mine)) == wanted
            assert (digests[index].value_sum, digests[index].event_count) == wanted
            assert digests[index].window_count == len(mine)
            assert digests[index].highest_version == max(window.version for window in mine)


class TestReconcile:
    async def test_everything_holds(self, api: Database, record: RecordUsage, usage: list[Event]) -> None:
        await record([a_batch(2, usage[0], rejected=[a_refusal("x")], accepted_total=301)])

        checks = await Reconcile(PostgresReconciliationStore(api))("acme", None)
        of_an_hour = await Reconcile(PostgresReconciliationStore(api))(
            "acme", Period(SPRING, SPRING + timedelta(hours=1))
        )

        assert [check.name for check in checks if not check.holds] == []
        assert checks[5].left == 300
        assert [check.name for check in of_an_hour if not check.holds] == []
        assert of_an_hour[5].left == expected(usage, SPRING, SPRING + timedelta(hours=1))[1]

    async def test_a_planted_difference_is_named(
        self, api: Database, usage: list[Event], ingest_database_owner: asyncpg.Connection
    ) -> None:
        await ingest_database_owner.execute(
            "UPDATE usage_windows SET value = value + 1 WHERE window_key = (SELECT min(window_key) FROM usage_windows)"
        )
        await ingest_database_owner.execute("UPDATE acceptor_counters SET accepted_total = accepted_total + 2")

        failed = [check for check in await Reconcile(PostgresReconciliationStore(api))("acme", None) if not check.holds]

        assert [check.name for check in failed] == [
            "accepted = recorded + duplicate + conflict + rejected + written off",
            "values of windows = log",
        ]
        assert failed[1].left - failed[1].right == 1
        assert len(failed[1].differences) == 1
