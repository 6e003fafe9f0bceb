"""A rate card version as it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.rating.domain.rate_card import RateCard


@dataclass(frozen=True, slots=True)
class StoredRateCard:
    """A version, when it was stored (real time), and why in spite of its guard, if so; since when and why its card is
    archived, if it is."""

    card: RateCard
    created_at: datetime
    override_reason: str = ""
    archived_at: datetime | None = None
    archive_reason: str = ""
