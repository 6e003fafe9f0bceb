"""What the reconciliation compares, as PostgreSQL has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from libs.periods import Period
from services.billing.domain.charge import Charge, PeriodKey
from services.billing.store.charges import PostgresCharges
from services.billing.usecases.reconciliation_ports import FrozenLine, InvoiceSum, Numbers

_MISSING_SHOWN = 100
_PREFETCH = 1_000
_ALWAYS = Period(datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))

_FROZEN_LINES = """
WITH chosen AS (
    SELECT tenant_id, invoice_id, invoice_number, currency FROM invoices
    WHERE tenant_id = $1 AND state <> 'draft' AND period_start >= $2 AND period_start < $3
),
line AS (
    SELECT tenant_id, invoice_id, price_id, quantity, exact_amount, amount_minor, charge_version
    FROM invoice_lines JOIN chosen USING (tenant_id, invoice_id)
),
frozen AS (
    SELECT tenant_id, invoice_id, price_id, quantity, amount, version, rounding_mode
    FROM frozen_charges JOIN chosen USING (tenant_id, invoice_id)
)
SELECT 'invoice ' || c.invoice_number || ', price ' || price_id AS subject, c.currency,
    l.quantity, l.exact_amount, l.amount_minor, l.charge_version AS version,
    f.quantity AS frozen_quantity, f.amount AS frozen_amount, f.version AS frozen_version, f.rounding_mode
FROM line l FULL JOIN frozen f USING (tenant_id, invoice_id, price_id) JOIN chosen c USING (tenant_id, invoice_id)
ORDER BY invoice_id, price_id
"""
_INVOICE_SUMS = """
SELECT i.invoice_number, i.total_minor, coalesce(sum(l.amount_minor), 0)::bigint AS lines_minor
FROM invoices i LEFT JOIN invoice_lines l USING (tenant_id, invoice_id)
WHERE i.tenant_id = $1 AND i.state <> 'draft' AND i.period_start >= $2 AND i.period_start < $3
GROUP BY i.invoice_id, i.invoice_number, i.total_minor ORDER BY i.invoice_id
"""
_NUMBERS = """
SELECT coalesce((SELECT last_value FROM invoice_numbers WHERE tenant_id = $1), 0) AS last_value,
    (SELECT count(*) FROM invoices WHERE tenant_id = $1 AND number_value IS NOT NULL) AS count
"""
_MISSING = """
SELECT value FROM generate_series(1, $2::bigint) AS value
WHERE NOT EXISTS (SELECT FROM invoices WHERE tenant_id = $1 AND number_value = value)
ORDER BY value LIMIT $3
"""
_PERIODS = """
SELECT subscription_id, period_start FROM billing_periods
WHERE tenant_id = $1 AND period_start >= $2 AND period_start < $3 AND (subscription_id, period_start) > ($4, $5)
ORDER BY subscription_id, period_start LIMIT $6
"""


class PostgresReconciliation:
    """Reads one tenant's rows."""

    def __init__(self, connection: AsyncConnection, tenant_id: str, charges: PostgresCharges) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._charges = charges

    async def frozen_lines(self, within: Period | None) -> AsyncIterator[FrozenLine]:
        async for row in self._rows(_FROZEN_LINES, within):
            yield FrozenLine(**row)

    async def invoice_sums(self, within: Period | None) -> AsyncIterator[InvoiceSum]:
        async for row in self._rows(_INVOICE_SUMS, within):
            yield InvoiceSum(**row)

    async def numbers(self) -> Numbers:
        driver = await raw(self._connection)
        row = await driver.fetchrow(_NUMBERS, self._tenant_id)
        missing: list[int] = []
        if row["count"] != row["last_value"]:
            found = await driver.fetch(_MISSING, self._tenant_id, row["last_value"], _MISSING_SHOWN)
            missing = [item["value"] for item in found]
        return Numbers(row["last_value"], row["count"], tuple(missing))

    async def charges(
        self, within: Period | None, after: PeriodKey | None, limit: int
    ) -> dict[PeriodKey, list[Charge]]:
        chosen, start = within or _ALWAYS, after or PeriodKey("", _ALWAYS.start)
        driver = await raw(self._connection)
        rows = await driver.fetch(_PERIODS, self._tenant_id, chosen.start, chosen.end, *start, limit)
        keys = [PeriodKey(row["subscription_id"], row["period_start"]) for row in rows]
        found = await self._charges.of(keys)
        return {key: found.get(key, []) for key in keys}

    async def _rows(self, statement: str, within: Period | None) -> AsyncIterator[dict[str, Any]]:
        chosen = within or _ALWAYS
        driver = await raw(self._connection)
        # A cursor: a tenant may have more invoices than fit into memory.
        async for row in driver.cursor(statement, self._tenant_id, chosen.start, chosen.end, prefetch=_PREFETCH):
            yield dict(row)
