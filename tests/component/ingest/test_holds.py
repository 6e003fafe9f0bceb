"""Holds across tenants: listed, resolved once and on record, and what that writes off."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import asyncpg
import pytest

from libs.database import Database, raw
from libs.errors import InvalidInput, RequestIdReused
from services.ingest.domain.holds import HoldKey, HoldKind, HoldResolution
from services.ingest.store.holds import PostgresHoldStore
from services.ingest.store.keeper import PostgresKeeper
from services.ingest.store.reconciliation import PostgresReconciliationStore
from services.ingest.usecases.holds import HoldNotFound, HoldResolved, ResolveHold, ResolveHoldRequest
from services.ingest.usecases.ports import Hold, KeeperReport, QueuedMarker, QueueFloor, StreamPosition
from services.ingest.usecases.reconcile import Reconcile
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, STREAM, Event, a_batch, a_refusal, fetch

LATER = NOON + timedelta(hours=1)
REQUEST = "0198c0de-0000-7000-8000-000000000001"
ACCOUNTS = (
    "accepted = recorded + duplicate + conflict + rejected + written off",
    "rejected at the door = refusals stored + written off",
)


def missing(number: int, tenant: str = "acme", epoch: str = "epoch-1") -> HoldKey:
    return HoldKey(HoldKind.MISSING_BATCH, tenant, epoch, number)


def a_decision(key: HoldKey, *, request_id: str = "", reason: str = "sent again") -> ResolveHoldRequest:
    return ResolveHoldRequest(request_id or str(uuid.uuid4()), reason.encode(), str(key), reason, "kim")


def a_marker(seq: int) -> QueuedMarker:
    return QueuedMarker(f"marker-{seq}", NOON + timedelta(seconds=seq), StreamPosition(STREAM, seq))


def events(first: int, count: int) -> list[Event]:
    return [Event(str(number)) for number in range(first, first + count)]


@pytest.fixture
def store(worker: Database) -> PostgresHoldStore:
    return PostgresHoldStore(worker)


@pytest.fixture
def resolve(store: PostgresHoldStore) -> ResolveHold:
    return ResolveHold(store, lambda: LATER)


async def look(worker: Database, acked_through: int, *, epoch: datetime = STREAM) -> KeeperReport:
    def encoded(_at: datetime, _holds: Sequence[Hold]) -> bytes:
        return b"encoded"

    keeper = PostgresKeeper(worker, encoded, purge_margin=timedelta(0))
    report = await keeper.look(QueueFloor(epoch, acked_through, 1, acked_through), [], NOON)
    assert report is not None
    return report


async def park(worker: Database, parked_id: str, message_id: str, tenant: str = "acme") -> HoldKey:
    """As libs.messaging parks; the stream's sequence does not matter here."""
    async with worker.transaction(tenant) as connection:
        driver = await raw(connection)
        await driver.execute(
            "INSERT INTO parked_messages (tenant_id, id, consumer, stream, stream_epoch, stream_seq, subject, headers,"
            " payload, error, parked_at) VALUES ($1, $2, 'c', 's', $3, $4, 'usage.raw', $5, '', 'it broke', $3)",
            tenant,
            parked_id,
            NOON,
            int(parked_id.removeprefix("park_")),
            f'{{"Nats-Msg-Id": "{message_id}"}}',
        )
        await driver.execute("INSERT INTO parked_queue VALUES ($1, $2, $3)", tenant, parked_id, NOON)
    return HoldKey(HoldKind.PARKED_MESSAGE, tenant, parked_id, 0)


async def written_off(api: Database) -> int:
    _, stored, _ = await PostgresReconciliationStore(api).read("acme", None)
    return stored.written_off


async def accounts_agree(api: Database) -> bool:
    checks = await Reconcile(PostgresReconciliationStore(api))("acme", None)
    holds = {check.name: check.holds for check in checks}
    return all(holds[name] for name in ACCOUNTS)


