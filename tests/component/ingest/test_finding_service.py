"""Findings over gRPC, by the processes that make them: from numbered events, manifests and silence to the watermark."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from libs.embedded.machine import free_port
from libs.rpc import service_error_from
from steelyard.ingest.v1 import finding_pb2, finding_service_pb2_grpc, meter_pb2, usage_event_pb2, usage_raw_pb2
from steelyard.ingest.v1 import finding_service_pb2 as pb
from tests.component.ingest.running import RunningIngest, Tenant, an_event, running_ingest, until

GAP, SILENT, DISAGREES = (
    finding_pb2.FINDING_KIND_SEQUENCE_GAP,
    finding_pb2.FINDING_KIND_SOURCE_SILENT,
    finding_pb2.FINDING_KIND_MANIFEST_DISAGREES,
)
CALLS = meter_pb2.Meter(meter_id="calls", event_type="llm.request", aggregation=meter_pb2.AGGREGATION_COUNT)
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
async def ingest(server_root: Path) -> AsyncIterator[RunningIngest]:
    async with running_ingest(server_root / "findings") as running:
        running.ports["maintain"] = free_port()
        await running.start("maintain")
        yield running


class Asking:
    """The service with a tenant's key."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self._stub = finding_service_pb2_grpc.FindingServiceStub(tenant.ingest.channels["query"])

    async def open(self, **more: object) -> list[finding_pb2.Finding]:
        request = pb.ListFindingsRequest(**more)  # type: ignore[arg-type]
        return list((await self._stub.ListFindings(request, metadata=self.tenant.key)).findings)

    async def page(self, request: pb.ListFindingsRequest) -> pb.ListFindingsResponse:
        return await self._stub.ListFindings(request, metadata=self.tenant.key)

    async def expect(self, source: str = "", *holding: finding_pb2.FindingKind.ValueType, heartbeat_s: int = 0) -> None:
        expectation = pb.SourceExpectation(source=source, holding_kinds=holding)
        expectation.allowance.seconds = 0
        if heartbeat_s:
            expectation.heartbeat.seconds = heartbeat_s
        request = pb.SetSourceExpectationRequest(request_id=str(uuid.uuid4()), expectation=expectation)
        answer = await self._stub.SetSourceExpectation(request, metadata=self.tenant.key)
        assert answer.expectation == expectation

    async def resolve(self, finding_id: str, request_id: str = "", reason: str = "lost") -> finding_pb2.Finding:
        request = pb.ResolveFindingRequest(
            request_id=request_id or str(uuid.uuid4()), finding_id=finding_id, reason=reason, actor="ann"
        )
        return (await self._stub.ResolveFinding(request, metadata=self.tenant.key)).finding

    async def submit(self, *lines: pb.ManifestLine, end: datetime = NOW, request_id: str = "") -> pb.Manifest:
        manifest = pb.Manifest(source="gateway", lines=lines)
        manifest.start_time.FromDatetime(end - timedelta(hours=1))
        manifest.end_time.FromDatetime(end)
        request = pb.SubmitManifestRequest(request_id=request_id or str(uuid.uuid4()), manifest=manifest)
        return (await self._stub.SubmitManifest(request, metadata=self.tenant.key)).manifest

    async def manifests(self) -> list[pb.Manifest]:
        return list((await self._stub.ListManifests(pb.ListManifestsRequest(), metadata=self.tenant.key)).manifests)

    async def sources(self) -> list[pb.Source]:
        return list((await self._stub.ListSources(pb.ListSourcesRequest(), metadata=self.tenant.key)).sources)

    async def until_open(self, count: int) -> list[finding_pb2.Finding]:
        async def so_many() -> bool:
            return len(await self.open()) == count

        await until(so_many)
        return await self.open()

    async def until_held(self, held: bool) -> None:
        """As the newest watermark says."""

        async def as_said() -> bool:
            holds = [hold.tenant_id for hold in (await self.tenant.ingest.watermark()).holds]
            return (self.tenant.tenant_id in holds) is held

        await until(as_said)


def numbered(number: int, event_id: str = "", source: str = "gateway") -> usage_event_pb2.UsageEvent:
    event = an_event(event_id or str(number))
    event.source, event.sequence, event.sequence_epoch = source, number, "life"
    return event


