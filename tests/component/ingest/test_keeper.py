"""The keeper's accounts: the watermark passes nothing that is not recorded, and names whom it does not hold for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from libs.database import Database, raw
from services.ingest.store.keeper import PostgresKeeper
from services.ingest.store.parked import PostgresParkedPositions
from services.ingest.usecases.ports import Hold, KeeperReport, QueuedMarker, QueueFloor, StreamPosition
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, STREAM, Event, a_batch, a_meter, add_meters


def a_marker(seq: int, epoch: datetime = STREAM) -> QueuedMarker:
    """Marked `seq` seconds after noon."""
    return QueuedMarker(f"marker-{seq}", NOON + timedelta(seconds=seq), StreamPosition(epoch, seq))


class Offers:
    """Stands for the encoder, and so sees every watermark that is offered."""

    def __init__(self) -> None:
        self.made: list[tuple[datetime, list[Hold]]] = []

    def __call__(self, at: datetime, holds: Sequence[Hold]) -> bytes:
        self.made.append((at, list(holds)))
        return b"encoded"


class Ledger:
    """A keeper over a queue whose consumer has acknowledged everything it is told of."""

    def __init__(self, worker: Database) -> None:
        self.offers = Offers()
        self._worker = worker
        self._keeper = PostgresKeeper(worker, self.offers, purge_margin=timedelta(seconds=3))

    async def look(
        self,
        acked_through: int,
        *,
        last_seq: int | None = None,
        epoch: datetime = STREAM,
        published: Sequence[StreamPosition] = (),
    ) -> KeeperReport:
        floor = QueueFloor(epoch, acked_through, 1, acked_through if last_seq is None else last_seq)
        report = await self._keeper.look(floor, published, NOON)
        assert report is not None
        return report

    async def resolve_losses(self) -> None:
        """As docs/runbooks/stream-lost.md says."""
        async with self._worker.queue_transaction() as connection:
            await (await raw(connection)).execute(
                "UPDATE queue_losses SET resolved_at = now() WHERE resolved_at IS NULL"
            )

    async def after_version(self) -> int:
        async with self._worker.queue_transaction() as connection:
            value = await (await raw(connection)).fetchval("SELECT awaited_after_version FROM outbox_watermarks")
        assert isinstance(value, int)
        return value


@pytest.fixture
def ledger(worker: Database) -> Ledger:
    return Ledger(worker)


class TestTheWatermark:
    async def test_is_the_instant_of_the_newest_marker_behind_which_all_is_recorded(
        self, record: RecordUsage, ledger: Ledger
    ) -> None:
        await record([a_batch(1, Event("1"), seq=1)], [a_marker(2), a_marker(4)])
        await record([a_batch(2, Event("2"), seq=3)])

        report = await ledger.look(acked_through=4)

        assert report.watermark == NOON + timedelta(seconds=4)
        assert ledger.offers.made == [(NOON + timedelta(seconds=4), [])]

    async def test_never_passes_a_message_that_nobody_recorded(self, record: RecordUsage, ledger: Ledger) -> None:
        """Message 3 is acknowledged, but its batch is not in the database: the consumer skipped it."""
        await record([a_batch(1, Event("1"), seq=1)], [a_marker(2), a_marker(4)])

        report = await ledger.look(acked_through=4)

        assert (report.watermark, report.unaccounted) == (NOON + timedelta(seconds=2), 1)
        await record([a_batch(2, Event("2"), seq=3)])
        assert (await ledger.look(acked_through=4)).watermark == NOON + timedelta(seconds=4)

    async def test_never_passes_the_acknowledged(self, record: RecordUsage, ledger: Ledger) -> None:
        await record([a_batch(1, Event("1"), seq=1)], [a_marker(2), a_marker(3)])

        assert (await ledger.look(acked_through=1, last_seq=3)).watermark is None
        assert (await ledger.look(acked_through=2, last_seq=3)).watermark == NOON + timedelta(seconds=2)

    async def test_is_offered_behind_the_versions_it_covers_and_only_once(
        self, record: RecordUsage, ledger: Ledger, api: Database, worker: Database
    ) -> None:
        await add_meters(api, a_meter(expression=""))
        await record([a_batch(1, Event("1"), seq=1)], [a_marker(2)])

        await ledger.look(acked_through=2)
        await ledger.look(acked_through=2)

        async with worker.transaction("acme") as connection:
            version = await (await raw(connection)).fetchval("SELECT max(version) FROM usage_windows")
        assert len(ledger.offers.made) == 1
        assert await ledger.after_version() >= version

    async def test_a_stream_that_was_made_anew_gives_none_until_its_loss_is_resolved(
        self, record: RecordUsage, ledger: Ledger
    ) -> None:
        """What acceptors that ended with the old stream had in it, no number will ever tell."""
        anew = STREAM + timedelta(days=1)
        await record([a_batch(1, Event("1"), seq=1)], [a_marker(2)])
        await ledger.look(acked_through=2)
        await record([a_batch(2, Event("2"), seq=3)])  # Recorded, but not looked at before the stream was gone.

        await record([], [QueuedMarker("m", NOON + timedelta(minutes=1), StreamPosition(anew, 1))])
        first = await ledger.look(acked_through=1, epoch=anew)
        await record([], [QueuedMarker("n", NOON + timedelta(minutes=2), StreamPosition(anew, 2))])
        second = await ledger.look(acked_through=2, epoch=anew)

        assert [(item.watermark, item.queue_is_lost) for item in (first, second)] == [(None, True)] * 2
        assert len(ledger.offers.made) == 1
        await ledger.resolve_losses()
        await record([], [QueuedMarker("o", NOON + timedelta(minutes=3), StreamPosition(anew, 3))])
        third = await ledger.look(acked_through=3, epoch=anew)
        assert (third.watermark, third.holds, third.queue_is_lost) == (NOON + timedelta(minutes=3), [], False)
        assert [at for at, _ in ledger.offers.made] == [NOON + timedelta(seconds=2), NOON + timedelta(minutes=3)]

    async def test_survives_a_server_that_lost_the_end_of_its_stream(self, record: RecordUsage, ledger: Ledger) -> None:
        """Sequences 5 to 9 are given anew, in the same stream."""
        await record([], [a_marker(seq) for seq in range(1, 10)])
        await ledger.look(acked_through=9)

        cut = await ledger.look(acked_through=2, last_seq=4)
        assert (cut.watermark, cut.queue_is_lost) == (None, True)
        await ledger.resolve_losses()
        later = QueuedMarker("new", NOON + timedelta(hours=1), StreamPosition(STREAM, 6))
        await record([], [later])
        assert (await ledger.look(acked_through=6)).unaccounted == 1
        await record([a_batch(1, Event("1"), seq=5)])

        assert (await ledger.look(acked_through=6)).watermark == later.marked_at


class TestHolds:
    async def test_a_gap_in_the_numbers_is_named_and_holds_its_tenant_alone(
        self, record: RecordUsage, ledger: Ledger
    ) -> None:
        await record([a_batch(1, Event("1"), seq=1), a_batch(4, Event("4"), seq=2)], [a_marker(4)])
        await record([a_batch(1, Event("1"), tenant="beta", seq=3)])

        report = await ledger.look(acked_through=4)

        assert report.watermark == NOON + timedelta(seconds=4)
        assert report.holds == [
            Hold("acme", "batch 2 of acceptor epoch-1 is missing"),
            Hold("acme", "batch 3 of acceptor epoch-1 is missing"),
        ]
        assert ledger.offers.made[-1][1] == report.holds

    async def test_many_missing_batches_of_one_tenant_hide_none_of_another(
        self, record: RecordUsage, ledger: Ledger
    ) -> None:
        await record([a_batch(1_500, seq=1), a_batch(2, tenant="beta", seq=2)], [a_marker(3)])

        report = await ledger.look(acked_through=3)

        assert {hold.tenant_id for hold in report.holds} == {"acme", "beta"}
        assert len(report.holds) < 10  # It has to fit into a message, whatever was lost.

    async def test_no_watermark_passes_before_all_missing_numbers_are_named(
        self, record: RecordUsage, ledger: Ledger, worker: Database
    ) -> None:
        await record([a_batch(20_002, seq=1), a_batch(2, tenant="beta", seq=2)], [a_marker(3)])

        reports = [await ledger.look(acked_through=3) for _ in range(3)]

        assert [report.watermark for report in reports[:2]] == [None, None]
        assert reports[2].watermark == NOON + timedelta(seconds=3)
        assert {hold.tenant_id for hold in reports[2].holds} == {"acme", "beta"}
        async with worker.queue_transaction() as connection:
            named = await (await raw(connection)).fetchval("SELECT count(*) FROM missing_batches")
        assert named == 20_002

    async def test_a_batch_that_comes_after_all_lifts_its_hold(self, record: RecordUsage, ledger: Ledger) -> None:
        await record([a_batch(2, Event("2"), seq=1)], [a_marker(2)])
        assert len((await ledger.look(acked_through=2)).holds) == 1

        await record([a_batch(1, Event("1"), seq=3)], [a_marker(4)])

        assert (await ledger.look(acked_through=4)).holds == []

    async def test_an_abandoned_number_is_no_gap(self, record: RecordUsage, ledger: Ledger) -> None:
        await record([a_batch(1, Event("1"), seq=1), a_batch(3, Event("3"), seq=2, abandoned=[2])], [a_marker(3)])

        assert (await ledger.look(acked_through=3)).holds == []

    async def test_gaps_are_found_across_looks(self, record: RecordUsage, ledger: Ledger) -> None:
        await record([a_batch(1, Event("1"), seq=1)], [a_marker(2)])
        await ledger.look(acked_through=2)
        await record([a_batch(2, Event("2"), seq=3)], [a_marker(4)])
        assert (await ledger.look(acked_through=4)).holds == []

        await record([a_batch(4, Event("4"), seq=5)], [a_marker(6)])

        assert (await ledger.look(acked_through=6)).holds == [Hold("acme", "batch 3 of acceptor epoch-1 is missing")]

    async def test_a_lost_message_that_a_missing_number_explains_is_passed_with_a_hold(
        self, record: RecordUsage, ledger: Ledger
    ) -> None:
        """Batch 2 lay at sequence 2; the server lost it without a word."""
        await record([a_batch(1, Event("1"), seq=1), a_batch(3, Event("3"), seq=3)], [a_marker(4)])

        report = await ledger.look(acked_through=4)

        assert (report.watermark, report.unaccounted) == (NOON + timedelta(seconds=4), 0)
        assert report.holds == [Hold("acme", "batch 2 of acceptor epoch-1 is missing")]

    async def test_one_missing_number_explains_one_lost_message_only(self, record: RecordUsage, ledger: Ledger) -> None:
        await record([a_batch(1, Event("1"), seq=1), a_batch(3, Event("3"), seq=3)], [a_marker(4), a_marker(6)])

        assert (await ledger.look(acked_through=4)).unaccounted == 0
        report = await ledger.look(acked_through=6)

        assert (report.watermark, report.unaccounted) == (NOON + timedelta(seconds=4), 1)

    async def test_a_parked_message_is_passed_with_a_hold(
        self, record: RecordUsage, ledger: Ledger, worker: Database
    ) -> None:
        await record([], [a_marker(2)])
        await PostgresParkedPositions(worker).add_parked(StreamPosition(STREAM, 1), "acme", "", 0)
        async with worker.queue_transaction() as connection:
            await (await raw(connection)).execute("INSERT INTO parked_queue VALUES ('acme', 'park_1', now())")

        report = await ledger.look(acked_through=2)

        assert (report.watermark, report.holds) == (
            NOON + timedelta(seconds=2),
            [Hold("acme", "1 messages are parked")],
        )

    async def test_a_parked_batch_is_not_missing_as_well(
        self, record: RecordUsage, ledger: Ledger, worker: Database
    ) -> None:
        await record([a_batch(1, Event("1"), seq=1), a_batch(3, Event("3"), seq=3)], [a_marker(4)])
        await PostgresParkedPositions(worker).add_parked(StreamPosition(STREAM, 2), "acme", "epoch-1", 2)

        assert (await ledger.look(acked_through=4)).holds == []

    async def test_a_number_missing_from_before_the_watermark_explains_nothing_behind_it(
        self, record: RecordUsage, ledger: Ledger, worker: Database
    ) -> None:
        """Acme's batch 2 was parked unread at sequence 2. What is lost at sequence 5 may be anybody's."""
        await record([a_batch(1, Event("1"), seq=1), a_batch(3, Event("3"), seq=3)], [a_marker(4), a_marker(6)])
        await PostgresParkedPositions(worker).add_parked(StreamPosition(STREAM, 2), "acme", "", 0)
        first = await ledger.look(acked_through=4)

        report = await ledger.look(acked_through=6)

        assert first.holds == report.holds == [Hold("acme", "batch 2 of acceptor epoch-1 is missing")]
        assert (report.watermark, report.unaccounted) == (NOON + timedelta(seconds=4), 1)


class TestHousekeeping:
    async def test_a_marker_that_the_server_lost_is_no_riddle(self, record: RecordUsage, ledger: Ledger) -> None:
        await record([], [a_marker(1), a_marker(3)])

        report = await ledger.look(acked_through=3, published=[StreamPosition(STREAM, 2)])

        assert (report.watermark, report.unaccounted) == (NOON + timedelta(seconds=3), 0)

    async def test_the_stream_keeps_what_is_younger_than_the_margin(self, record: RecordUsage, ledger: Ledger) -> None:
        await record([], [a_marker(seq) for seq in range(1, 11)])

        assert (await ledger.look(acked_through=10)).purge_below == 6  # Marked more than 3 s before the watermark.

    async def test_closed_accounts_are_deleted(self, record: RecordUsage, ledger: Ledger, worker: Database) -> None:
        await record([a_batch(seq, Event(str(seq)), seq=seq) for seq in range(1, 6)], [a_marker(6)])
        await ledger.look(acked_through=6)

        async with worker.queue_transaction() as connection:
            assert await (await raw(connection)).fetchval("SELECT count(*) FROM stream_positions") == 0

    async def test_two_keepers_do_not_look_at_the_same_time(self, worker: Database) -> None:
        async with worker.queue_transaction() as connection:
            await (await raw(connection)).execute("SELECT pg_advisory_xact_lock(hashtextextended('ingest:keeper', 0))")
            keeper = PostgresKeeper(worker, Offers(), purge_margin=timedelta(0))
            assert await keeper.look(QueueFloor(STREAM, 0, 0, 0), [], NOON) is None
