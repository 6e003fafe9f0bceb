"""What the service of findings stands on. Each call is a transaction of one tenant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.ingest.domain.findings import Finding, Manifest, Source, SourceExpectation
from services.ingest.usecases.missing_usage_requests import (
    FindingSelection,
    ManifestRequest,
    MutationId,
    ResolutionRequest,
)


class FindingStore(Protocol):
    async def list(
        self, tenant_id: str, selection: FindingSelection, before: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Finding]:
        """Return findings, the newest first, those behind (opened_at, finding id)."""

    async def resolve(self, mutation: MutationId, request: ResolutionRequest, now: datetime) -> Finding:
        """End an open finding, once per request id.

        :raises FindingNotFound, FindingAlreadyResolved, RequestIdReused: and nothing is stored
        """


class ManifestStore(Protocol):
    async def list(self, tenant_id: str, before: tuple[datetime, str] | None, limit: int) -> Sequence[Manifest]:
        """Return manifests, the newest first, those behind (submitted_at, manifest id)."""

    async def submit(self, mutation: MutationId, request: ManifestRequest, now: datetime) -> Manifest:
        """Store a manifest in place of those of the same source and period, once per request id.

        :raises MeterNotFound, InvalidInput, RequestIdReused: and nothing is stored
        """


class SourceStore(Protocol):
    async def list(self, tenant_id: str, after: str | None, limit: int) -> Sequence[Source]:
        """Return sources by name, those behind `after`."""

    async def expect(
        self, mutation: MutationId, expectation: SourceExpectation, tenant_now: datetime, now: datetime
    ) -> SourceExpectation:
        """Store what is expected in place of what was, once per request id.

        :raises RequestIdReused: and nothing is stored
        """