async def refusal(call: object) -> tuple[str, str, list[str]]:
    """Code, reason and fields with which a call was refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call  # type: ignore[misc]
    error = service_error_from(refused.value)
    fields = [violation.field for violation in getattr(error, "violations", ())]
    return refused.value.code().name, error.reason if error else "", fields


class TestGaps:
    async def test_from_the_call_to_the_watermark_and_back(self, ingest: RunningIngest) -> None:
        asking = Asking(await ingest.tenant("gaps"))
        await asking.expect("gateway", GAP)
        refused = numbered(4)
        refused.customer_id = ""  # The door refuses it, so its number has come.
        await asking.tenant.send(numbered(5), refused, numbered(1))

        (found,) = await asking.until_open(1)
        await asking.until_held(True)
        assert (found.kind, found.source, found.holds_invoices) == (GAP, "gateway", True)
        evidence = found.sequence
        assert (evidence.sequence_epoch, evidence.first_missing, evidence.last_missing) == ("life", 2, 3)
        assert evidence.missing_count == 2
        assert evidence.HasField("after_time")

        await asking.tenant.send(numbered(3), numbered(2))
        await asking.until_open(0)
        await asking.until_held(False)
        (ended,) = await asking.open(include_resolved=True)
        assert ended.resolution == finding_pb2.FINDING_RESOLUTION_ITSELF

    async def test_a_batch_that_the_queue_repeats_late_changes_nothing(self, ingest: RunningIngest) -> None:
        asking = Asking(await ingest.tenant("repeats"))
        await asking.expect()
        await asking.expect("gateway", GAP)
        await asking.tenant.send(numbered(1), numbered(2))
        message = await ingest.js.get_last_msg("USAGE_RAW", "usage.raw.repeats")
        batch = usage_raw_pb2.AcceptedBatch.FromString(message.data or b"")
        await asking.tenant.send(numbered(3), numbered(1))
        await asking.tenant.send(numbered(5, source="other"))

        await ingest.js.publish("usage.raw.repeats", batch.SerializeToString())

        (found,) = await asking.until_open(1)  # Of the other source: by then the search has seen this one, too.
        assert (found.source, found.sequence.missing_count, found.holds_invoices) == ("other", 4, False)

    async def test_resolving(self, ingest: RunningIngest) -> None:
        asking = Asking(await ingest.tenant("resolves"))
        await asking.expect()
        await asking.tenant.send(numbered(3))
        (found,) = await asking.until_open(1)
        request_id = str(uuid.uuid4())

        assert (await refusal(asking.resolve("none")))[:2] == ("NOT_FOUND", "FINDING_NOT_FOUND")
        assert (await refusal(asking.resolve(found.finding_id, reason="")))[2] == ["reason"]
        ended = await asking.resolve(found.finding_id, request_id)
        assert (ended.reason, ended.actor) == ("lost", "ann")
        assert await asking.resolve(found.finding_id, request_id) == ended
        reused = await refusal(asking.resolve(found.finding_id, request_id, "other"))
        assert reused[:2] == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
        again = await refusal(asking.resolve(found.finding_id))
        assert again[:2] == ("FAILED_PRECONDITION", "FINDING_ALREADY_RESOLVED")


class TestManifests:
    async def test_hold_until_the_log_agrees(self, ingest: RunningIngest) -> None:
        asking = Asking(await ingest.tenant("manifests"))
        await asking.tenant.create_meter(CALLS)
        await asking.expect("", DISAGREES)
        event = an_event("1")
        event.event_time.FromDatetime(NOW - timedelta(minutes=1))
        await asking.tenant.send(event)
        request_id = str(uuid.uuid4())

        submitted = await asking.submit(pb.ManifestLine(meter_id="calls", event_count=2), request_id=request_id)

        (found,) = await asking.until_open(1)
        await asking.until_held(True)
        assert [(item.declared_count, item.recorded_count) for item in found.manifest.differences] == [(2, 1)]
        repeated = await asking.submit(pb.ManifestLine(meter_id="calls", event_count=2), request_id=request_id)
        assert repeated.manifest_id == submitted.manifest_id
        event.event_id = "2"
        await asking.tenant.send(event)
        await asking.until_open(0)
        await asking.until_held(False)
        assert [item.state for item in await asking.manifests()] == [pb.MANIFEST_STATE_AGREED]

    async def test_that_are_none_are_refused(self, ingest: RunningIngest) -> None:
        asking = Asking(await ingest.tenant("refusals"))
        line = pb.ManifestLine(meter_id="calls", event_count=1)

        assert (await refusal(asking.submit(line)))[:2] == ("NOT_FOUND", "METER_NOT_FOUND")
        ahead = await refusal(asking.submit(line, end=NOW + timedelta(days=1)))
        assert ahead == ("INVALID_ARGUMENT", "INVALID_INPUT", ["manifest.end_time"])
        wrong = await refusal(asking.submit(pb.ManifestLine(meter_id="calls", sum="NaN")))
        assert wrong[2] == ["manifest.lines[0].sum"]
        assert await asking.manifests() == []


class TestSilence:
    async def test_of_a_source_that_never_sent(self, ingest: RunningIngest) -> None:
        asking = Asking(await ingest.tenant("silent"))
        await asking.expect("night-job", SILENT, heartbeat_s=1)

        (found,) = await asking.until_open(1)
        await asking.until_held(True)
        assert (found.silence.HasField("last_time"), found.silence.expected_within.seconds) == (False, 1)
        [source] = await asking.sources()
        assert (source.source, source.open_findings, source.HasField("last_time")) == ("night-job", 1, False)


class TestLists:
    async def test_are_paged_and_chosen(self, ingest: RunningIngest) -> None:
        asking = Asking(await ingest.tenant("pages"))
        await asking.expect()
        await asking.tenant.send(numbered(2), numbered(4), numbered(2, "b", source="other"))
        everything = await asking.until_open(3)

        first = await asking.page(pb.ListFindingsRequest(page_size=2))
        second = await asking.page(pb.ListFindingsRequest(page_size=2, page_token=first.next_page_token))

        assert [*first.findings, *second.findings] == everything
        assert second.next_page_token == ""
        assert [item.source for item in await asking.open(source="other", kind=GAP)] == ["other"]
        assert await asking.open(kind=SILENT) == []
        assert (await refusal(asking.page(pb.ListFindingsRequest(kind=99))))[2] == ["kind"]  # type: ignore[arg-type]
