"""Seals of hours: the first one, and a version for whatever changes afterwards."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import asyncpg
import pytest

from libs.database import Database
from services.ingest.store import sealing
from services.ingest.store.event_queries import PostgresEventStore
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, a_batch
from tests.component.ingest.correcting import Corrector, key
from tests.component.ingest.replaying import Replaying
from tests.component.ingest.sealing import LATER, Log, logged, move_watermark

HOUR = timedelta(hours=1)


@pytest.fixture
def replaying(worker: Database, api: Database) -> Replaying:
    return Replaying(worker, api)


@pytest.fixture
def correct(api: Database, worker: Database) -> Corrector:
    return Corrector(api, worker)


async def versions(log: Log) -> list[tuple[datetime, int, str, int]]:
    """Hour, version, cause and events of every seal, in the order of the chain."""
    found = await log.store.seals("acme", None, 100, latest_only=False)
    ordered = sorted(found, key=lambda seal: seal.position)
    return [(seal.entry.hour_start, seal.entry.version, seal.entry.cause, seal.entry.event_count) for seal in ordered]


async def late_events(api: Database, *event_ids: str) -> list[bool]:
    store = PostgresEventStore(api)
    return [(await store.event("acme", key(event_id))).late for event_id in event_ids]


class TestFirstSeal:
    @pytest.mark.parametrize(
        ("watermark", "sealed"),
        [
            pytest.param(NOON + 2 * HOUR - timedelta(microseconds=1), [], id="within-the-allowance"),
            pytest.param(NOON + 2 * HOUR, [NOON], id="behind-it"),
            pytest.param(NOON + 3 * HOUR, [NOON, NOON + HOUR], id="an-hour-later"),
        ],
    )
    async def test_is_made_when_the_watermark_has_passed_the_allowance(
        self,
        record: RecordUsage,
        log: Log,
        ingest_database_owner: asyncpg.Connection,
        watermark: datetime,
        sealed: list[datetime],
    ) -> None:
        await record([a_batch(1, logged("a"), logged("b", hours=1))])
        await move_watermark(ingest_database_owner, watermark)

        await log.seal()

        assert [(hour, version, cause) for hour, version, cause, _ in await versions(log)] == [
            (hour, 1, "first") for hour in sealed
        ]
        assert (await log.verify()).difference is None

    async def test_waits_for_what_is_not_linked(
        self, record: RecordUsage, log: Log, api: Database, ingest_database_owner: asyncpg.Connection, worker: Database
    ) -> None:
        await record([a_batch(number, logged(f"e{number}")) for number in range(1, 4)])
        await move_watermark(ingest_database_owner, LATER)
        log.limit_batches(2)

        assert await log.sealing.seal("acme", LATER, NOON)
        assert await versions(log) == []
        assert not await log.sealing.seal("acme", LATER, NOON)

        assert await versions(log) == [(NOON, 1, "first", 6)]
        assert await late_events(api, "e1", "e2", "e3") == [False, False, False]

    async def test_contains_nothing_that_is_recorded_between_linking_and_sealing(
        self,
        record: RecordUsage,
        log: Log,
        api: Database,
        ingest_database_owner: asyncpg.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        seal_due = sealing._Step._seal_due

        async def recorded_before(step: sealing._Step, through: datetime, due: datetime) -> bool:
            if step.head.position == 1:
                await record([a_batch(2, logged("b"))])
            return await seal_due(step, through, due)

        monkeypatch.setattr(sealing._Step, "_seal_due", recorded_before)
        await record([a_batch(1, logged("a"))])
        await move_watermark(ingest_database_owner, LATER)

        await log.seal()
        await log.seal()

        assert await versions(log) == [(NOON, 1, "first", 2), (NOON, 2, "late", 4)]
        assert await late_events(api, "a", "b") == [False, True]

    async def test_has_what_each_meter_measured_of_each_customer(
        self, record: RecordUsage, log: Log, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await record([a_batch(1, logged("a"), logged("b", 7), logged("c", 1, customer_id="cust-02"))])
        await move_watermark(ingest_database_owner, LATER)
        await log.seal()

        sums = await log.store.sums("acme", NOON, 1, None, 10)

        found = [(item.meter_id, item.customer_id, item.event_count, int(item.value_sum)) for item in sums]
        assert found == [
            ("calls", "cust-01", 2, 2),
            ("calls", "cust-02", 1, 1),
            ("tokens", "cust-01", 2, 12),
            ("tokens", "cust-02", 1, 1),
        ]

    async def test_follows_a_test_clock_behind_the_watermark(
        self, record: RecordUsage, log: Log, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await record([a_batch(1, logged("a"))])
        await move_watermark(ingest_database_owner, NOON)
        log.now, log.test_times = NOON, {"acme": LATER}
        await log.seal()
        assert await versions(log) == []  # What was accepted by the clock before may still be in the queue.

        await move_watermark(ingest_database_owner, NOON + timedelta(microseconds=1))
        await log.seal()

        assert await versions(log) == [(NOON, 1, "first", 2)]

    async def test_a_test_clock_that_stands_keeps_hours_open(
        self, record: RecordUsage, log: Log, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await record([a_batch(1, logged("a"))])
        log.test_times = {"acme": NOON}
        await log.seal()
        await move_watermark(ingest_database_owner, LATER)

        await log.seal()

        assert await versions(log) == []

    async def test_of_hours_far_apart_and_of_many(
        self, record: RecordUsage, log: Log, ingest_database_owner: asyncpg.Connection
    ) -> None:
        hours = [-700, *range(-60, 0), 0]
        await record([a_batch(1, *(logged(f"e{hour}", hours=hour) for hour in hours))])
        await move_watermark(ingest_database_owner, LATER)

        await log.seal()

        assert [hour for hour, *_ in await versions(log)] == [NOON + hour * HOUR for hour in hours]
        assert (await log.verify()).difference is None


class TestLaterVersions:
    @pytest.fixture
    async def sealed(self, record: RecordUsage, log: Log, ingest_database_owner: asyncpg.Connection) -> Log:
        await record([a_batch(1, logged("a"), logged("b", 7))])
        await move_watermark(ingest_database_owner, LATER)
        await log.seal()
        assert await versions(log) == [(NOON, 1, "first", 4)]
        return log

    async def test_late_events_make_one_and_are_marked(self, sealed: Log, record: RecordUsage, api: Database) -> None:
        await record([a_batch(2, logged("late"), logged("in time", hours=30))])
        await sealed.seal()

        assert (await versions(sealed))[1:] == [(NOON, 2, "late", 6)]
        assert await late_events(api, "a", "late", "in time") == [False, True, False]
        assert (await sealed.verify()).difference is None

    async def test_a_late_event_in_an_empty_hour_makes_its_first_one(
        self, sealed: Log, record: RecordUsage, api: Database
    ) -> None:
        await record([a_batch(2, logged("late", hours=3))])
        await sealed.seal()

        assert (await versions(sealed))[1:] == [(NOON + 3 * HOUR, 1, "late", 2)]
        assert await late_events(api, "late") == [True]

    async def test_events_of_a_batch_of_old_code_are_looked_up(
        self, sealed: Log, record: RecordUsage, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await record([a_batch(2, logged("late"))])
        await ingest_database_owner.execute("UPDATE batch_results SET oldest_ns = NULL WHERE batch_id = 2")
        await sealed.seal()

        assert (await versions(sealed))[1:] == [(NOON, 2, "late", 6)]

    async def test_a_void_makes_one(self, sealed: Log, correct: Corrector) -> None:
        await correct.void(key("b"))
        await sealed.seal()

        assert (await versions(sealed))[1:] == [(NOON, 2, "correction", 2)]
        assert (await sealed.verify()).difference is None

    @pytest.mark.parametrize(
        "damage",
        ["value = value + 1", "window_start = window_start + interval '5 hours'"],
        ids=["another value", "another hour"],
    )
    async def test_what_a_replay_repairs_does(
        self,
        sealed: Log,
        replaying: Replaying,
        ingest_database_owner: asyncpg.Connection,
        damage: str,
    ) -> None:
        """First the seal of what is wrong, as somebody let it be sealed; then that of what is right again."""
        await ingest_database_owner.execute(f"UPDATE usage_windows SET {damage} WHERE customer_id = 'cust-01'")
        await ingest_database_owner.execute(
            "INSERT INTO hours_to_seal (tenant_id, hour_start, cause)"
            " SELECT DISTINCT 'acme', date_trunc('hour', window_start), 'damage' FROM usage_windows"
            " UNION SELECT 'acme', $1, 'damage'",
            NOON,
        )
        await sealed.seal()
        damaged = len(await versions(sealed))

        await replaying.confirmed((await replaying.built(await replaying.start())).replay_id)
        await sealed.seal()

        after = (await versions(sealed))[damaged:]
        assert {cause for _, _, cause, _ in after} == {"replay"}
        assert [(hour, events) for hour, _, _, events in after if hour == NOON] == [(NOON, 4)]
        assert (await sealed.verify()).difference is None

    async def test_a_void_of_everything_makes_an_empty_one(self, sealed: Log, correct: Corrector) -> None:
        await correct.void(key("a"), key("b"))
        await sealed.seal()

        assert (await versions(sealed))[1:] == [(NOON, 2, "correction", 0)]
        assert (await sealed.verify()).difference is None

    async def test_a_replacement_at_another_time_makes_one_of_each_hour(self, sealed: Log, correct: Corrector) -> None:
        await correct.replace((key("b"), logged("b2", 9, hours=-2)))
        await sealed.seal()

        assert [found[:3] for found in (await versions(sealed))[1:]] == [
            (NOON - 2 * HOUR, 1, "correction,late"),
            (NOON, 2, "correction"),
        ]
        assert (await sealed.verify()).difference is None

    async def test_none_for_a_duplicate_or_an_event_that_was_voided_before_it_came(
        self, sealed: Log, record: RecordUsage, correct: Corrector
    ) -> None:
        await correct.void(key("voided"))
        await record([a_batch(2, logged("a"), logged("voided"))])
        await sealed.seal()

        assert len(await versions(sealed)) == 1
        assert (await sealed.verify()).difference is None

    async def test_none_for_a_correction_before_the_first_one(
        self, sealed: Log, record: RecordUsage, correct: Corrector, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await record([a_batch(2, logged("c", hours=30), logged("d", hours=30))])
        await sealed.seal()
        await correct.void(key("c"))
        await move_watermark(ingest_database_owner, LATER + 40 * HOUR)

        await sealed.seal()
        await sealed.seal()

        assert (await versions(sealed))[1:] == [(NOON + 30 * HOUR, 1, "first", 2)]
        assert await ingest_database_owner.fetchval("SELECT count(*) FROM hours_to_seal") == 0

    async def test_a_correction_that_commits_while_its_hour_is_sealed_makes_another_one(
        self, sealed: Log, record: RecordUsage, ingest_database_owner: asyncpg.Connection
    ) -> None:
        """What it says was seen by nobody when the version before was made."""
        add = "INSERT INTO hours_to_seal (tenant_id, hour_start, cause) VALUES ('acme', $1, 'correction')"
        await ingest_database_owner.execute(add, NOON)
        open_transaction = ingest_database_owner.transaction()
        await open_transaction.start()
        await ingest_database_owner.execute("UPDATE usage_windows SET value = 1, event_count = 1")
        await ingest_database_owner.execute(add, NOON)
        await sealed.seal()
        await open_transaction.commit()

        await sealed.seal()

        assert [found[:3] for found in await versions(sealed)] == [(NOON, 1, "first"), (NOON, 2, "correction")]

    async def test_an_hour_that_is_about_to_be_sealed_anew_is_not_called_altered(
        self, sealed: Log, record: RecordUsage, correct: Corrector
    ) -> None:
        await correct.void(key("b"))
        voided = await sealed.verify()
        await sealed.seal()
        await record([a_batch(2, logged("late"))])
        recorded = await sealed.verify()

        assert (voided.difference, voided.unsettled_hours) == (None, 1)
        assert (recorded.difference, recorded.unsettled_hours) == (None, 1)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_in_whatever_order_the_log_verifies(
    record: RecordUsage, log: Log, correct: Corrector, ingest_database_owner: asyncpg.Connection, seed: int
) -> None:
    chance = random.Random(seed)
    log.limit_batches(chance.randint(1, 3))
    known: list[str] = []
    watermark = NOON
    for number in range(1, 25):
        match chance.randrange(5):
            case 0 | 1:
                ids = [f"e{number}-{index}" for index in range(chance.randint(1, 4))]
                known += ids
                events = (logged(name, hours=chance.randrange(6)) for name in ids)
                await record([a_batch(number, *events, accepted_total=len(known))])
            case 2 if known:
                await correct.void(*{key(chance.choice(known)), key(f"e{number + 2}-0")})
            case 3:
                watermark += chance.choice([HOUR, 3 * HOUR])
                await move_watermark(ingest_database_owner, watermark)
            case _:
                await log.seal()
        assert (await log.verify()).difference is None
    await log.seal()

    found = await log.verify()

    assert (found.difference, found.unsettled_hours) == (None, 0)
    assert await correct.failed_checks() == []
