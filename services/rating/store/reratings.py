"""What reratings changed, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from services.rating.domain.rerating import Cause, ReratedCharge, ReratingPlace
from services.rating.wire.charges import charge_content, charge_from_content

_ADD = """
INSERT INTO rerated_charges (tenant_id, request_id, subscription_id, period_start, price_id, number, before_content,
                             before_withdrawn, before_version, content, withdrawn, version, reason, actor, rerated_at)
SELECT tenant_id, $2, subscription_id, period_start, price_id, number, before_content, before_withdrawn,
       before_version, content, withdrawn, version, $3, $4, $5
FROM unnest($1::text[], $6::text[], $7::timestamptz[], $8::text[], $9::bytea[], $10::boolean[], $11::bigint[],
            $12::bytea[], $13::boolean[], $14::bigint[]) WITH ORDINALITY
    AS r(tenant_id, subscription_id, period_start, price_id, before_content, before_withdrawn, before_version, content,
         withdrawn, version, number)
"""
_COLUMNS = """
SELECT tenant_id, request_id, number, before_content, before_withdrawn, before_version, content, withdrawn, version,
       reason, actor, rerated_at
FROM rerated_charges
"""
_OF_REQUEST = f"{_COLUMNS} WHERE tenant_id = $1 AND request_id = $2 ORDER BY number"
_NEWEST_FIRST = f"""
{_COLUMNS} WHERE tenant_id = $1 AND ($2 = '' OR subscription_id = $2)
    AND ($3::timestamptz IS NULL OR (rerated_at, request_id, number) < ($3, $4, $5))
ORDER BY rerated_at DESC, request_id DESC, number DESC LIMIT $6
"""


class PostgresReratingStore:
    """Changes of charges with their causes, which are added and never changed."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def save(self, request_id: str, cause: Cause, changed: Sequence[ReratedCharge]) -> None:
        """Keep what a request has changed."""
        if not changed:
            return
        after = [change.after for change in changed]
        before = [change.before for change in changed]
        await self._connection.execute(
            _ADD,
            [charge.key.tenant_id for charge in after],
            request_id,
            *cause,
            [charge.key.subscription_id for charge in after],
            [charge.key.period_start for charge in after],
            [charge.price_id for charge in after],
            [None if charge is None else charge_content(charge) for charge in before],
            [charge is not None and charge.withdrawn for charge in before],
            [0 if charge is None else charge.version for charge in before],
            [charge_content(charge) for charge in after],
            [charge.withdrawn for charge in after],
            [charge.version for charge in after],
        )

    async def of_request(self, tenant_id: str, request_id: str) -> list[ReratedCharge]:
        """Return what a request has changed, in the order in which it was saved."""
        return [_rerated(row) for row in await self._connection.fetch(_OF_REQUEST, tenant_id, request_id)]

    async def newest_first(
        self, tenant_id: str, subscription_id: str, before: ReratingPlace | None, limit: int
    ) -> list[tuple[ReratedCharge, Cause, ReratingPlace]]:
        """Return what was changed before a place, of one subscription or (empty) of all."""
        rows = await self._connection.fetch(
            _NEWEST_FIRST, tenant_id, subscription_id, *(before or (None, "", 0)), limit
        )
        return [
            (
                _rerated(row),
                Cause(row["reason"], row["actor"], row["rerated_at"]),
                (row["rerated_at"], row["request_id"], row["number"]),
            )
            for row in rows
        ]


def _rerated(row: asyncpg.Record) -> ReratedCharge:
    tenant_id, before = row["tenant_id"], None
    if row["before_content"] is not None:
        before = charge_from_content(
            tenant_id,
            row["before_content"],
            withdrawn=row["before_withdrawn"],
            version=row["before_version"],
            trace_parent="",
        )
    after = charge_from_content(
        tenant_id, row["content"], withdrawn=row["withdrawn"], version=row["version"], trace_parent=""
    )
    return ReratedCharge(before, after)
