"""Numbered batches, and the search for missing usage at chosen times."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from libs.database import Database, raw
from services.ingest.domain.findings import (
    Finding,
    FindingKind,
    Manifest,
    ManifestLine,
    SourceExpectation,
)
from services.ingest.store.findings import PostgresFindingStore
from services.ingest.store.manifests import PostgresManifestStore
from services.ingest.store.missing_usage import PostgresMissingUsage
from services.ingest.store.missing_usage_holds import missing_usage_holds
from services.ingest.store.sources import PostgresSourceStore
from services.ingest.usecases.find_missing_usage import FindMissingUsage
from services.ingest.usecases.missing_usage_requests import (
    FindingSelection,
    ManifestRequest,
    MutationId,
    ResolutionRequest,
)
from services.ingest.usecases.ports import QueuedBatch
from tests.component.ingest.builders import NOON, Event, a_batch

LATER = NOON + timedelta(minutes=10)
"""When gaps of noon have outlasted the default allowance."""
ALL = FindingSelection("", None, True)


def numbered(
    batch_number: int,
    numbers: Sequence[int],
    *,
    epoch: str = "life-1",
    source: str = "gateway",
    tenant: str = "acme",
    at: datetime = NOON,
) -> QueuedBatch:
    """A batch of an event per number, whose ids say the number."""
    events = [Event(f"{source}-{epoch}-{number}", source=source) for number in numbers]
    queued = a_batch(batch_number, *events, tenant=tenant, received_at=at)
    columns = replace(queued.batch.events, sequences=list(numbers), sequence_epochs=[epoch] * len(numbers))
    return replace(queued, batch=replace(queued.batch, events=columns))


def mutation(tenant: str = "acme", request_id: str = "") -> MutationId:
    return MutationId(tenant, request_id or str(uuid.uuid4()), b"meaning")


class Search:
    """The standing search, looked at by hand."""

    def __init__(self, worker: Database, api: Database) -> None:
        self.worker = worker
        self.findings = PostgresFindingStore(api)
        self.manifests = PostgresManifestStore(api)
        self.sources = PostgresSourceStore(api)
        self._store = PostgresMissingUsage(worker)

    async def look(
        self,
        at: datetime = LATER,
        test_times: Mapping[str, datetime] | None = None,
        watermark: datetime | None = None,
    ) -> None:
        """Look once; the watermark is without delay unless told."""
        await self.pass_watermark(watermark or at)
        await FindMissingUsage(self._store, lambda: at, lambda: test_times or {})()

    async def open(self, tenant: str = "acme") -> list[Finding]:
        return list(await self.findings.list(tenant, FindingSelection("", None, False), None, 100))

    async def all(self, tenant: str = "acme") -> list[Finding]:
        return list(await self.findings.list(tenant, ALL, None, 100))

    async def expect(
        self,
        source: str = "",
        *,
        heartbeat: timedelta | None = None,
        learns: bool = False,
        allowance: timedelta = timedelta(0),
        holding: Iterable[FindingKind] = (),
        at: datetime = NOON,
        tenant: str = "acme",
    ) -> None:
        expectation = SourceExpectation(source, heartbeat, learns, allowance, frozenset(holding))
        await self.sources.expect(mutation(tenant), expectation, at, at)

    async def submit(self, *lines: ManifestLine, at: datetime = NOON, source: str = "gateway") -> Manifest:
        """For the hour before noon and the hour after it."""
        hour = timedelta(hours=1)
        return await self.manifests.submit(mutation(), ManifestRequest(source, NOON - hour, NOON + hour, lines), at)

    async def resolve(self, finding: Finding, at: datetime = LATER) -> Finding:
        return await self.findings.resolve(mutation(), ResolutionRequest(finding.finding_id, "lost", "ann"), at)

    async def pass_watermark(self, at: datetime) -> None:
        async with self.worker.queue_transaction() as connection:
            await (await raw(connection)).execute(
                "INSERT INTO watermark_floor (stream_epoch, stream_seq, marked_at) VALUES ($1, 1, $1)"
                " ON CONFLICT (only_row) DO UPDATE SET marked_at = excluded.marked_at",
                at,
            )

    async def held(self, at: datetime = LATER) -> list[str]:
        """Whom the next watermark names."""
        async with self.worker.queue_transaction() as connection:
            return [hold.tenant_id for hold in await missing_usage_holds(await raw(connection), at)]
