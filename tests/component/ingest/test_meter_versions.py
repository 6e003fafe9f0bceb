"""Versions of meters, archiving, and who counts what."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from libs.database import Database
from libs.errors import RequestIdReused
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_versions import MAX_VERSIONS
from services.ingest.store.meter_changes import PostgresMeterChanges
from services.ingest.store.meter_publications import PostgresMeterPublications
from services.ingest.store.meters import PostgresMeterStore
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.usecases.change_meter import MeterChange
from services.ingest.usecases.create_meter import CreateMeterRequest
from services.ingest.usecases.errors import (
    MeterArchived,
    MeterDefinitionFixed,
    MeterExists,
    MeterLimit,
    MeterNotFound,
    MeterVersionChanged,
    MeterVersionLimit,
)
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, Event, a_batch, a_meter, add_meters, fetch

SECOND, TICK = timedelta(seconds=1), timedelta(microseconds=1)
NAMED = replace(a_meter(), display_name="Tokens", description="What models read and write.")
WINDOWS = "SELECT value, event_count FROM usage_windows WHERE meter_id = 'tokens'"


def change(request_id: str, fingerprint: bytes = b"", meter_id: str = "tokens", tenant: str = "acme") -> MeterChange:
    return MeterChange(tenant, request_id, fingerprint, "key-1", meter_id)


def used(event_id: str, tokens: int = 1) -> Event:
    return Event(event_id, {"tokens": str(tokens)})


@pytest.fixture
def changes(api: Database) -> PostgresMeterChanges:
    return PostgresMeterChanges(api)


@pytest.fixture
def meters(api: Database) -> PostgresMeterStore:
    return PostgresMeterStore(api)


class TestUpdate:
    async def test_makes_a_version_and_keeps_those_before(
        self, api: Database, worker: Database, changes: PostgresMeterChanges, meters: PostgresMeterStore
    ) -> None:
        await add_meters(api, a_meter())
        publications = PostgresMeterPublications(worker)
        async with publications.locked(NOON):
            pass

        updated = await changes.update(change("r1"), NAMED, 1, NOON + SECOND)

        assert updated == replace(NAMED, version=2)
        assert await meters.get("acme", "tokens") == updated
        assert await meters.list("acme", "", 10) == [updated]
        found = [
            (item.version, item.display_name, item.description, item.actor, item.created_at)
            for item in await changes.versions("acme", "tokens", MAX_VERSIONS + 1, 10)
        ]
        assert found == [
            (2, "Tokens", NAMED.description, "key-1", NOON + SECOND),
            (1, "", "", "", NOON),
        ]
        assert [item.version for item in await changes.versions("acme", "tokens", 2, 10)] == [1]
        async with publications.locked(NOON + SECOND) as held:
            assert held == [("acme", updated)]

    async def test_the_same_request_again_answers_what_it_did_whatever_came_later(
        self, api: Database, changes: PostgresMeterChanges
    ) -> None:
        await add_meters(api, a_meter())
        first = await changes.update(change("r1"), NAMED, 0, NOON)
        await changes.update(change("r2"), replace(NAMED, display_name="Other"), 0, NOON)

        assert await changes.update(change("r1"), NAMED, 1, NOON) == first
        with pytest.raises(RequestIdReused):
            await changes.update(change("r1", b"other"), NAMED, 0, NOON)
        assert await fetch(api, "acme", "SELECT count(*) FROM meter_versions") == [(2,)]

    async def test_without_a_difference_there_is_no_version(self, api: Database, changes: PostgresMeterChanges) -> None:
        await add_meters(api, a_meter())

        assert (await changes.update(change("r1"), a_meter(), 0, NOON)).version == 1
        assert await fetch(api, "acme", "SELECT count(*) FROM meter_versions") == [(0,)]

    async def test_what_is_measured_never_changes(self, api: Database, changes: PostgresMeterChanges) -> None:
        await add_meters(api, a_meter())
        other = replace(NAMED, expression="tokens * 2", unit="kilotokens")

        with pytest.raises(MeterDefinitionFixed) as refused:
            await changes.update(change("r1"), other, 0, NOON)

        assert refused.value.metadata["fields"] == "expression,unit"
        # Refused, the request id is free.
        assert (await changes.update(change("r1"), NAMED, 0, NOON)).version == 2

    async def test_a_version_that_is_not_the_newest_is_no_ground_to_change(
        self, api: Database, changes: PostgresMeterChanges
    ) -> None:
        await add_meters(api, a_meter())
        await changes.update(change("r1"), NAMED, 1, NOON)

        with pytest.raises(MeterVersionChanged) as refused:
            await changes.update(change("r2"), a_meter(), 1, NOON)
        assert refused.value.metadata["version"] == "2"

    async def test_many_at_once_make_versions_without_gaps(self, api: Database, changes: PostgresMeterChanges) -> None:
        await add_meters(api, a_meter())
        wanted = [replace(NAMED, display_name=f"name {number}") for number in range(8)]

        made = await asyncio.gather(
            *(changes.update(change(f"r{number}"), meter, 0, NOON) for number, meter in enumerate(wanted))
        )

        assert sorted(meter.version for meter in made) == list(range(2, 10))

    async def test_versions_are_bounded_and_leave_room_to_archive(
        self, api: Database, changes: PostgresMeterChanges, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await add_meters(api, a_meter())
        await ingest_database_owner.execute(
            "INSERT INTO meter_versions SELECT 'acme', 'tokens', n, n::text, '', NULL, '', now()"
            " FROM generate_series(2, $1) AS n",
            MAX_VERSIONS - 2,
        )
        await changes.update(change("r1"), NAMED, 0, NOON)

        with pytest.raises(MeterVersionLimit):
            await changes.update(change("r2"), a_meter(), 0, NOON)
        assert (await changes.archive(change("r3"), NOON)).version == MAX_VERSIONS

    async def test_one_tenant_does_not_reach_anothers_meter(self, api: Database, changes: PostgresMeterChanges) -> None:
        await add_meters(api, a_meter(), tenant="beta")

        with pytest.raises(MeterNotFound):
            await changes.update(change("r1"), NAMED, 0, NOON)
        with pytest.raises(MeterNotFound):
            await changes.versions("acme", "tokens", 2, 1)

    async def test_versions_can_only_be_added(self, api: Database, changes: PostgresMeterChanges) -> None:
        await add_meters(api, a_meter())
        await changes.update(change("r1"), NAMED, 0, NOON)

        for statement in ("UPDATE meter_versions SET display_name = ''", "DELETE FROM meter_versions"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await fetch(api, "acme", statement)


class TestArchive:
    async def test_counts_what_was_received_before_and_nothing_later(
        self, api: Database, record: RecordUsage, changes: PostgresMeterChanges
    ) -> None:
        await add_meters(api, a_meter(), a_meter("calls", expression=""))
        await record([a_batch(1, used("before"))])

        archived = await changes.archive(change("r1"), NOON + SECOND)

        assert archived.archived_at == NOON + SECOND
        # The queue was slow: both come after it, only one was received after it.
        await record([a_batch(2, used("late", 10), received_at=NOON + SECOND - TICK)])
        await record([a_batch(3, used("after", 100), received_at=NOON + SECOND)])
        assert await fetch(api, "acme", WINDOWS) == [(11, 2)]
        assert await fetch(api, "acme", "SELECT event_id, measured FROM events ORDER BY received_at") == [
            ("before", {"tokens": "1", "calls": "1"}),
            ("late", {"tokens": "10", "calls": "1"}),
            ("after", {"calls": "1"}),
        ]

    async def test_is_later_than_everything_recorded_even_if_acceptors_clocks_are_ahead(
        self, api: Database, record: RecordUsage, changes: PostgresMeterChanges
    ) -> None:
        await add_meters(api, a_meter())
        ahead = NOON + 5 * SECOND
        await record([a_batch(1, used("ahead"), received_at=ahead)])

        archived = await changes.archive(change("r1"), NOON)

        assert archived.archived_at == ahead + TICK
        await record([a_batch(2, used("after"), received_at=ahead + TICK)])
        assert await fetch(api, "acme", WINDOWS) == [(1, 1)]

    async def test_waits_for_recorders_that_have_not_seen_it(
        self, api: Database, worker: Database, record: RecordUsage, changes: PostgresMeterChanges
    ) -> None:
        """Otherwise a batch that was received after the moment could be counted, and a replay would not count it."""
        await add_meters(api, a_meter(), tenant="acme")
        slow = PausedTransactions(worker)
        received = NOON + 60 * SECOND
        recording = asyncio.create_task(
            RecordUsage(slow, lambda: NOON)([a_batch(1, used("during"), received_at=received)])
        )
        await slow.has_meters.wait()

        archiving = asyncio.create_task(changes.archive(change("r1"), NOON))
        done, _ = await asyncio.wait([archiving], timeout=0.3)
        assert not done
        slow.goes_on.set()
        await recording

        assert (await archiving).archived_at == received + TICK
        assert await fetch(api, "acme", WINDOWS) == [(1, 1)]

    async def test_is_for_good(self, api: Database, changes: PostgresMeterChanges, meters: PostgresMeterStore) -> None:
        await add_meters(api, a_meter())
        archived = await changes.archive(change("r1"), NOON)

        assert await changes.archive(change("r1"), NOON + SECOND) == archived
        with pytest.raises(MeterArchived):
            await changes.archive(change("r2"), NOON)
        with pytest.raises(MeterExists):
            await meters.create(CreateMeterRequest("acme", "r3", b"", a_meter()))
        renamed = await changes.update(change("r4"), replace(NAMED, display_name="Old tokens"), 0, NOON)
        assert (renamed.display_name, renamed.archived_at) == ("Old tokens", archived.archived_at)

    async def test_an_event_that_no_live_meter_can_measure_is_no_longer_refused(
        self, api: Database, record: RecordUsage, changes: PostgresMeterChanges
    ) -> None:
        await add_meters(api, a_meter())
        await changes.archive(change("r1"), NOON)

        report = await record([a_batch(1, Event("1", {"tokens": "many"}))])

        assert report.outcomes[0].exceptions == []

    async def test_a_duplicate_stays_one(
        self, api: Database, record: RecordUsage, changes: PostgresMeterChanges
    ) -> None:
        await add_meters(api, a_meter())
        await record([a_batch(1, used("1"))])
        await changes.archive(change("r1"), NOON)

        await record([a_batch(1, used("1"))])
        await record([a_batch(2, used("1"), received_at=NOON + 2 * SECOND)])

        assert await fetch(api, "acme", WINDOWS) == [(1, 1)]


class TestLimit:
    async def test_holds_for_live_meters_and_archiving_makes_room(
        self, api: Database, changes: PostgresMeterChanges
    ) -> None:
        meters = PostgresMeterStore(api, max_meters=2)
        for name in "ab":
            await create(meters, name)
        with pytest.raises(MeterLimit) as refused:
            await create(meters, "c")
        assert refused.value.metadata == {"limit": "2", "counted": "live"}

        await changes.archive(change("r1", meter_id="a"), NOON)
        await create(meters, "c")

        with pytest.raises(MeterLimit):
            await create(meters, "d")
        await create(PostgresMeterStore(api, max_meters=1), "a", tenant="beta")

    async def test_archived_ones_are_bounded_too(self, api: Database, changes: PostgresMeterChanges) -> None:
        meters = PostgresMeterStore(api, max_meters=1)
        for number in range(10):
            await create(meters, f"m{number}")
            await changes.archive(change(f"r{number}", meter_id=f"m{number}"), NOON)

        with pytest.raises(MeterLimit) as refused:
            await create(meters, "one too many")
        assert refused.value.metadata == {"limit": "10", "counted": "meters"}

    async def test_holds_for_many_at_once(self, api: Database) -> None:
        meters = PostgresMeterStore(api, max_meters=3)

        outcomes = await asyncio.gather(*(create(meters, f"m{number}") for number in range(8)), return_exceptions=True)

        assert sum(isinstance(outcome, MeterLimit) for outcome in outcomes) == 5
        assert await fetch(api, "acme", "SELECT count(*) FROM meters") == [(3,)]

    async def test_does_not_keep_a_request_from_being_repeated(self, api: Database) -> None:
        meters = PostgresMeterStore(api, max_meters=1)
        first = await create(meters, "a")

        assert await create(meters, "a") == first


async def create(meters: PostgresMeterStore, meter_id: str, tenant: str = "acme") -> Meter:
    return await meters.create(CreateMeterRequest(tenant, f"create {meter_id}", b"", a_meter(meter_id)))


class PausedTransactions(PostgresRecordingTransactions):
    """A recorder that stops when it has read its meters, until it may go on."""

    def __init__(self, worker: Database) -> None:
        super().__init__(worker)
        self.has_meters, self.goes_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def __call__(self, tenant_ids):  # type: ignore[no-untyped-def]
        async with super().__call__(tenant_ids) as store:
            yield _Paused(store, self)


class _Paused:
    def __init__(self, store, transactions: PausedTransactions) -> None:  # type: ignore[no-untyped-def]
        self._store, self._transactions = store, transactions

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def meters(self, tenant_ids: list[str]) -> object:
        found = await self._store.meters(tenant_ids)
        self._transactions.has_meters.set()
        await self._transactions.goes_on.wait()
        return found
