"""The lanes into the queue: numbering, coalescing, totals, and what callers hear when the queue fails."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import cast

import pytest

from libs.errors import Violation
from services.ingest.domain.recording import BatchOutcome
from services.ingest.domain.usage_batch import EventMessage
from services.ingest.usecases.errors import OutcomeUnknown, Overloaded, QueueUnavailable
from services.ingest.usecases.ports import OutgoingBatch
from services.ingest.usecases.tenant_lanes import PendingCall, TenantLanes

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
PROBLEM = Violation("event_time", "REQUIRED", "must be set")


class FakeQueue:
    """Stores batches, after what the test wants to happen first."""

    def __init__(self) -> None:
        self.stored: list[OutgoingBatch] = []
        self.attempts: list[int] = []
        self.failures: list[Exception] = []
        self.closes_after_failure = False
        self.open = asyncio.Event()
        self.open.set()

    async def publish(self, batch: OutgoingBatch) -> None:
        self.attempts.append(batch.number)
        await self.open.wait()
        if self.failures:
            if self.closes_after_failure:
                self.open.clear()
            raise self.failures.pop(0)
        self.stored.append(batch)


class FakeReplies:
    def expect(self, tenant_id: str, number: int) -> asyncio.Future[BatchOutcome]:
        return asyncio.get_running_loop().create_future()


def a_call(events: int = 1, rejected: int = 0, *, size_bytes: int = 100, wants_outcome: bool = False) -> PendingCall:
    message = cast(EventMessage, object())
    stored = asyncio.get_running_loop().create_future()
    return PendingCall(
        [b"event"] * events, [(message, PROBLEM)] * rejected, size_bytes, NOON, wants_outcome, None, stored
    )


def lanes(queue: FakeQueue, max_pending_bytes: int = 10_000) -> TenantLanes:
    return TenantLanes(
        queue, FakeReplies(), lambda: NOON, max_pending_bytes=max_pending_bytes, coalesce_s=0.001, send_again_s=0.001
    )


async def settle() -> None:
    await asyncio.sleep(0.01)


class TestCoalescing:
    async def test_calls_of_one_tenant_share_a_message_and_know_their_places(self) -> None:
        queue = FakeQueue()
        lane = lanes(queue)

        stored = await asyncio.gather(*(lane.put("acme", a_call(count), 1) for count in (2, 3, 1)))

        assert [(item.number, item.first_ordinal) for item in stored] == [(1, 0), (1, 2), (1, 5)]
        assert [len(batch.events) for batch in queue.stored] == [6]

    async def test_what_comes_while_a_message_is_under_way_shares_the_next(self) -> None:
        queue = FakeQueue()
        lane = lanes(queue)
        queue.open.clear()
        first = asyncio.create_task(lane.put("acme", a_call(), 1))
        await settle()
        later = [asyncio.create_task(lane.put("acme", a_call(), 1)) for _ in range(5)]
        await settle()
        assert queue.attempts == [1]
        queue.open.set()

        await asyncio.gather(first, *later)

        assert [len(batch.events) for batch in queue.stored] == [1, 5]

    async def test_a_message_holds_at_most_a_thousand_events_and_768_kB(self) -> None:
        queue = FakeQueue()
        lane = lanes(queue, max_pending_bytes=10 << 20)

        await asyncio.gather(*(lane.put("acme", a_call(600), 1) for _ in range(2)))
        await asyncio.gather(*(lane.put("acme", a_call(1, size_bytes=500 << 10), 1) for _ in range(2)))

        assert [len(batch.events) for batch in queue.stored] == [600, 600, 1, 1]

    async def test_tenants_do_not_share(self) -> None:
        queue = FakeQueue()
        lane = lanes(queue)

        await asyncio.gather(lane.put("acme", a_call(), 1), lane.put("beta", a_call(), 1))

        assert sorted((batch.tenant_id, batch.number) for batch in queue.stored) == [("acme", 1), ("beta", 1)]


class TestNumbersAndTotals:
    async def test_grow_by_batch(self) -> None:
        queue = FakeQueue()
        lane = lanes(queue)

        for call in (a_call(2, 1), a_call(0, 3), a_call(5)):
            await lane.put("acme", call, 1)

        totals = [(batch.number, batch.accepted_total, batch.rejected_total) for batch in queue.stored]
        assert totals == [(1, 2, 1), (2, 2, 4), (3, 7, 4)]

    async def test_a_batch_of_unknown_fate_is_sent_again_before_any_other(self) -> None:
        queue = FakeQueue()
        lane = lanes(queue)
        queue.failures = [OutcomeUnknown("no answer"), OutcomeUnknown("no answer")]

        with pytest.raises(QueueUnavailable):
            await lane.put("acme", a_call(2), 1)
        await settle()
        await lane.put("acme", a_call(1), 1)

        assert queue.attempts == [1, 1, 1, 2]
        assert [(batch.number, batch.accepted_total) for batch in queue.stored] == [(1, 2), (2, 3)]
        assert [batch.abandoned_numbers for batch in queue.stored] == [(), ()]

    async def test_a_refused_batch_leaves_its_number_to_the_next(self) -> None:
        queue = FakeQueue()
        lane = lanes(queue)
        queue.failures = [Overloaded("full")]

        with pytest.raises(Overloaded):
            await lane.put("acme", a_call(2), 1)
        await lane.put("acme", a_call(1), 1)

        assert [(batch.number, batch.accepted_total) for batch in queue.stored] == [(1, 1)]

    async def test_a_queue_that_fills_up_says_nothing_about_the_attempt_before(self) -> None:
        """The first attempt may lie in the queue: were its number given up, its events would count, its total not."""
        queue = FakeQueue()
        lane = lanes(queue)
        queue.failures = [OutcomeUnknown("no answer"), Overloaded("full"), Overloaded("full")]

        with pytest.raises(QueueUnavailable):
            await lane.put("acme", a_call(2), 1)
        await lane.drain(1)
        await lane.put("acme", a_call(1), 1)

        told = [(batch.number, batch.abandoned_numbers, batch.accepted_total) for batch in queue.stored]
        assert told == [(1, (), 2), (2, (), 3)]

    async def test_a_number_that_may_have_been_used_is_abandoned_aloud(self) -> None:
        queue = FakeQueue()
        lane = lanes(queue)
        queue.failures = [OutcomeUnknown("no answer"), ValueError("impossible message")]

        with pytest.raises(QueueUnavailable):
            await lane.put("acme", a_call(2), 1)
        await settle()
        for _ in range(2):
            await lane.put("acme", a_call(1), 1)

        told = [(batch.number, batch.abandoned_numbers, batch.accepted_total) for batch in queue.stored]
        assert told == [(2, (1,), 1), (3, (), 2)]


class TestTrouble:
    async def test_callers_hear_it_and_new_ones_at_once(self) -> None:
        queue = FakeQueue()
        lane = lanes(queue)
        queue.open.clear()
        first = asyncio.create_task(lane.put("acme", a_call(), 5))
        await settle()
        waiting = asyncio.create_task(lane.put("acme", a_call(), 5))
        queue.failures, queue.closes_after_failure = [OutcomeUnknown("no answer")], True
        queue.open.set()

        for call in (first, waiting):
            with pytest.raises(QueueUnavailable):
                await call
        with pytest.raises(QueueUnavailable):
            await lane.put("acme", a_call(), 5)
        queue.open.set()
        await lane.drain(1)

        assert [len(batch.events) for batch in queue.stored] == [1]  # Who has heard "unknown" is not sent anew.

    async def test_a_queue_that_fails_at_once_leaves_time_for_everything_else(self) -> None:
        queue = FakeQueue()
        lane = lanes(queue)
        queue.failures = [OutcomeUnknown("closed") for _ in range(5)]
        others = 0

        with pytest.raises(QueueUnavailable):
            await lane.put("acme", a_call(), 1)
        while queue.failures:
            others += 1
            await asyncio.sleep(0)
        await lane.drain(1)

        assert others > 5
        assert len(queue.stored) == 1

    async def test_patience_ends_before_the_queue_answers(self) -> None:
        queue = FakeQueue()
        lane = lanes(queue)
        queue.open.clear()
        first = asyncio.create_task(lane.put("acme", a_call(), 1))
        await settle()

        with pytest.raises(QueueUnavailable):
            await lane.put("acme", a_call(3), 0.01)
        queue.open.set()
        await first
        await lane.put("acme", a_call(1), 1)

        assert [len(batch.events) for batch in queue.stored] == [1, 1]  # Its caller had gone before it was sent.

    async def test_one_tenant_leaves_room_for_the_others(self) -> None:
        queue = FakeQueue()
        lane = lanes(queue, max_pending_bytes=1_000)
        queue.open.clear()
        taken = [asyncio.create_task(lane.put("acme", a_call(), 1)) for _ in range(2)]
        await settle()

        with pytest.raises(Overloaded, match="of this tenant") as refused:
            await lane.put("acme", a_call(), 1)
        other = asyncio.create_task(lane.put("beta", a_call(), 1))
        await settle()
        queue.open.set()
        await asyncio.gather(*taken, other)
        await lane.put("acme", a_call(), 1)

        assert refused.value.retry_after_s is not None

    async def test_more_than_fits_is_refused_until_there_is_room(self) -> None:
        queue = FakeQueue()
        lane = lanes(queue, max_pending_bytes=250)
        queue.open.clear()
        taken = [asyncio.create_task(lane.put(tenant, a_call(), 1)) for tenant in ("acme", "gamma")]
        await settle()

        with pytest.raises(Overloaded) as refused:
            await lane.put("beta", a_call(), 1)
        queue.open.set()
        await asyncio.gather(*taken)
        await lane.put("beta", a_call(), 1)

        assert refused.value.retry_after_s is not None
