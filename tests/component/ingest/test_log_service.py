"""LogService over gRPC, by the processes that record and seal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import grpc
import pytest

from libs.embedded.machine import free_port
from libs.rpc import service_error_from
from steelyard import UsageEvent
from steelyard.ingest.v1 import log_service_pb2 as pb
from steelyard.ingest.v1 import log_service_pb2_grpc, meter_pb2, usage_service_pb2
from steelyard.receipts import ReceiptInvalid, verify
from tests.component.ingest.running import RunningIngest, Tenant, running_ingest, until

CALLS = meter_pb2.Meter(meter_id="calls", event_type="llm.request", aggregation=meter_pb2.AGGREGATION_COUNT)
HOUR = timedelta(hours=1)
THIS_HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


@pytest.fixture(scope="module")
async def ingest(server_root: Path) -> AsyncIterator[RunningIngest]:
    async with running_ingest(server_root / "log") as running:
        running.ports["maintain"] = free_port()
        await running.start("maintain")
        yield running


class Asking:
    """The service with a tenant's key."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.stub = log_service_pb2_grpc.LogServiceStub(tenant.ingest.channels["query"])

    async def head(self) -> pb.GetLogHeadResponse:
        return await self.stub.GetLogHead(pb.GetLogHeadRequest(), metadata=self.tenant.key)

    async def seals(self, request: pb.ListSealsRequest | None = None) -> pb.ListSealsResponse:
        return await self.stub.ListSeals(request or pb.ListSealsRequest(), metadata=self.tenant.key)

    async def seal(self, request: pb.GetSealRequest) -> pb.GetSealResponse:
        return await self.stub.GetSeal(request, metadata=self.tenant.key)

    async def receipts(self, *event_ids: str) -> list[pb.ReceiptResult]:
        keys = [usage_service_pb2.EventKey(source="gateway", event_id=event_id) for event_id in event_ids]
        answer = await self.stub.GetReceipts(pb.GetReceiptsRequest(keys=keys), metadata=self.tenant.key)
        return list(answer.results)

    async def verify(self, request: pb.VerifyLogRequest) -> tuple[int, pb.LogDifference | None]:
        """All steps: how many links were verified, and what differs."""
        links = 0
        while True:
            step = await self.stub.VerifyLog(request, metadata=self.tenant.key)
            links += step.verified_links
            if not step.next_page_token:
                return links, step.difference if step.HasField("difference") else None
            request.page_token = step.next_page_token

    async def linked(self, count: int) -> None:
        async def is_linked() -> bool:
            found = await self.head()
            return found.head.position >= count and not found.unlinked_batches

        await until(is_linked)


def an_event(event_id: str, at: datetime, customer_id: str = "cust-01") -> UsageEvent:
    return UsageEvent("llm.request", customer_id, {"tokens": "5"}, event_id, at, "gateway")


async def asking(ingest: RunningIngest, tenant_id: str) -> Asking:
    tenant = await ingest.tenant(tenant_id)
    await tenant.create_meter(CALLS)
    return Asking(tenant)


async def send(asked: Asking, *events: UsageEvent) -> None:
    await asked.tenant.send(*(event.to_pb("") for event in events))


async def refusal(call: object) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    error = service_error_from(caught.value)
    assert error is not None
    fields = ",".join(violation.reason for violation in getattr(error, "violations", ()))
    return error.reason, fields


