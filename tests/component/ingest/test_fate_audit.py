"""The standing job that checks fates: silent while all agrees, whatever goes on, and it names what was altered."""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import timedelta

import asyncpg
import pytest

from libs.database import Database
from services.ingest.domain.log_chain import hour_of
from services.ingest.store.fate_audit import PostgresFateAudit, PostgresFateDifferences
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.usecases.audit_fates import AuditFates, Equation, FateDifference
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, Event, a_batch
from tests.component.ingest.sealing import LATER, Log, logged, move_watermark, record_two_batches

MINUTE = timedelta(minutes=1)

RESULTS = "4 1 1 0 1"
ALTERED = {
    "a count": (
        "UPDATE fate_counts SET duplicate = duplicate + 1",
        Equation.COUNTS,
        "all sources",
        ("4 2 1 0 1", RESULTS),
    ),
    "counts emptied": (
        "UPDATE fate_counts SET recorded = 0, duplicate = 0, conflict = 0, rejected_at_door = 0",
        Equation.COUNTS,
        "all sources",
        ("0 0 0 0 0", RESULTS),
    ),
    "a result": ("UPDATE batch_results SET duplicate = 0 WHERE batch_id = 2", Equation.BATCH, "batch 2", ("3", "2")),
    "a result removed": ("DELETE FROM batch_results WHERE batch_id = 1", Equation.BATCH, "batch 1", ("3", "0")),
    "a size": ("UPDATE batches SET event_count = 4 WHERE batch_id = 1", Equation.BATCH, "batch 1", ("4", "3")),
    "an event removed": ("DELETE FROM events WHERE event_id = 'c'", Equation.LOG, "batch 1", ("3", "2")),
    "an event added": (
        "INSERT INTO events SELECT tenant_id, received_at, batch_id, 7, source, 'new', event_type, customer_id,"
        " event_time_ns, properties, '{}' FROM events WHERE event_id = 'a'",
        Equation.LOG,
        "batch 1",
        ("3", "4"),
    ),
    "a window": (
        "UPDATE usage_windows SET value = value + 1 WHERE meter_id = 'tokens' AND customer_id = 'cust-02'",
        Equation.WINDOWS,
        "customer cust-02, meter tokens, window 2026-03-10T12:00:00+00:00",
        ("2 of 1 events", "1 of 1 events"),
    ),
}
TABLES = ("fate_counts", "batches", "batch_results", "events", "usage_windows")


class Audit:
    """The job of one tenant, minute by minute."""

    def __init__(self, worker: Database, api: Database) -> None:
        self.now = LATER
        self.open_of_all: list[int] = []
        self._job = AuditFates(PostgresFateAudit(worker), lambda: self.now, self.open_of_all.append)
        self._found = PostgresFateDifferences(api)

    async def __call__(self, minutes: int = 1) -> list[FateDifference]:
        """Look so many times, a minute apart; return what differs now."""
        for _ in range(minutes):
            self.now += MINUTE
            await self._job()
        return await self.listed()

    async def listed(self, *, resolved: bool = False) -> list[FateDifference]:
        return await self._found.list("acme", resolved, None, 1_000)


@pytest.fixture
def audit(worker: Database, api: Database) -> Audit:
    return Audit(worker, api)


@pytest.fixture
async def sealed(log: Log, record: RecordUsage, ingest_database_owner: asyncpg.Connection) -> Log:
    """Two batches of NOON's hour, which is sealed."""
    await record_two_batches(record)
    await move_watermark(ingest_database_owner, LATER)
    await log.seal()
    return log


class TestWhatAgrees:
    async def test_is_no_finding(self, sealed: Log, audit: Audit, api: Database) -> None:
        assert await audit(4) == []
        progress = await PostgresFateDifferences(api).progress("acme")
        assert progress is not None
        assert (progress.next_hour, progress.checked_at) == (hour_of(LATER), audit.now)

    async def test_before_there_is_a_watermark_nothing_is_checked(
        self, log: Log, record: RecordUsage, audit: Audit, api: Database
    ) -> None:
        await record_two_batches(record)
        await log.seal()
        assert await audit() == []
        assert await PostgresFateDifferences(api).progress("acme") is None

    async def test_nor_is_what_goes_on_meanwhile(
        self, log: Log, worker: Database, audit: Audit, ingest_database_owner: asyncpg.Connection
    ) -> None:
        """Recorders record into hours that the job reads, late, again and again."""
        await move_watermark(ingest_database_owner, LATER)
        dice = random.Random(7)
        batches = [
            a_batch(
                number,
                *(logged(f"{dice.randrange(400)}", 1, dice.randrange(3)) for _ in range(10)),
                received_at=NOON + timedelta(minutes=dice.randrange(300)),
            )
            for number in range(1, 121)
        ]
        done = asyncio.Event()

        async def recorder(first: int) -> None:
            record = RecordUsage(PostgresRecordingTransactions(worker), lambda: NOON)
            for start in range(first, len(batches), 6):
                await record(batches[start : start + 4])
                await log.seal()

        async def look() -> int:
            rounds = 0
            while not done.is_set():
                assert await audit() == []
                # All hours anew: a cursor would pass them once.
                await ingest_database_owner.execute("UPDATE fate_audits SET next_hour = $1", NOON - timedelta(hours=2))
                rounds += 1
            return rounds

        looking = asyncio.create_task(look())
        await asyncio.gather(recorder(0), recorder(3))
        done.set()
        assert await looking > 3
        assert await audit(6) == []


