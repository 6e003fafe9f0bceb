"""Recording over a stream that keeps ending: everything arrives, and nothing is sent beyond the credit."""

from __future__ import annotations

import asyncio
from collections import Counter

import grpc
import pytest

from steelyard import (
    Client,
    DeliveryFailed,
    Endpoints,
    EventProblem,
    InvalidRequest,
    NotAllowed,
    Options,
    SyncClient,
    Verdict,
)
from steelyard.ingest.v1 import ingest_service_pb2 as pb
from steelyard.ingest.v1 import ingest_service_pb2_grpc
from tests.component.libs.sdk.fake_ingest import serve
from tests.component.libs.sdk.fake_stream import FakeStream, FakeStreams

QUICK = Options(stream=True, batch_events=1, linger_s=0.01, backoff_s=0.01, delivery_timeout_s=20)


def a_client(target: str, options: Options = QUICK, **more: object) -> Client:
    return Client(api_key="sy_key", endpoints=Endpoints(ingest=target), options=options, **more)  # type: ignore[arg-type]


async def record(client: Client, count: int) -> list[str]:
    return [await client.record("call", "c1", event_id=f"e{number}") for number in range(count)]


class TestDelivery:
    async def test_goes_over_one_stream_in_order(self) -> None:
        fake = FakeStreams()
        async with serve(fake) as target, a_client(target, tenant_id="acme") as client:
            ids = await record(client, 50)
            report = await client.flush()
            more = await client.record("call", "c1", event_id="later")
            await client.flush()

        assert report.counts == {Verdict.QUEUED: 50}
        assert fake.deliveries == [*ids, more]
        assert (fake.opened, fake.batch_sizes) == (1, [])
        assert fake.numbers == list(range(1, 52))
        assert fake.levels == [pb.ACK_LEVEL_QUEUED]
        assert fake.stream_metadata[0]["authorization"] == "Bearer sy_key"
        assert fake.stream_metadata[0]["x-steelyard-tenant"] == "acme"

    async def test_reports_problems_by_event(self) -> None:
        seen = list[EventProblem]()
        async with serve(FakeStreams()) as target, a_client(target, on_problem=seen.append) as client:
            await client.record("call", "bad-1", event_id="e1")
            report = await client.flush()

        assert report.counts == {Verdict.REJECTED: 1}
        assert seen == report.problems == [EventProblem("e1", Verdict.REJECTED, "customer_id", "BAD", "is bad")]

    async def test_never_exceeds_the_credit(self) -> None:
        most = 0

        async def in_pairs(stream: FakeStream) -> None:
            """Wait for two batches, see that no third comes, and acknowledge the later one first."""
            nonlocal most
            reading = asyncio.create_task(stream.batch())
            for _ in range(10):
                under_way: list[pb.StreamBatch | None] = []
                while len(under_way) < 2:
                    under_way.append(await reading)
                    reading = asyncio.create_task(stream.batch())
                await asyncio.wait({reading}, timeout=0.02)
                most = max(most, len(under_way) + reading.done())
                for batch in reversed(under_way):
                    assert batch is not None
                    await stream.acknowledge(batch)
            await reading

        fake = FakeStreams(scripts=[in_pairs], credit=pb.StreamCredit(batches=2, bytes=1_000_000))
        async with serve(fake) as target, a_client(target) as client:
            ids = await record(client, 20)
            await client.flush()

        assert most == 2
        assert sorted(fake.deliveries) == sorted(ids)

    async def test_a_batch_larger_than_the_credit_goes_alone(self) -> None:
        fake = FakeStreams(credit=pb.StreamCredit(batches=4, bytes=10))
        async with serve(fake) as target, a_client(target) as client:
            ids = await record(client, 5)
            await client.flush()

        assert fake.deliveries == ids

    async def test_serves_programs_without_an_event_loop(self) -> None:
        fake = FakeStreams()

        def work(target: str) -> int:
            with SyncClient(api_key="sy_key", endpoints=Endpoints(ingest=target), options=QUICK) as client:
                for _ in range(10):
                    client.record("call", "c1")
                return client.flush().total

        async with serve(fake) as target:
            assert await asyncio.to_thread(work, target) == 10
        assert fake.opened == 1


