"""Spools against ingest as it runs: outages of any of its parts cost nothing, and a wiped queue is repaired."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from libs.messaging import USAGE_RAW, ensure_streams
from steelyard import Endpoints, EventProblem, Verdict
from steelyard.ingest.v1 import hold_service_pb2, hold_service_pb2_grpc, meter_pb2
from steelyard.spool import Spool, SpoolOptions
from tests.component.ingest.running import OPERATOR_KEY, RunningIngest, Tenant, running_ingest, until
from tests.support.spool_file import events_in

TOKENS = meter_pb2.Meter(
    meter_id="tokens", event_type="llm.request", aggregation=meter_pb2.AGGREGATION_SUM, expression="tokens"
)


@pytest.fixture(scope="module")
async def ingest(server_root: Path) -> AsyncIterator[RunningIngest]:
    async with running_ingest(server_root / "spooled-ingest") as running:
        yield running


def a_spool(path: Path, tenant: Tenant, resend_after_s: float = 300, **more: object) -> Spool:
    ports = tenant.ingest.ports
    return Spool(
        path,
        api_key=tenant.key[0][1].removeprefix("Bearer "),
        endpoints=Endpoints(ingest=f"127.0.0.1:{ports['accept']}", query=f"127.0.0.1:{ports['query']}"),
        source="gateway",
        options=SpoolOptions(commit_every_s=0.005, resend_after_s=resend_after_s, call_timeout_s=3, lease_s=5),
        **more,  # type: ignore[arg-type]
    )


def record(spool: Spool, *numbers: int) -> None:
    for number in numbers:
        spool.record("llm.request", "cust-01", {"tokens": 2}, event_id=f"e{number}")
    spool.flush()


async def drained(spool: Spool, timeout_s: float = 60) -> bool:
    return await asyncio.to_thread(spool.drain, timeout_s)


async def sent(spool: Spool, events: int) -> None:
    async def are_sent() -> bool:
        stats = await asyncio.to_thread(spool.stats)
        return stats.sent.events == events

    await until(are_sent)


async def assert_recorded_once(tenant: Tenant, events: int, lost: int = 0) -> None:
    """Log, windows and counts agree; except that an acceptor that lives on has accepted what the queue lost."""
    counts = await tenant.counts()
    assert (counts.recorded, counts.conflict, counts.rejected_by_recorder) == (events, 0, 0)
    assert counts.accepted == counts.recorded + counts.duplicate + lost
    named = ["accepted = recorded + duplicate + conflict + rejected + written off"] if lost else []
    assert await tenant.failed_checks(settle_s=0 if lost else 10) == named


async def resolve_holds(ingest: RunningIngest, tenant: Tenant) -> None:
    """As the runbook says, when the spools are empty; with the operator's key alone."""
    stub = hold_service_pb2_grpc.HoldServiceStub(ingest.channels["query"])
    asked = hold_service_pb2.ListHoldsRequest(tenant_id=tenant.tenant_id)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.ListHolds(asked, metadata=tenant.key)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    key = (("authorization", f"Bearer {OPERATOR_KEY}"),)
    holds = (await stub.ListHolds(asked, metadata=key)).holds
    kinds = {hold_service_pb2.HOLD_KIND_QUEUE_LOSS, hold_service_pb2.HOLD_KIND_MISSING_BATCH}
    assert {hold.kind for hold in holds} == kinds
    for hold in holds:
        decision = hold_service_pb2.ResolveHoldRequest(
            request_id=str(uuid.uuid4()), hold_id=hold.hold_id, reason="the spool is empty", actor="kim"
        )
        answers = [(await stub.ResolveHold(decision, metadata=key)).resolution for _ in range(2)]
        assert answers[0] == answers[1]
    assert not (await stub.ListHolds(asked, metadata=key)).holds
    history = hold_service_pb2.ListHoldResolutionsRequest(tenant_id=tenant.tenant_id)
    kept = (await stub.ListHoldResolutions(history, metadata=key)).resolutions
    missing = hold_service_pb2.HOLD_KIND_MISSING_BATCH
    assert sorted(item.hold_id for item in kept) == sorted(hold.hold_id for hold in holds if hold.kind == missing)


