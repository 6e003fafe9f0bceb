"""Ingest's query role as a gRPC server, answering from tests' data."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TypeAlias

import grpc
from google.protobuf import timestamp_pb2
from google.protobuf.message import Message

from libs.money import plain
from libs.periods import Period
from libs.rpc.auth import TENANT_HEADER
from services.rating.domain.exact_usage import QuantityScope
from services.rating.domain.usage import UsageScope, WindowRow
from steelyard.ingest.v1 import (
    measuring_service_pb2,
    meter_pb2,
    meter_service_pb2,
    usage_event_pb2,
    usage_window_pb2,
    usage_window_service_pb2,
)
from steelyard.ingest.v1.measuring_service_pb2_grpc import (
    MeasuringServiceServicer,
    add_MeasuringServiceServicer_to_server,
)
from steelyard.ingest.v1.meter_service_pb2_grpc import MeterServiceServicer, add_MeterServiceServicer_to_server
from steelyard.ingest.v1.usage_window_service_pb2_grpc import (
    UsageWindowServiceServicer,
    add_UsageWindowServiceServicer_to_server,
)
from tests.component.rating.support import FakeIngest

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]


def window_to_pb(row: WindowRow) -> usage_window_pb2.UsageWindow:
    message = usage_window_pb2.UsageWindow(
        meter_id=row.meter_id,
        customer_id=row.customer_id,
        dimensions=json.loads(row.dimensions),
        value=row.value,
        event_count=row.event_count,
        version=row.version,
        trace_parent=row.trace_parent,
    )
    message.start_time.FromSeconds(row.start_s)
    return message


class FakeIngestServer(UsageWindowServiceServicer, MeterServiceServicer, MeasuringServiceServicer):
    """Pages are tiny, so that paging is exercised."""

    def __init__(self, data: FakeIngest) -> None:
        self._data = data
        self._server = grpc.aio.server()
        add_UsageWindowServiceServicer_to_server(self, self._server)
        add_MeterServiceServicer_to_server(self, self._server)
        add_MeasuringServiceServicer_to_server(self, self._server)
        self.measurement = measuring_service_pb2.EventMeasurement()
        """The answer to any event,"""
        self.measured: list[tuple[str, usage_event_pb2.UsageEvent]] = []
        """and who asked about which."""
        self.authorizations: set[str] = set()

    async def start(self) -> str:
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return f"127.0.0.1:{port}"

    async def stop(self) -> None:
        await self._server.stop(None)

    async def ListUsageWindows(
        self, request: usage_window_service_pb2.ListUsageWindowsRequest, context: Context
    ) -> usage_window_service_pb2.ListUsageWindowsResponse:
        tenant = await self._tenant(context)
        rows = [row for scope in request.scopes for row in self._data.rows_in(tenant, _scope(scope))]
        first = int(request.page_token or 0)
        return usage_window_service_pb2.ListUsageWindowsResponse(
            windows=[window_to_pb(row) for row in rows[first : first + 2]],
            next_page_token=str(first + 2) if len(rows) > first + 2 else "",
        )

    async def GetUsageDigests(
        self, request: usage_window_service_pb2.GetUsageDigestsRequest, context: Context
    ) -> usage_window_service_pb2.GetUsageDigestsResponse:
        found = await self._data.digests(await self._tenant(context), [_scope(scope) for scope in request.scopes])
        digests = [
            usage_window_service_pb2.UsageDigest(
                scope_index=index,
                meter_id=meter_id,
                window_count=digest.window_count,
                value_sum=plain(digest.value),
                event_count=digest.event_count,
                highest_version=digest.highest_version,
            )
            for index, digests in enumerate(found)
            for meter_id, digest in digests.items()
        ]
        return usage_window_service_pb2.GetUsageDigestsResponse(digests=digests)

    async def GetUsageQuantities(
        self, request: usage_window_service_pb2.GetUsageQuantitiesRequest, context: Context
    ) -> usage_window_service_pb2.GetUsageQuantitiesResponse:
        tenant = await self._tenant(context)
        scopes = [
            QuantityScope(
                scope.customer_id,
                scope.meter_id,
                Period(scope.start_time.ToDatetime(tzinfo=UTC), scope.end_time.ToDatetime(tzinfo=UTC)),
                scope.time_zone,
            )
            for scope in request.scopes
        ]
        known_at = request.known_at.ToDatetime(tzinfo=UTC) if request.HasField("known_at") else None
        quantities = [
            usage_window_service_pb2.UsageQuantity(
                value=plain(exact.value), event_count=exact.event_count, highest_version=exact.highest_version
            )
            for exact in await self._data.quantities(tenant, scopes, known_at)
        ]
        return usage_window_service_pb2.GetUsageQuantitiesResponse(quantities=quantities)

    async def MeasureEvents(
        self, request: measuring_service_pb2.MeasureEventsRequest, context: Context
    ) -> measuring_service_pb2.MeasureEventsResponse:
        tenant = await self._tenant(context)
        self.measured += [(tenant, event) for event in request.events]
        return measuring_service_pb2.MeasureEventsResponse(results=[self.measurement])

    async def ListMeters(
        self, request: meter_service_pb2.ListMetersRequest, context: Context
    ) -> meter_service_pb2.ListMetersResponse:
        await self._tenant(context)
        meters, first = sorted(self._data.meters), int(request.page_token or 0)
        return meter_service_pb2.ListMetersResponse(
            meters=[
                meter_pb2.Meter(
                    meter_id=meter_id,
                    additive=meter_id not in self._data.not_additive,
                    group_by=sorted(self._data.dimensions),
                    archive_time=timestamp_pb2.Timestamp(seconds=1) if meter_id in self._data.archived else None,
                )
                for meter_id in meters[first : first + 1]
            ],
            next_page_token=str(first + 1) if len(meters) > first + 1 else "",
        )

    async def CreateMeter(
        self, request: meter_service_pb2.CreateMeterRequest, context: Context
    ) -> meter_service_pb2.CreateMeterResponse:
        raise NotImplementedError("rating does not call it")

    async def GetMeter(
        self, request: meter_service_pb2.GetMeterRequest, context: Context
    ) -> meter_service_pb2.GetMeterResponse:
        raise NotImplementedError("rating does not call it")

    async def UpdateMeter(
        self, request: meter_service_pb2.UpdateMeterRequest, context: Context
    ) -> meter_service_pb2.UpdateMeterResponse:
        raise NotImplementedError("rating does not call it")

    async def ArchiveMeter(
        self, request: meter_service_pb2.ArchiveMeterRequest, context: Context
    ) -> meter_service_pb2.ArchiveMeterResponse:
        raise NotImplementedError("rating does not call it")

    async def ListMeterVersions(
        self, request: meter_service_pb2.ListMeterVersionsRequest, context: Context
    ) -> meter_service_pb2.ListMeterVersionsResponse:
        raise NotImplementedError("rating does not call it")

    async def _tenant(self, context: Context) -> str:
        metadata = dict(context.invocation_metadata() or ())
        self.authorizations.add(str(metadata.get("authorization")))
        if self._data.down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        return str(metadata[TENANT_HEADER])


def _scope(scope: usage_window_service_pb2.UsageScope) -> UsageScope:
    start, end = scope.start_time.ToDatetime(tzinfo=UTC), scope.end_time.ToDatetime(tzinfo=UTC)
    return UsageScope(scope.customer_id, Period(start, end))