class TestListing:
    async def test_is_of_all_tenants_in_pages_and_says_what_is_wrong(
        self, record: RecordUsage, worker: Database, store: PostgresHoldStore
    ) -> None:
        await record([a_batch(3, Event("1"), seq=1), a_batch(2, Event("1"), tenant="beta", seq=2)], [a_marker(3)])
        await look(worker, 3)
        await look(worker, 0, epoch=LATER)  # Made anew.
        parked = await park(worker, "park_1", "acme:epoch-9:4")
        unknown = await park(worker, "park_2", "", tenant="-")

        everything = await store.open("", None, 100)

        loss = HoldKey(HoldKind.QUEUE_LOSS, "-", str(int(LATER.timestamp()) * 1_000_000), 0)
        keys = [loss, missing(1), missing(2), missing(1, "beta"), unknown, parked]
        assert [hold.key for hold in everything] == keys
        assert [hold.description for hold in everything] == [
            "the queue was made anew",
            "batch 1 of acceptor epoch-1 is missing",
            "batch 2 of acceptor epoch-1 is missing",
            "batch 1 of acceptor epoch-1 is missing",
            "it broke",
            "it broke",
        ]
        pages = []
        after = None
        while page := await store.open("", after, 2):
            pages.append(len(page))
            after = page[-1].key
        assert pages == [2, 2, 2]
        assert [hold.key for hold in await store.open("beta", None, 100)] == [loss, missing(1, "beta")]

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "missing",
            "missing:acme:1",
            "missing:acme:x:e",
            "missing:acme:-1:e",
            "missing::1:e",
            "missing:acme:1:",
            "missing:acme:01:e",
            "missing:a,b:1:e",
            "missing:acme:9223372036854775808:e",
            "other:acme:1:e",
            "loss:-:0:today",
            "loss:-:0:07",
            "parked:acme:7:park_1",
        ],
    )
    async def test_an_id_that_no_list_has_given_is_refused(self, resolve: ResolveHold, text: str) -> None:
        with pytest.raises(InvalidInput) as refused:
            await resolve(ResolveHoldRequest(REQUEST, b"", text, "r", "kim"))

        assert [item.field for item in refused.value.violations] == ["hold_id"]

    async def test_a_decision_names_its_reason_and_its_actor(self, resolve: ResolveHold) -> None:
        with pytest.raises(InvalidInput) as refused:
            await resolve(ResolveHoldRequest("1", b"", str(missing(1)), "", " "))

        assert [item.field for item in refused.value.violations] == ["request_id", "reason", "actor"]


