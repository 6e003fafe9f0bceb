"""StreamCharges of running services, over real PostgreSQL and NATS that may be stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc
import pytest
from nats.aio.msg import Msg

from libs.embedded.databases import ServiceDatabase
from libs.embedded.nats_server import EmbeddedNats
from libs.errors import ServiceError, Unavailable
from libs.messaging.fetcher import Fetcher
from libs.rpc import internal_channel, service_error_from
from services.rating.messaging import charge_follower
from services.rating.wire.times import instant_to_pb
from steelyard.rating.v1.rate_card_service_pb2_grpc import RateCardServiceStub
from tests.component.rating.charge_watching import Watching, watch_request
from tests.component.rating.rpc.support import card_of, tenant
from tests.component.rating.running import INTERNAL_KEY, Running, running
from tests.component.rating.support import HOUR, MARCH, NOW, REQUESTS, billing_period, window
from tests.component.rating.test_service import add_card


@pytest.fixture
async def service(server: ServiceDatabase, own_nats: EmbeddedNats) -> AsyncIterator[Running]:
    async with running(server, own_nats.url) as started:
        await add_card(started)
        yield started


async def ended(watching: Watching) -> ServiceError:
    """Read to the end of the stream, and return why it ended."""
    try:
        while True:
            await watching.next()
    except grpc.aio.AioRpcError as failed:
        error = service_error_from(failed)
    assert error is not None
    return error


async def test_the_present_charges_come_first_and_then_every_change(service: Running) -> None:
    await service.send_periods(billing_period(), billing_period("sub-2", customer="cust-2"))
    await service.charge_when("requests", "0", subscription="sub-2")
    await service.send_windows(window(1200))
    before = await service.charge_when("tokens", "1200")

    with Watching(service.channel) as watching:
        await watching.begun()
        assert {message.WhichOneof("content") for message in watching.messages} == {"snapshot", "heartbeat"}
        found = {(sub, price): charge.quantity for (sub, _, price), charge in watching.charges.items()}
        assert found == {
            ("sub-1", "fee"): "1",
            ("sub-1", "tokens"): "1200",
            ("sub-1", "requests"): "0",
            ("sub-2", "fee"): "1",
            ("sub-2", "tokens"): "0",
            ("sub-2", "requests"): "0",
        }
        assert await watching.until("tokens", "1200") == before

        await service.send_windows(window(7, customer="cust-2"), window(1300, at=MARCH.start + HOUR))
        changed = await watching.until("tokens", "2500")
        await watching.until("tokens", "7", subscription="sub-2")

        assert changed == await service.charge_when("tokens", "2500")
        assert changed.amount == "14.5"  # 100 included, 1000 * 0.01, then 1 + 1400 * 0.0025.


async def test_only_what_is_named_is_watched_and_periods_that_are_over_are_not(service: Running) -> None:
    await service.send_periods(
        billing_period(), billing_period("sub-2", customer="cust-2"), billing_period("sub-3", customer="cust-3")
    )
    await service.charge_when("requests", "0", subscription="sub-3")
    of_customer, of_subscription = watch_request(customers=("cust-2",)), watch_request(subscriptions=("sub-3",))
    # Of what the machine's clock says is open, there is nothing in this test; of what ends after March neither.
    over = watch_request()
    over.ending_after.CopyFrom(instant_to_pb(MARCH.end))

    with (
        Watching(service.channel, of_customer) as customer,
        Watching(service.channel, of_subscription) as subscription,
        Watching(service.channel, over) as none,
    ):
        for watching in (customer, subscription, none):
            await watching.begun()
        await service.send_windows(window(5), window(6, customer="cust-2"), window(7, customer="cust-3"))
        await customer.until("tokens", "6", subscription="sub-2")
        await subscription.until("tokens", "7", subscription="sub-3")

        assert {key[0] for key in customer.charges} == {"sub-2"}
        assert {key[0] for key in subscription.charges} == {"sub-3"}
        assert none.charges == {}


async def test_tenants_see_their_own_charges_only(service: Running) -> None:
    cards = RateCardServiceStub(service.channel)
    await cards.CreateRateCard(card_of("standard"), metadata=tenant("initech"))
    await service.send_periods(billing_period())
    await service.send_periods(billing_period(tenant="initech"))
    await service.charge_when("requests", "0")

    with Watching(service.channel) as own, Watching(service.channel, tenant="initech") as other:
        await own.begun()
        await other.until("tokens", "0")
        await service.send_windows(window(5))
        await own.until("tokens", "5")
        await service.send_windows(window(9, tenant="initech"))
        # Subscriptions, periods and prices have the same names for both.
        assert (await other.until("tokens", "9")).amount == "4.5"
        assert [key[2] for key in other.charges] == ["tokens"]
        await service.send_windows(window(6))
        await own.until("tokens", "6")
        with Watching(service.channel, tenant="initech") as again:
            assert (await again.begun()).quantity("tokens") == "9"


async def test_heartbeats_carry_the_watermark_of_the_charges(service: Running) -> None:
    await service.send_periods(billing_period())
    await service.charge_when("requests", "0")

    with Watching(service.channel) as first:
        await first.begun()
        assert not first.messages[-1].heartbeat.HasField("watermark_time")
        await service.send_windows(window(1200))
        await service.send_watermark(NOW)
        async with asyncio.timeout(30):
            while True:
                with Watching(service.channel) as watching:
                    await watching.begun()
                    if watching.messages[-1].heartbeat.HasField("watermark_time"):
                        break

        assert watching.messages[-1].heartbeat.watermark_time == instant_to_pb(NOW)
        assert watching.quantity("tokens") == "1200"


async def test_a_restart_of_nats_ends_streams_and_the_next_one_misses_nothing(
    service: Running, own_nats: EmbeddedNats
) -> None:
    await service.send_periods(billing_period())
    await service.charge_when("requests", "0")
    with Watching(service.channel) as watching:
        await watching.begun()
        await asyncio.to_thread(own_nats.kill)
        await asyncio.to_thread(own_nats.start)

        assert isinstance(error := await ended(watching), Unavailable)
        assert error.reason == "CHARGES_INTERRUPTED"
        assert error.retry_after_s is not None

    async with asyncio.timeout(60):
        await service.send_windows(window(1200))
        while True:
            with Watching(service.channel) as again:
                try:
                    await again.until("tokens", "1200")
                    break
                except grpc.aio.AioRpcError as failed:
                    assert failed.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - others are tried again


async def test_quiet_streams_go_on(service: Running, caplog: pytest.LogCaptureFixture) -> None:
    await service.send_periods(billing_period())
    await service.charge_when("requests", "0")
    with Watching(service.channel) as watching:
        await watching.begun()
        waiting = asyncio.ensure_future(watching.next())
        await asyncio.sleep(5)  # Longer than it takes the follower to ask whether anything is missing.
        assert not waiting.done()
        await service.send_windows(window(5))
        await waiting
        await watching.until("tokens", "5")
    assert "followed anew" not in caplog.text


class Dropping(Fetcher):
    """Loses what arrives while `drops` is set."""

    drops = False

    async def fetch(self, limit: int) -> list[Msg]:
        messages = await super().fetch(limit)
        return [] if Dropping.drops else messages


@pytest.mark.parametrize("is_last", [False, True], ids=["others follow", "nothing follows"])
async def test_a_lost_message_is_noticed(service: Running, monkeypatch: pytest.MonkeyPatch, is_last: bool) -> None:
    monkeypatch.setattr(charge_follower, "Fetcher", Dropping)
    await service.send_periods(billing_period())
    await service.charge_when("requests", "0")
    with Watching(service.channel) as watching:
        await watching.begun()
        monkeypatch.setattr(Dropping, "drops", True)
        await service.send_windows(window(5))
        await service.charge_when("tokens", "5")
        if not is_last:
            await asyncio.sleep(1.5)  # For it to be fetched; the follower does not ask yet whether it has everything.
            monkeypatch.setattr(Dropping, "drops", False)
            await service.send_windows(window(6, meter=REQUESTS))

        assert (await ended(watching)).reason == "CHARGES_INTERRUPTED"

    monkeypatch.setattr(Dropping, "drops", False)
    async with asyncio.timeout(30):
        with Watching(service.channel) as again:
            await again.until("tokens", "5")


async def test_without_nats_no_stream_begins(service: Running, own_nats: EmbeddedNats) -> None:
    await asyncio.to_thread(own_nats.stop)

    with Watching(service.channel) as watching:
        assert (await ended(watching)).reason == "CHARGES_INTERRUPTED"

    await asyncio.to_thread(own_nats.start)


async def test_a_lost_consumer_ends_streams(service: Running) -> None:
    await service.send_periods(billing_period())
    await service.charge_when("requests", "0")
    with Watching(service.channel) as watching:
        await watching.begun()
        for consumer in await service.js.consumers_info("RATING"):
            await service.js.delete_consumer("RATING", consumer.name)

        assert (await ended(watching)).reason == "CHARGES_INTERRUPTED"


async def test_two_replicas_show_the_same(service: Running, server: ServiceDatabase, own_nats: EmbeddedNats) -> None:
    await service.send_periods(billing_period())
    await service.charge_when("requests", "0")

    async with running(server, own_nats.url, role="api") as replica, AsyncExitStack() as streams:
        here = await streams.enter_context(Watching(service.channel)).begun()
        there = await streams.enter_context(Watching(replica.channel)).begun()
        for value in range(1, 6):
            await service.send_windows(window(100 * value))
        assert await here.until("tokens", "500") == await there.until("tokens", "500")
        assert here.charges == there.charges


async def test_a_stop_ends_streams(server: ServiceDatabase, own_nats: EmbeddedNats) -> None:
    async with AsyncExitStack() as replica:
        service = await replica.enter_async_context(running(server, own_nats.url))
        async with internal_channel(service.config.grpc_listen, INTERNAL_KEY) as channel:
            watching = await Watching(channel).begun()
            ending = asyncio.create_task(ended(watching))
            await replica.aclose()
            error = await ending

    assert (type(error), error.reason) == (Unavailable, "STOPPING")
