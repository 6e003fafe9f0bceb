"""MeterService as it runs: versions and archiving from the call to the acceptors."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from libs.rpc import service_error_from
from steelyard.ingest.v1 import ingest_service_pb2 as ingest_pb
from steelyard.ingest.v1 import meter_pb2, meter_service_pb2, meter_service_pb2_grpc
from tests.component.ingest.running import RunningIngest, Tenant, an_event, running_ingest, until

METER = meter_pb2.Meter(
    meter_id="tokens", event_type="llm.request", aggregation=meter_pb2.AGGREGATION_SUM, expression="tokens"
)
RECORDED, REJECTED = ingest_pb.EVENT_VERDICT_RECORDED, ingest_pb.EVENT_VERDICT_REJECTED


@pytest.fixture(scope="module")
async def ingest(server_root: Path) -> AsyncIterator[RunningIngest]:
    async with running_ingest(server_root / "meter-service") as running:
        yield running


class Meters:
    """Calls of one tenant."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self._stub = meter_service_pb2_grpc.MeterServiceStub(tenant.ingest.channels["query"])

    async def update(self, meter: meter_pb2.Meter, expected: int = 0, request_id: str = "") -> meter_pb2.Meter:
        request = meter_service_pb2.UpdateMeterRequest(
            request_id=request_id or str(uuid.uuid4()), meter=meter, expected_version=expected
        )
        return (await self._stub.UpdateMeter(request, metadata=self.tenant.key, timeout=20)).meter

    async def archive(self, meter_id: str, request_id: str = "") -> meter_pb2.Meter:
        request = meter_service_pb2.ArchiveMeterRequest(request_id=request_id or str(uuid.uuid4()), meter_id=meter_id)
        return (await self._stub.ArchiveMeter(request, metadata=self.tenant.key, timeout=20)).meter

    async def versions(self, meter_id: str, size: int = 0, token: str = "") -> tuple[list[int], str]:
        request = meter_service_pb2.ListMeterVersionsRequest(meter_id=meter_id, page_size=size, page_token=token)
        page = await self._stub.ListMeterVersions(request, metadata=self.tenant.key, timeout=20)
        return [item.version for item in page.versions], page.next_page_token


async def refusal(call: object) -> tuple[str, str]:
    """Code and reason."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call  # type: ignore[misc]
    error = service_error_from(refused.value)
    return refused.value.code().name, error.reason if error else ""


def renamed(name: str, **fields: str) -> meter_pb2.Meter:
    meter = meter_pb2.Meter(display_name=name, **fields)  # type: ignore[arg-type]
    meter.MergeFrom(METER)
    return meter


class TestVersions:
    async def test_are_made_listed_in_pages_and_repeatable(self, ingest: RunningIngest) -> None:
        meters = Meters(await ingest.tenant("versions"))
        created = await meters.tenant.create_meter(METER)
        assert (created.version, created.HasField("archive_time")) == (1, False)

        request_id = str(uuid.uuid4())
        second = await meters.update(renamed("Second"), expected=1, request_id=request_id)
        third = await meters.update(renamed("Third", description="Why."))

        assert (second.version, second.display_name, third.version, third.description) == (2, "Second", 3, "Why.")
        assert await meters.update(renamed("Second"), expected=1, request_id=request_id) == second
        first_page, token = await meters.versions("tokens", 2)
        assert (first_page, (await meters.versions("tokens", 2, token))) == ([3, 2], ([1], ""))

    async def test_refusals_are_typed(self, ingest: RunningIngest) -> None:
        meters = Meters(await ingest.tenant("refusals"))
        await meters.tenant.create_meter(METER)
        other = renamed("Other")
        other.expression = "tokens + 1"

        assert await refusal(meters.update(other)) == ("FAILED_PRECONDITION", "METER_DEFINITION_FIXED")
        assert await refusal(meters.update(renamed("x"), expected=7)) == ("ABORTED", "METER_VERSION_CHANGED")
        assert await refusal(meters.update(renamed("x"), expected=-1)) == ("INVALID_ARGUMENT", "INVALID_INPUT")
        assert await refusal(meters.update(renamed(" x"))) == ("INVALID_ARGUMENT", "INVALID_INPUT")
        assert await refusal(meters.update(renamed("x"), request_id="1")) == ("INVALID_ARGUMENT", "INVALID_INPUT")
        assert await refusal(meters.archive("other")) == ("NOT_FOUND", "METER_NOT_FOUND")
        assert await refusal(meters.versions("other")) == ("NOT_FOUND", "METER_NOT_FOUND")
        assert await refusal(meters.versions("tokens", token="x")) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
        await meters.archive("tokens")
        assert await refusal(meters.archive("tokens")) == ("FAILED_PRECONDITION", "METER_ARCHIVED")


class TestArchiving:
    async def test_reaches_acceptors_and_recorders_and_survives_their_restart(self, ingest: RunningIngest) -> None:
        meters = Meters(await ingest.tenant("archiving"))
        tenant = meters.tenant
        await tenant.create_meter(METER)
        unmeasurable = an_event("unmeasurable", tokens="many")

        async def refused() -> bool:
            return list((await tenant.send(unmeasurable)).verdicts) == [REJECTED]

        await until(refused)
        assert list((await tenant.send(an_event("before", tokens="5"))).verdicts) == [RECORDED]

        await meters.archive("tokens")

        async def recorded() -> bool:
            return list((await tenant.send(unmeasurable)).verdicts) == [RECORDED]

        await until(recorded)
        ingest.kill("accept")
        await ingest.start("accept")
        await until(tenant.is_known)
        again = an_event("again", tokens="many")
        assert list((await tenant.send(again)).verdicts) == [RECORDED]
        assert await tenant.failed_checks() == []
