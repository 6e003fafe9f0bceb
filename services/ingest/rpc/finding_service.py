"""FindingService."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.message import Message

from libs.clock import Clock
from libs.errors import InvalidInput
from libs.rpc import current_tenant, fitting, next_page_token, page_cursor, page_size
from services.ingest.rpc.requests import Context, check_storable, cursor_instant, required_time
from services.ingest.usecases.missing_usage_ports import FindingStore, ManifestStore, SourceStore
from services.ingest.usecases.missing_usage_requests import (
    FindingSelection,
    ManifestRequest,
    MutationId,
    ResolutionRequest,
    check_expectation,
)
from services.ingest.wire.findings import (
    KINDS,
    expectation_from_pb,
    expectation_to_pb,
    finding_to_pb,
    line_from_pb,
    manifest_to_pb,
    source_to_pb,
)
from steelyard.ingest.v1 import finding_service_pb2 as pb
from steelyard.ingest.v1 import finding_service_pb2_grpc


@dataclass(frozen=True, slots=True)
class MissingUsageStores:
    """What the service stands on; `tenant_now` tells the time of a tenant."""

    findings: FindingStore
    manifests: ManifestStore
    sources: SourceStore
    tenant_now: Callable[[str], datetime]


class FindingServicer(finding_service_pb2_grpc.FindingServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, stores: MissingUsageStores, clock: Clock) -> None:
        self._stores = stores
        self._clock = clock

    async def ListFindings(self, request: pb.ListFindingsRequest, context: Context) -> pb.ListFindingsResponse:
        check_storable(source=request.source)
        if request.kind and request.kind not in KINDS:
            raise InvalidInput.of("kind", "UNKNOWN", "is not a kind of finding")
        size, cursor = page_size(request), page_cursor(request, 2)
        selection = FindingSelection(request.source, KINDS.get(request.kind), request.include_resolved)
        found = await self._stores.findings.list(current_tenant(), selection, _before(cursor), size + 1)
        page = fitting([finding_to_pb(finding) for finding in found[:size]])
        token = ""
        if len(found) > len(page):
            last = found[len(page) - 1]
            token = next_page_token(request, [last.opened_at.isoformat(), last.finding_id])
        return pb.ListFindingsResponse(findings=page, next_page_token=token)

    async def ResolveFinding(self, request: pb.ResolveFindingRequest, context: Context) -> pb.ResolveFindingResponse:
        wanted = ResolutionRequest(request.finding_id, request.reason, request.actor)
        meaning = pb.ResolveFindingRequest(finding_id=request.finding_id, reason=request.reason, actor=request.actor)
        mutation = _mutation(request.request_id, meaning)
        wanted.check(mutation)
        finding = await self._stores.findings.resolve(mutation, wanted, self._clock())
        return pb.ResolveFindingResponse(finding=finding_to_pb(finding))

    async def SubmitManifest(self, request: pb.SubmitManifestRequest, context: Context) -> pb.SubmitManifestResponse:
        manifest = request.manifest
        wanted = ManifestRequest(
            source=manifest.source,
            start=required_time(manifest.start_time, manifest.HasField("start_time"), "manifest.start_time"),
            end=required_time(manifest.end_time, manifest.HasField("end_time"), "manifest.end_time"),
            lines=[line_from_pb(line, f"manifest.lines[{index}]") for index, line in enumerate(manifest.lines)],
        )
        said = pb.Manifest(
            source=manifest.source, start_time=manifest.start_time, end_time=manifest.end_time, lines=manifest.lines
        )
        mutation = _mutation(request.request_id, said)
        wanted.check(mutation, self._stores.tenant_now(current_tenant()))
        stored = await self._stores.manifests.submit(mutation, wanted, self._clock())
        return pb.SubmitManifestResponse(manifest=manifest_to_pb(stored))

    async def ListManifests(self, request: pb.ListManifestsRequest, context: Context) -> pb.ListManifestsResponse:
        size, cursor = page_size(request), page_cursor(request, 2)
        found = await self._stores.manifests.list(current_tenant(), _before(cursor), size + 1)
        page = fitting([manifest_to_pb(manifest) for manifest in found[:size]])
        token = ""
        if len(found) > len(page):
            last = found[len(page) - 1]
            token = next_page_token(request, [last.submitted_at.isoformat(), last.manifest_id])
        return pb.ListManifestsResponse(manifests=page, next_page_token=token)

    async def SetSourceExpectation(
        self, request: pb.SetSourceExpectationRequest, context: Context
    ) -> pb.SetSourceExpectationResponse:
        expectation = expectation_from_pb(request.expectation)
        mutation = _mutation(request.request_id, request.expectation)
        check_expectation(mutation, expectation)
        tenant_now = self._stores.tenant_now(mutation.tenant_id)
        stored = await self._stores.sources.expect(mutation, expectation, tenant_now, self._clock())
        return pb.SetSourceExpectationResponse(expectation=expectation_to_pb(stored))

    async def ListSources(self, request: pb.ListSourcesRequest, context: Context) -> pb.ListSourcesResponse:
        size, cursor = page_size(request), page_cursor(request, 1)
        found = await self._stores.sources.list(current_tenant(), cursor[0] if cursor else None, size + 1)
        page = fitting([source_to_pb(source) for source in found[:size]])
        more = len(found) > len(page)
        token = next_page_token(request, [found[len(page) - 1].source]) if more else ""
        return pb.ListSourcesResponse(sources=page, next_page_token=token)


def _mutation(request_id: str, meaning: Message) -> MutationId:
    """`meaning` is all that was asked except the id of the request."""
    fingerprint = hashlib.blake2b(meaning.SerializeToString(deterministic=True), digest_size=16).digest()
    return MutationId(current_tenant(), request_id, fingerprint)


def _before(cursor: tuple[str, ...] | None) -> tuple[datetime, str] | None:
    return None if cursor is None else (cursor_instant(cursor[0]), cursor[1])
