"""Charges and watermarks from the stream: highest version wins, and a watermark counts only behind its charges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
from nats.aio.client import Client

from libs.database import raw
from libs.embedded.nats_server import EmbeddedNats
from libs.messaging import RATING, Delivery, ParkedMessages, PullConsumer, UnreadableMessage, connect, ensure_streams
from services.billing.domain.charge import Charge
from services.billing.domain.watermark import ReceivedWatermark
from services.billing.messaging.rating_stream import (
    CHARGES_SUBJECT,
    SUBSCRIPTION,
    WATERMARK_SUBJECT,
    RatingStreamConsumer,
    WatermarkCounter,
)
from services.billing.store.charges import PostgresReceivedCharges, apply_charges
from services.billing.store.tables import parked
from services.billing.usecases.apply_charges import ApplyCharges
from services.billing.wire.common import time_to_pb
from steelyard.common.v1 import period_pb2, watermark_pb2
from steelyard.rating.v1 import charge_pb2
from tests.component.billing.world import World, a_key, eventually
from tests.unit.billing.fakes import a_charge, utc

JANUARY = utc(2026, 1, 1)
KEY = a_key(JANUARY)


@pytest.fixture
async def nats(own_nats: EmbeddedNats) -> AsyncIterator[Client]:
    client = await connect(own_nats.url, name="test")
    await ensure_streams(client.jetstream(), [RATING])
    yield client
    await client.close()


class Stream:
    """Publishes as rating does, and consumes as billing does."""

    def __init__(self, world: World, nats: Client) -> None:
        self.world = world
        self.js = nats.jetstream()
        charges = PostgresReceivedCharges(world.worker_database)
        apply_charges = ApplyCharges(charges=charges, watermarks=world.watermarks)
        self.handle = RatingStreamConsumer(apply_charges=apply_charges)
        self.counter = WatermarkCounter(self.js, world.watermarks)
        self.blocked = asyncio.Event()
        self.blocked.set()

    async def charge(self, version: int, *, amount: str = "1", tenant_id: str = "acme") -> None:
        charge = charge_pb2.Charge(
            subscription_id=KEY.subscription_id,
            period=period_pb2.Period(start=time_to_pb(JANUARY), end=time_to_pb(utc(2026, 2, 1))),
            price_id="calls",
            currency="EUR",
            quantity="1",
            amount=amount,
            version=version,
        )
        changed = charge_pb2.ChargesChanged(tenant_id=tenant_id, charges=[charge])
        await self.js.publish(CHARGES_SUBJECT, changed.SerializeToString())

    async def watermark(self, at: datetime, *tenants_on_hold: str) -> None:
        holds = [watermark_pb2.TenantHold(tenant_id=tenant_id, reason="missing") for tenant_id in tenants_on_hold]
        passed = watermark_pb2.WatermarkAdvanced(watermark_time=time_to_pb(at), holds=holds)
        await self.js.publish(WATERMARK_SUBJECT, passed.SerializeToString())

    async def _handle_when_free(self, deliveries: Sequence[Delivery]) -> None:
        await self.blocked.wait()
        await self.handle(deliveries)

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        parking = ParkedMessages(
            self.world.worker_database, parked, consumer=SUBSCRIPTION.durable, clock=self.world.real
        )
        consumer = PullConsumer(
            self.js,
            stream=SUBSCRIPTION.stream,
            durable=SUBSCRIPTION.durable,
            subjects=SUBSCRIPTION.subjects,
            handler=self._handle_when_free,
            park=parking.park,
        )
        task = asyncio.create_task(consumer.run(stopping))
        await eventually(self._consumer_exists)
        try:
            yield
        finally:
            stopping.set()
            self.blocked.set()
            await task

    async def _consumer_exists(self) -> bool:
        return [info.name for info in await self.js.consumers_info(SUBSCRIPTION.stream)] == [SUBSCRIPTION.durable]

    async def stored(self, tenant_id: str = "acme") -> list[Charge]:
        async with self.world.api(tenant_id) as work:
            return (await work.charges.of([KEY])).get(KEY, [])

    async def versions(self, tenant_id: str = "acme") -> list[int]:
        return [charge.version for charge in await self.stored(tenant_id)]

    async def rated_through(self) -> datetime | None:
        async with self.world.api("acme") as work:
            return (await work.watermark()).rated_through


@pytest.fixture
async def stream(world: World, nats: Client) -> Stream:
    for tenant_id in ("acme", "globex"):
        await world.add_tenant(tenant_id, JANUARY)
        await world.add_customer(tenant_id)
        await world.subscribe(tenant_id)
    return Stream(world, nats)


class TestCharges:
    async def test_the_highest_version_wins_in_any_order_for_each_tenant(self, stream: Stream) -> None:
        for version in (3, 9, 5):
            await stream.charge(version, amount=str(version))
        await stream.charge(4, tenant_id="globex")

        async with stream.consuming():

            async def arrived() -> bool:
                return await stream.versions() == [9] and await stream.versions("globex") == [4]

            await eventually(arrived)
        assert [charge.amount for charge in await stream.stored()] == [9]

    @pytest.mark.parametrize("tenant_id", ["", "a,b"])
    async def test_one_of_no_tenant_is_unreadable(self, stream: Stream, tenant_id: str) -> None:
        changed = charge_pb2.ChargesChanged(tenant_id=tenant_id)
        message = Delivery(CHARGES_SUBJECT, changed.SerializeToString(), {}, "x", RATING.name, 1, 1, JANUARY)
        with pytest.raises(UnreadableMessage, match="is no tenant"):
            await stream.handle([message])

    async def test_an_unreadable_message_is_parked_and_the_rest_goes_on(self, stream: Stream) -> None:
        await stream.js.publish(CHARGES_SUBJECT, b"\xff\xff\xff", headers={"Nats-Msg-Id": "acme:charge:x"})
        await stream.charge(1)

        async with stream.consuming():

            async def arrived() -> bool:
                return await stream.versions() == [1]

            await eventually(arrived)
            parking = ParkedMessages(
                stream.world.worker_database, parked, consumer=SUBSCRIPTION.durable, clock=stream.world.real
            )

            async def is_parked() -> bool:
                return await parking.unresolved_by_tenant() == {"acme": 1}

            await eventually(is_parked)


class TestWatermarks:
    async def test_count_only_when_everything_before_them_is_acknowledged(self, stream: Stream) -> None:
        await stream.charge(1)
        await stream.watermark(utc(2026, 5, 1))
        stream.blocked.clear()

        async with stream.consuming():
            await asyncio.sleep(0.3)
            await stream.counter.count_once()
            assert await stream.rated_through() is None

            stream.blocked.set()

            async def counted() -> bool:
                await stream.counter.count_once()
                return await stream.rated_through() == utc(2026, 5, 1)

            await eventually(counted)
        assert await stream.versions() == [1]

    async def test_bring_and_lift_holds_and_never_go_back(self, stream: Stream) -> None:
        await stream.watermark(utc(2026, 5, 2), "acme")
        await stream.watermark(utc(2026, 5, 1))

        async with stream.consuming():

            async def held() -> bool:
                await stream.counter.count_once()
                return (await stream.world.progress("acme")).watermark.holds == ("missing",)

            await eventually(held)
            assert (await stream.world.progress("globex")).watermark.holds == ()
            assert await stream.rated_through() == utc(2026, 5, 2)

            await stream.watermark(utc(2026, 5, 3))

            async def lifted() -> bool:
                await stream.counter.count_once()
                return (await stream.world.progress("acme")).watermark.holds == ()

            await eventually(lifted)

    async def test_of_a_stream_that_was_replaced_count_by_its_own_sequences(self, stream: Stream) -> None:
        watermarks = stream.world.watermarks
        old, new = utc(2026, 1, 1), utc(2026, 1, 2)
        await watermarks.receive([ReceivedWatermark(old, 500, utc(2026, 6, 1), ())])
        await watermarks.receive([ReceivedWatermark(new, 1, utc(2026, 6, 2), ())])

        assert await watermarks.count_through(new, 0) is None
        assert await watermarks.count_through(new, 1) == utc(2026, 6, 2)


class TestChargesMeetIssuing:
    async def test_a_charge_waits_for_the_invoice_that_freezes_it(self, stream: Stream) -> None:
        """Also if what is frozen was known before: freezing locks charges that it leaves as they are."""
        world = stream.world
        known = a_charge(KEY, version=1)
        await world.apply("acme", [known])
        async with world.worker("acme") as work:
            await work.charges.apply([known])
            late = asyncio.create_task(world.apply("acme", [a_charge(KEY, amount="77", version=99)]))
            await asyncio.sleep(0.3)
            assert not late.done()
            assert (await work.charges.of([KEY]))[KEY] == [known]
        await late

        assert await stream.versions() == [99]

    async def test_one_that_comes_before_the_freeze_is_on_the_invoice(self, stream: Stream) -> None:
        world = stream.world
        await world.advance("acme", utc(2026, 2, 1))
        await world.work()
        await world.pass_watermark()
        await world.apply("acme", [a_charge(KEY, amount="77", version=99)])

        await world.work()

        [invoice] = await world.invoices("acme")
        assert invoice.total.minor_units == 7_700

    async def test_charges_and_invoices_at_once_agree_and_do_not_deadlock(self, stream: Stream) -> None:
        world = stream.world
        for number in range(2, 12):
            await world.subscribe("acme", f"sub-{number:02d}")
        keys = [a_key(JANUARY, f"sub-{number:02d}") for number in range(1, 12)]
        for key in keys:
            world.rating.by_period[key] = tuple(a_charge(key, price_id=price) for price in ("a", "b", "c"))
        await world.advance("acme", utc(2026, 2, 1))
        await world.work()
        await world.pass_watermark()

        async def change(versions: range) -> None:
            for version in versions:
                changed = [a_charge(key, price_id=price, version=version) for key in keys for price in ("c", "a", "b")]
                await world.apply("acme", changed if version % 2 else changed[::-1])

        await asyncio.gather(change(range(2, 40)), change(range(3, 41)), world.closer()(), world.closer()())

        async with world.worker("acme") as work:
            lines = [line async for line in work.reconciliation.frozen_lines(None)]
        assert len(lines) == 33
        assert all(line.version == line.frozen_version for line in lines)


class TestTheHotStatement:
    async def test_replaces_charges_without_touching_an_index(self, stream: Stream) -> None:
        keys = [a_key(JANUARY, f"sub-{number:03d}") for number in range(200)]
        database = stream.world.worker_database
        await PostgresReceivedCharges(database).keep({"acme": [a_charge(key) for key in keys]})
        async with database.transaction("acme") as connection:
            await apply_charges(connection, {"acme": [a_charge(key, amount="7", version=2) for key in keys]})
            counts = "SELECT pg_stat_get_xact_tuples_updated(t), pg_stat_get_xact_tuples_hot_updated(t)"
            row = await (await raw(connection)).fetchrow(f"{counts} FROM (SELECT 'charges'::regclass::oid AS t)")
        assert tuple(row) == (200, 200)

    async def test_keeps_every_value_of_every_tenant(self, stream: Stream) -> None:
        odd = a_charge(
            KEY, price_id="é|,\"{}'\\", amount="-1234567890123456789012345678901234567890.10", trace_parent=""
        )._replace(display_name="", meter_id="", parts=())
        usual = a_charge(KEY, quantity="0.000000000000000000000000000001", version=2**62)
        charges = PostgresReceivedCharges(stream.world.worker_database)

        await charges.keep({"globex": [odd], "acme": [a_charge(KEY), usual, a_charge(KEY, version=3)]})

        assert await stream.stored("acme") == [usual]
        assert await stream.stored("globex") == [odd]
