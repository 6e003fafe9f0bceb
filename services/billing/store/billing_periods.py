"""Billing periods in PostgreSQL, and the queue of those that are not invoiced. Rows stay here."""

# ruff: noqa: S608 - what is put into SQL are names of tables and columns, never values.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from libs.ids import new_id
from libs.outbox import StateOutbox
from libs.periods import Period
from services.billing.domain.billing_period import BillingPeriod
from services.billing.domain.charge import PeriodKey
from services.billing.domain.invoice import Invoice, InvoiceKind
from services.billing.store.rows import LOCK_PERIODS, PERIOD_KEYS, Row, insert_rows, key_columns, recordset, to_json
from services.billing.store.tables import billing_period_marks, billing_periods, due_periods, subscriptions
from services.billing.usecases.store_ports import ClosingPeriod, NewPeriod, OpenPeriod

_COLUMNS = [column.name for column in billing_periods.c if column.name != "version"]
_ADD = f"""
INSERT INTO billing_periods ({", ".join(_COLUMNS)}) SELECT {", ".join(_COLUMNS)}
FROM {recordset(billing_periods, _COLUMNS)} ORDER BY subscription_id, period_start
RETURNING subscription_id, period_start, version
"""
_LAST = """
SELECT k.subscription_id, p.period_start, p.period_end
FROM unnest($2::text[]) AS k(subscription_id) CROSS JOIN LATERAL (
    SELECT b.period_start, b.period_end FROM billing_periods b
    WHERE b.tenant_id = $1 AND b.subscription_id = k.subscription_id
    ORDER BY b.period_start DESC LIMIT 1
) p
"""
# The last one that has begun: periods of a subscription follow each other without gap.
_CONTAINING = """
SELECT k.subscription_id, p.period_start, p.period_end, p.ordinal, p.rate_card_id
FROM unnest($2::text[]) AS k(subscription_id) CROSS JOIN LATERAL (
    SELECT b.period_start, b.period_end, b.ordinal, b.rate_card_id FROM billing_periods b
    WHERE b.tenant_id = $1 AND b.subscription_id = k.subscription_id AND b.period_start <= $3
    ORDER BY b.period_start DESC LIMIT 1
) p
WHERE p.period_end > $3
"""
_START_CLOSING = f"""
UPDATE due_periods d SET closing_at = $4, try_at = $4
FROM (
    SELECT q.subscription_id, q.period_start
    FROM due_periods q JOIN {PERIOD_KEYS} USING (subscription_id, period_start)
    WHERE q.tenant_id = $1 AND q.closing_at IS NULL
    ORDER BY q.subscription_id, q.period_start FOR UPDATE OF q SKIP LOCKED
) seen
WHERE d.tenant_id = $1 AND d.subscription_id = seen.subscription_id AND d.period_start = seen.period_start
RETURNING d.subscription_id, d.period_start
"""
_ADD_DRAFTS = f"""
INSERT INTO invoices (tenant_id, invoice_id, customer_id, subscription_id, period_start, period_end, kind, ordinal,
    currency, state, invoice_number, total_minor, payment_id, void_reason, trace_parent)
SELECT p.tenant_id, r.invoice_id, p.customer_id, p.subscription_id, p.period_start, p.period_end,
    '{InvoiceKind.PERIOD}', p.ordinal, s.currency, 'draft', '', 0, '', '', ''
FROM jsonb_to_recordset($2::jsonb) AS r(invoice_id text, subscription_id text, period_start timestamptz)
JOIN billing_periods p USING (subscription_id, period_start)
JOIN subscriptions s USING (tenant_id, subscription_id)
WHERE p.tenant_id = $1
ON CONFLICT DO NOTHING
"""
# A period that another worker has invoiced has no due row any more; one that another worker has claimed since, or
# that was voided and reopened, has another try_at.
_LOCK_CLOSING = f"""
SELECT p.subscription_id, p.period_start, p.period_end, p.customer_id, p.ordinal, i.invoice_id, i.currency,
    p.rate_card_id, p.whole_start, p.whole_end
FROM billing_periods p
JOIN {PERIOD_KEYS} USING (subscription_id, period_start)
JOIN due_periods d USING (tenant_id, subscription_id, period_start)
JOIN invoices i USING (tenant_id, subscription_id, period_start)
WHERE p.tenant_id = $1 AND NOT p.invoiced AND d.closing_at IS NOT NULL AND d.try_at = $4
    AND i.kind = '{InvoiceKind.PERIOD}' AND i.state = 'draft' AND i.ordinal = p.ordinal
ORDER BY p.subscription_id, p.period_start
FOR UPDATE OF p, d, i
"""
_INVOICED = f"""
UPDATE billing_periods p SET invoiced = true, problem = '' FROM {PERIOD_KEYS}
WHERE p.tenant_id = $1 AND p.subscription_id = k.subscription_id AND p.period_start = k.period_start
"""
_NOT_DUE = f"""
DELETE FROM due_periods d USING {PERIOD_KEYS}
WHERE d.tenant_id = $1 AND d.subscription_id = k.subscription_id AND d.period_start = k.period_start
"""
# Both only under the claim that the try was made with: after its end another worker may have issued the invoice.
_PROBLEMS = """
UPDATE billing_periods p SET problem = r.problem
FROM unnest($2::text[], $3::timestamptz[], $5::text[]) AS r(subscription_id, period_start, problem)
JOIN due_periods d USING (subscription_id, period_start)
WHERE p.tenant_id = $1 AND p.subscription_id = r.subscription_id AND p.period_start = r.period_start
    AND d.tenant_id = $1 AND d.try_at = $4
"""
_TRY_AT = f"""
UPDATE due_periods d SET try_at = $5 FROM {PERIOD_KEYS}
WHERE d.tenant_id = $1 AND d.subscription_id = k.subscription_id AND d.period_start = k.period_start
    AND d.try_at = $4
"""
# Only before anybody has seen the period due: its draft and the question to rating have the end as it was then.
_DUE_EARLIER = """
UPDATE due_periods SET due_at = $4
WHERE tenant_id = $1 AND subscription_id = $2 AND period_start = $3 AND closing_at IS NULL
"""
_CUT = """
UPDATE billing_periods SET period_end = $4, whole_start = coalesce(whole_start, period_start),
    whole_end = coalesce(whole_end, period_end), version = nextval('state_version')
WHERE tenant_id = $1 AND subscription_id = $2 AND period_start = $3
RETURNING subscription_id, period_start, version
"""
# Of the same cycle as the period that it was cut from, hence the same index.
_ADD_REST = """
INSERT INTO billing_periods (tenant_id, subscription_id, period_start, period_end, period_index, customer_id,
    rate_card_id, ordinal, invoiced, problem, whole_start, whole_end)
SELECT tenant_id, subscription_id, $4, $5, period_index, customer_id, rate_card_id, 1, false, '', whole_start, whole_end
FROM billing_periods WHERE tenant_id = $1 AND subscription_id = $2 AND period_start = $3
RETURNING subscription_id, period_start, version
"""
_ADD_DUE = """
INSERT INTO due_periods (tenant_id, subscription_id, period_start, due_at, try_at) VALUES ($1, $2, $3, $4, $3)
"""
_LOCK_SINCE = """
SELECT p.invoiced FROM billing_periods p
WHERE p.tenant_id = $1 AND p.subscription_id = $2 AND p.period_start >= $3 ORDER BY p.period_start FOR UPDATE
"""
# Periods behind an end have no due row.
_LOCK_DUE_SINCE = """
SELECT d.closing_at FROM due_periods d
WHERE d.tenant_id = $1 AND d.subscription_id = $2 AND d.period_start >= $3 ORDER BY d.period_start FOR UPDATE
"""
_CHANGE_CARD = """
UPDATE billing_periods SET rate_card_id = $4, version = nextval('state_version')
WHERE tenant_id = $1 AND subscription_id = $2 AND period_start >= $3
RETURNING subscription_id, period_start, version
"""
_NEW_VERSIONS = f"""
UPDATE billing_periods p SET version = nextval('state_version') FROM {PERIOD_KEYS}
WHERE p.tenant_id = $1 AND p.subscription_id = k.subscription_id AND p.period_start = k.period_start
RETURNING p.subscription_id, p.period_start, p.version
"""
_REOPEN = """
WITH period AS (
    UPDATE billing_periods SET invoiced = false, ordinal = ordinal + 1
    WHERE tenant_id = $1 AND subscription_id = $2 AND period_start = $3 RETURNING period_end
)
INSERT INTO due_periods (tenant_id, subscription_id, period_start, due_at, try_at)
SELECT $1, $2, $3, period_end, $4 FROM period
"""


