"""Subscriptions in PostgreSQL. Rows stay here."""

# ruff: noqa: S608 - what is put into SQL are names of tables and columns, never values.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from libs.periods import Period
from services.billing.domain.subscription import (
    BillingAnchor,
    Subscription,
    SubscriptionExists,
    SubscriptionNotFound,
)
from services.billing.store.rows import insert_rows, to_json
from services.billing.store.tables import due_extensions, due_periods, subscriptions
from services.billing.usecases.store_ports import OpenPeriod

_COLUMNS = [column for column in subscriptions.c if column.name not in ("tenant_id", "next_period_index")]
_NEXT_INDICES = """
UPDATE subscriptions s SET next_period_index = r.next_period_index
FROM jsonb_to_recordset($2::jsonb) AS r(subscription_id text, next_period_index bigint)
WHERE s.tenant_id = $1 AND s.subscription_id = r.subscription_id
"""
_OPEN = f"""
SELECT {", ".join(f"s.{column.name}" for column in _COLUMNS)}, p.period_start, p.period_end, p.ordinal,
    p.rate_card_id AS period_card
FROM subscriptions s LEFT JOIN LATERAL (
    SELECT b.period_start, b.period_end, b.ordinal, b.rate_card_id FROM billing_periods b
    WHERE b.tenant_id = $1 AND b.subscription_id = s.subscription_id AND b.period_start <= $3
    ORDER BY b.period_start DESC LIMIT 1
) p ON p.period_end > $3
WHERE s.tenant_id = $1 AND s.customer_id = $2 AND (s.ended_at IS NULL OR s.ended_at > $3)
ORDER BY s.subscription_id LIMIT $4
"""


class PostgresSubscriptions:
    """The subscriptions of a transaction's tenant, and when they need further billing periods."""

    def __init__(self, connection: AsyncConnection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def add(self, subscription: Subscription) -> None:
        row = insert(subscriptions).values(tenant_id=self._tenant_id, **asdict(subscription), next_period_index=0)
        added = row.on_conflict_do_nothing().returning(subscriptions.c.subscription_id)
        if (await self._connection.execute(added)).one_or_none() is None:
            subscription_id = subscription.subscription_id
            raise SubscriptionExists(f"subscription {subscription_id} exists", subscriptionId=subscription_id)

    async def get(self, subscription_id: str) -> Subscription:
        query = self._select().where(subscriptions.c.subscription_id == subscription_id)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise SubscriptionNotFound(f"no subscription {subscription_id}", subscriptionId=subscription_id)
        return _subscription(row)

    async def lock(self, subscription_ids: Sequence[str]) -> dict[Subscription, int]:
        query = (
            self._select()
            .add_columns(subscriptions.c.next_period_index)
            .where(subscriptions.c.subscription_id.in_(subscription_ids))
            .order_by(subscriptions.c.subscription_id)
            .with_for_update()
        )
        rows = (await self._connection.execute(query)).all()
        return {_subscription(row): row.next_period_index for row in rows}

    async def page(self, customer_id: str, after: str, limit: int) -> list[Subscription]:
        query = self._select().where(subscriptions.c.subscription_id > after)
        if customer_id:
            query = query.where(subscriptions.c.customer_id == customer_id)
        rows = await self._connection.execute(query.order_by(subscriptions.c.subscription_id).limit(limit))
        return [_subscription(row) for row in rows]

    async def open_of(
        self, customer_id: str, now: datetime, limit: int
    ) -> list[tuple[Subscription, OpenPeriod | None]]:
        rows = await (await raw(self._connection)).fetch(_OPEN, self._tenant_id, customer_id, now, limit)
        return [_open_subscription(dict(row)) for row in rows]

    async def extended(self, next_indices: Mapping[str, int], due_at: Mapping[str, datetime]) -> None:
        indices = [{"subscription_id": key, "next_period_index": index} for key, index in next_indices.items()]
        await (await raw(self._connection)).execute(_NEXT_INDICES, self._tenant_id, to_json(indices))
        finished = sorted(next_indices.keys() - due_at.keys())
        if finished:
            await self._connection.execute(self._delete_extensions(finished))
        rows = [{"tenant_id": self._tenant_id, "subscription_id": key, "due_at": at} for key, at in due_at.items()]
        on_conflict = "ON CONFLICT (tenant_id, subscription_id) DO UPDATE SET due_at = excluded.due_at"
        await insert_rows(self._connection, due_extensions, rows, on_conflict=on_conflict)

    async def change_card(self, subscription_id: str, rate_card_id: str) -> None:
        this = (subscriptions.c.tenant_id == self._tenant_id, subscriptions.c.subscription_id == subscription_id)
        await self._connection.execute(sa.update(subscriptions).where(*this).values(rate_card_id=rate_card_id))

    async def end(self, subscription_id: str, ended_at: datetime) -> None:
        this = (subscriptions.c.tenant_id == self._tenant_id, subscriptions.c.subscription_id == subscription_id)
        await self._connection.execute(sa.update(subscriptions).where(*this).values(ended_at=ended_at))
        await self._connection.execute(self._delete_extensions([subscription_id]))
        later = (
            due_periods.c.tenant_id == self._tenant_id,
            due_periods.c.subscription_id == subscription_id,
            due_periods.c.period_start >= ended_at,
        )
        await self._connection.execute(sa.delete(due_periods).where(*later))

    def _delete_extensions(self, subscription_ids: Sequence[str]) -> sa.Delete:
        return sa.delete(due_extensions).where(
            due_extensions.c.tenant_id == self._tenant_id, due_extensions.c.subscription_id.in_(subscription_ids)
        )

    def _select(self) -> sa.Select[tuple[object, ...]]:
        return sa.select(*_COLUMNS).where(subscriptions.c.tenant_id == self._tenant_id)


def _open_subscription(row: dict[str, Any]) -> tuple[Subscription, OpenPeriod | None]:
    start, end, ordinal, card = (row.pop(name) for name in ("period_start", "period_end", "ordinal", "period_card"))
    subscription = Subscription(**{**row, "anchor": BillingAnchor(row["anchor"])})
    return subscription, None if start is None else OpenPeriod(Period(start, end), ordinal, card)


def _subscription(row: sa.Row[tuple[object, ...]]) -> Subscription:
    columns = {name: value for name, value in row._mapping.items() if name != "next_period_index"}
    return Subscription(**{**columns, "anchor": BillingAnchor(str(columns["anchor"]))})
