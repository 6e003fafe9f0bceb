"""Many calls of one client that fail together do not multiply the load."""

from __future__ import annotations

import asyncio

import grpc

from steelyard import Client, DeliveryFailed, Endpoints, Options, UsageEvent
from tests.component.libs.sdk.fake_ingest import FakeIngest, serve

CALLS = 100


class TestRetryBudget:
    async def test_an_outage_costs_a_burst_and_two_tries_a_second(self) -> None:
        fake = FakeIngest(failures=[(grpc.StatusCode.UNAVAILABLE, False)] * 100_000)
        options = Options(backoff_s=0.001, delivery_timeout_s=2.0)
        async with (
            serve(fake) as target,
            Client(api_key="sy_key", endpoints=Endpoints(ingest=target), options=options) as client,
        ):
            sends = [client.send([UsageEvent("call", "c1")]) for _ in range(CALLS)]
            outcomes = await asyncio.gather(*sends, return_exceptions=True)

        assert all(isinstance(outcome, DeliveryFailed) for outcome in outcomes)
        # First tries, the bucket, and what two seconds bring.
        assert len(fake.deadlines) <= CALLS + 10 + 5

    async def test_a_single_failure_is_tried_again_at_once(self) -> None:
        fake = FakeIngest(failures=[(grpc.StatusCode.UNAVAILABLE, False)] * 3)
        async with (
            serve(fake) as target,
            Client(api_key="sy_key", endpoints=Endpoints(ingest=target), options=Options(backoff_s=0.001)) as client,
        ):
            report = await client.send([UsageEvent("call", "c1")])

        assert report.total == 1
        assert len(fake.deadlines) == 4