class PostgresBillingPeriods:
    """The billing periods of a transaction's tenant."""

    def __init__(self, connection: AsyncConnection, tenant_id: str, real_now: datetime) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._real_now = real_now

    async def add(self, periods: Sequence[NewPeriod], grace: timedelta) -> None:
        if not periods:
            return
        rows = to_json([_row(self._tenant_id, item) for item in periods])
        added = await (await raw(self._connection)).fetch(_ADD, rows)
        due: list[Row] = [
            {
                "tenant_id": self._tenant_id,
                "subscription_id": item.subscription.subscription_id,
                "period_start": item.period.start,
                "due_at": item.period.end + grace,
                "try_at": item.period.start,
            }
            for item in periods
        ]
        await insert_rows(self._connection, due_periods, due)
        await self._mark(added)

    async def start_closing(self, keys: Sequence[PeriodKey], closing_at: datetime) -> int:
        connection = await raw(self._connection)
        seen = await connection.fetch(_START_CLOSING, self._tenant_id, *key_columns(keys), closing_at)
        drafts = [{**dict(row), "invoice_id": new_id("inv")} for row in seen]
        await connection.execute(_ADD_DRAFTS, self._tenant_id, to_json(drafts))
        return len(drafts)

    async def lock_closing(self, keys: Sequence[PeriodKey], claimed_until: datetime) -> list[ClosingPeriod]:
        connection = await raw(self._connection)
        rows = await connection.fetch(_LOCK_CLOSING, self._tenant_id, *key_columns(keys), claimed_until)
        closing = [_closing(row) for row in rows]
        # Numbers follow the order of the periods where several of a subscription are caught up.
        return sorted(closing, key=lambda item: (item.key.period_start, item.key.subscription_id))

    async def invoiced(self, keys: Sequence[PeriodKey]) -> None:
        connection = await raw(self._connection)
        await connection.execute(_INVOICED, self._tenant_id, *key_columns(keys))
        await connection.execute(_NOT_DUE, self._tenant_id, *key_columns(keys))

    async def lock(self, key: PeriodKey) -> None:
        await (await raw(self._connection)).execute(LOCK_PERIODS, self._tenant_id, *key_columns([key]))

    async def cut(self, key: PeriodKey, ends_at: datetime, grace: timedelta) -> bool:
        connection = await raw(self._connection)
        this = (self._tenant_id, key.subscription_id, key.period_start)
        await self.lock(key)
        if await connection.execute(_DUE_EARLIER, *this, ends_at + grace) != "UPDATE 1":
            return False
        await self._mark(await connection.fetch(_CUT, *this, ends_at))
        return True

    async def split(self, key: PeriodKey, rest: Period, grace: timedelta) -> bool:
        if not await self.cut(key, rest.start, grace):
            return False
        connection = await raw(self._connection)
        await connection.execute(_ADD_DUE, self._tenant_id, key.subscription_id, rest.start, rest.end + grace)
        added = await connection.fetch(
            _ADD_REST, self._tenant_id, key.subscription_id, key.period_start, rest.start, rest.end
        )
        await self._mark(added)
        return True

    async def change_card(self, subscription_id: str, since: datetime, rate_card_id: str) -> bool:
        connection = await raw(self._connection)
        these = (self._tenant_id, subscription_id, since)
        invoiced = [row["invoiced"] for row in await connection.fetch(_LOCK_SINCE, *these)]
        closing = [row["closing_at"] for row in await connection.fetch(_LOCK_DUE_SINCE, *these)]
        if any(invoiced) or any(closing):
            return False
        await self._mark(await connection.fetch(_CHANGE_CARD, *these, rate_card_id))
        return True

    async def publish(self, keys: Sequence[PeriodKey]) -> None:
        connection = await raw(self._connection)
        periods = (self._tenant_id, *key_columns(keys))
        await connection.execute(LOCK_PERIODS, *periods)
        await self._mark(await connection.fetch(_NEW_VERSIONS, *periods))

    async def reopen(self, key: PeriodKey, try_at: datetime) -> None:
        await (await raw(self._connection)).execute(
            _REOPEN, self._tenant_id, key.subscription_id, key.period_start, try_at
        )

    async def set_aside(self, reasons: Mapping[PeriodKey, str], claimed_until: datetime, try_at: datetime) -> None:
        connection = await raw(self._connection)
        claimed = (self._tenant_id, *key_columns(reasons))
        await connection.execute(LOCK_PERIODS, *claimed)
        await connection.execute(_PROBLEMS, *claimed, claimed_until, list(reasons.values()))
        await connection.execute(_TRY_AT, *claimed, claimed_until, try_at)

    async def last(self, subscription_ids: Sequence[str]) -> dict[str, Period]:
        rows = await (await raw(self._connection)).fetch(_LAST, self._tenant_id, subscription_ids)
        return {row["subscription_id"]: Period(row["period_start"], row["period_end"]) for row in rows}

    async def containing(self, subscription_ids: Sequence[str], at: datetime) -> dict[str, OpenPeriod]:
        rows = await (await raw(self._connection)).fetch(_CONTAINING, self._tenant_id, subscription_ids, at)
        return {
            row["subscription_id"]: OpenPeriod(
                Period(row["period_start"], row["period_end"]), row["ordinal"], row["rate_card_id"]
            )
            for row in rows
        }

    async def page(
        self, subscription_id: str, ending_after: datetime | None, after: PeriodKey | None, limit: int
    ) -> list[BillingPeriod]:
        table = billing_periods
        query = with_zones().where(table.c.tenant_id == self._tenant_id)
        if subscription_id:
            query = query.where(table.c.subscription_id == subscription_id)
        if ending_after is not None:
            query = query.where(table.c.period_end > ending_after)
        if after is not None:
            position = sa.tuple_(table.c.subscription_id, table.c.period_start)
            query = query.where(position > sa.tuple_(after.subscription_id, after.period_start))
        rows = await self._connection.execute(
            query.order_by(table.c.subscription_id, table.c.period_start).limit(limit)
        )
        return [billing_period_from_row(row) for row in rows]

    async def _mark(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Have the versions of periods published."""
        marks = [
            (self._tenant_id, str(PeriodKey(row["subscription_id"], row["period_start"])), row["version"])
            for row in rows
        ]
        await StateOutbox(self._connection, billing_period_marks).mark(marks, self._real_now)


def with_zones() -> sa.Select[tuple[object, ...]]:
    """A query of rows for `billing_period_from_row`."""
    same = sa.and_(
        subscriptions.c.tenant_id == billing_periods.c.tenant_id,
        subscriptions.c.subscription_id == billing_periods.c.subscription_id,
    )
    return sa.select(billing_periods, subscriptions.c.time_zone).join(subscriptions, same)


def billing_period_from_row(row: sa.Row[tuple[object, ...]]) -> BillingPeriod:
    """A row of `with_zones`, whatever further columns it has."""
    period = Period(row.period_start, row.period_end)
    whole = _whole(row.whole_start, row.whole_end)
    return BillingPeriod(
        row.subscription_id, row.customer_id, row.rate_card_id, period, row.version, row.time_zone, whole
    )


def _whole(start: datetime | None, end: datetime | None) -> Period | None:
    return None if start is None or end is None else Period(start, end)


def _row(tenant_id: str, new: NewPeriod) -> Row:
    subscription = new.subscription
    return {
        "tenant_id": tenant_id,
        "subscription_id": subscription.subscription_id,
        "period_start": new.period.start,
        "period_end": new.period.end,
        "period_index": new.index,
        "customer_id": subscription.customer_id,
        "rate_card_id": subscription.rate_card_id,
        "ordinal": 1,
        "invoiced": False,
        "problem": "",
        "whole_start": new.whole.start if new.whole else None,
        "whole_end": new.whole.end if new.whole else None,
    }


def _closing(row: Mapping[str, Any]) -> ClosingPeriod:
    draft = Invoice(
        invoice_id=row["invoice_id"],
        customer_id=row["customer_id"],
        subscription_id=row["subscription_id"],
        period=Period(row["period_start"], row["period_end"]),
        ordinal=row["ordinal"],
        currency=row["currency"],
    )
    return ClosingPeriod(
        PeriodKey(row["subscription_id"], row["period_start"]),
        draft,
        row["rate_card_id"],
        _whole(row["whole_start"], row["whole_end"]),
    )
