"""How set-wise statements look up many billing periods: keys as columns, each found by its index.

The look-ups are `KEYS CROSS JOIN LATERAL (SELECT ... WHERE ... OFFSET 0)` and not joins, because a join leaves it to
PostgreSQL which side it reads from end to end. It decides by statistics that date from when a queue or a new table was
empty, and then takes seconds instead of milliseconds. OFFSET 0, or a lock inside, keeps it from turning the look-up
into a join again. Rows are found, and locked, in the order of the keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from services.rating.domain.billing_period import PeriodKey

_COLUMNS = "unnest($1::text[], $2::text[], $3::timestamptz[])"
KEYS = f"{_COLUMNS} AS k(tenant_id, subscription_id, period_start)"
NUMBERED_KEYS = f"{_COLUMNS} WITH ORDINALITY AS k(tenant_id, subscription_id, period_start, number)"
OF_KEY = "tenant_id = k.tenant_id AND subscription_id = k.subscription_id AND period_start = k.period_start"

KeyColumns = tuple[list[str], list[str], list[datetime]]


def key_columns(keys: Iterable[PeriodKey]) -> KeyColumns:
    """Return the keys, each once and in the order in which rows are locked, as three columns."""
    return numbered_key_columns(sorted(set(keys)))


def numbered_key_columns(keys: Sequence[PeriodKey]) -> KeyColumns:
    """Return the keys as three columns, for answers that name a key by its number (the first is 1)."""
    return [key[0] for key in keys], [key[1] for key in keys], [key[2] for key in keys]
