"""What StreamCharges writes and when, over gRPC, with changes played by plain Python."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from libs.clock import system_clock
from libs.directory import KnownKeys
from libs.errors import FailedPrecondition, InvalidInput, ResourceExhausted, ServiceError, Unavailable
from libs.rpc import Audience, Authenticator, GrpcServer, Streams, internal_channel, service_error_from
from services.rating.domain.live_charge import ChargeKey, ChargeWatch, LiveCharge
from services.rating.metrics import ChargeStreamMetrics
from services.rating.rpc.charge_stream_service import ChargeStreamServicer
from services.rating.usecases.live_charges import LiveCharges
from services.rating.usecases.read_live_charges import ReadLiveCharges
from services.rating.wire.times import instant_to_pb, period_to_pb
from steelyard.rating.v1 import charge_pb2
from steelyard.rating.v1 import charge_stream_service_pb2 as pb
from steelyard.rating.v1.charge_stream_service_pb2_grpc import add_ChargeStreamServiceServicer_to_server
from tests.component.rating.charge_watching import Watching
from tests.component.rating.rpc.support import violations
from tests.component.rating.running import INTERNAL_KEY
from tests.component.rating.support import MARCH, NOW, TENANT

METHOD = "steelyard.rating.v1.ChargeStreamService/StreamCharges"
LONG = "x" * 100_000


def charge(version: int, price: str = "tokens", *, customer: str = "cust-1", name: str = "") -> LiveCharge:
    """A charge whose quantity is its version."""
    content = charge_pb2.Charge(
        subscription_id="sub-1",
        customer_id=customer,
        period=period_to_pb(MARCH),
        price_id=price,
        display_name=name,
        quantity=str(version),
        version=version,
    )
    key = ChargeKey("sub-1", MARCH.start, price)
    return LiveCharge(key, customer, MARCH.end, version, content.SerializeToString())


@dataclass
class Stored:
    """Pages of present charges, in the place of the database."""

    pages: list[list[LiveCharge]] = field(default_factory=list)
    watches: list[ChargeWatch] = field(default_factory=list)

    async def __call__(self, watch: ChargeWatch) -> AsyncIterator[list[LiveCharge]]:
        self.watches.append(watch)
        for page in self.pages:
            yield page


@dataclass
class Serving:
    """A server with nothing but streams of charges."""

    live_charges: LiveCharges
    stored: Stored
    streams: Streams
    channel: grpc.aio.Channel

    def watching(self, request: pb.StreamChargesRequest | None = None, *, tenant: str = TENANT) -> Watching:
        return Watching(self.channel, request, tenant)

    def offer(self, *charges: LiveCharge) -> None:
        self.live_charges.offer(TENANT, charges)


@asynccontextmanager
async def serving(
    *, heartbeat_s: float = 60, most_per_tenant: int = 5, most_charges: int = 1000
) -> AsyncIterator[Serving]:
    live_charges, stored = LiveCharges(most_charges=most_charges), Stored()
    live_charges.follow()
    streams = Streams(20, most_per_tenant)
    authenticator = Authenticator(keys=KnownKeys(), operator_key=None, internal_key=INTERNAL_KEY, clock=system_clock)
    server = GrpcServer(
        "127.0.0.1:0",
        service="rating",
        authenticator=authenticator,
        methods={METHOD: Audience.INTERNAL},
        streams=streams,
        drain_s=0,
        grace_s=0,
    )
    servicer = ChargeStreamServicer(
        live_charges=live_charges,
        read_live_charges=cast(ReadLiveCharges, stored),
        metrics=ChargeStreamMetrics(),
        clock=lambda: NOW,
        heartbeat_s=heartbeat_s,
    )
    server.add(servicer, add_ChargeStreamServiceServicer_to_server)
    port = await server.start()
    await server.set_ready(True)
    async with internal_channel(f"127.0.0.1:{port}", INTERNAL_KEY) as channel:
        yield Serving(live_charges, stored, streams, channel)
    await server.stop()


async def failure(watching: Watching) -> ServiceError:
    """Read to the end of a stream, and return why it ended."""
    try:
        while True:
            await watching.next()
    except grpc.aio.AioRpcError as failed:
        error = service_error_from(failed)
    assert error is not None
    return error


async def test_a_change_during_the_snapshot_wins_over_an_older_stored_state() -> None:
    async with serving() as served:
        served.stored.pages = [[charge(1, "fee")], [charge(2), charge(7, "requests")]]
        with served.watching() as watching:
            await watching.next()
            # Nothing reads on: the server is anywhere between here and the first heartbeat.
            served.offer(charge(9))
            served.offer(charge(6, "requests"))
            await watching.until("tokens", "9")

            assert watching.quantity("requests") == "7"


async def test_a_slow_reader_gets_the_newest_state_and_little_else() -> None:
    async with serving() as served:
        request = pb.StreamChargesRequest(min_interval=Duration())
        with served.watching(request) as slow, served.watching() as quick:
            await slow.begun()
            await quick.begun()
            for version in range(1, 2001):  # 200 MB, which nobody takes meanwhile.
                served.offer(charge(version, name=LONG))
                await asyncio.sleep(0)
            await quick.until("tokens", "2000")
            await slow.until("tokens", "2000")

            assert len(slow.messages) < 500


async def test_changes_within_the_interval_come_as_one() -> None:
    async with serving() as served:
        request = pb.StreamChargesRequest(min_interval=Duration(seconds=10))
        with served.watching(request) as patient:
            await patient.begun()
            served.offer(charge(1))
            await patient.until("tokens", "1")
            served.offer(charge(2))
            with served.watching() as other:
                await other.begun()
                for version in range(3, 6):
                    served.offer(charge(version))
                    await other.until("tokens", str(version))
            waiting = asyncio.ensure_future(patient.next())
            await asyncio.sleep(0.3)

            assert not waiting.done()
            waiting.cancel()


async def test_a_heartbeat_comes_behind_all_that_it_covers() -> None:
    async with serving(heartbeat_s=0.05) as served:
        with served.watching() as watching:
            await watching.begun()
            assert not watching.messages[-1].heartbeat.HasField("watermark_time")
            for version in range(1, 30):
                at = NOW + timedelta(seconds=version)
                served.offer(charge(version))
                served.live_charges.passed(at, {"initech": "held"})
                await watching.until_watermark(instant_to_pb(at))

                assert watching.quantity("tokens") == str(version)


async def test_only_periods_that_are_open_are_watched_unless_asked_otherwise() -> None:
    async with serving() as served:
        asked = pb.StreamChargesRequest(ending_after=instant_to_pb(MARCH.start), customer_ids=["c-1"])
        for request in (pb.StreamChargesRequest(subscription_ids=["s-1", "s-1"]), asked):
            with served.watching(request) as watching:
                await watching.begun()

        nobody: frozenset[str] = frozenset()
        assert served.stored.watches == [
            ChargeWatch(TENANT, nobody, frozenset({"s-1"}), NOW - timedelta(days=1), NOW + timedelta(hours=1)),
            ChargeWatch(TENANT, frozenset({"c-1"}), nobody, MARCH.start),
        ]


async def test_a_tenant_has_so_many_streams() -> None:
    async with serving(most_per_tenant=1) as served:
        with served.watching() as first:
            await first.begun()
            with served.watching() as second, served.watching(tenant="initech") as other:
                await other.begun()
                error = await failure(second)

        assert (type(error), error.reason) == (ResourceExhausted, "TOO_MANY_STREAMS")


async def test_too_many_charges_end_a_stream_for_good() -> None:
    async with serving(most_charges=2) as served:
        served.stored.pages = [[charge(1, "a"), charge(1, "b"), charge(1, "c")]]
        with served.watching() as watching:
            error = await failure(watching)

        assert (type(error), error.reason) == (FailedPrecondition, "TOO_MANY_CHARGES")
        assert served.live_charges.watched_count == 0


async def test_a_drain_ends_a_stream_and_says_when_to_come_back() -> None:
    async with serving() as served:
        with served.watching() as watching:
            await watching.begun()
            served.streams.drain()
            error = await failure(watching)

        assert isinstance(error, Unavailable)
        assert (error.reason, error.retry_after_s is not None) == ("STOPPING", True)


async def test_a_reader_that_leaves_is_forgotten() -> None:
    async with serving() as served:
        served.stored.pages = [[charge(1)]]
        with served.watching() as watching:
            await watching.begun()
            assert served.live_charges.watched_count == 1
        async with asyncio.timeout(10):
            while served.live_charges.wanted.is_set():  # noqa: ASYNC110 - it is set while it lives
                await asyncio.sleep(0.01)

        assert served.live_charges.watched_count == 0


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (pb.StreamChargesRequest(customer_ids=["c"] * 101), ("customer_ids", "OUT_OF_RANGE")),
        (pb.StreamChargesRequest(subscription_ids=["s"] * 101), ("subscription_ids", "OUT_OF_RANGE")),
        (pb.StreamChargesRequest(customer_ids=["c", "a|b"]), ("customer_ids[1]", "INVALID_ID")),
        (pb.StreamChargesRequest(customer_ids=["c"], subscription_ids=["s"]), ("subscription_ids", "CONFLICTING")),
        (pb.StreamChargesRequest(min_interval=Duration(seconds=10, nanos=1)), ("min_interval", "OUT_OF_RANGE")),
        (pb.StreamChargesRequest(min_interval=Duration(nanos=-1)), ("min_interval", "OUT_OF_RANGE")),
    ],
    ids=["customers", "subscriptions", "id", "both", "long", "negative"],
)
async def test_wrong_requests(request_: pb.StreamChargesRequest, expected: tuple[str, str]) -> None:
    async with serving() as served:
        with served.watching(request_) as watching:
            error = await failure(watching)

        assert isinstance(error, InvalidInput)
        assert violations(error) == [expected]
