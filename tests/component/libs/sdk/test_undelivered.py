"""Nothing is dropped silently: what cannot be delivered comes back, whatever went wrong."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from steelyard import (
    BufferFull,
    Client,
    ClientClosed,
    DeliveryFailed,
    Endpoints,
    EventProblem,
    Options,
    UsageEvent,
    Verdict,
)
from tests.component.libs.sdk.fake_ingest import FakeIngest, serve

QUICK = Options(linger_s=0.01, backoff_s=0.01, delivery_timeout_s=5)
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, False)


def a_client(target: str, options: Options = QUICK, **more: object) -> Client:
    return Client(api_key="sy_key", endpoints=Endpoints(ingest=target), options=options, **more)  # type: ignore[arg-type]


def ids(error: DeliveryFailed) -> list[str]:
    return [event.event_id for event in error.events]


class TestBatches:
    async def test_a_large_event_does_not_make_its_batch_too_large(self) -> None:
        """Together they would have more bytes than the server takes, and it would refuse them all."""
        fake = FakeIngest()
        options = Options(batch_bytes=700_000, batch_events=1_000, linger_s=60)
        async with serve(fake) as target, a_client(target, options) as client:
            for _ in range(2):
                await client.record("call", "c1", {"text": "x" * 600_000})
            await client.flush()
        assert fake.batch_sizes == [1, 1]

    async def test_an_answer_that_nobody_understands_gives_the_events_back(self) -> None:
        fake = FakeIngest(verdict=99)
        async with serve(fake) as target:
            client = a_client(target)
            await client.record("call", "c1", event_id="e1")
            with pytest.raises(DeliveryFailed) as caught:
                await client.flush()
            await client.close()
        assert ids(caught.value) == ["e1"]

    async def test_a_listener_that_fails_is_told_the_other_problems(self) -> None:
        fake, seen = FakeIngest(), list[str]()

        def listen(problem: EventProblem) -> None:
            seen.append(problem.event_id)
            raise LookupError(problem.event_id)

        async with serve(fake) as target, a_client(target, on_problem=listen) as client:
            for event_id in ("e1", "e2"):
                await client.record("call", "bad-1", event_id=event_id)
            report = await client.flush()
        assert seen == ["e1", "e2"]
        assert report.counts == {Verdict.REJECTED: 2}


class TestBuffer:
    async def test_is_bounded_also_for_events_that_nobody_takes_back(self) -> None:
        fake = FakeIngest(failures=[REFUSED] * 10)
        options = Options(batch_events=1, buffer_events=3, linger_s=0.01)
        returned = list[str]()
        async with serve(fake) as target:
            client = a_client(target, options)
            for number in range(10):
                event = UsageEvent("call", "c1", event_id=f"e{number}")
                try:
                    await client.record_event(event)
                except DeliveryFailed as error:
                    returned += ids(error)
                    await client.record_event(event)
            with pytest.raises(DeliveryFailed) as caught:
                await client.close()
        assert len(returned) >= 3
        assert sorted([*returned, *ids(caught.value)]) == [f"e{number}" for number in range(10)]

    async def test_is_bounded_by_size_as_well(self) -> None:
        fake = FakeIngest()
        options = Options(batch_bytes=2_000, buffer_bytes=4_000, linger_s=60)
        async with serve(fake) as target, a_client(target, options) as client:
            for number in range(3):
                client.record_nowait(UsageEvent("call", "c1", {"text": "x" * 1_500}, event_id=f"e{number}"))
            with pytest.raises(BufferFull):
                client.record_nowait(UsageEvent("call", "c1"))
            await asyncio.wait_for(client.record("call", "c1", event_id="e3"), 5)
            await client.flush()
            client.record_nowait(UsageEvent("call", "c1", {"text": "x" * 3_000}, event_id="e4"))
            client.record_nowait(UsageEvent("call", "c1", event_id="e5"))
        assert sorted(fake.deliveries) == [f"e{number}" for number in range(6)]


class TestSend:
    async def test_gives_back_everything_that_did_not_leave(self) -> None:
        """The second of three batches fails: the third is not lost either."""
        fake = FakeIngest()
        options = Options(backoff_s=0.01, delivery_timeout_s=0.3)
        events = [UsageEvent("call", "c1", {"text": "x" * 400_000}, event_id=f"e{n}") for n in range(3)]
        async with serve(fake) as target, a_client(target, options) as client:
            await client.send(events[:1])
            fake.failures = [(grpc.StatusCode.UNAVAILABLE, False)] * 1_000
            with pytest.raises(DeliveryFailed) as caught:
                await client.send(events)
        assert ids(caught.value) == ["e0", "e1", "e2"]

    async def test_a_wrong_event_sends_none(self) -> None:
        fake = FakeIngest()
        wrong = UsageEvent("call", "c1", {"tokens": 0.5})  # type: ignore[dict-item]
        good = [UsageEvent("call", "c1") for _ in range(1_500)]
        async with serve(fake) as target, a_client(target) as client:
            with pytest.raises(TypeError):
                await client.send([*good, wrong])
        assert fake.deliveries == []

    async def test_after_close_is_refused(self) -> None:
        async with serve(FakeIngest()) as target:
            client = a_client(target)
            await client.send([UsageEvent("call", "c1")])
            await asyncio.gather(client.close(), client.close())
            with pytest.raises(ClientClosed):
                await client.send([UsageEvent("call", "c1")])
