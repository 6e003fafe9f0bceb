"""How far batches have come, as their receipts tell: recorded, parked, lost, or in the queue as far as is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from libs.database import Database, raw
from libs.errors import InvalidInput
from libs.messaging import Delivery, ParkedMessages
from services.ingest.domain.recording import Fate
from services.ingest.messaging.usage_recorder import DURABLE, tenant_of
from services.ingest.store import tables
from services.ingest.store.event_queries import PostgresEventStore
from services.ingest.store.keeper import PostgresKeeper
from services.ingest.usecases.ports import QueuedMarker, QueueFloor, StreamPosition
from services.ingest.usecases.query_events import BatchState
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, STREAM, Event, a_batch, a_meter, a_refusal, add_meters

QUEUED, RECORDED, LOST, PARKED = BatchState.QUEUED, BatchState.RECORDED, BatchState.LOST, BatchState.PARKED


def a_message(number: int, tenant: str = "acme", epoch: str = "epoch-1") -> Delivery:
    """A batch as an acceptor publishes it; what it says nobody can read."""
    message_id = f"{tenant}:{epoch}:{number}"
    return Delivery(
        subject=f"usage.raw.{tenant}",
        data=b"\xff",
        headers={"Nats-Msg-Id": message_id},
        msg_id=message_id,
        stream="USAGE_RAW",
        stream_seq=number,
        num_delivered=1,
        stream_epoch=STREAM,
    )


@pytest.fixture
def store(api: Database) -> PostgresEventStore:
    return PostgresEventStore(api)


@pytest.fixture
def parked(worker: Database) -> ParkedMessages:
    return ParkedMessages(worker, tables.parked, consumer=DURABLE, clock=lambda: NOON, tenant_of=tenant_of)


async def states(store: PostgresEventStore, *numbers: int, epoch: str = "epoch-1") -> list[BatchState]:
    statuses = await store.batch_statuses("acme", [(epoch, number) for number in numbers])
    assert [status.receipt for status in statuses] == [(epoch, number) for number in numbers]
    return [status.state for status in statuses]


async def look(worker: Database, acked_through: int, epoch: datetime = STREAM) -> None:
    keeper = PostgresKeeper(worker, lambda at, holds: b"", purge_margin=timedelta(hours=1))
    assert await keeper.look(QueueFloor(epoch, acked_through, 1, acked_through), [], NOON) is not None


class TestStates:
    async def test_answers_stand_in_the_order_of_the_receipts(
        self, store: PostgresEventStore, record: RecordUsage
    ) -> None:
        await record([a_batch(1, Event("1")), a_batch(3, Event("3"))])

        assert await states(store, 3, 2, 1, 3) == [RECORDED, QUEUED, RECORDED, RECORDED]
        assert await states(store, 1, epoch="epoch-2") == [QUEUED]

    async def test_a_gap_that_the_keeper_noticed_is_lost_until_the_batch_comes(
        self, store: PostgresEventStore, record: RecordUsage, worker: Database
    ) -> None:
        await record([a_batch(1, Event("1")), a_batch(3, Event("3"), seq=2)])
        assert await states(store, 1, 2, 3) == [RECORDED, QUEUED, RECORDED]
        await look(worker, acked_through=2)
        assert await states(store, 1, 2, 3) == [RECORDED, LOST, RECORDED]

        await record([a_batch(2, Event("2"), seq=3)])

        assert await states(store, 2) == [RECORDED]

    async def test_an_abandoned_number_is_lost_unless_it_was_stored_after_all(
        self, store: PostgresEventStore, record: RecordUsage
    ) -> None:
        await record([a_batch(3, Event("3"), abandoned=[1, 2]), a_batch(1, Event("1"))])

        assert await states(store, 1, 2) == [RECORDED, LOST]

    async def test_a_parked_message_is_known_by_its_id_until_somebody_deals_with_it(
        self, store: PostgresEventStore, record: RecordUsage, worker: Database, parked: ParkedMessages
    ) -> None:
        await record([a_batch(1, Event("1")), a_batch(3, Event("3"), seq=3)])
        await parked.park(a_message(2), ValueError("unreadable"))
        await parked.park(a_message(4, tenant="beta"), ValueError("unreadable"))
        await parked.park(replace(a_message(5), headers={}, msg_id=""), ValueError("published by somebody else"))
        await look(worker, acked_through=3)

        assert await states(store, 2, 4, 5) == [PARKED, QUEUED, QUEUED]

        async with worker.transaction("acme") as connection:
            parked_id = await (await raw(connection)).fetchval("SELECT id FROM parked_messages WHERE stream_seq = 2")
        await parked.resolve("acme", parked_id)
        await record([a_batch(2, Event("2"), seq=4)])
        assert await states(store, 2) == [RECORDED]

    async def test_other_tenants_see_nothing(
        self, store: PostgresEventStore, record: RecordUsage, worker: Database
    ) -> None:
        await record([a_batch(1, Event("1"), tenant="beta"), a_batch(3, Event("3"), tenant="beta", seq=3)])
        await look(worker, acked_through=3)

        assert await states(store, 1, 2, 3) == [QUEUED, QUEUED, QUEUED]


class TestAWipedQueue:
    """The stream is made anew. PostgreSQL knows what it recorded, and the numbers of those who live on."""

    async def test_names_what_an_acceptor_that_lives_on_had_in_it(
        self, store: PostgresEventStore, record: RecordUsage, worker: Database
    ) -> None:
        anew = STREAM + timedelta(days=1)
        await record([a_batch(1, Event("1"))], [QueuedMarker("m1", NOON, StreamPosition(STREAM, 2))])
        await look(worker, acked_through=2)

        # Batches 2 and 3 were in the queue that is gone.
        batch = a_batch(4, Event("4"))
        await record([type(batch)(batch.batch, StreamPosition(anew, 1))])
        await look(worker, acked_through=1, epoch=anew)

        assert await states(store, 1, 2, 3, 4) == [RECORDED, LOST, LOST, RECORDED]

    async def test_knows_nothing_of_the_last_batches_of_an_acceptor_that_ended(
        self, store: PostgresEventStore, record: RecordUsage, worker: Database
    ) -> None:
        anew = STREAM + timedelta(days=1)
        await record([a_batch(1, Event("1"))])
        await look(worker, acked_through=1)

        batch = a_batch(1, Event("2"), epoch="epoch-2")
        await record([type(batch)(batch.batch, StreamPosition(anew, 1))])
        await look(worker, acked_through=1, epoch=anew)

        assert await states(store, 1, 2) == [RECORDED, QUEUED]  # Lost; so producers send again what stays queued.


class TestExceptions:
    async def test_are_the_recorders_in_order_and_not_the_doors(
        self, store: PostgresEventStore, record: RecordUsage, api: Database
    ) -> None:
        await add_meters(api, a_meter())
        good, other = Event("1", {"tokens": "1"}), Event("1", {"tokens": "2"})
        await record([a_batch(1, good, good, other, Event("2"), rejected=[a_refusal("3")]), a_batch(2, good, seq=2)])

        first, second = await store.batch_statuses("acme", [("epoch-1", 1), ("epoch-1", 2)])

        assert [(item.key, item.fate, item.ordinal) for item in first.exceptions] == [
            (("gateway", "1"), Fate.CONFLICT, 2),
            (("gateway", "2"), Fate.REJECTED, 3),
        ]
        assert second.exceptions == []

    async def test_more_than_one_answer_holds_are_refused_and_those_of_one_batch_never(
        self, store: PostgresEventStore, record: RecordUsage, api: Database
    ) -> None:
        await add_meters(api, a_meter())
        for number in (1, 2):
            await record([a_batch(number, *(Event(f"{number}-{at}") for at in range(1_000)))])

        (status,) = await store.batch_statuses("acme", [("epoch-1", 2)])
        with pytest.raises(InvalidInput) as refused:
            await store.batch_statuses("acme", [("epoch-1", 1), ("epoch-1", 2)])

        assert len(status.exceptions) == 1_000
        assert [violation.reason for violation in refused.value.violations] == ["TOO_MANY_EXCEPTIONS"]

    async def test_a_thousand_receipts_are_answered_at_once(
        self, store: PostgresEventStore, record: RecordUsage
    ) -> None:
        await record([a_batch(number, Event(f"{number}")) for number in range(1, 1_001)])

        assert set(await states(store, *range(1, 1_001))) == {RECORDED}