class TestResuming:
    @pytest.mark.parametrize(
        "code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED],
        ids=lambda code: code.name,
    )  # fmt: skip
    async def test_sends_again_what_was_not_acknowledged_and_only_that(self, code: grpc.StatusCode) -> None:
        async def break_after_two_of_four(stream: FakeStream) -> None:
            batches = [await stream.batch() for _ in range(4)]
            for batch in batches[:2]:
                assert batch is not None
                await stream.acknowledge(batch)
            await stream.context.abort(code, "broken")

        fake = FakeStreams(scripts=[break_after_two_of_four])
        async with serve(fake) as target, a_client(target) as client:
            ids = await record(client, 10)
            report = await client.flush()

        assert report.counts == {Verdict.QUEUED: 10}
        assert fake.deliveries == ids
        assert fake.opened == 2
        assert Counter(fake.seen) == Counter([*ids, "e2", "e3"])

    async def test_a_server_that_is_gone_for_a_while_is_only_slow(self) -> None:
        fake = FakeStreams()
        async with serve(fake) as target:
            client = a_client(target)
            await client.record("call", "c1", event_id="e0")
            await client.flush()
        await client.record("call", "c1", event_id="e1")
        await asyncio.sleep(0.2)
        server = grpc.aio.server()
        again = FakeStreams()
        ingest_service_pb2_grpc.add_IngestServiceServicer_to_server(again, server)
        server.add_insecure_port(target)
        await server.start()
        report = await client.close()
        await server.stop(0)

        assert again.deliveries == ["e1"]
        assert report.counts == {Verdict.QUEUED: 1}

    async def test_a_drain_loses_nothing_and_repeats_nothing(self) -> None:
        async def drain_after_three(stream: FakeStream) -> None:
            for _ in range(3):
                batch = await stream.batch()
                assert batch is not None
                await stream.acknowledge(batch)
            await stream.drain()
            await stream.acknowledge_all()

        fake = FakeStreams(scripts=[drain_after_three] * 3)
        async with serve(fake) as target, a_client(target) as client:
            ids = await record(client, 60)
            await client.flush()

        assert fake.opened == 4
        assert fake.seen == fake.deliveries == ids

    async def test_a_server_that_says_nothing_is_left(self) -> None:
        async def swallow(stream: FakeStream) -> None:
            while await stream.batch() is not None:
                continue

        options = Options(stream=True, linger_s=0.01, backoff_s=0.01, call_timeout_s=0.2)
        fake = FakeStreams(scripts=[swallow])
        async with serve(fake) as target, a_client(target, options) as client:
            await client.record("call", "c1", event_id="e1")
            await client.flush()

        assert (fake.opened, fake.seen, fake.deliveries) == (2, ["e1", "e1"], ["e1"])

    async def test_silence_is_no_fault_while_nothing_is_owed(self) -> None:
        options = Options(stream=True, linger_s=0.01, backoff_s=0.01, call_timeout_s=0.1)
        fake = FakeStreams()
        async with serve(fake) as target, a_client(target, options) as client:
            for number in range(3):
                await client.record("call", "c1", event_id=f"e{number}")
                await client.flush()
                await asyncio.sleep(0.3)

        assert fake.opened == 1


class TestRefusedBatches:
    async def test_are_sent_again_when_that_helps(self) -> None:
        async def refuse_the_first(stream: FakeStream) -> None:
            batch = await stream.batch()
            assert batch is not None
            await stream.refuse(batch, grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_after_ms=20)
            await stream.acknowledge_all()

        fake = FakeStreams(scripts=[refuse_the_first])
        async with serve(fake) as target, a_client(target) as client:
            ids = await record(client, 5)
            report = await client.flush()

        assert report.total == 5
        assert sorted(fake.deliveries) == ids
        assert fake.deliveries[-1] == "e0"
        assert fake.opened == 1

    async def test_come_back_when_it_does_not(self) -> None:
        async def refuse_the_first(stream: FakeStream) -> None:
            batch = await stream.batch()
            assert batch is not None
            await stream.refuse(batch, grpc.StatusCode.INVALID_ARGUMENT, "BATCH_TOO_LARGE")
            await stream.acknowledge_all()

        fake = FakeStreams(scripts=[refuse_the_first])
        async with serve(fake) as target, a_client(target) as client:
            await record(client, 3)
            with pytest.raises(DeliveryFailed) as caught:
                await client.flush()

        assert [event.event_id for event in caught.value.events] == ["e0"]
        assert isinstance(caught.value.__cause__, InvalidRequest)
        assert caught.value.__cause__.reason == "BATCH_TOO_LARGE"
        assert fake.deliveries == ["e1", "e2"]

    async def test_come_back_when_their_time_is_over(self) -> None:
        async def refuse_all(stream: FakeStream) -> None:
            while (batch := await stream.batch()) is not None:
                await stream.refuse(batch, grpc.StatusCode.UNAVAILABLE, "QUEUE_UNAVAILABLE", retry_after_ms=50)

        options = Options(stream=True, batch_events=1, linger_s=0.01, backoff_s=0.01, delivery_timeout_s=0.3)
        async with serve(FakeStreams(scripts=[refuse_all])) as target, a_client(target, options) as client:
            await record(client, 2)
            with pytest.raises(DeliveryFailed) as caught:
                await client.flush()

        assert sorted(event.event_id for event in caught.value.events) == ["e0", "e1"]


class TestGivingUp:
    async def test_a_server_that_stays_away_gives_the_events_back(self) -> None:
        options = Options(stream=True, linger_s=0.01, backoff_s=0.01, delivery_timeout_s=0.3)
        client = a_client("127.0.0.1:1", options)
        await record(client, 1)
        with pytest.raises(DeliveryFailed) as caught:
            await client.flush()
        await client.close()

        assert [event.event_id for event in caught.value.events] == ["e0"]

    @pytest.mark.parametrize("after_open", [True, False], ids=["after the credit", "at once"])
    async def test_a_refused_key_gives_them_back_at_once(self, after_open: bool) -> None:
        async def refuse(stream: FakeStream) -> None:
            await stream.batch() if after_open else None
            await stream.context.abort(grpc.StatusCode.UNAUTHENTICATED, "revoked")

        async with serve(FakeStreams(scripts=[refuse])) as target, a_client(target) as client:
            await client.record("call", "c1", event_id="e0")
            with pytest.raises(DeliveryFailed) as caught:
                await client.flush()
            await client.record("call", "c1", event_id="e1")
            report = await client.flush()

        assert isinstance(caught.value.__cause__, NotAllowed)
        assert [event.event_id for event in caught.value.events] == ["e0"]
        assert report.total == 1

    async def test_a_server_that_ends_every_stream_at_once_is_not_asked_without_end(self) -> None:
        async def end(stream: FakeStream) -> None:
            return None

        fake = FakeStreams(scripts=[end] * 100_000)
        options = Options(stream=True, linger_s=0.01, backoff_s=0.01, delivery_timeout_s=1.5)
        async with serve(fake) as target, a_client(target, options) as client:
            await record(client, 1)
            with pytest.raises(DeliveryFailed):
                await client.flush()

        assert fake.opened <= 15  # The burst of the retry budget, and what it gets per second.