class TestLogService:
    async def test_from_an_event_to_a_receipt_that_needs_no_server(self, ingest: RunningIngest) -> None:
        log = await asking(ingest, "receipts")
        events = [an_event(f"e{number}", THIS_HOUR, f"cust-{number}") for number in range(5)]
        await send(log, *events)
        await log.linked(1)

        results = await log.receipts("e3", "e0", "unknown", "e3")

        assert [result.reason for result in results] == ["", "", "NOT_RECORDED", ""]
        assert results[0].receipt == results[3].receipt
        verify(results[0].receipt, events[3], tenant_id="receipts")
        verify(results[1].receipt, events[0])
        with pytest.raises(ReceiptInvalid):
            verify(results[1].receipt, events[1])
        assert await log.verify(pb.VerifyLogRequest(kept_head=results[0].receipt.place)) == (1, None)

    async def test_there_is_no_receipt_before_the_link_and_none_of_what_was_altered(
        self, ingest: RunningIngest
    ) -> None:
        log = await asking(ingest, "altered")
        await send(log, an_event("e1", THIS_HOUR))
        await log.linked(1)
        owner = await asyncpg.connect(ingest.postgres.url("ingest"))
        try:
            await owner.execute("UPDATE events SET customer_id = 'cust-02' WHERE tenant_id = 'altered'")
            altered = (await log.receipts("e1"))[0].reason
            await owner.execute("UPDATE batch_results SET digest_version = 1 WHERE tenant_id = 'altered'")
            unproven = (await log.receipts("e1"))[0].reason
            await owner.execute("DELETE FROM log_links WHERE tenant_id = 'altered'")
            unsealed = (await log.receipts("e1"))[0].reason
        finally:
            await owner.close()

        assert (altered, unproven, unsealed) == ("ALTERED", "NO_PROOF", "UNSEALED")

    async def test_hours_are_sealed_and_sealed_anew(self, ingest: RunningIngest) -> None:
        log = await asking(ingest, "hours")
        hour = THIS_HOUR - 5 * HOUR
        await send(log, an_event("e1", hour), an_event("e2", hour + HOUR, "cust-02"))

        async def sealed() -> bool:
            return len((await log.seals()).seals) == 2

        await until(sealed)
        await send(log, an_event("late", hour, "cust-02"))

        async def sealed_anew() -> bool:
            return len((await log.seals()).seals) == 3

        await until(sealed_anew)
        listed = await log.seals()
        latest = await log.seals(pb.ListSealsRequest(latest_only=True))
        pages = [(await log.seals(pb.ListSealsRequest(page_size=2)))]
        pages.append(await log.seals(pb.ListSealsRequest(page_size=2, page_token=pages[0].next_page_token)))
        request = pb.GetSealRequest(page_size=1)
        request.hour_start_time.FromDatetime(hour)
        first = await log.seal(request)
        request.page_token = first.next_page_token
        second = await log.seal(request)
        stored = await log.tenant.usage.GetEvent(
            usage_service_pb2.GetEventRequest(source="gateway", event_id="late"), metadata=log.tenant.key
        )

        assert [(seal.version, seal.cause, seal.event_count) for seal in listed.seals] == [
            (1, "first", 1),
            (2, "late", 2),
            (1, "first", 1),
        ]
        assert [seal.version for seal in latest.seals] == [1, 2]
        assert [seal for page in pages for seal in page.seals] == list(listed.seals)
        assert pages[1].next_page_token == ""
        assert first.seal.version == 2
        assert [(item.customer_id, item.value_sum) for item in (*first.sums, *second.sums)] == [
            ("cust-01", "1"),
            ("cust-02", "1"),
        ]
        assert second.next_page_token == ""
        assert stored.event.late
        assert await log.verify(pb.VerifyLogRequest(page_size=2)) == (5, None)

    async def test_names_what_was_altered(self, ingest: RunningIngest) -> None:
        log = await asking(ingest, "tampered")
        await send(log, an_event("e1", THIS_HOUR))
        await log.linked(1)
        owner = await asyncpg.connect(ingest.postgres.url("ingest"))
        try:
            await owner.execute("UPDATE events SET event_type = 'other' WHERE tenant_id = 'tampered'")
        finally:
            await owner.close()

        links, difference = await log.verify(pb.VerifyLogRequest())

        assert links == 0
        assert difference is not None
        assert difference.kind == pb.ALTERED_KIND_BATCH
        assert "its events are not those that were recorded" in difference.description

    async def test_shows_nothing_of_other_tenants(self, ingest: RunningIngest) -> None:
        one, other = await asking(ingest, "one"), await asking(ingest, "other")
        await send(one, an_event("e1", THIS_HOUR))
        await one.linked(1)

        assert (await other.head()).head.position == 0
        assert [result.reason for result in await other.receipts("e1")] == ["NOT_RECORDED"]
        assert await other.verify(pb.VerifyLogRequest()) == (0, None)

    async def test_refuses_what_is_wrong(self, ingest: RunningIngest) -> None:
        log = await asking(ingest, "wrong")
        stub, key = log.stub, log.tenant.key
        half = pb.GetSealRequest()
        half.hour_start_time.FromDatetime(THIS_HOUR + HOUR / 2)
        unknown = pb.GetSealRequest()
        unknown.hour_start_time.FromDatetime(THIS_HOUR)
        too_many = [usage_service_pb2.EventKey(source="gateway", event_id="e")] * 1_001
        short = pb.LogHead(position=1, chain_hash=b"x")

        assert await refusal(stub.GetSeal(half, metadata=key)) == ("INVALID_INPUT", "NOT_AN_HOUR")
        assert await refusal(stub.GetSeal(unknown, metadata=key)) == ("SEAL_NOT_FOUND", "")
        assert await refusal(stub.GetReceipts(pb.GetReceiptsRequest(keys=too_many), metadata=key)) == (
            "INVALID_INPUT",
            "WRONG_NUMBER",
        )
        assert await refusal(stub.VerifyLog(pb.VerifyLogRequest(kept_head=short), metadata=key)) == (
            "INVALID_INPUT",
            "WRONG_LENGTH",
        )
        assert await refusal(stub.VerifyLog(pb.VerifyLogRequest(from_position=5), metadata=key)) == (
            "INVALID_INPUT",
            "BEHIND_END",
        )
        assert await refusal(stub.VerifyLog(pb.VerifyLogRequest(from_position=5, to_position=4), metadata=key)) == (
            "INVALID_INPUT",
            "BEFORE_START",
        )
        assert await refusal(stub.VerifyLog(pb.VerifyLogRequest(page_token="x"), metadata=key)) == (
            "PAGE_TOKEN_INVALID",
            "PAGE_TOKEN_INVALID",
        )
