"""Watching charges across streams that end, over gRPC with a server that does as it is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import grpc
import pytest

from steelyard import (
    ChargeUpdate,
    Client,
    ClientClosed,
    DeadlineExceeded,
    Endpoints,
    InvalidRequest,
    Options,
    SteelyardError,
    SyncClient,
    Unavailable,
)
from steelyard.charge_watch import ChargeWatcher
from steelyard.rating.v1 import charge_pb2
from steelyard.rating.v1 import charge_stream_service_pb2 as pb
from steelyard.rating.v1 import charge_stream_service_pb2_grpc as pb_grpc
from steelyard.retry import Retrying

Context: TypeAlias = "grpc.aio.ServicerContext[pb.StreamChargesRequest, pb.StreamChargesResponse]"
QUICK = Options(backoff_s=0.01, delivery_timeout_s=10)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)


def charges(*versions: int, price: str = "tokens") -> pb.StreamedCharges:
    return pb.StreamedCharges(charges=[charge_pb2.Charge(price_id=price, version=version) for version in versions])


def heartbeat(at: datetime | None = None) -> pb.StreamChargesResponse:
    beat = pb.ChargeHeartbeat()
    if at is not None:
        beat.watermark_time.FromDatetime(at)
    return pb.StreamChargesResponse(heartbeat=beat)


def snapshot(*versions: int) -> pb.StreamChargesResponse:
    return pb.StreamChargesResponse(snapshot=charges(*versions))


def changes(*versions: int) -> pb.StreamChargesResponse:
    return pb.StreamChargesResponse(changes=charges(*versions))


Script = Callable[[Context], Awaitable[None]]


def writing(*messages: pb.StreamChargesResponse, then: grpc.StatusCode | None = grpc.StatusCode.UNAVAILABLE) -> Script:
    """A stream with these messages that ends so, or never."""

    async def script(context: Context) -> None:
        for message in messages:
            await context.write(message)
        if then is None:
            await asyncio.Event().wait()
        else:
            await context.abort(then, "no more")

    return script


@dataclass
class FakeCharges(pb_grpc.ChargeStreamServiceServicer):
    """Gives each stream the next script, and keeps what it was asked."""

    scripts: list[Script]
    requests: list[pb.StreamChargesRequest] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def StreamCharges(self, request: pb.StreamChargesRequest, context: Context) -> None:  # type: ignore[override]
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))
        try:
            await (self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0])(context)
        except asyncio.CancelledError:
            self.left.set()
            raise


@asynccontextmanager
async def serve(fake: FakeCharges) -> AsyncIterator[Endpoints]:
    server = grpc.aio.server()
    pb_grpc.add_ChargeStreamServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Endpoints(rating=f"127.0.0.1:{port}")
    await server.stop(0)


def told(updates: list[ChargeUpdate]) -> list[tuple[list[int], bool]]:
    return [([charge.version for charge in update.charges], update.is_current) for update in updates]


async def first(count: int, client: Client) -> list[ChargeUpdate]:
    """The first updates."""
    updates = []
    async with aclosing(client.watch_charges()) as watching:
        async for update in watching:
            updates.append(update)
            if len(updates) == count:
                break
    return updates


class TestClient:
    async def test_a_stream_that_ends_is_opened_again_and_repeats_nothing(self) -> None:
        fake = FakeCharges(
            [
                writing(snapshot(1), heartbeat(), changes(3)),
                writing(snapshot(2), heartbeat(MARCH)),
                writing(snapshot(4), heartbeat(), then=None),
            ]
        )
        async with serve(fake) as endpoints, Client(api_key="sy_key", endpoints=endpoints, options=QUICK) as client:
            updates = await first(7, client)

        assert told(updates) == [
            ([1], False),
            ([], True),
            ([3], True),
            ([], False),
            ([], True),
            ([4], False),
            ([], True),
        ]
        assert [update.watermark for update in updates] == [None, None, None, None, MARCH, None, None]

    async def test_what_is_asked_for_and_by_whom(self) -> None:
        fake = FakeCharges([writing(heartbeat(), then=None)])
        async with serve(fake) as endpoints, Client(api_key="sy_key", endpoints=endpoints, tenant_id="acme") as client:
            async with aclosing(
                client.watch_charges(
                    ["c-1"],
                    subscription_ids=["s-1"],
                    min_interval=timedelta(milliseconds=1500),
                    ending_after=MARCH.astimezone(),
                )
            ) as watching:
                await anext(watching)
            await first(1, client)

        expected = pb.StreamChargesRequest(customer_ids=["c-1"], subscription_ids=["s-1"])
        expected.min_interval.FromMilliseconds(1500)
        expected.ending_after.FromDatetime(MARCH)
        assert fake.requests == [expected, pb.StreamChargesRequest()]
        assert fake.metadata[0]["authorization"] == "Bearer sy_key"
        assert fake.metadata[0]["x-steelyard-tenant"] == "acme"

    async def test_what_cannot_succeed_is_raised(self) -> None:
        fake = FakeCharges([writing(then=grpc.StatusCode.INVALID_ARGUMENT)])
        async with serve(fake) as endpoints, Client(api_key="sy_key", endpoints=endpoints, options=QUICK) as client:
            with pytest.raises(InvalidRequest):
                await first(1, client)

    async def test_it_gives_up_when_nobody_answers_for_long(self) -> None:
        fake = FakeCharges([writing()])
        options = Options(backoff_s=0.01, delivery_timeout_s=1)
        async with serve(fake) as endpoints, Client(api_key="sy_key", endpoints=endpoints, options=options) as client:
            with pytest.raises(Unavailable):
                await first(1, client)

    async def test_an_instant_without_a_zone_is_refused(self) -> None:
        async with Client(api_key="sy_key", endpoints=Endpoints()) as client:
            with pytest.raises(ValueError, match="zone"):
                client.watch_charges(ending_after=datetime(2026, 3, 1))  # noqa: DTZ001 - that is the point

    async def test_leaving_the_loop_ends_the_stream(self) -> None:
        fake = FakeCharges([writing(heartbeat(), then=None)])
        async with serve(fake) as endpoints, Client(api_key="sy_key", endpoints=endpoints) as client:
            await first(1, client)
            await asyncio.wait_for(fake.left.wait(), 10)

    async def test_closing_the_client_ends_it(self) -> None:
        fake = FakeCharges([writing(heartbeat(), then=None)])
        async with serve(fake) as endpoints:
            client = Client(api_key="sy_key", endpoints=endpoints, options=QUICK)
            watching = client.watch_charges()
            await anext(watching)
            waiting = asyncio.ensure_future(anext(watching))
            await asyncio.sleep(0)
            await client.close()

            with pytest.raises(ClientClosed):
                await waiting

    async def test_a_silent_stream_is_given_up_for_another(self) -> None:
        fake = FakeCharges([writing(snapshot(1), then=None), writing(snapshot(2), then=None)])
        async with serve(fake) as endpoints, Client(api_key="sy_key", endpoints=endpoints) as client:
            stub = client.services.charge_streams
            watcher = ChargeWatcher(
                lambda: stub.StreamCharges(pb.StreamChargesRequest()),
                Retrying(0.01),
                lambda: False,
                timeout_s=2,
                silence_s=0.2,
            )
            heard: list[SteelyardError | list[int]] = []
            try:
                async for update in watcher.updates():
                    heard.append([charge.version for charge in update.charges])
                    if len(heard) == 3:
                        break
            except DeadlineExceeded as error:  # The third stream may come too late.
                heard.append(error)

        assert heard[:2] == [[1], [2]]


class TestSyncClient:
    async def test_it_yields_the_same_without_a_loop(self) -> None:
        fake = FakeCharges([writing(snapshot(1), changes(2)), writing(snapshot(3), then=None)])

        def watch(endpoints: Endpoints) -> list[tuple[list[int], bool]]:
            with SyncClient(api_key="sy_key", endpoints=endpoints, options=QUICK) as client:
                updates = []
                for update in client.watch_charges():
                    updates.append(update)
                    if len(updates) == 3:
                        break
                return told(updates)

        async with serve(fake) as endpoints:
            assert await asyncio.to_thread(watch, endpoints) == [([1], False), ([2], True), ([3], False)]

    async def test_it_is_left_while_it_waits(self) -> None:
        fake = FakeCharges([writing(snapshot(1), then=None)])

        def watch(endpoints: Endpoints) -> BaseException | None:
            client = SyncClient(api_key="sy_key", endpoints=endpoints, options=QUICK)
            updates = client.watch_charges()
            next(updates)
            closing = threading.Timer(0.2, client.close)
            closing.start()
            try:
                next(updates)
            except SteelyardError as error:
                return error
            finally:
                closing.join()
            return None

        async with serve(fake) as endpoints:
            assert isinstance(await asyncio.to_thread(watch, endpoints), ClientClosed)
