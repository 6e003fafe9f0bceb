"""A watermark counts when everything before it is handled, and passes when all of that is rated and published."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from libs.outbox import WatermarkFeed, WatermarkForwarder
from services.rating.domain.usage import ReceivedWatermark, Watermark, WindowBatch
from services.rating.messaging.charge_feed import WATERMARK_SUBJECT
from services.rating.store import tables
from services.rating.store.unit_of_work import WATERMARK_NAME
from steelyard.common.v1 import watermark_pb2
from tests.component.rating.support import HOUR, NOW, TENANT, Rating, billing_period, window

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Broker:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []

    async def publish(self, subject: str, payload: bytes, msg_id: str, headers: object) -> None:
        self.published.append((subject, payload))


@pytest.fixture
async def ready(rating: Rating) -> Rating:
    await rating.start_march()
    return rating


def _received(sequence: int, *, epoch: datetime = EPOCH, after_s: int = 0, tenant: str = "") -> ReceivedWatermark:
    holds = ((tenant, "batch 7 is missing"),) if tenant else ()
    return ReceivedWatermark(Watermark(NOW + timedelta(seconds=after_s), holds), epoch, sequence)


async def _store(rating: Rating, *received: ReceivedWatermark) -> None:
    await rating.apply_usage(WindowBatch(), received)


async def test_it_waits_for_the_acknowledgement_floor(ready: Rating) -> None:
    await _store(ready, _received(10))

    passed = [await ready.forward_watermark(EPOCH, floor) for floor in (0, 9, 10, 11)]

    assert passed == [None, None, NOW, None]


async def test_it_waits_until_what_came_before_it_is_rated(ready: Rating) -> None:
    await ready.receive(window(5))
    await _store(ready, _received(10))

    before = await ready.forward_watermark(EPOCH, 10)
    await ready.rate_all()
    after = await ready.forward_watermark(EPOCH, 10)

    assert (before, after) == (None, NOW)


async def test_what_comes_after_it_does_not_hold_it_up(ready: Rating) -> None:
    await ready.receive(window(5))
    await _store(ready, _received(10))
    await ready.forward_watermark(EPOCH, 10)
    async with ready.open_work(TENANT) as work:
        await work.queue.take([mark.number for mark in await work.queue.waiting(10)])
        await ready.receive(window(6))  # Marks the period again while it is being rated, and for ever after.

    assert await ready.forward_watermark(EPOCH, 10) == NOW


async def test_a_mark_before_it_counts_though_the_period_was_being_rated(ready: Rating) -> None:
    await ready.receive(window(5))
    async with ready.open_work(TENANT) as work:
        await work.queue.take([mark.number for mark in await work.queue.waiting(10)])
        await ready.receive(window(6))
        await _store(ready, _received(10))
        while_it_is_rated = await ready.forward_watermark(EPOCH, 10)

    before = await ready.forward_watermark(EPOCH, 10)
    await ready.rate_all()

    assert (while_it_is_rated, before, await ready.forward_watermark(EPOCH, 10)) == (None, None, NOW)


async def test_a_newer_one_does_not_take_the_place_of_one_that_waits(ready: Rating) -> None:
    await ready.receive(window(5))
    await _store(ready, _received(10))
    await ready.forward_watermark(EPOCH, 10)
    await ready.receive(window(6))
    await _store(ready, _received(20, after_s=1))

    await ready.rate_all()
    passed = [await ready.forward_watermark(EPOCH, 20) for _ in range(3)]

    assert passed == [NOW, NOW + timedelta(seconds=1), None]


async def test_of_several_the_newest_counts(ready: Rating) -> None:
    await _store(ready, _received(10), _received(11, after_s=5), _received(12, after_s=9))

    assert [await ready.forward_watermark(EPOCH, 11) for _ in range(2)] == [NOW + timedelta(seconds=5), None]
    assert await ready.forward_watermark(EPOCH, 12) == NOW + timedelta(seconds=9)


async def test_the_floor_of_another_stream_says_nothing(ready: Rating) -> None:
    await _store(ready, _received(10))

    assert await ready.forward_watermark(EPOCH + HOUR, 5000) is None


async def test_a_period_that_was_set_aside_does_not_hold_it_up(ready: Rating) -> None:
    await ready.accept([billing_period("bad", card="missing")])
    await _store(ready, _received(10))

    before = await ready.forward_watermark(EPOCH, 10)
    await ready.rate_all()

    assert (before, await ready.forward_watermark(EPOCH, 10)) == (None, NOW)


async def test_it_is_published_behind_the_charges_with_its_holds(ready: Rating) -> None:
    broker = Broker()
    feed = WatermarkFeed(WATERMARK_NAME, tables.outbox_watermarks, tables.charge_marks, WATERMARK_SUBJECT)
    forwarder = WatermarkForwarder(ready.worker, broker, feed, ready.clock)
    await _store(ready, _received(10, tenant="initech"))
    await ready.forward_watermark(EPOCH, 10)

    while_charges_wait = await forwarder.forward_once()
    await ready.sql("DELETE FROM charge_marks")  # As the relay does once they are published.
    passed = await forwarder.forward_once()

    assert (while_charges_wait, passed) == (None, NOW)
    [(subject, payload)] = broker.published
    watermark = watermark_pb2.WatermarkAdvanced.FromString(payload)
    assert subject == "rating.watermark.advanced.v1"
    assert watermark.watermark_time.ToDatetime(tzinfo=UTC) == NOW
    assert [(hold.tenant_id, hold.reason) for hold in watermark.holds] == [("initech", "batch 7 is missing")]
