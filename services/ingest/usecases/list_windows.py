"""Windows as a versioned snapshot, and digests of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from libs.periods import Period
from services.ingest.domain.usage_windows import UsageWindow

MAX_SCOPES = 500


@dataclass(frozen=True, slots=True)
class UsageScope:
    """A customer and a time whose edges are edges of windows."""

    customer_id: str
    period: Period


@dataclass(frozen=True, slots=True)
class UsageDigest:
    """What the windows of one scope and meter add up to."""

    scope_index: int
    meter_id: str
    window_count: int
    value_sum: Decimal
    event_count: int
    highest_version: int


class WindowStore(Protocol):
    async def windows(
        self, tenant_id: str, scopes: Sequence[UsageScope], after: tuple[int, bytes] | None, limit: int
    ) -> list[tuple[int, UsageWindow]]:
        """Return current windows with the index of their scope, ordered by it and by key, those behind `after`."""

    async def digests(self, tenant_id: str, scopes: Sequence[UsageScope]) -> list[UsageDigest]:
        """Return one entry per scope and meter that has windows."""
