"""Billing periods in PostgreSQL, and the queue of those that are not invoiced. Rows stay here."""

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
from services.billing.domain.invoice import Invoice
from services.billing.store import billing_period_sql as sql
from services.billing.store.rows import LOCK_PERIODS, Row, insert_rows, key_columns, to_json
from services.billing.store.tables import billing_period_marks, billing_periods, due_periods, subscriptions
from services.billing.usecases.store_ports import ClosingPeriod, NewPeriod, OpenPeriod


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
        added = await (await raw(self._connection)).fetch(sql.ADD, rows)
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
        seen = await connection.fetch(sql.START_CLOSING, self._tenant_id, *key_columns(keys), closing_at)
        drafts = [{**dict(row), "invoice_id": new_id("inv")} for row in seen]
        await connection.execute(sql.ADD_DRAFTS, self._tenant_id, to_json(drafts))
        return len(drafts)

    async def lock_closing(self, keys: Sequence[PeriodKey], claimed_until: datetime) -> list[ClosingPeriod]:
        connection = await raw(self._connection)
        rows = await connection.fetch(sql.LOCK_CLOSING, self._tenant_id, *key_columns(keys), claimed_until)
        closing = [_closing(row) for row in rows]
        # Numbers follow the order of the periods where several of a subscription are caught up.
        return sorted(closing, key=lambda item: (item.key.period_start, item.key.subscription_id))

    async def invoiced(self, keys: Sequence[PeriodKey]) -> None:
        connection = await raw(self._connection)
        await connection.execute(sql.INVOICED, self._tenant_id, *key_columns(keys))
        await connection.execute(sql.NOT_DUE, self._tenant_id, *key_columns(keys))

    async def lock(self, key: PeriodKey) -> None:
        await (await raw(self._connection)).execute(LOCK_PERIODS, self._tenant_id, *key_columns([key]))

    async def cut(self, key: PeriodKey, ends_at: datetime, grace: timedelta) -> bool:
        connection = await raw(self._connection)
        this = (self._tenant_id, key.subscription_id, key.period_start)
        await self.lock(key)
        if await connection.execute(sql.DUE_EARLIER, *this, ends_at + grace) != "UPDATE 1":
            return False
        await self._mark(await connection.fetch(sql.CUT, *this, ends_at))
        return True

    async def split(self, key: PeriodKey, rest: Period, grace: timedelta) -> bool:
        if not await self.cut(key, rest.start, grace):
            return False
        connection = await raw(self._connection)
        await connection.execute(sql.ADD_DUE, self._tenant_id, key.subscription_id, rest.start, rest.end + grace)
        added = await connection.fetch(
            sql.ADD_REST, self._tenant_id, key.subscription_id, key.period_start, rest.start, rest.end
        )
        await self._mark(added)
        return True

    async def change_card(self, subscription_id: str, since: datetime, rate_card_id: str) -> bool:
        connection = await raw(self._connection)
        these = (self._tenant_id, subscription_id, since)
        invoiced = [row["invoiced"] for row in await connection.fetch(sql.LOCK_SINCE, *these)]
        closing = [row["closing_at"] for row in await connection.fetch(sql.LOCK_DUE_SINCE, *these)]
        if any(invoiced) or any(closing):
            return False
        await self._mark(await connection.fetch(sql.CHANGE_CARD, *these, rate_card_id))
        return True

    async def publish(self, keys: Sequence[PeriodKey]) -> None:
        connection = await raw(self._connection)
        periods = (self._tenant_id, *key_columns(keys))
        await connection.execute(LOCK_PERIODS, *periods)
        await self._mark(await connection.fetch(sql.NEW_VERSIONS, *periods))

    async def reopen(self, key: PeriodKey, try_at: datetime) -> None:
        await (await raw(self._connection)).execute(
            sql.REOPEN, self._tenant_id, key.subscription_id, key.period_start, try_at
        )

    async def set_aside(self, reasons: Mapping[PeriodKey, str], claimed_until: datetime, try_at: datetime) -> None:
        connection = await raw(self._connection)
        claimed = (self._tenant_id, *key_columns(reasons))
        await connection.execute(LOCK_PERIODS, *claimed)
        await connection.execute(sql.PROBLEMS, *claimed, claimed_until, list(reasons.values()))
        await connection.execute(sql.TRY_AT, *claimed, claimed_until, try_at)

    async def last(self, subscription_ids: Sequence[str]) -> dict[str, Period]:
        rows = await (await raw(self._connection)).fetch(sql.LAST, self._tenant_id, subscription_ids)
        return {row["subscription_id"]: Period(row["period_start"], row["period_end"]) for row in rows}

    async def containing(self, subscription_ids: Sequence[str], at: datetime) -> dict[str, OpenPeriod]:
        rows = await (await raw(self._connection)).fetch(sql.CONTAINING, self._tenant_id, subscription_ids, at)
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
    return sa.select(billing_periods, subscriptions.c.time_zone, subscriptions.c.currency).join(subscriptions, same)


def billing_period_from_row(row: sa.Row[tuple[object, ...]]) -> BillingPeriod:
    """A row of `with_zones`, whatever further columns it has."""
    period = Period(row.period_start, row.period_end)
    whole = _whole(row.whole_start, row.whole_end)
    return BillingPeriod(
        row.subscription_id,
        row.customer_id,
        row.rate_card_id,
        period,
        row.version,
        row.time_zone,
        whole,
        row.currency,
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
