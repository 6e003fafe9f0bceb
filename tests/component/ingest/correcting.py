"""Voids and replacements for tests of corrections, straight to the store."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from libs.database import Database
from libs.periods import Period
from services.ingest.domain.correction import CorrectionResult
from services.ingest.domain.door import DoorPolicy
from services.ingest.domain.event_key import EventKey
from services.ingest.store.corrections import PostgresCorrectionTransactions
from services.ingest.store.reconciliation import PostgresReconciliationStore
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.usecases.corrections import CorrectionRequest
from services.ingest.usecases.ports import AcceptanceRules
from services.ingest.usecases.reconcile import Reconcile
from services.ingest.usecases.replace_events import ReplaceEvents, Replacements
from services.ingest.usecases.void_events import VoidEvents
from tests.component.ingest.builders import NOON, Event, columns


def key(event_id: str) -> EventKey:
    return "gateway", event_id


class Rules:
    """TenantRules that are the same for every tenant."""

    def __init__(self, policy: DoorPolicy, tenant_now: datetime) -> None:
        self.policy = policy
        self.tenant_now = tenant_now

    def rules(self, tenant_id: str) -> AcceptanceRules:
        return AcceptanceRules(self.policy, (), self.tenant_now)


class Corrector:
    """A caller of the two use cases, for one tenant; what is not named is as in a request that is right."""

    def __init__(self, api: Database, worker: Database, tenant_id: str = "acme") -> None:
        transactions = PostgresCorrectionTransactions(api)
        self.api = api
        self.tenant_id = tenant_id
        self.now = NOON
        self.rules = Rules(DoorPolicy(), NOON)
        self._void = VoidEvents(transactions=transactions, clock=lambda: self.now, new_id=lambda: str(uuid.uuid4()))
        self._replace = ReplaceEvents(
            transactions=transactions,
            partitions=PostgresRecordingTransactions(worker),
            tenants=self.rules,
            clock=lambda: self.now,
            new_id=lambda: str(uuid.uuid4()),
        )

    async def void(
        self, *keys: EventKey, request_id: str = "", fingerprint: bytes = b"", reason: str = "sent by a test machine"
    ) -> list[CorrectionResult]:
        return await self._void(self._request("VoidEvents", request_id, fingerprint, reason), keys)

    async def replace(
        self,
        *pairs: tuple[EventKey, Event],
        request_id: str = "",
        fingerprint: bytes = b"",
        reason: str = "wrong unit",
    ) -> list[CorrectionResult]:
        wanted = Replacements.complete([original for original, _ in pairs], columns(*(event for _, event in pairs)))
        return await self._replace(self._request("ReplaceEvents", request_id, fingerprint, reason), wanted)

    async def failed_checks(self, period: Period | None = None) -> list[str]:
        """The equations of ingest that do not hold."""
        checks = await Reconcile(PostgresReconciliationStore(self.api))(self.tenant_id, period)
        return [check.name for check in checks if not check.holds]

    def _request(self, method: str, request_id: str, fingerprint: bytes, reason: str) -> CorrectionRequest:
        return CorrectionRequest(
            tenant_id=self.tenant_id,
            method=method,
            request_id=request_id or str(uuid.uuid4()),
            fingerprint=fingerprint,
            reason=reason,
            actor="ann@example.com",
            api_key_id="key-1",
        )


def outcomes(results: Sequence[CorrectionResult]) -> list[str]:
    """As `applied`, or as the reason of a refusal."""
    return [result.problem.reason if result.problem else str(result.outcome) for result in results]