class TestResolving:
    async def test_a_missing_batch_lets_its_tenant_go_once_and_on_record(
        self, record: RecordUsage, worker: Database, store: PostgresHoldStore, resolve: ResolveHold
    ) -> None:
        await record([a_batch(2, Event("2"), seq=1)], [a_marker(2)])
        await look(worker, 2)
        decision = a_decision(missing(1), request_id=REQUEST)

        first, again = await resolve(decision), await resolve(decision)

        assert first == again == HoldResolution(str(missing(1)), "acme", "sent again", "kim", LATER)
        assert (await look(worker, 2)).holds == []
        assert await store.open("", None, 10) == []
        assert await store.resolutions("acme", "", 10) == [first]
        assert await store.resolutions("beta", "", 10) == []
        with pytest.raises(HoldResolved):
            await resolve(a_decision(missing(1)))
        with pytest.raises(RequestIdReused):
            await resolve(a_decision(missing(1), request_id=REQUEST, reason="another"))

    async def test_what_is_not_held_is_not_resolved(
        self, record: RecordUsage, worker: Database, store: PostgresHoldStore, resolve: ResolveHold
    ) -> None:
        """Also not ahead of time, and a refused decision leaves nothing behind."""
        await record([a_batch(2, Event("2"), seq=1)], [a_marker(2)])
        await look(worker, 2)
        for key in (missing(7), missing(1, "beta"), HoldKey(HoldKind.PARKED_MESSAGE, "acme", "park_1", 0)):
            with pytest.raises(HoldNotFound):
                await resolve(a_decision(key, request_id=REQUEST))

        assert [hold.key for hold in await store.open("", None, 10)] == [missing(1)]
        assert await store.resolutions("acme", "", 10) == []

    async def test_a_hold_that_ended_by_itself_is_gone(
        self, record: RecordUsage, worker: Database, resolve: ResolveHold
    ) -> None:
        await record([a_batch(2, Event("2"), seq=1)], [a_marker(2)])
        await look(worker, 2)
        await record([a_batch(1, Event("1"), seq=3)], [a_marker(4)])
        await look(worker, 4)

        with pytest.raises(HoldNotFound):
            await resolve(a_decision(missing(1)))

    async def test_a_queue_loss_gives_the_watermark_back_and_no_later_one_is_meant(
        self, record: RecordUsage, worker: Database, store: PostgresHoldStore, resolve: ResolveHold
    ) -> None:
        await record([], [a_marker(1)])
        await look(worker, 1)
        anew, once_more = STREAM + timedelta(microseconds=1), STREAM + timedelta(microseconds=2)
        assert (await look(worker, 0, epoch=anew)).queue_is_lost
        assert (await look(worker, 0, epoch=once_more)).queue_is_lost
        earlier, later = [hold.key for hold in await store.open("", None, 10)]

        await resolve(a_decision(earlier))
        assert (await look(worker, 0, epoch=once_more)).queue_is_lost
        await resolve(a_decision(later))

        assert not (await look(worker, 0, epoch=once_more)).queue_is_lost
        assert [item.hold_id for item in await store.resolutions("-", "", 10)] == [str(earlier), str(later)]

    async def test_a_parked_message_is_given_up(
        self, worker: Database, store: PostgresHoldStore, resolve: ResolveHold, api: Database
    ) -> None:
        key = await park(worker, "park_1", "acme:epoch-1:2")

        await resolve(a_decision(key))

        assert await store.open("", None, 10) == []
        assert await fetch(api, "acme", "SELECT resolved_at FROM parked_messages") == [(LATER,)]
        assert await fetch(api, "acme", "SELECT acceptor_epoch, batch_number FROM hold_resolutions") == [("epoch-1", 2)]

    async def test_no_login_changes_a_decision(
        self, record: RecordUsage, worker: Database, resolve: ResolveHold, api: Database
    ) -> None:
        await resolve(a_decision(await park(worker, "park_1", "")))
        for database in (api, worker):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await fetch(database, "acme", "UPDATE hold_resolutions SET actor = 'somebody else'")
        assert await fetch(api, "beta", "SELECT hold_id FROM hold_resolutions") == []

    async def test_a_number_resolved_before_the_next_marker_still_explains_its_message(
        self, record: RecordUsage, worker: Database, resolve: ResolveHold
    ) -> None:
        """Batch 2 lay at sequence 2. Without this the watermark would stop for everybody."""
        await record([a_batch(1, Event("1"), seq=1), a_batch(3, Event("3"), seq=3)])
        assert (await look(worker, 3)).watermark is None
        await resolve(a_decision(missing(2)))
        await record([], [a_marker(4)])

        report = await look(worker, 4)

        assert (report.watermark, report.unaccounted, report.holds) == (NOON + timedelta(seconds=4), 0, [])

    async def test_a_batch_that_came_after_all_explains_no_lost_message(
        self, record: RecordUsage, worker: Database, resolve: ResolveHold
    ) -> None:
        await record([a_batch(1, Event("1"), seq=1), a_batch(3, Event("3"), seq=2)])
        await look(worker, 2)
        await resolve(a_decision(missing(2)))
        await record([a_batch(2, Event("2"), seq=3)], [a_marker(5)])  # And what lay at 4 is lost.

        report = await look(worker, 5)

        assert (report.watermark, report.unaccounted) == (None, 1)


