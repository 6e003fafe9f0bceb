"""The recorder on a real PostgreSQL: every event gets exactly one fate, whatever is repeated, and by whomever."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from datetime import timedelta
from decimal import Decimal

import asyncpg
import pytest

from libs.database import Database, raw
from services.ingest.domain.recording import EventException, Fate
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.usecases.ports import QueuedMarker, StreamPosition
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, STREAM, Event, a_batch, a_meter, a_refusal, add_meters, fetch

WINDOWS = (
    "SELECT meter_id, customer_id, window_start, dimensions, value, event_count FROM usage_windows ORDER BY 1, 2, 3"
)
COUNTERS = "SELECT accepted_total, recorded, duplicate, conflict, rejected FROM acceptor_counters"


def fates(exceptions: object) -> list[tuple[int, Fate]]:
    assert isinstance(exceptions, list)
    return [(item.ordinal, item.fate) for item in exceptions]


class TestFates:
    async def test_a_new_event_is_in_the_log_and_in_the_windows(
        self, record: RecordUsage, api: Database, worker: Database
    ) -> None:
        await add_meters(api, a_meter(group_by=["model"]), a_meter("calls", expression=""))
        event = Event(
            "1", {"tokens": "10.5", "model": "large", "note": "\n 'quoted' \\"}, at=NOON + timedelta(minutes=16)
        )

        report = await record([a_batch(1, event)])

        assert [list(outcome.exceptions) for outcome in report.outcomes] == [[]]
        assert report.fates == {Fate.RECORDED: 1, Fate.DUPLICATE: 0, Fate.CONFLICT: 0, Fate.REJECTED: 0}
        start = NOON + timedelta(minutes=15)
        assert await fetch(api, "acme", WINDOWS) == [
            ("calls", "cust-01", start, {}, Decimal(1), 1),
            ("tokens", "cust-01", start, {"model": "large"}, Decimal("10.5"), 1),
        ]
        assert await fetch(api, "acme", "SELECT event_id, customer_id, properties, measured FROM events") == [
            ("1", "cust-01", dict(event.properties), {"tokens": "10.5", "calls": "1"})
        ]
        assert await fetch(worker, "acme", "SELECT count(*) FROM usage_window_marks") == [(2,)]

    async def test_what_no_meter_counts_is_recorded_all_the_same(self, record: RecordUsage, api: Database) -> None:
        await record([a_batch(1, Event("1", event_type="other"))])

        assert await fetch(api, "acme", "SELECT measured FROM events") == [({},)]
        assert await fetch(api, "acme", WINDOWS) == []

    async def test_duplicates_count_once_wherever_they_are(self, record: RecordUsage, api: Database) -> None:
        await add_meters(api, a_meter())
        one, two = Event("1", {"tokens": "1"}), Event("2", {"tokens": "2"})

        within = await record([a_batch(1, one, one)])
        across_batches = await record([a_batch(2, two), a_batch(3, one, two)])
        across_chunks = await record([a_batch(4, two, Event("3", {"tokens": "4"}))])

        assert fates(within.outcomes[0].exceptions) == [(1, Fate.DUPLICATE)]
        assert [fates(outcome.exceptions) for outcome in across_batches.outcomes] == [
            [],
            [(0, Fate.DUPLICATE), (1, Fate.DUPLICATE)],
        ]
        assert fates(across_chunks.outcomes[0].exceptions) == [(0, Fate.DUPLICATE)]
        assert await fetch(api, "acme", "SELECT value, event_count FROM usage_windows") == [(Decimal(7), 3)]
        assert await fetch(api, "acme", "SELECT event_id, times FROM event_duplicates ORDER BY 1") == [
            ("1", 2),
            ("2", 2),
        ]

    async def test_the_first_of_different_contents_wins_and_the_others_are_kept_aside(
        self, record: RecordUsage, api: Database
    ) -> None:
        await add_meters(api, a_meter())
        first, other = Event("1", {"tokens": "1"}), Event("1", {"tokens": "100"})

        together = await record([a_batch(1, first), a_batch(2, other)])
        later = await record([a_batch(3, Event("1", {"tokens": "1"}, customer_id="cust-02"), first)])

        assert fates(together.outcomes[1].exceptions) == [(0, Fate.CONFLICT)]
        assert fates(later.outcomes[0].exceptions) == [(0, Fate.CONFLICT), (1, Fate.DUPLICATE)]
        assert await fetch(api, "acme", "SELECT value FROM usage_windows") == [(Decimal(1),)]
        kept = await fetch(
            api, "acme", "SELECT verdict, event_id, customer_id, reason FROM event_exceptions ORDER BY 3"
        )
        assert kept == [
            ("conflict", "1", "cust-01", "OTHER_CONTENT"),
            ("conflict", "1", "cust-02", "OTHER_CONTENT"),
        ]

    async def test_ids_are_a_tenants_and_a_sources_own(self, record: RecordUsage, api: Database) -> None:
        same_id = [Event("1"), Event("1", source="worker", customer_id="cust-02")]

        report = await record([a_batch(1, *same_id), a_batch(1, Event("1", customer_id="x"), tenant="beta", seq=2)])

        assert report.fates[Fate.RECORDED] == 3

    async def test_a_meter_newer_than_the_acceptors_directory_rejects_what_it_cannot_measure(
        self, record: RecordUsage, api: Database
    ) -> None:
        before = await record([a_batch(1, Event("1", {"tokens": "many"}))])
        await add_meters(api, a_meter())

        after = await record([a_batch(2, Event("1", {"tokens": "many"}), Event("2", {"tokens": "many"}), Event("3"))])

        assert before.fates[Fate.RECORDED] == 1
        reasons = [
            (item.ordinal, item.fate, item.problem and item.problem.reason) for item in after.outcomes[0].exceptions
        ]
        assert reasons == [
            (0, Fate.DUPLICATE, None),
            (1, Fate.REJECTED, "NOT_A_NUMBER"),
            (2, Fate.REJECTED, "MISSING_PROPERTY"),
        ]
        assert await fetch(api, "acme", "SELECT count(*) FROM event_keys") == [(1,)]  # A rejected id may be sent again.

    async def test_refusals_at_the_door_are_kept(self, record: RecordUsage, api: Database) -> None:
        await record([a_batch(1, rejected=[a_refusal("1"), a_refusal("2")])])

        kept = await fetch(
            api, "acme", "SELECT ordinal, verdict, event_id, field, reason FROM event_exceptions ORDER BY 1"
        )
        assert kept == [
            (-2, "rejected", "2", "event_time", "REQUIRED"),
            (-1, "rejected", "1", "event_time", "REQUIRED"),
        ]
        assert await fetch(api, "acme", "SELECT rejected_total FROM acceptor_counters") == [(2,)]

    async def test_the_equation_of_fates_holds(self, record: RecordUsage, api: Database) -> None:
        await add_meters(api, a_meter())
        events = [Event("1", {"tokens": "1"}), Event("1", {"tokens": "1"}), Event("1", {"tokens": "2"}), Event("2")]

        await record([a_batch(1, *events)])

        assert await fetch(api, "acme", COUNTERS) == [(4, 1, 1, 1, 1)]


class TestRedelivery:
    async def test_a_known_batch_changes_nothing_and_its_stored_fates_are_answered(
        self, record: RecordUsage, api: Database
    ) -> None:
        await add_meters(api, a_meter())
        batch = a_batch(
            1, Event("1", {"tokens": "1"}), Event("1", {"tokens": "1"}), Event("1", {"tokens": "5"}), Event("2")
        )
        first = await record([batch])
        before = [
            await fetch(api, "acme", query) for query in (WINDOWS, COUNTERS, "SELECT times FROM event_duplicates")
        ]

        again = await record([batch])
        twice_in_a_chunk = await record([batch, a_batch(2, Event("9", {"tokens": "1"}, customer_id="x")), batch])

        expected = [(1, Fate.DUPLICATE), (2, Fate.CONFLICT), (3, Fate.REJECTED)]
        assert fates(first.outcomes[0].exceptions) == expected
        assert again.outcomes == first.outcomes
        assert again.fates[Fate.RECORDED] == 0
        assert [twice_in_a_chunk.outcomes[index] for index in (0, 2)] == [first.outcomes[0]] * 2
        assert [await fetch(api, "acme", "SELECT times FROM event_duplicates")] == before[2:]
        assert (await fetch(api, "acme", WINDOWS))[:1] == before[0]

    async def test_a_batch_twice_in_its_first_chunk_is_recorded_once(self, record: RecordUsage, api: Database) -> None:
        batch = a_batch(1, Event("1"), Event("1"))

        report = await record([batch, batch])

        assert [list(outcome.exceptions) for outcome in report.outcomes] == [
            [EventException(1, Fate.DUPLICATE, None)]
        ] * 2
        assert await fetch(api, "acme", COUNTERS) == [(2, 1, 1, 0, 0)]


class TestConcurrentRecorders:
    async def test_any_interleaving_gives_what_sending_once_gives(self, worker: Database, api: Database) -> None:
        await add_meters(api, a_meter(group_by=["model"]), a_meter("calls", expression=""))
        chance = random.Random(7)
        events = [
            Event(
                f"e{number}",
                {"tokens": str(number), "model": "ab"[number % 2]},
                customer_id=f"c{number % 5}",
                at=NOON + timedelta(minutes=number % 40),
            )
            for number in range(400)
        ]
        batches = [a_batch(number, *chance.sample(events, 60)) for number in range(1, 41)]
        deliveries = batches * 2
        chance.shuffle(deliveries)
        recorders = [RecordUsage(PostgresRecordingTransactions(worker), lambda: NOON) for _ in range(6)]

        async def work(recorder: RecordUsage) -> None:
            while deliveries:
                chunk, deliveries[:3] = deliveries[:3], []
                await recorder(chunk)

        await asyncio.gather(*map(work, recorders))

        sent = {event_id for batch in batches for event_id in batch.batch.events.event_ids}
        expected: Counter[tuple[str, str]] = Counter()
        for event in events:
            if event.event_id in sent:
                expected[event.customer_id, event.properties["model"]] += int(event.properties["tokens"])
        sums = await fetch(
            api,
            "acme",
            "SELECT customer_id, dimensions ->> 'model', sum(value) FROM usage_windows"
            " WHERE meter_id = 'tokens' GROUP BY 1, 2",
        )
        assert {(customer, model): int(str(value)) for customer, model, value in sums} == dict(expected)
        assert await fetch(api, "acme", "SELECT sum(value) FROM usage_windows WHERE meter_id = 'calls'") == [
            (Decimal(len(sent)),)
        ]
        totals = await fetch(api, "acme", "SELECT recorded, duplicate, conflict, rejected FROM acceptor_counters")
        assert totals == [(len(sent), 40 * 60 - len(sent), 0, 0)]

    async def test_versions_of_a_window_grow_with_its_value(self, worker: Database, api: Database) -> None:
        await add_meters(api, a_meter())
        record = RecordUsage(PostgresRecordingTransactions(worker), lambda: NOON)
        seen: list[tuple[object, ...]] = []

        async def watch() -> None:
            while not (seen and seen[-1][0] == Decimal(60)):
                seen.extend(await fetch(api, "acme", "SELECT value, version FROM usage_windows"))

        async def send() -> None:
            await asyncio.gather(
                *(record([a_batch(number, Event(str(number), {"tokens": "1"}))]) for number in range(1, 61))
            )

        async with asyncio.timeout(20):
            await asyncio.gather(watch(), send())

        assert seen == sorted(seen)
        assert all((before[0] == after[0]) == (before[1] == after[1]) for before, after in itertools.pairwise(seen))

    async def test_do_not_wait_for_each_other_in_a_circle(self, worker: Database) -> None:
        """Redelivered markers come in any order."""
        recorders = [RecordUsage(PostgresRecordingTransactions(worker), lambda: NOON) for _ in range(2)]
        markers = [QueuedMarker(str(seq), NOON, StreamPosition(STREAM, seq)) for seq in range(1, 5_001)]

        async with asyncio.timeout(60):
            await asyncio.gather(recorders[0]([], markers), recorders[1]([], markers[::-1]))


class TestTheLog:
    async def test_a_batch_that_waited_long_finds_its_partition(self, record: RecordUsage, api: Database) -> None:
        long_ago = NOON - timedelta(days=200)

        await record([a_batch(1, Event("1"), received_at=long_ago)])

        assert await fetch(api, "acme", "SELECT received_at FROM events") == [(long_ago,)]

    async def test_the_longest_ids_and_dimensions_fit(self, record: RecordUsage, api: Database) -> None:
        names = [f"{number}{'ñ' * 63}" for number in range(8)]
        await add_meters(api, a_meter(expression="", group_by=names))
        event = Event("😀" * 128, dict.fromkeys(names, "語" * 256), "客" * 128, source="源" * 128)

        report = await record([a_batch(1, event)])

        assert report.fates[Fate.RECORDED] == 1

    async def test_neither_login_may_change_what_is_recorded(self, api: Database, worker: Database) -> None:
        tables = ["events", "event_keys", "batches", "batch_results", "event_exceptions", "meters"]
        for database, table in itertools.product((api, worker), tables):
            for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET tenant_id = 'x'", f"TRUNCATE {table}"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await fetch(database, "acme", statement)

    async def test_the_traces_of_sampled_batches_reach_windows(self, record: RecordUsage, api: Database) -> None:
        await add_meters(api, a_meter(expression=""))
        trace = f"00-{'a' * 32}-{'b' * 16}-01"

        await record([a_batch(1, Event("1"), trace_parent=trace)])
        await record([a_batch(2, Event("2"))])

        assert await fetch(api, "acme", "SELECT trace_parent FROM usage_windows") == [(trace,)]


class TestTenants:
    async def test_a_tenant_sees_only_its_own_rows(self, record: RecordUsage, api: Database) -> None:
        await add_meters(api, a_meter(expression=""))
        await add_meters(api, a_meter(expression=""), tenant="beta")
        mixed = [Event("1"), Event("1"), Event("1", customer_id="x")]
        await record([a_batch(1, *mixed, rejected=[a_refusal("9")]), a_batch(1, *mixed, tenant="beta", seq=2)])
        tables = await fetch(
            api,
            "acme",
            "SELECT table_name FROM information_schema.columns WHERE column_name = 'tenant_id'",
        )
        queues = {"meter_publications", "stream_positions", "abandoned_batches", "missing_batches", "batch_floors"}
        queues |= {"parked_queue", "usage_window_marks", "outbox_leases", "replay_queue"}
        queues |= {"unsealed_batches", "hours_to_seal", "sealed_through"}
        queues |= {"unsealed_batches", "hours_to_seal", "sealed_through"}

        seen = set()
        for (table,) in tables:
            if table in queues or str(table).startswith(("event_keys_", "events_")):
                continue
            tenants = await fetch(api, "acme", f"SELECT DISTINCT tenant_id FROM {table}")
            assert tenants in ([("acme",)], []), table
            seen |= {table} if tenants else set()

        assert {"meters", "batches", "batch_results", "event_keys", "events", "event_exceptions"} <= seen
        assert {"event_duplicates", "event_customers", "usage_windows", "acceptor_counters"} <= seen

    async def test_partitions_are_closed_to_both_logins(
        self, record: RecordUsage, api: Database, worker: Database
    ) -> None:
        await record([a_batch(1, Event("1"))])
        for database in (api, worker):
            for partition in ("events_2026_03", "event_keys_0"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await fetch(database, "acme", f"SELECT 1 FROM {partition}")

    async def test_a_worker_sees_the_tenants_of_its_transaction_only(
        self, record: RecordUsage, worker: Database
    ) -> None:
        await record([a_batch(1, Event("1")), a_batch(1, Event("1"), tenant="beta", seq=2)])

        assert await fetch(worker, "beta", "SELECT DISTINCT tenant_id FROM events") == [("beta",)]
        async with worker.queue_transaction() as connection:
            assert await (await raw(connection)).fetchval("SELECT count(*) FROM events") == 0
