"""What the standing check of fates has found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.ingest.usecases.audit_fates import FateDifference


@dataclass(frozen=True, slots=True)
class AuditProgress:
    """Hours of receipt before `next_hour` were checked, the last of them at `checked_at` or before."""

    next_hour: datetime
    checked_at: datetime


class FateDifferenceStore(Protocol):
    """Reads findings of one tenant."""

    async def list(
        self, tenant_id: str, include_resolved: bool, after: tuple[datetime, str, str] | None, limit: int
    ) -> list[FateDifference]:
        """By hour, equation and subject, those behind `after`."""

    async def progress(self, tenant_id: str) -> AuditProgress | None:
        """How far the check has come; None before it first looked."""