class TestWritingOff:
    async def test_what_lay_in_a_batch_that_is_given_up_is_written_off_exactly(
        self, record: RecordUsage, worker: Database, resolve: ResolveHold, api: Database
    ) -> None:
        """Batches of 1, 4 (lost), 2, 3 (lost), 1 events; both losses were sent again as batches of another acceptor."""
        await record(
            [
                a_batch(1, *events(0, 1), accepted_total=1, seq=1),
                a_batch(3, *events(5, 2), accepted_total=7, seq=2),
                a_batch(5, *events(10, 1), accepted_total=11, seq=3),
            ],
            [a_marker(4)],
        )
        await look(worker, 4)
        await record([a_batch(1, *events(1, 4), epoch="epoch-2", seq=5)])
        assert (await written_off(api), await accounts_agree(api)) == (0, False)

        await resolve(a_decision(missing(2)))
        assert (await written_off(api), await accounts_agree(api)) == (4, False)
        await resolve(a_decision(missing(4)))

        assert (await written_off(api), await accounts_agree(api)) == (7, True)

    async def test_refusals_that_lay_in_it_are_written_off_too(
        self, record: RecordUsage, worker: Database, resolve: ResolveHold, api: Database
    ) -> None:
        last = a_batch(2, rejected=[a_refusal("x")], accepted_total=0, seq=1)
        await record([replace(last, batch=replace(last.batch, rejected_total=4))], [a_marker(2)])
        await look(worker, 2)
        assert not await accounts_agree(api)

        await resolve(a_decision(missing(1)))

        assert (await written_off(api), await accounts_agree(api)) == (0, True)

    async def test_neighbours_that_are_lost_together_are_written_off_with_the_last_of_them(
        self, record: RecordUsage, worker: Database, resolve: ResolveHold, api: Database
    ) -> None:
        await record([a_batch(4, *events(9, 1), accepted_total=10, abandoned=[2], seq=1)], [a_marker(2)])
        await look(worker, 2)

        await resolve(a_decision(missing(1)))
        assert await written_off(api) == 0
        await resolve(a_decision(missing(3)))

        assert (await written_off(api), await accounts_agree(api)) == (9, True)

    async def test_a_batch_that_comes_after_all_is_written_off_no_longer(
        self, record: RecordUsage, worker: Database, resolve: ResolveHold, api: Database
    ) -> None:
        await record([a_batch(2, *events(5, 1), accepted_total=6, seq=1)], [a_marker(2)])
        await look(worker, 2)
        await resolve(a_decision(missing(1)))
        assert await written_off(api) == 5

        await record([a_batch(1, *events(0, 5), accepted_total=5, seq=3)])

        assert (await written_off(api), await accounts_agree(api)) == (0, True)

    async def test_a_parked_batch_is_written_off_when_it_is_given_up_and_not_when_it_was_sent_again(
        self, record: RecordUsage, worker: Database, resolve: ResolveHold, api: Database
    ) -> None:
        await record([a_batch(1, accepted_total=0), a_batch(3, *events(5, 1), accepted_total=6)])
        await resolve(a_decision(await park(worker, "park_1", "acme:epoch-1:2")))
        assert (await written_off(api), await accounts_agree(api)) == (5, True)
        await record([a_batch(2, *events(0, 5), accepted_total=5)])

        assert (await written_off(api), await accounts_agree(api)) == (0, True)

    async def test_beside_a_batch_of_old_code_nothing_is_made_up(
        self,
        record: RecordUsage,
        worker: Database,
        resolve: ResolveHold,
        api: Database,
        ingest_database_owner: asyncpg.Connection,
    ) -> None:
        await record([a_batch(1, *events(0, 1), accepted_total=1, seq=1), a_batch(3, accepted_total=5, seq=2)])
        await record([], [a_marker(3)])
        await look(worker, 3)
        await ingest_database_owner.execute("UPDATE batches SET accepted_total = NULL WHERE batch_number = 1")

        await resolve(a_decision(missing(2)))

        assert (await written_off(api), await accounts_agree(api)) == (0, False)
