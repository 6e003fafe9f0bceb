"""The running service: messages in, messages out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import asyncpg
import pytest
from nats.js import JetStreamContext

from libs.embedded.databases import ServiceDatabase
from libs.embedded.nats_server import EmbeddedNats
from libs.messaging import DIRECTORY, confirm_applied
from libs.rpc import as_tenant
from services.rating.domain.charges import rate_card_charges
from steelyard.rating.v1 import (
    charge_service_pb2,
    charge_service_pb2_grpc,
    rate_card_pb2,
    rate_card_service_pb2,
    rate_card_service_pb2_grpc,
)
from tests.component.rating.running import Running, running
from tests.component.rating.support import (
    APRIL,
    HOUR,
    MARCH,
    NOW,
    REQUESTS,
    TENANT,
    TOKENS,
    FakeIngest,
    billing_period,
    rate_card,
    window,
)

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE_PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
REQUEST_ID = "6f0f3f0e-3f43-4f0f-9d6b-3a1f3c1d9a10"


@pytest.fixture
async def service(server: ServiceDatabase, own_nats: EmbeddedNats) -> AsyncIterator[Running]:
    async with running(server, own_nats.url) as started:
        await add_card(started)
        yield started


async def add_card(service: Running, card_id: str = "standard") -> None:
    """A card with a fee, tiers on tokens and a price per request, as in support.rate_card."""
    tiers = [
        rate_card_pb2.Tier(up_to="1000", unit_amount="0.01"),
        rate_card_pb2.Tier(unit_amount="0.0025", flat_amount="1"),
    ]
    prices = [
        rate_card_pb2.Price(price_id="fee", flat=rate_card_pb2.FlatPrice(amount="20.00")),
        rate_card_pb2.Price(
            price_id="tokens",
            meter_id=TOKENS,
            included_quantity="100",
            graduated=rate_card_pb2.GraduatedPrice(tiers=tiers),
        ),
        rate_card_pb2.Price(
            price_id="requests", meter_id=REQUESTS, per_unit=rate_card_pb2.PerUnitPrice(unit_amount="0.000125")
        ),
    ]
    card = rate_card_pb2.RateCard(rate_card_id=card_id, currency="USD", prices=prices)
    request = rate_card_service_pb2.CreateRateCardRequest(request_id=REQUEST_ID, rate_card=card)
    stub = rate_card_service_pb2_grpc.RateCardServiceStub(service.channel)
    await stub.CreateRateCard(request, metadata=as_tenant(TENANT))


async def test_usage_becomes_charges_and_then_the_watermark_follows(service: Running) -> None:
    await service.send_periods(billing_period(), billing_period("sub-2", customer="cust-2"))
    await service.charge_when("fee", "1", subscription="sub-2")
    await service.send_windows(window(1200), window(30, meter=REQUESTS), window(7, customer="cust-2"))
    await service.send_watermark(NOW)

    tokens = await service.charge_when("tokens", "1200")
    messages = await service.until_watermark()

    usage = {TOKENS: Decimal(1200), REQUESTS: Decimal(30)}
    expected = rate_card_charges(rate_card(), usage)[1]
    assert Decimal(tokens.amount) == expected.amount
    assert sum(Decimal(part.amount) for part in tokens.parts) == expected.amount
    assert messages[-1].watermark is not None
    assert messages[-1].watermark.watermark_time.ToSeconds() == NOW.timestamp()
    published = [charge for message in messages for charge in message.charges]
    assert len({(charge.subscription_id, charge.price_id) for charge in published}) == 6
    versions = [
        charge.version for charge in published if (charge.subscription_id, charge.price_id) == ("sub-1", TOKENS)
    ]
    assert versions == sorted(versions)


async def test_the_trace_of_an_event_goes_on_in_its_charge(service: Running) -> None:
    await service.send_periods(billing_period())
    await service.charge_when("fee", "1")

    await service.send_windows(window(5, trace_parent=TRACE_PARENT))

    charge = await service.charge_when("tokens", "5")
    assert charge.trace_parent.split("-")[1] == TRACE_ID


async def test_a_lost_message_is_found_before_the_invoice(service: Running) -> None:
    await service.send_periods(billing_period())
    await service.send_windows(window(5))
    await service.charge_when("tokens", "5")
    await service.send_windows(window(6), window(7, at=MARCH.start + HOUR), window(8, meter=REQUESTS), lost=True)

    key = charge_service_pb2.BillingPeriodKey(subscription_id="sub-1")
    key.period_start.FromDatetime(MARCH.start)
    stub = charge_service_pb2_grpc.ChargeServiceStub(service.channel)
    request = charge_service_pb2.ConfirmChargesRequest(keys=[key])
    response = await stub.ConfirmCharges(request, metadata=as_tenant(TENANT))

    [result] = response.results
    assert (result.confirmed, result.reason) == (True, "")
    assert {charge.price_id: charge.quantity for charge in result.charges} == {"fee": "1", TOKENS: "13", REQUESTS: "8"}
    published = await service.charge_when("tokens", "13")
    assert published == result.charges[1]
    assert service.ingest_server.authorizations == {"Bearer internal-key-of-the-tests"}


async def test_what_came_while_it_was_down_is_caught_up(server: ServiceDatabase, own_nats: EmbeddedNats) -> None:
    ingest = FakeIngest()
    async with running(server, own_nats.url, ingest=ingest) as first:
        await add_card(first)
        await first.send_periods(billing_period())
        await first.charge_when("tokens", "0")
        await first.send_windows(window(5))
        await first.charge_when("tokens", "5")
        client_of_first = first.sent
    async with running(server, own_nats.url, role="api", ingest=ingest) as only_api:
        only_api.sent = client_of_first
        await only_api.send_windows(window(6), window(7, at=MARCH.start + HOUR))
        await only_api.send_periods(billing_period(period=APRIL))
        await only_api.send_watermark(NOW)
        sent = only_api.sent
    async with running(server, own_nats.url, role="work", ingest=ingest) as worker:
        worker.sent = sent

        assert (await worker.charge_when("tokens", "13")).customer_id == "cust-1"
        assert (await worker.charge_when("tokens", "0", period=APRIL)).customer_id == "cust-1"
        assert len(await worker.until_watermark()) > 2


async def test_an_unreadable_message_is_parked_and_the_rest_goes_on(service: Running, server: ServiceDatabase) -> None:
    await service.send_periods(billing_period())
    await service.publish("ingest.usage_window.changed.v1", b"\xff\xff", TENANT)
    await service.publish("billing.billing_period.changed.v1", b"\xff\xff", TENANT)
    await service.publish("ingest.watermark.advanced.v1", b"", "watermark")
    await service.send_windows(window("0.5"))
    await service.send_windows(window("NaN", meter=REQUESTS))

    await service.charge_when("tokens", "0.5")

    connection = await asyncpg.connect(server.worker_url)
    for _ in range(200):
        rows = await connection.fetch("SELECT tenant_id, count(*) FROM parked_queue GROUP BY 1 ORDER BY 1")
        if sum(row["count"] for row in rows) == 4:
            break
        await asyncio.sleep(0.05)
    await connection.close()
    assert [tuple(row) for row in rows] == [("-", 1), (TENANT, 3)]


async def test_it_confirms_entries_of_the_directory(service: Running) -> None:
    js: JetStreamContext = service.js
    ack = await js.publish("directory.clock.acme", b"")

    await confirm_applied(service.client, ack.seq, expect_services={"rating"})

    assert (await js.stream_info(DIRECTORY.name)).state.last_seq == ack.seq
