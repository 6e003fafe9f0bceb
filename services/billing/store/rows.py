"""Many rows in one statement: rows travel as one JSON parameter and PostgreSQL unfolds them by the table's types."""

# ruff: noqa: S608 - what is put into SQL are names of tables and columns, never values.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from services.billing.domain.charge import PeriodKey

Row = Mapping[str, object]

_DIALECT: sa.Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]

PERIOD_KEYS = "jsonb_to_recordset($2::jsonb) AS k(subscription_id text, period_start timestamptz)"
"""The periods of `key_rows`, passed as $2; $1 is the tenant by convention."""

# The lock under which charges are applied, invoices issued and voided: a charge comes before a freeze or after it.
LOCK_PERIODS = f"""
SELECT 1 FROM billing_periods p JOIN {PERIOD_KEYS} USING (subscription_id, period_start)
WHERE p.tenant_id = $1 ORDER BY p.subscription_id, p.period_start FOR UPDATE OF p
"""


async def insert_rows(
    connection: AsyncConnection, table: sa.Table, rows: Sequence[Row], *, on_conflict: str = ""
) -> int:
    """Insert rows that all have the same columns, in the order of the table's key; returns how many were written.

    The order makes concurrent writers lock in one order. `on_conflict` is the SQL clause of that name.
    """
    if not rows:
        return 0
    statement = f"{_insert_sql(table, tuple(rows[0]))} {on_conflict}"
    status = await (await raw(connection)).execute(statement, to_json(rows))
    return int(status.rpartition(" ")[2])


def recordset(table: sa.Table, columns: Sequence[str], parameter: str = "$1") -> str:
    """SQL that reads a JSON parameter as rows `r` with columns of the table."""
    types = ", ".join(f"{name} {table.c[name].type.compile(dialect=_DIALECT)}" for name in columns)
    return f"jsonb_to_recordset({parameter}::jsonb) AS r({types})"


def key_rows(keys: Sequence[PeriodKey]) -> str:
    """The JSON parameter of a set of billing periods, to be read with `PERIOD_KEYS`."""
    return to_json([{"subscription_id": key.subscription_id, "period_start": key.period_start} for key in keys])


def to_json(rows: Sequence[Row]) -> str:
    """Rows as JSON text; instants in ISO 8601, decimals as text, so that no digit is lost.

    :raises TypeError: if a value is of another type that JSON does not know
    """
    return orjson.dumps(rows, default=_decimal_text).decode()


@cache
def _insert_sql(table: sa.Table, columns: tuple[str, ...]) -> str:
    names = ", ".join(columns)
    order = ", ".join(f"r.{column.name}" for column in table.primary_key if column.name in columns)
    return f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {recordset(table, columns)} ORDER BY {order}"


def _decimal_text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"cannot be stored: {value!r}")
