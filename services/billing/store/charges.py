"""Charges in PostgreSQL: the newest version of each. Rows stay here."""

# ruff: noqa: S608 - what is put into SQL are names of tables and columns, never values.
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, raw
from libs.money import RoundingMode
from services.billing.domain.charge import Charge, ChargePart, PeriodKey, newest
from services.billing.store.rows import PERIOD_KEYS, join_column, joined_columns, key_columns, to_json

_KEY = ("tenant_id", "subscription_id", "period_start", "price_id")
_COLUMNS = (*_KEY, *(name for name in Charge._fields if name not in ("key", "price_id")))
_LATER_FIELDS = ("per", "label")
_CASTS = {
    "period_start": "timestamptz",
    "position": "bigint",
    "quantity": "numeric",
    "amount": "numeric",
    "rate_card_version": "bigint",
    "parts": "json",
    "version": "bigint",
}
# All writers lock rows in the order of the key, also the rows that they leave as they are: PostgreSQL locks before it
# looks at the last WHERE. That is what freezing stands on, so a charge comes before a freeze or after it.
_APPLY = f"""
INSERT INTO charges ({", ".join(_COLUMNS)})
SELECT {", ".join(f"r.{name}::{_CASTS.get(name, 'text')}" for name in _COLUMNS)}
FROM {joined_columns(_COLUMNS)} WHERE r.tenant_id <> ''
ORDER BY 1, 2, 3, 4
ON CONFLICT ({", ".join(_KEY)}) DO UPDATE
SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in _KEY)}
WHERE charges.version < excluded.version
"""
_CURRENT = f"""
SELECT {", ".join(f"c.{name}" for name in _COLUMNS if name != "tenant_id")}
FROM {PERIOD_KEYS} JOIN charges c USING (subscription_id, period_start)
WHERE c.tenant_id = $1 ORDER BY c.position, c.price_id
"""


class PostgresCharges:
    """The charges of a transaction's tenant."""

    def __init__(self, connection: AsyncConnection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def apply(self, changed: Sequence[Charge]) -> None:
        await apply_charges(self._connection, {self._tenant_id: changed})

    async def of(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, list[Charge]]:
        found: dict[PeriodKey, list[Charge]] = {}
        if keys:
            for row in await (await raw(self._connection)).fetch(_CURRENT, self._tenant_id, *key_columns(keys)):
                charge = _charge(dict(row))
                found.setdefault(charge.key, []).append(charge)
        return found


class PostgresReceivedCharges:
    """Keeps what rating's stream brings, as a worker."""

    def __init__(self, worker_database: Database) -> None:
        self._database = worker_database

    async def keep(self, charges: Mapping[str, Sequence[Charge]]) -> None:
        async with self._database.transaction(*charges) as connection:
            await apply_charges(connection, charges)


async def apply_charges(connection: AsyncConnection, changed: Mapping[str, Iterable[Charge]]) -> None:
    """Keep the highest version of each charge, by tenant, in a transaction that sees the tenants; lock them all."""
    latest = {tenant_id: newest(charges).values() for tenant_id, charges in changed.items()}
    tenants = [tenant_id for tenant_id, charges in latest.items() for _ in charges]
    if not tenants:
        return
    values: dict[str, Sequence[Any]] = dict(
        zip(Charge._fields, zip(*chain.from_iterable(latest.values()), strict=True), strict=True)
    )
    values["tenant_id"] = tenants
    values["subscription_id"], values["period_start"] = zip(*values["key"], strict=True)
    values["parts"] = [to_json(parts_to_json(parts)) for parts in values["parts"]]
    await (await raw(connection)).execute(_APPLY, *(join_column(values[name]) for name in _COLUMNS))


def parts_to_json(parts: Iterable[ChargePart]) -> list[dict[str, str]]:
    """A breakdown as it is stored; what the first version of this service cannot read is left out where it is empty."""
    return [
        {name: text for name, text in part._asdict().items() if text or name not in _LATER_FIELDS} for part in parts
    ]


def parts_from_json(parts: Sequence[Mapping[str, str]]) -> tuple[ChargePart, ...]:
    """A breakdown as it is stored in a jsonb column."""
    return tuple(ChargePart(**part) for part in parts)


def _charge(row: dict[str, Any]) -> Charge:
    key = PeriodKey(row.pop("subscription_id"), row.pop("period_start"))
    parts = parts_from_json(row["parts"])
    return Charge(**{**row, "key": key, "rounding_mode": RoundingMode(row["rounding_mode"]), "parts": parts})
