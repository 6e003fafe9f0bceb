"""Charges in PostgreSQL: the newest version of each. Rows stay here."""

# ruff: noqa: S608 - what is put into SQL are names of tables and columns, never values.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from libs.money import RoundingMode
from services.billing.domain.charge import Charge, ChargePart, PeriodKey, newest
from services.billing.store.rows import LOCK_PERIODS, PERIOD_KEYS, insert_rows, key_rows
from services.billing.store.tables import charges

_KEY = ("tenant_id", "subscription_id", "period_start", "price_id")
_UPSERT = (
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    + ", ".join(f"{column.name} = excluded.{column.name}" for column in charges.c if column.name not in _KEY)
    + " WHERE charges.version < excluded.version"
)
_CURRENT = f"""
SELECT {", ".join(f"c.{column.name}" for column in charges.c if column.name != "tenant_id")}
FROM charges c JOIN {PERIOD_KEYS} USING (subscription_id, period_start)
WHERE c.tenant_id = $1 ORDER BY c.position, c.price_id
"""


class PostgresCharges:
    """The charges of a transaction's tenant."""

    def __init__(self, connection: AsyncConnection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def apply(self, changed: Sequence[Charge]) -> int:
        latest = newest(changed)
        keys = sorted({key for key, _ in latest})
        await (await raw(self._connection)).execute(LOCK_PERIODS, self._tenant_id, key_rows(keys))
        rows = [_row(self._tenant_id, charge) for charge in latest.values()]
        return await insert_rows(self._connection, charges, rows, on_conflict=_UPSERT)

    async def of(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, list[Charge]]:
        found: dict[PeriodKey, list[Charge]] = {}
        if keys:
            for row in await (await raw(self._connection)).fetch(_CURRENT, self._tenant_id, key_rows(keys)):
                charge = _charge(dict(row))
                found.setdefault(charge.key, []).append(charge)
        return found


def parts_from_json(parts: Sequence[Mapping[str, str]]) -> tuple[ChargePart, ...]:
    """A breakdown as it is stored in a jsonb column."""
    return tuple(ChargePart(**part) for part in parts)


def _row(tenant_id: str, charge: Charge) -> dict[str, object]:
    row = {str(column.name): getattr(charge, column.name) for column in charges.c if hasattr(charge, column.name)}
    return {
        "tenant_id": tenant_id,
        "subscription_id": charge.key.subscription_id,
        "period_start": charge.key.period_start,
        **row,
        "parts": [asdict(part) for part in charge.parts],
    }


def _charge(row: dict[str, Any]) -> Charge:
    key = PeriodKey(row.pop("subscription_id"), row.pop("period_start"))
    parts = parts_from_json(row["parts"])
    return Charge(**{**row, "key": key, "rounding_mode": RoundingMode(row["rounding_mode"]), "parts": parts})