class TestASpool:
    async def test_is_empty_when_everything_is_recorded(self, ingest: RunningIngest, tmp_path: Path) -> None:
        tenant = await ingest.tenant("spool-plain")
        await tenant.create_meter(TOKENS)
        with a_spool(tmp_path / "s", tenant) as spool:
            record(spool, *range(3_000))
            assert await drained(spool)
            assert spool.stats().resent == 0
        assert events_in(tmp_path / "s") == []
        await assert_recorded_once(tenant, 3_000)
        assert (await tenant.counts()).duplicate == 0

    async def test_hears_of_conflicts_and_rejections(self, ingest: RunningIngest, tmp_path: Path) -> None:
        tenant = await ingest.tenant("spool-problems")
        await tenant.create_meter(TOKENS)
        heard: list[EventProblem] = []
        with a_spool(tmp_path / "s", tenant, on_problem=heard.append) as spool:
            record(spool, 1)
            assert await drained(spool)
            spool.record("llm.request", "cust-01", {"tokens": 3}, event_id="e1")
            spool.record("llm.request", "cust-01", {"tokens": "many"}, event_id="e2")
            assert await drained(spool)
        assert sorted((item.event_id, item.verdict) for item in heard) == [
            ("e1", Verdict.CONFLICT),
            ("e2", Verdict.REJECTED),
        ]

    async def test_outlasts_the_acceptor_the_recorder_and_the_database(
        self, ingest: RunningIngest, tmp_path: Path
    ) -> None:
        tenant = await ingest.tenant("spool-outage")
        await tenant.create_meter(TOKENS)
        with a_spool(tmp_path / "s", tenant) as spool:
            record(spool, *range(100))
            ingest.kill("accept")
            record(spool, *range(100, 200))
            await ingest.start("accept")
            ingest.kill("record")
            record(spool, *range(200, 300))
            ingest.postgres.kill()
            record(spool, *range(300, 400))
            assert not await drained(spool, 2)
            ingest.postgres.start()
            await ingest.start("record")
            assert await drained(spool)
        await assert_recorded_once(tenant, 400)


class TestAWipedQueue:
    """USAGE_RAW is gone with what was in it. PostgreSQL is there."""

    @staticmethod
    async def wipe(ingest: RunningIngest) -> None:
        await ingest.js.delete_stream(USAGE_RAW.name)
        await ensure_streams(ingest.js, [USAGE_RAW])

    async def test_is_repaired_as_soon_as_the_loss_is_named(self, ingest: RunningIngest, tmp_path: Path) -> None:
        tenant = await ingest.tenant("spool-wiped")
        await tenant.create_meter(TOKENS)
        with a_spool(tmp_path / "s", tenant) as spool:
            record(spool, *range(10))
            assert await drained(spool)
            ingest.kill("record")
            record(spool, *range(10, 60))
            await sent(spool, 50)
            await self.wipe(ingest)
            await ingest.start("record")
            record(spool, 60)  # The acceptor's next number makes the gap, long before resend_after_s.
            assert await drained(spool)
            assert spool.stats().resent == 50
        await assert_recorded_once(tenant, 61, lost=50)
        await resolve_holds(ingest, tenant)
        assert await tenant.failed_checks() == []

    async def test_is_repaired_also_where_nobody_can_name_it(self, ingest: RunningIngest, tmp_path: Path) -> None:
        """The acceptor ended: no later number of its will ever make a gap."""
        tenant = await ingest.tenant("spool-tail")
        await tenant.create_meter(TOKENS)
        with a_spool(tmp_path / "s", tenant, resend_after_s=3) as spool:
            ingest.kill("record")
            record(spool, *range(50))
            await sent(spool, 50)
            ingest.kill("accept")
            await self.wipe(ingest)
            await ingest.start("accept", "record")
            assert await drained(spool)
            assert spool.stats().resent >= 50
        await assert_recorded_once(tenant, 50)
