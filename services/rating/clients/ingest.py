"""Ingest's windows and meters over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from decimal import Decimal

import grpc

from libs.errors import Unavailable
from libs.rpc import as_tenant, typed_errors
from services.rating.domain.exact_usage import ExactUsage, QuantityScope
from services.rating.domain.usage import MeterFacts, UsageDigest, UsageScope, WindowBatch
from services.rating.wire.times import instant_to_pb
from services.rating.wire.usage import quantity_from_pb, window_from_pb
from steelyard.ingest.v1 import (
    meter_service_pb2,
    meter_service_pb2_grpc,
    usage_window_service_pb2,
    usage_window_service_pb2_grpc,
)

_METERS_PER_PAGE = 1_000


class GrpcIngestWindows:
    """Asks ingest's query role. The channel has the internal key; each call names its tenant."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = usage_window_service_pb2_grpc.UsageWindowServiceStub(channel)

    async def windows(self, tenant_id: str, scopes: Sequence[UsageScope]) -> AsyncIterator[WindowBatch]:
        """Yield the current windows of 1 to 500 scopes, up to 5,000 at a time.

        :raises ServiceError: if ingest does not answer
        """
        request = usage_window_service_pb2.ListUsageWindowsRequest(scopes=[_scope_to_pb(scope) for scope in scopes])
        while True:
            with typed_errors():
                page = await self._stub.ListUsageWindows(request, metadata=as_tenant(tenant_id))
            yield WindowBatch(window_from_pb(tenant_id, window) for window in page.windows)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def digests(self, tenant_id: str, scopes: Sequence[UsageScope]) -> list[dict[str, UsageDigest]]:
        """Return what the windows of 1 to 500 scopes add up to, by meter.

        :raises ServiceError: if ingest does not answer
        """
        request = usage_window_service_pb2.GetUsageDigestsRequest(scopes=[_scope_to_pb(scope) for scope in scopes])
        with typed_errors():
            response = await self._stub.GetUsageDigests(request, metadata=as_tenant(tenant_id))
        found: list[dict[str, UsageDigest]] = [{} for _ in scopes]
        for digest in response.digests:
            found[digest.scope_index][digest.meter_id] = UsageDigest(
                digest.window_count, Decimal(digest.value_sum), digest.event_count, digest.highest_version
            )
        return found

    async def quantities(
        self, tenant_id: str, scopes: Sequence[QuantityScope], known_at: datetime | None = None
    ) -> list[ExactUsage]:
        """Return the exact quantities of 1 to 500 scopes; that of nothing is zero. `known_at`: as they were known then.

        :raises ServiceError: if ingest does not answer
        """
        request = usage_window_service_pb2.GetUsageQuantitiesRequest(
            scopes=map(_quantity_scope_to_pb, scopes),
            known_at=None if known_at is None else instant_to_pb(known_at),
        )
        with typed_errors():
            response = await self._stub.GetUsageQuantities(request, metadata=as_tenant(tenant_id))
        found = [quantity_from_pb(quantity) for quantity in response.quantities]
        if len(found) != len(scopes):
            raise Unavailable(f"ingest answered {len(found)} of {len(scopes)} quantities")
        return found


class GrpcIngestMeters:
    """Asks ingest about meters."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = meter_service_pb2_grpc.MeterServiceStub(channel)

    async def facts(self, tenant_id: str, meter_ids: Collection[str]) -> dict[str, MeterFacts]:
        """Return what prices have to know of those meters that exist, archived ones too.

        :raises ServiceError: if ingest does not answer
        """
        missing, found = set(meter_ids), dict[str, MeterFacts]()
        request = meter_service_pb2.ListMetersRequest(page_size=_METERS_PER_PAGE)
        while missing:
            with typed_errors():
                page = await self._stub.ListMeters(request, metadata=as_tenant(tenant_id))
            for meter in page.meters:
                if meter.meter_id in missing:
                    additive = meter.additive or not meter.HasField("additive")
                    found[meter.meter_id] = MeterFacts(
                        additive, frozenset(meter.group_by), meter.HasField("archive_time")
                    )
            missing -= found.keys()
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        return found


def _quantity_scope_to_pb(scope: QuantityScope) -> usage_window_service_pb2.QuantityScope:
    return usage_window_service_pb2.QuantityScope(
        customer_id=scope.customer_id,
        meter_id=scope.meter_id,
        start_time=instant_to_pb(scope.period.start),
        end_time=instant_to_pb(scope.period.end),
        time_zone=scope.time_zone,
    )


def _scope_to_pb(scope: UsageScope) -> usage_window_service_pb2.UsageScope:
    return usage_window_service_pb2.UsageScope(
        customer_id=scope.customer_id,
        start_time=instant_to_pb(scope.period.start),
        end_time=instant_to_pb(scope.period.end),
    )