class TestWhatWasAltered:
    @pytest.mark.parametrize("case", ALTERED, ids=str)
    async def test_is_found_named_and_resolved(
        self,
        sealed: Log,
        audit: Audit,
        ingest_database_owner: asyncpg.Connection,
        case: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        statement, equation, subject, sides = ALTERED[case]
        for table in TABLES:
            await ingest_database_owner.execute(f"CREATE TABLE kept_{table} AS TABLE {table}")
        await ingest_database_owner.execute(statement)

        with caplog.at_level(logging.ERROR):
            found = {(item.equation, item.subject): item for item in await audit(3)}

        item = found[equation, subject]
        assert (item.left, item.right) == sides
        assert item.hour == NOON
        assert (item.first_seen, item.resolved_at) == (LATER + MINUTE, None)
        assert sum(subject in record.message and equation in record.message for record in caplog.records) == 1

        for table in TABLES:
            await ingest_database_owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            await ingest_database_owner.execute(f"TRUNCATE {table}")
            await ingest_database_owner.execute(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE kept_{table}")
        assert await audit() == []
        gone = {(item.equation, item.subject): item for item in await audit.listed(resolved=True)}[equation, subject]
        assert gone.resolved_at == audit.now

    async def test_in_hours_that_were_checked_before_is_found_when_windows_come_round_again(
        self, sealed: Log, audit: Audit, ingest_database_owner: asyncpg.Connection
    ) -> None:
        assert await audit(40) == []
        await ingest_database_owner.execute("UPDATE usage_windows SET value = value + 1 WHERE meter_id = 'tokens'")
        assert {item.equation for item in await audit(40)} == {Equation.WINDOWS}

    async def test_is_not_taken_for_resolved_behind_more_than_a_round_names(
        self, sealed: Log, audit: Audit, record: RecordUsage, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await record([a_batch(number, Event(str(number))) for number in range(3, 153)])
        await sealed.seal()
        altering = "UPDATE batches SET event_count = event_count + 1 WHERE batch_number {} 122"
        await ingest_database_owner.execute(altering.format(">"))
        before = {item.subject for item in await audit()}

        await ingest_database_owner.execute(altering.format("<="))

        assert before < {item.subject for item in await audit(2)}
        assert len(before) == 30

    async def test_with_many_others_goes_on_being_looked_at(
        self, sealed: Log, audit: Audit, record: RecordUsage, ingest_database_owner: asyncpg.Connection
    ) -> None:
        hours = [NOON - timedelta(hours=number) for number in range(30)]
        await record([a_batch(n, Event(f"{n}"), received_at=at) for n, at in enumerate(hours, 3)])
        await sealed.seal()
        await ingest_database_owner.execute("UPDATE fate_counts SET conflict = conflict + 1")
        assert len(await audit(3)) == 30

        await ingest_database_owner.execute(
            "UPDATE fate_counts SET conflict = conflict - 1 WHERE hour_start = $1", NOON - timedelta(hours=2)
        )

        assert len(await audit(3)) == 29

    async def test_one_tenant_does_not_keep_the_others_from_being_checked(
        self,
        sealed: Log,
        audit: Audit,
        record: RecordUsage,
        worker: Database,
        ingest_database_owner: asyncpg.Connection,
    ) -> None:
        await record([a_batch(1, Event("1"), tenant="rival", seq=9)])
        await sealed.seal()
        await ingest_database_owner.execute("UPDATE fate_counts SET recorded = recorded + 1 WHERE tenant_id = 'rival'")
        assert await audit(2) == []
        assert audit.open_of_all[-1] == 1


class TestAnUpgrade:
    async def test_hours_that_old_code_has_recorded_in_part_are_left_out(
        self, sealed: Log, record: RecordUsage, audit: Audit, ingest_database_owner: asyncpg.Connection
    ) -> None:
        """NOON's hour was recorded by a release that did not count."""
        await ingest_database_owner.execute("DELETE FROM fate_counts")
        hours = [NOON + timedelta(hours=n, minutes=30) for n in (1, 2, 3)]
        await record([a_batch(n, Event(f"{n}"), received_at=at) for n, at in enumerate(hours, 7)])
        await ingest_database_owner.execute("UPDATE fate_counts SET recorded = 2")

        found = await audit(2)

        assert [(item.equation, item.hour) for item in found] == [(Equation.COUNTS, NOON + timedelta(hours=3))]
