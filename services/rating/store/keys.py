"""How set-wise statements look up many billing periods: keys as columns, each found by its index.

The look-ups are `KEYS CROSS JOIN LATERAL (SELECT ... WHERE ... OFFSET 0)` and not joins, because a join leaves it to
PostgreSQL which side it reads from end to end. It decides by statistics that date from when a queue or a new table was
empty, or (after five executions) for arrays of ten elements, and then takes seconds instead of milliseconds. OFFSET 0,
or a lock inside, keeps it from turning the look-up into a join again. Rows are found, and locked, in the order of the
keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from services.rating.domain.billing_period import PeriodKey

KEYS = "unnest($1::text[], $2::text[], $3::timestamptz[]) AS k(tenant_id, subscription_id, period_start)"
OF_KEY = "tenant_id = k.tenant_id AND subscription_id = k.subscription_id AND period_start = k.period_start"


def key_columns(keys: Iterable[PeriodKey]) -> tuple[list[str], list[str], list[datetime]]:
    """Return the keys, each once and in the order in which rows are locked, as three columns."""
    ordered = sorted(set(keys))
    return (
        [key.tenant_id for key in ordered],
        [key.subscription_id for key in ordered],
        [key.period_start for key in ordered],
    )
