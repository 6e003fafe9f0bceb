"""Attempts in PostgreSQL, and what people said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from services.payments.domain.attempt import Attempt, AttemptState
from services.payments.domain.manual_settlement import ManualSettlement
from services.payments.domain.retries import CardHistory
from services.payments.store.bulk import Rows, execute
from services.payments.store.keys import given, is_given
from services.payments.store.rows import attempt_from_row, attempt_values
from services.payments.store.tables import attempts, manual_settlements, payments
from services.payments.usecases.ports import AttemptKey, Card

_ATTEMPTS, _SETTLEMENTS = Rows(attempts), Rows(manual_settlements)
_OUTCOMES = Rows(
    attempts, "tenant_id", "payment_id", "number", "state", "gateway_charge_id", "decline_code", "asks", "settled_by"
)
# No upsert: an attempt of this number that exists is a mistake, and must fail.
_ADD, _SAVE, _ADD_SETTLEMENT = _ATTEMPTS.insert(), _OUTCOMES.update(), _SETTLEMENTS.insert()

_CARD_HISTORIES = """
SELECT tenant_id, customer_id, gateway_token,
    bool_or(tried.state = 'declined_hard') AS hard_declined,
    count(*) FILTER (WHERE tried.state = 'declined_soft' AND tried.tried_at > card.since) AS soft_declines,
    count(*) FILTER (WHERE tried.state IN ('created', 'unknown')) AS under_way
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
    AS card (tenant_id, customer_id, gateway_token, since)
JOIN payment_attempts AS tried USING (tenant_id, customer_id, gateway_token)
WHERE tried.state <> 'succeeded'
GROUP BY tenant_id, customer_id, gateway_token
"""


class PostgresAttemptStore:
    """Set-wise, as the payments are that they belong to; whoever writes one has locked its payment."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, keyed: Sequence[tuple[str, Attempt]]) -> None:
        await execute(self._connection, _ADD, _ATTEMPTS, [attempt_values(*item) for item in keyed])

    async def save(self, keyed: Sequence[tuple[str, Attempt]]) -> None:
        await execute(self._connection, _SAVE, _OUTCOMES, [attempt_values(*item) for item in keyed])

    async def get(self, keys: Sequence[AttemptKey]) -> dict[AttemptKey, Attempt]:
        chosen = given([key[:2] for key in keys], "payment_id")
        query = sa.select(attempts).join(chosen, is_given(attempts, chosen, "payment_id"))
        rows = await self._connection.execute(query)
        found = {(row.tenant_id, row.payment_id, row.number): attempt_from_row(row) for row in rows}
        return {key: found[key] for key in keys}

    async def invoice_of_charge(self, tenant_id: str, charge_id: str) -> str | None:
        query = (
            sa.select(payments.c.invoice_id)
            .join(attempts, is_given(attempts, payments, "payment_id"))
            .where(
                attempts.c.tenant_id == tenant_id,
                attempts.c.gateway_charge_id == charge_id,
                attempts.c.state == AttemptState.SUCCEEDED.value,
            )
        )
        return (await self._connection.execute(query)).scalar_one_or_none()

    async def add_manual_settlement(self, settled: ManualSettlement) -> None:
        await execute(self._connection, _ADD_SETTLEMENT, _SETTLEMENTS, [asdict(settled)])

    async def card_histories(self, since: Mapping[Card, datetime]) -> dict[Card, CardHistory]:
        if not since:
            return {}
        columns = [list(column) for column in zip(*since, strict=True)]
        rows = await (await raw(self._connection)).fetch(_CARD_HISTORIES, *columns, list(since.values()))
        found = {Card(*row[:3]): CardHistory(*row[3:]) for row in rows}
        return {card: found.get(card, CardHistory()) for card in since}
