"""The SDK against a real gRPC server that fails as it is told."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime
from decimal import Decimal

import grpc
import pytest

from steelyard import (
    Ack,
    BufferFull,
    Client,
    ClientClosed,
    DeliveryFailed,
    Endpoints,
    EventProblem,
    InvalidRequest,
    NotAllowed,
    Options,
    SyncClient,
    UsageEvent,
    Verdict,
)
from tests.component.libs.sdk.fake_ingest import FakeIngest, serve

QUICK = Options(linger_s=0.01, backoff_s=0.01, delivery_timeout_s=5)


def a_client(target: str, options: Options = QUICK, **more: object) -> Client:
    return Client(api_key="sy_key", endpoints=Endpoints(ingest=target), options=options, **more)  # type: ignore[arg-type]


class TestRecording:
    async def test_sends_full_batches_at_once_and_the_rest_after_the_linger_time(self) -> None:
        fake = FakeIngest()
        async with serve(fake) as target, a_client(target, Options(batch_events=10, linger_s=0.05)) as client:
            ids = [await client.record("call", f"c{i}") for i in range(25)]
            await asyncio.sleep(0.5)
            assert sorted(fake.batch_sizes) == [5, 10, 10]
            assert set(fake.deliveries) == set(ids)

    async def test_flush_reports_each_event_once_and_problems_by_id(self) -> None:
        fake, seen = FakeIngest(), list[EventProblem]()
        async with serve(fake) as target, a_client(target, on_problem=seen.append) as client:
            await client.record("call", "c1")
            bad_id = await client.record("call", "bad-1")
            report = await client.flush()
            assert report.counts == {Verdict.QUEUED: 1, Verdict.REJECTED: 1}
            expected = EventProblem(bad_id, Verdict.REJECTED, "customer_id", "BAD", "is bad")
            assert report.problems == [expected] == seen
            assert (await client.flush()).total == 0

    async def test_close_delivers_what_is_buffered(self) -> None:
        fake = FakeIngest()
        async with serve(fake) as target:
            client = a_client(target, Options(linger_s=60))
            await client.record("call", "c1", event_id="e1")
            await client.close()
            assert fake.deliveries == ["e1"]
            with pytest.raises(ClientClosed):
                await client.record("call", "c1")

    async def test_key_deadline_and_tenant_go_with_each_call(self) -> None:
        fake = FakeIngest()
        async with serve(fake) as target, a_client(target, tenant_id="acme") as client:
            await client.record("call", "c1")
            await client.flush()
        assert fake.metadata[0]["authorization"] == "Bearer sy_key"
        assert fake.metadata[0]["x-steelyard-tenant"] == "acme"
        assert fake.deadlines[0] is not None
        assert fake.deadlines[0] <= 10


class TestRetries:
    @pytest.mark.parametrize(
        "code",
        [
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.CANCELLED,
        ],
    )
    async def test_repeats_the_same_ids_after_an_unknown_outcome(self, code: grpc.StatusCode) -> None:
        fake = FakeIngest(failures=[(code, True), (code, False)])
        async with serve(fake) as target, a_client(target) as client:
            await client.record("call", "c1", event_id="e1")
            report = await client.flush()
        assert report.counts == {Verdict.QUEUED: 1}
        assert fake.deliveries == ["e1", "e1"]

    async def test_gives_the_events_back_when_the_server_stays_away(self) -> None:
        options = Options(linger_s=0.01, backoff_s=0.01, delivery_timeout_s=0.3)
        client = a_client("127.0.0.1:1", options)
        await client.record("call", "c1", event_id="e1")
        with pytest.raises(DeliveryFailed) as caught:
            await client.flush()
        assert [event.event_id for event in caught.value.events] == ["e1"]
        await client.close()

    async def test_does_not_repeat_what_cannot_succeed(self) -> None:
        fake = FakeIngest(failures=[(grpc.StatusCode.INVALID_ARGUMENT, False)])
        async with serve(fake) as target, a_client(target) as client:
            with pytest.raises(InvalidRequest) as caught:
                await client.send([UsageEvent("call", "c1")])
        error = caught.value
        assert (error.reason, error.metadata, error.retry_after_s) == ("TOLD_TO", {"limit": "7"}, 0.05)
        assert [(v.field, v.reason) for v in error.violations] == [("events", "TOO_MANY")]
        assert fake.deliveries == []

    async def test_a_refused_key_is_its_own_error(self) -> None:
        fake = FakeIngest(failures=[(grpc.StatusCode.UNAUTHENTICATED, False)])
        async with serve(fake) as target, a_client(target) as client:
            with pytest.raises(NotAllowed):
                await client.send([UsageEvent("call", "c1")])


class TestBackpressure:
    async def test_a_full_buffer_makes_record_wait_and_record_nowait_raise(self) -> None:
        fake = FakeIngest()
        options = Options(batch_events=2, buffer_events=2, linger_s=60)
        async with serve(fake) as target, a_client(target, options) as client:
            client.record_nowait(UsageEvent("call", "c1"))
            client.record_nowait(UsageEvent("call", "c2"))
            with pytest.raises(BufferFull):
                client.record_nowait(UsageEvent("call", "c3"))
            await asyncio.wait_for(client.record("call", "c3"), 5)  # Waits for the answer, then there is room.
        assert len(fake.deliveries) == 3

    async def test_send_cuts_batches_to_the_servers_limits(self) -> None:
        fake = FakeIngest()
        async with serve(fake) as target, a_client(target) as client:
            many = [UsageEvent("call", "c1", {"text": "x" * 250, "more": "y" * 250}) for _ in range(2500)]
            report = await client.send(many, ack=Ack.RECORDED)
        assert report.total == 2500
        assert max(fake.batch_sizes) <= 1000
        assert len(fake.batch_sizes) >= 3


class TestEvents:
    def test_decimals_and_integers_become_exact_text(self) -> None:
        encoded = UsageEvent("call", "c1", {"a": 12, "b": Decimal("1E+3"), "c": "x"}).to_pb("here")
        assert dict(encoded.properties) == {"a": "12", "b": "1000", "c": "x"}
        assert encoded.source == "here"

    @pytest.mark.parametrize("value", [0.1, True, None])
    def test_refuses_what_is_not_exact(self, value: object) -> None:
        with pytest.raises(TypeError, match="tokens"):
            UsageEvent("call", "c1", {"tokens": value}).to_pb("here")  # type: ignore[dict-item]

    def test_refuses_a_naive_time(self) -> None:
        with pytest.raises(ValueError, match="time zone"):
            UsageEvent("call", "c1", event_time=datetime(2026, 1, 1)).to_pb("here")  # noqa: DTZ001

    def test_ids_rise_and_never_repeat(self) -> None:
        ids = [UsageEvent("call", "c1").event_id for _ in range(10_000)]
        assert len(set(ids)) == 10_000
        assert [i[:13] for i in ids] == sorted(i[:13] for i in ids)


class TestSyncClient:
    async def test_is_shared_by_threads(self) -> None:
        fake = FakeIngest()
        async with serve(fake) as target:
            report = await asyncio.to_thread(self._record_from_threads, target)
        assert report == 200
        assert len(set(fake.deliveries)) == 200

    @staticmethod
    def _record_from_threads(target: str) -> int:
        with SyncClient(api_key="sy_key", endpoints=Endpoints(ingest=target), options=QUICK) as client:
            threads = [
                threading.Thread(target=lambda: [client.record("call", "c1") for _ in range(50)]) for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return client.flush().total
