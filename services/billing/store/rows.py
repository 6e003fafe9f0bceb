"""Many rows in one statement: rows travel as one JSON parameter and PostgreSQL unfolds them by the table's types."""

# ruff: noqa: S608 - what is put into SQL are names of tables and columns, never values.
from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import cast

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from services.billing.domain.charge import PeriodKey
from services.billing.usecases.ports import RowsRefused

Row = Mapping[str, object]

_SEPARATOR = "\x1f"
"""ASCII's unit separator: a control character, which no name or id may contain."""

_DIALECT: sa.Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]

# The planner sees how long the arrays are; of a JSON document it would believe 100 rows.
PERIOD_KEYS = "unnest($2::text[], $3::timestamptz[]) AS k(subscription_id, period_start)"
"""The periods of `key_columns`, passed as $2 and $3; $1 is the tenant by convention."""

# The lock under which invoices of a period are issued and voided.
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


def key_columns(keys: Collection[PeriodKey]) -> tuple[list[str], list[datetime]]:
    """The two parameters of a set of billing periods, to be read with `PERIOD_KEYS`."""
    return [key.subscription_id for key in keys], [key.period_start for key in keys]


def joined_columns(columns: Sequence[str]) -> str:
    """SQL that reads parameters of `join_column` as rows `r` of texts; the first row is empty and to be left out."""
    arrays = (f"string_to_array(${number}, '{_SEPARATOR}')" for number in range(1, len(columns) + 1))
    return f"unnest({', '.join(arrays)}) AS r({', '.join(columns)})"


def join_column(values: Collection[object]) -> str:
    """A column of values of one type as one parameter, for `joined_columns`; no digit is lost.

    The driver takes half a microsecond for each item of an array, which is most of the time of a hot statement.

    :raises RowsRefused: if a text contains the separator
    """
    texts = [str(value) for value in values] if _first_is_no_text(values) else cast(Collection[str], values)
    joined = _SEPARATOR + _SEPARATOR.join(texts)
    if joined.count(_SEPARATOR) != max(1, len(texts)):
        raise RowsRefused("a text to be stored holds an ASCII unit separator")
    return joined


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


def _first_is_no_text(values: Iterable[object]) -> bool:
    return not isinstance(next(iter(values), ""), str)


def _decimal_text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"cannot be stored: {value!r}")
