"""List what holds invoices, and resolve it on record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from libs.clock import Clock
from libs.errors import FailedPrecondition, InvalidInput, NotFound, Violation
from libs.ids import check_request_id, check_text
from services.ingest.domain.holds import HoldKey, HoldResolution, OpenHold

_MAX_REASON = 500
_MAX_ACTOR = 100


class HoldNotFound(NotFound):
    reason = "HOLD_NOT_FOUND"


class HoldResolved(FailedPrecondition):
    """Somebody has decided about this hold, under another request id."""

    reason = "HOLD_RESOLVED"


@dataclass(frozen=True, slots=True)
class ResolveHoldRequest:
    """A decision as a caller sent it; `fingerprint` is a digest of the request without its id."""

    request_id: str
    fingerprint: bytes
    hold_id: str
    reason: str
    actor: str


class HoldStore(Protocol):
    async def open(self, tenant_id: str, after: HoldKey | None, limit: int) -> list[OpenHold]:
        """Return open holds in the order of their keys; `tenant_id`: of this one and of everybody, empty: of all."""

    async def resolve(self, key: HoldKey, request: ResolveHoldRequest, now: datetime) -> HoldResolution:
        """End the hold and keep the decision, once per request id; return it as stored.

        :raises HoldNotFound, HoldResolved, RequestIdReused: and nothing is changed
        """

    async def resolutions(self, tenant_id: str, after: str, limit: int) -> list[HoldResolution]:
        """Return decisions about one tenant's holds by hold id, those behind `after`."""


class ResolveHold:
    """Writes down who has lifted a hold and why; nothing checks whether they are right."""

    def __init__(self, holds: HoldStore, clock: Clock) -> None:
        self._holds = holds
        self._clock = clock

    async def __call__(self, request: ResolveHoldRequest) -> HoldResolution:
        """
        :raises InvalidInput: naming everything that is wrong
        :raises HoldNotFound, HoldResolved, RequestIdReused: and nothing is changed
        """
        found = [
            check_request_id(request.request_id),
            check_text(request.reason, "reason", _MAX_REASON),
            check_text(request.actor, "actor", _MAX_ACTOR),
        ]
        key = HoldKey.parse(request.hold_id)
        if key is None or check_text(request.hold_id, "hold_id", len(request.hold_id)):
            found.append(Violation("hold_id", "INVALID_HOLD_ID", "must be an id from ListHolds"))
        violations = [item for item in found if item]
        if violations or key is None:
            raise InvalidInput(violations)
        return await self._holds.resolve(key, request, self._clock())
