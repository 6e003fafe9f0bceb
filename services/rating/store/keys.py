"""Keys of billing periods as parallel columns, the way they are passed to set-wise statements."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from services.rating.domain.billing_period import PeriodKey


def key_columns(keys: Iterable[PeriodKey]) -> tuple[list[str], list[str], list[datetime]]:
    """Return the keys, each once and in the order in which rows are locked, as three columns."""
    ordered = sorted(set(keys))
    return (
        [key.tenant_id for key in ordered],
        [key.subscription_id for key in ordered],
        [key.period_start for key in ordered],
    )
